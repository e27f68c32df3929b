"""What does the domain need from outside? Four ports, with the promises an adapter must keep.

`workloads.testing` holds a conformance suite per port; the in-memory fakes and the real adapters pass
the same one. A port never speaks of HTTP, queues or SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from workloads.domain import Record
from workloads.messages import Event, Message, Sent
from workloads.problems import DEPENDENCY_UNAVAILABLE, OUTCOME_UNKNOWN, ProblemError

T = TypeVar("T")


class CallFailed(ProblemError):
    """A callee could not be made to act. `definite`: whether surely none of the attempts took effect."""

    def __init__(self, callee: str, reason: str, *, definite: bool, problem: ProblemError | None = None) -> None:
        """`problem` is what the callee itself said, where it said something."""
        super().__init__(
            DEPENDENCY_UNAVAILABLE if definite else OUTCOME_UNKNOWN, f"{callee}: {reason}", dependency=callee
        )
        self.callee = callee
        self.reason = reason
        self.definite = definite
        self.problem = problem


class CallRefused(Exception):
    """A callee understood and said no. `definite` is False if an earlier attempt may have been applied."""

    def __init__(self, callee: str, problem: ProblemError, *, definite: bool) -> None:
        super().__init__(f"{callee}: {problem}")
        self.callee = callee
        self.problem = problem
        self.definite = definite


class PublishFailed(Exception):
    """Not every consumer was told. `told` names those that know, or may know, of the event."""

    def __init__(self, told: tuple[str, ...], cause: str) -> None:
        super().__init__(f"told {', '.join(told) or 'nobody'}: {cause}")
        self.told = told
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver answers to a message."""

    body: dict[str, Any] = field(default_factory=dict)
    created: bool = False
    """Whether this very delivery recorded the effect; False for a repetition and for queries."""


class Caller(Protocol):
    """Ask one receiver and wait for its reply."""

    async def call(self, message: Message) -> dict[str, Any]:
        """Deliver to the receiver of this kind of message; return the reply's body.

        At least once: an attempt that failed is repeated where that is harmless, so a receiver may see
        the message twice. Raise CallFailed (see its `definite`) or CallRefused.
        """
        ...


class Publisher(Protocol):
    """Tell whoever listens."""

    async def publish(self, event: Event, to: Collection[str] | None = None) -> None:
        """Return once every consumer is sure to learn of the event, at least once.

        `to` narrows a withdrawal to the consumers that may have heard of the original; a transport that
        does not know its consumers may ignore it. Raise PublishFailed.
        """
        ...


class Inbox(Protocol):
    """Where messages for this service arrive."""

    async def accept(self, message: Message) -> Reply:
        """Apply a message, its effect and the memory of its key in one transaction.

        Accepting it again answers the same and changes nothing. A late original of an undone effect is
        refused. Raise ProblemError: nothing was applied, except where its type is not definite.
        """
        ...


class Unit(Protocol):
    """One transaction's view of a service's records."""

    def get(self, kind: str, record_id: str, *, lock: bool = False) -> Record | None:
        """One record; `lock` keeps other transactions from changing it until this one ends."""
        ...

    def insert(self, record: Record) -> None:
        """Add a record. Raise Conflict if another transaction has added its id meanwhile."""
        ...

    def update(self, record: Record) -> None:
        """Change state, quantity, due_ns and detail of a record that exists; the rest never changes."""
        ...

    def in_state(self, kind: str, states: Sequence[str], limit: int) -> list[Record]:
        """Records of a kind in one of some states, oldest first."""
        ...

    def due(self, kind: str, until_ns: int, beyond_ns: int, limit: int) -> list[Record]:
        """Records of a kind whose `due_ns` is set and at most one instant, or after another; the earliest first.

        What is due only after `beyond_ns` was written by another clock: it has to be looked at too.
        """
        ...

    def count(self, kind: str, states: Sequence[str]) -> int:
        """How many records of a kind are in one of some states."""
        ...

    def is_waiting(self, subject: str) -> bool:
        """Whether a message about a subject is in the outbox since an earlier transaction."""
        ...

    def enqueue(self, message: Sent, *, subject: str) -> None:
        """Have a message published once this transaction is committed, and never if it is not.

        Messages of one subject (an order's or account's id) are published in the order they are enqueued.
        """
        ...

    def page(self, kinds: Sequence[str], after: tuple[str, str], limit: int) -> list[Record]:
        """Records of some kinds in order of (kind, id), beginning after `after` (('', '') for the first page)."""
        ...


class Conflict(Exception):
    """Two transactions added the same record; the one that sees this was rolled back and can be run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message in the outbox."""

    seq: int
    """Grows in the order of the commits within one subject; unique among all that this outbox ever held."""
    id: str
    """Unique everywhere; the same each time the message is published."""
    subject: str
    message: Sent
    at_ns: int
    """When it was enqueued, CLOCK_MONOTONIC nanoseconds."""
    traceparent: str
    """W3C trace context of the work that enqueued it, '' outside of a trace."""


class Repository(Protocol):
    """A service's records, and the outbox that is committed with them."""

    on_enqueued: Callable[[], None]
    """Called in the event loop after a commit that enqueued something; does nothing until it is set."""

    async def read(self, work: Callable[[Unit], T]) -> T:
        """Run `work` and return its result; it must not change anything.

        Raise ProblemError: DATABASE_UNAVAILABLE, or DEADLINE_EXCEEDED if the caller stopped waiting
        before the work began.
        """
        ...

    async def write(self, work: Callable[[Unit], T]) -> T:
        """Run `work` in one transaction and return its result; all of it is applied, or nothing.

        `work` may be run more than once, and only its last run counts: it must have no effect but on the
        unit. An exception from it rolls back and goes through; a Conflict is run again, once. Raise
        ProblemError as `read` does, and COMMIT_UNKNOWN if the database was lost while committing.
        """
        ...

    async def waiting(self, limit: int, after: int = 0) -> list[Outgoing]:
        """Messages that are not published yet, in order of `seq`, beginning after one. Raise ProblemError as `read`.

        With several writers at once a message of another subject may yet appear before one that was seen:
        begin anew at 0 from time to time.
        """
        ...

    async def published(self, seqs: Sequence[int]) -> None:
        """Forget messages that were published; forgetting one again changes nothing. Raise ProblemError as `write`."""
        ...

    async def unpublished(self) -> int:
        """How many messages wait to be published. Raise ProblemError as `read` does."""
        ...
