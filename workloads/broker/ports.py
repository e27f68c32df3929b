"""What does the shop need of a broker? One port: send, receive, delete, extend, bury.

`workloads.broker.conformance` holds its suite, which the fake in memory and the adapters of SQS and Kafka pass.

**Delivery** is at least once. What was sent is received until it is deleted; while somebody has it in
hand it is hidden, for its queue's visibility timeout unless that is extended. **Order** is kept only in
FIFO queues and topics (their names end in '.fifo'; on Kafka the reader's settings say so), among parcels
of one group: the next of a group is not given out while one before it is hidden. There, a parcel with an
id that was sent in the last five minutes is taken for a repetition and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

BATCH_MAX = 10
"""Entries per call (AWS SQS and SNS quotas)."""
BATCH_BYTES_MAX = 256 * 1024
"""Bytes per call, bodies and attributes together; kept below by ATTRIBUTE_BYTES per parcel."""
ATTRIBUTE_BYTES = 256
DETAIL_MAX = 300
"""Characters of a dead letter's detail."""
TYPE = "type"
"""Message attribute with the type's name: what subscriptions filter by."""


class BrokerUnavailable(Exception):
    """The broker did not do what it was asked, or not in time: away, slow, throttling, or without that queue.

    Never definite: what was asked may have happened, or may yet. Everything here can be asked again.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Something to send."""

    id: str
    """Unique; the same when it is sent again."""
    type: str
    """Name of the message's type."""
    group: str
    """Whose order counts: the order's or account's id. Only FIFO destinations look at it."""
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Something received; it is in hand until it is deleted, handed back, or its time is up."""

    id: str
    """The broker's own, the same at each delivery."""
    receipt: str
    """Proves that it is in hand; new at each delivery."""
    body: str
    receives: int
    """How many times it has been delivered, this one included."""
    group: str = ""
    """'' in a standard queue."""
    attributes: Mapping[str, str] = field(default_factory=dict)


class Broker(Protocol):
    """A service's side of a broker: its own queue to read, and any destination to send to."""

    async def send(self, destination: str, parcels: Sequence[Parcel]) -> set[str]:
        """Send to a queue (its URL) or a topic (its ARN, on Kafka its name), in order; return the ids that failed.

        Those not returned are safe with the broker. Raise BrokerUnavailable: each may have been sent.
        """
        ...

    async def receive(self) -> list[Delivery]:
        """Take up to BATCH_MAX messages in hand, waiting a few seconds for the first; [] if none came.

        Raise BrokerUnavailable: some may have been hidden, and come again after the visibility timeout.
        """
        ...

    async def delete(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Forget messages for good; return those that were not and are worth asking again for.

        One that is no longer in hand is passed over: it may come again. Raise BrokerUnavailable: each may be gone.
        """
        ...

    async def extend(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        """Keep messages hidden for so many whole seconds from now; 0 hands them back.

        One that is no longer in hand is passed over. Raise BrokerUnavailable: each may have been extended.
        """
        ...

    async def bury(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Move a message, unchanged, to this queue's dead letters, with the reason (see `letter`).

        Raise BrokerUnavailable: it may be there already, and still here. Asked again, a FIFO queue drops the
        second letter, a standard one keeps both.
        """
        ...


def letter(
    delivery: Delivery, reason: str, detail: str, *, queue: str, died_ns: int, died_utc: str
) -> Mapping[str, str]:
    """The attributes of a dead letter: those it came with, and how it died.

    >>> dead = Delivery(id="m", receipt="r", body="{", receives=1, attributes={"type": "StepDone"})
    >>> sorted(letter(dead, "malformed", "no JSON", queue="q", died_ns=1, died_utc="2026-01-01T00:00:00Z"))
    ['detail', 'died_ns', 'died_utc', 'reason', 'receives', 'source', 'type']
    """
    return {
        **delivery.attributes,
        "reason": reason,
        "detail": _printable(detail)[:DETAIL_MAX],
        "source": queue,
        "died_ns": str(died_ns),
        "died_utc": died_utc,
        "receives": str(delivery.receives),
    }


def _printable(text: str) -> str:
    """SQS takes neither empty attributes nor control characters."""
    return "".join(c if c.isprintable() else " " for c in text) or "-"


def batches(parcels: Sequence[Parcel]) -> Iterator[list[Parcel]]:
    """Cut into what fits into one call, in order."""
    batch: list[Parcel] = []
    size = 0
    for parcel in parcels:
        more = len(parcel.body.encode(errors="surrogatepass")) + ATTRIBUTE_BYTES
        if batch and (len(batch) == BATCH_MAX or size + more > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(parcel)
        size += more
    if batch:
        yield batch
