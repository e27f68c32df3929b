"""A broker without an outside world: what tests wire consumers and relays to.

It keeps the promises of the port and no more: at least once, hidden while in hand, order per group in FIFO
queues. Time is the running loop's, so a loop of virtual time makes minutes pass at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workloads.broker.ports import (
    BATCH_MAX,
    TYPE,
    BrokerUnavailable,
    Delivery,
    Parcel,
    letter,
)
from workloads.settings import Inbound

WAIT_S = 2.0
LOOK_S = 0.02
REPETITION_S = 300.0


@dataclass(slots=True)
class _Message:
    id: str
    body: str
    group: str
    attributes: Mapping[str, str]
    visible_at: float = 0.0
    receives: int = 0
    receipt: str = ""


@dataclass(slots=True)
class MemoryQueue:
    """One queue; names ending in '.fifo' keep order per group and drop repetitions."""

    name: str
    dead_letters: str = ""
    max_receives: int = 0
    """0: the broker itself gives up on nothing."""
    messages: list[_Message] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    """Ids sent within REPETITION_S, FIFO only."""

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")


@dataclass(slots=True)
class MemoryCloud:
    """What all services share: queues by URL, topics by ARN."""

    queues: dict[str, MemoryQueue] = field(default_factory=dict)
    topics: dict[str, list[tuple[str, frozenset[str]]]] = field(default_factory=dict)
    """ARN -> (queue, types it wants)."""
    away: bool = False
    """Every call fails."""
    calls: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def add_queue(self, name: str, *, dead_letters: str = "", max_receives: int = 0) -> str:
        """Make a queue; its name is its URL."""
        self.queues[name] = MemoryQueue(name, dead_letters, max_receives)
        return name

    def called(self, operation: str) -> None:
        """Count a call, or fail it. Raise BrokerUnavailable."""
        self.calls[operation] = self.calls.get(operation, 0) + 1
        if self.away:
            raise BrokerUnavailable("away")

    def number(self) -> int:
        """A new one each time."""
        self._count += 1
        return self._count

    def put(self, name: str, parcel_id: str, body: str, group: str, attributes: Mapping[str, str]) -> bool:
        """Add a message; False if the queue refuses it."""
        if "\x00" in body or not body:
            return False
        queue = self.queues[name]
        now = asyncio.get_running_loop().time()
        if queue.fifo:
            if queue.seen.get(parcel_id, now) > now:
                return True
            queue.seen[parcel_id] = now + REPETITION_S
        queue.messages.append(
            _Message(id=f"m-{self.number()}", body=body, group=group if queue.fifo else "", attributes=attributes)
        )
        return True


class MemoryBroker:
    """The Broker port over a MemoryCloud."""

    def __init__(self, cloud: MemoryCloud, inbound: Inbound | None = None) -> None:
        self.cloud = cloud
        self._inbound = inbound

    async def send(self, destination: str, parcels: Sequence[Parcel]) -> set[str]:
        self.cloud.called("send")
        failed = set()
        for parcel in parcels:
            wanted = self.cloud.topics.get(destination, [(destination, frozenset({parcel.type}))])
            for queue, types in wanted:
                attributes = {TYPE: parcel.type}
                if parcel.type in types and not self.cloud.put(queue, parcel.id, parcel.body, parcel.group, attributes):
                    failed.add(parcel.id)
        return failed

    async def receive(self) -> list[Delivery]:
        self.cloud.called("receive")
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_S
        while not (found := self._collect(loop.time())) and loop.time() < until:
            await asyncio.sleep(LOOK_S)
            if self.cloud.away:
                raise BrokerUnavailable("gone while waiting")
        return found

    async def delete(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        self.cloud.called("delete")
        receipts = {each.receipt for each in deliveries}
        queue = self._queue
        queue.messages = [message for message in queue.messages if message.receipt not in receipts]
        return []

    async def extend(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        self.cloud.called("extend")
        receipts = {each.receipt for each in deliveries}
        for message in self._queue.messages:
            if message.receipt in receipts:
                message.visible_at = asyncio.get_running_loop().time() + seconds

    async def bury(self, delivery: Delivery, reason: str, detail: str) -> None:
        self.cloud.called("bury")
        attributes = letter(
            delivery, reason, detail, queue=self._queue.name, died_ns=1, died_utc="1970-01-01T00:00:00Z"
        )
        self.cloud.put(self._queue.dead_letters, delivery.id, delivery.body, delivery.group or delivery.id, attributes)
        await self.delete([delivery])

    @property
    def _queue(self) -> MemoryQueue:
        assert self._inbound is not None, "a service without a queue of its own cannot receive"
        return self.cloud.queues[self._inbound.url]

    def _collect(self, now: float) -> list[Delivery]:
        queue = self._queue
        self._sweep(queue, now)
        locked = {m.group for m in queue.messages if m.visible_at > now and m.group}
        found: list[Delivery] = []
        for message in queue.messages:
            if message.visible_at <= now and message.group not in locked and len(found) < BATCH_MAX:
                found.append(self._hand_out(message, now))
        return found

    def _hand_out(self, message: _Message, now: float) -> Delivery:
        assert self._inbound is not None
        message.receives += 1
        message.receipt = f"r-{self.cloud.number()}"
        message.visible_at = now + self._inbound.visibility_timeout_s
        return Delivery(
            id=message.id,
            receipt=message.receipt,
            body=message.body,
            receives=message.receives,
            group=message.group,
            attributes=message.attributes,
        )

    def _sweep(self, queue: MemoryQueue, now: float) -> None:
        """What was received too often dies without a reason: the broker does not know any."""
        for message in list(queue.messages):
            if queue.max_receives and message.receives >= queue.max_receives and message.visible_at <= now:
                queue.messages.remove(message)
                self.cloud.queues[queue.dead_letters].messages.append(
                    _Message(id=message.id, body=message.body, group=message.group, attributes=message.attributes)
                )
