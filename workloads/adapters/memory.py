"""The ports without an outside world: what tests and tools wire the domain to.

They keep the same promises as the real adapters and pass the same conformance suites.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

from workloads import deadline
from workloads.domain import Record
from workloads.messages import Event, Message, Sent
from workloads.ports import CallFailed, CallRefused, Conflict, Inbox, Outgoing, PublishFailed
from workloads.problems import DATABASE_UNAVAILABLE, ProblemError

T = TypeVar("T")


class MemoryUnit:
    """One transaction over a dict that nobody else sees until it is swapped in."""

    def __init__(self, records: dict[tuple[str, str], Record], outbox: Sequence[Outgoing] = ()) -> None:
        self.records = records
        self.enqueued: list[tuple[str, Sent]] = []
        self._outbox = outbox

    def get(self, kind: str, record_id: str, *, lock: bool = False) -> Record | None:
        return self.records.get((kind, record_id))

    def insert(self, record: Record) -> None:
        if (record.kind, record.id) in self.records:
            raise Conflict(f"{record.kind} {record.id}")
        self.records[record.kind, record.id] = record

    def update(self, record: Record) -> None:
        self.records[record.kind, record.id] = replace(
            self.records[record.kind, record.id],
            state=record.state,
            quantity=record.quantity,
            due_ns=record.due_ns,
            detail=record.detail,
        )

    def in_state(self, kind: str, states: Sequence[str], limit: int) -> list[Record]:
        found = [r for r in self.records.values() if r.kind == kind and r.state in states]
        return sorted(found, key=lambda r: r.at_ns)[:limit]

    def due(self, kind: str, until_ns: int, beyond_ns: int, limit: int) -> list[Record]:
        found = [r for r in self.records.values() if r.kind == kind and r.due_ns > 0]
        found = [r for r in found if r.due_ns <= until_ns or r.due_ns > beyond_ns]
        return sorted(found, key=lambda r: r.due_ns)[:limit]

    def count(self, kind: str, states: Sequence[str]) -> int:
        return sum(r.kind == kind and r.state in states for r in self.records.values())

    def enqueue(self, message: Sent, *, subject: str) -> None:
        self.enqueued.append((subject, message))

    def is_waiting(self, subject: str) -> bool:
        return any(outgoing.subject == subject for outgoing in self._outbox)

    def page(self, kinds: Sequence[str], after: tuple[str, str], limit: int) -> list[Record]:
        keys = sorted(key for key in self.records if key[0] in kinds and key > after)
        return [self.records[key] for key in keys[:limit]]


class MemoryRepository:
    """Records in a dict; `locked` makes every access fail as a locked database does."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        self.locked = False
        self.outbox: list[Outgoing] = []
        self.on_enqueued: Callable[[], None] = lambda: None
        self._seq = 0

    async def read(self, work: Callable[[MemoryUnit], T]) -> T:
        self._open()
        return work(MemoryUnit(self.records, self.outbox))

    async def write(self, work: Callable[[MemoryUnit], T]) -> T:
        self._open()
        try:
            return self._transact(work)
        except Conflict:
            return self._transact(work)

    def _transact(self, work: Callable[[MemoryUnit], T]) -> T:
        unit = MemoryUnit(dict(self.records), self.outbox)
        result = work(unit)
        self.records = unit.records
        for subject, message in unit.enqueued:
            self._seq += 1
            self.outbox.append(
                Outgoing(seq=self._seq, id=uuid4().hex, subject=subject, message=message, at_ns=0, traceparent="")
            )
        if unit.enqueued:
            self.on_enqueued()
        return result

    async def waiting(self, limit: int, after: int = 0) -> list[Outgoing]:
        self._open()
        return [outgoing for outgoing in self.outbox if outgoing.seq > after][:limit]

    async def published(self, seqs: Sequence[int]) -> None:
        self._open()
        self.outbox = [outgoing for outgoing in self.outbox if outgoing.seq not in seqs]

    async def unpublished(self) -> int:
        self._open()
        return len(self.outbox)

    def _open(self) -> None:
        deadline.check(deadline.current())
        if self.locked:
            raise ProblemError(DATABASE_UNAVAILABLE, "locked")


class MemoryCaller:
    """Delivers to inboxes in the same process; `broken` says which of them do not answer, and how."""

    def __init__(self, inboxes: Mapping[str, Inbox], receivers: Mapping[type, str]) -> None:
        self._inboxes = inboxes
        self._receivers = receivers
        self.broken: dict[str, str] = {}
        """callee -> 'refused' (nothing is applied), 'timeout' (applied, but the answer is lost)."""
        self.sent: list[tuple[str, Message]] = []
        self.before: Callable[[str, Message], Awaitable[None]] | None = None
        """Awaited before each delivery: lets something happen in between, or raises."""

    async def call(self, message: Message) -> dict[str, Any]:
        return await self.send(self._receivers[type(message)], message)

    async def send(self, callee: str, message: Message) -> dict[str, Any]:
        """Deliver to one named receiver."""
        if self.before is not None:
            await self.before(callee, message)
        how = self.broken.get(callee)
        if how == "refused":
            raise CallFailed(callee, how, definite=True)
        self.sent.append((callee, message))
        try:
            reply = await self._inboxes[callee].accept(message)
        except ProblemError as problem:
            raise CallRefused(callee, problem, definite=True) from problem
        if how is not None:
            raise CallFailed(callee, how, definite=False)
        return reply.body


class MemoryPublisher:
    """Remembers events; `failing` is raised by the next publish."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failing: PublishFailed | None = None

    async def publish(self, event: Event, to: Collection[str] | None = None) -> None:
        if self.failing is not None:
            failure, self.failing = self.failing, None
            raise failure
        self.events.append(event)
