"""What of a log is read and not yet done with, and how far may be committed? A partition made into a queue. (pure)

    committed            position                          read
    | deleted ......     | hidden | deleted | waiting ...  |
                           in hand  ahead     given out in order of offsets, as far as nothing hides them

Whatever lies before the position is deleted; what lies behind it comes again after a crash, deleted or not. Receives
are counted here and nowhere else: who takes a partition over counts anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from workloads.broker.ports import BATCH_MAX, Delivery

Partition = tuple[str, int]
"""Topic and number."""

WINDOW_MAX = 1000
"""Offsets of a partition from its position to what was read last; beyond it the partition is not read on. It bounds
what a crash repeats. A message that fails five times takes 12 s: at 50 messages/s over six partitions, 100 offsets."""
WINDOW_BYTES_MAX = 8 * 1024 * 1024
REPETITION_MS = 300_000
REPETITIONS_MAX = 5_000
"""Ids remembered per partition, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a partition."""

    offset: int
    id: str
    """Of the parcel; '' if its producer gave none."""
    at_ms: int
    """Its timestamp."""
    key: str
    body: str
    attributes: Mapping[str, str]


@dataclass(slots=True)
class _Message:
    record: Record
    visible_at: float = 0.0
    receives: int = 0
    receipt: str = ""


@dataclass(slots=True)
class _Log:
    """One partition."""

    read: int
    """Offset behind the last record that was read."""
    committed: int
    messages: dict[int, _Message] = field(default_factory=dict)
    """By offset, ascending: read and not deleted."""
    bytes: int = 0
    paused: bool = False
    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Id -> offset and timestamp, the oldest first; only where order counts."""

    @property
    def position(self) -> int:
        return next(iter(self.messages), self.read)

    def repeats(self, record: Record) -> bool:
        """Whether a record was sent before, within REPETITION_MS; it is remembered."""
        if not record.id:
            return False
        offset, at_ms = self.known.get(record.id, (record.offset, record.at_ms))
        if offset < record.offset and record.at_ms - at_ms < REPETITION_MS:
            return True
        self.known[record.id] = (record.offset, record.at_ms)
        if len(self.known) > REPETITIONS_MAX:
            del self.known[next(iter(self.known))]
        return False


class Backlog:
    """Everything that one consumer has of its partitions. Not safe for threads: whoever shares it locks.

    Times are seconds of one clock, of the caller's choice.
    """

    def __init__(self, *, visibility_timeout_s: int, max_receives: int, ordered: bool) -> None:
        """`ordered`: nothing of a key is given out while something of it is hidden, and repetitions are dropped."""
        self._timeout_s = visibility_timeout_s
        self._max_receives = max_receives
        self._ordered = ordered
        self._logs: dict[Partition, _Log | None] = {}
        self._receipts: dict[str, tuple[Partition, int]] = {}
        self._count = 0
        self._turn = 0

    # --- what the log says ----------------------------------------------------------------------

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """Partitions are this consumer's from now on; it begins with them anew."""
        self.revoked(partitions)
        self._logs.update(dict.fromkeys(partitions))

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """They are no longer: what was in hand of them is somebody else's, the receipts are old."""
        for partition in partitions:
            self._logs.pop(partition, None)
        self._receipts = {r: where for r, where in self._receipts.items() if where[0] in self._logs}

    def partitions(self) -> frozenset[Partition]:
        """Those of this consumer."""
        return frozenset(self._logs)

    def add(self, partition: Partition, record: Record, *, wanted: bool = True) -> None:
        """A record was read; one that is not `wanted` counts as deleted. Of a foreign partition it is passed over."""
        if partition not in self._logs:
            return
        log = self._logs[partition]
        if log is None:
            log = self._logs[partition] = _Log(read=record.offset, committed=record.offset)
        again = record.offset < log.read
        log.read = max(log.read, record.offset + 1)
        if record.offset in log.messages or not wanted or (self._ordered and log.repeats(record)):
            return
        log.messages[record.offset] = _Message(record)
        log.bytes += _size(record)
        if again:  # read from further back: the broker had lost the place
            log.messages = dict(sorted(log.messages.items()))

    def full(self) -> frozenset[Partition]:
        """Partitions that must not be read on; one that was among them is until half of it is done."""
        for log in self._open():
            factor = 0.5 if log.paused else 1.0
            window = log.read - log.position
            log.paused = window >= WINDOW_MAX * factor or log.bytes >= WINDOW_BYTES_MAX * factor
        return frozenset(partition for partition, log in self._logs.items() if log is not None and log.paused)

    def behind(self) -> dict[Partition, int]:
        """What is to be committed: the position of every partition where that is more than is committed."""
        return {p: log.position for p, log in self._logs.items() if log is not None and log.position > log.committed}

    def committed(self, partition: Partition, position: int) -> None:
        """The broker has it."""
        log = self._logs.get(partition)
        if log is not None:
            log.committed = max(log.committed, position)

    def reached(self, goals: Mapping[Partition, int]) -> bool:
        """Whether positions are committed, as far as their partitions are still ours."""
        logs = ((self._logs.get(partition), goal) for partition, goal in goals.items())
        return all(log is None or log.committed >= goal for log, goal in logs)

    # --- what the service does ------------------------------------------------------------------

    def take(self, now: float) -> tuple[list[Delivery], list[Delivery]]:
        """Up to BATCH_MAX messages to work on, and those that were received too often: both are hidden from now on.

        The latter are to be buried; their receipts are as good as others.
        """
        found: list[Delivery] = []
        spent: list[Delivery] = []
        for partition in self._in_turn():
            for message in self._visible(partition, now):
                if message.receives >= self._max_receives:
                    message.visible_at = inf
                    spent.append(self._handed(partition, message))
                    continue
                message.receives += 1
                message.visible_at = now + self._timeout_s
                found.append(self._handed(partition, message))
                if len(found) == BATCH_MAX:
                    return found, spent
        return found, spent

    def next_visible(self, now: float) -> float:
        """When the next hidden message will be visible; inf if there is none."""
        times = (m.visible_at for log in self._open() for m in log.messages.values())
        return min((at for at in times if at > now), default=inf)

    def holds(self, receipt: str) -> bool:
        """Whether a receipt is of something in hand."""
        return receipt in self._receipts

    def delete(self, receipts: Iterable[str]) -> dict[Partition, int]:
        """Done with these; old receipts are passed over. Return what has to be committed for it to last."""
        touched: dict[Partition, _Log] = {}
        for receipt in receipts:
            if (where := self._receipts.pop(receipt, None)) is None:
                continue
            partition, offset = where
            log = self._logs[partition]
            assert log is not None, "a receipt is of a message that was read"
            log.bytes -= _size(log.messages.pop(offset).record)
            touched[partition] = log
        return {partition: log.position for partition, log in touched.items()}

    def hide(self, receipts: Iterable[str], until: float) -> None:
        """Keep messages hidden until then; old receipts are passed over."""
        for receipt in receipts:
            if (where := self._receipts.get(receipt)) is not None:
                log = self._logs[where[0]]
                assert log is not None, "a receipt is of a message that was read"
                log.messages[where[1]].visible_at = until

    # --------------------------------------------------------------------------------------------

    def _open(self) -> Iterator[_Log]:
        return (log for log in self._logs.values() if log is not None)

    def _in_turn(self) -> Sequence[Partition]:
        """Each time another one is the first, so that a deep partition does not keep others waiting."""
        partitions = list(self._logs)
        self._turn += 1
        first = self._turn % len(partitions) if partitions else 0
        return partitions[first:] + partitions[:first]

    def _visible(self, partition: Partition, now: float) -> Iterator[_Message]:
        log = self._logs[partition]
        if log is None:
            return
        messages = list(log.messages.values())
        locked = {m.record.key for m in messages if m.visible_at > now and m.record.key} if self._ordered else set()
        for message in messages:
            if message.visible_at > now or message.record.key in locked:
                continue
            if self._ordered and message.record.key and message.receives >= self._max_receives:
                locked.add(message.record.key)
            yield message

    def _handed(self, partition: Partition, message: _Message) -> Delivery:
        topic, number = partition
        self._receipts.pop(message.receipt, None)
        self._count += 1
        record = message.record
        unique = f"{topic}/{number}/{record.offset}"
        message.receipt = f"{unique}#{self._count}"
        self._receipts[message.receipt] = (partition, record.offset)
        return Delivery(
            id=unique,
            receipt=message.receipt,
            body=record.body,
            receives=message.receives,
            group=record.key if self._ordered else "",
            attributes=record.attributes,
        )


def _size(record: Record) -> int:
    return len(record.body)
