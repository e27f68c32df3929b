"""Which queues and topics do a stage's messages need? Derived from its channels, for every target alike. (pure)

    command   orders --------------------------> [inventory-commands] --> inventory --> [orders-replies] --> orders
    event     orders --> (orders-events.fifo) +-> [email-events]      --> email
                                              +-> [cache-events.fifo] --> cache

A receiver has one queue, and each queue a dead-letter queue of its own. Commands are answered: whoever sends some
has a queue for the replies. Names are the same on every target; a target may put a prefix before them.
"""

from __future__ import annotations

from dataclasses import dataclass

from stages.model import Channel, Kind, Stage

VISIBILITY_TIMEOUT_S = 5
"""How long a received message stays hidden: 100 times what a handler takes here, and short enough that what a killed
consumer had in hand comes back well within a fault's recovery."""

MAX_RECEIVES = 5
"""Deliveries without success before a message is taken for dead. Waiting for a database that is away counts none."""

ORDERED = frozenset({"cache"})
"""Consumers to whom the order of events about one subject matters: they keep the latest state, nothing else. FIFO costs
them throughput (300 calls a second per queue on AWS) and a retry of one event holds up those about the same subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue with its dead-letter queue, '<name>-dlq' of the same type."""

    name: str
    """'.fifo' at its end says that order is kept per group (the subject)."""
    consumer: str
    """The service that reads it."""
    visibility_timeout_s: int = VISIBILITY_TIMEOUT_S
    max_receives: int = MAX_RECEIVES

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")

    @property
    def dead_letters(self) -> str:
        """Name of its dead-letter queue."""
        return f"{self.name.removesuffix('.fifo')}-dlq{'.fifo' if self.fifo else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """Where a producer publishes its events."""

    name: str
    producer: str

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A queue that gets those of a topic's events whose attribute `type` is among `messages`."""

    topic: str
    queue: str
    messages: tuple[str, ...]

    @property
    def name(self) -> str:
        """Unique in a stage, a plain name."""
        return f"{self.topic.removesuffix('.fifo')}-to-{self.queue.removesuffix('.fifo')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Messaging:
    """Everything a stage needs of its broker; all parts empty for a stage without messages."""

    queues: tuple[Queue, ...]
    topics: tuple[Topic, ...]
    subscriptions: tuple[Subscription, ...]

    def queue_of(self, consumer: str) -> Queue | None:
        """The one queue that a service reads."""
        return next((q for q in self.queues if q.consumer == consumer), None)

    def topic_of(self, producer: str) -> Topic | None:
        return next((t for t in self.topics if t.producer == producer), None)


def messaging(stage: Stage) -> Messaging:
    """Queues, topics and subscriptions of a stage, in the order of its services."""
    commands = [c for c in stage.channels if c.kind is Kind.COMMAND]
    events = [c for c in stage.channels if c.kind is Kind.EVENT]
    names = [s.name for s in stage.services]
    queues = [
        *(Queue(name=f"{n}-commands", consumer=n) for n in names if any(c.callee == n for c in commands)),
        *(Queue(name=f"{n}-replies", consumer=n) for n in names if any(c.caller == n for c in commands)),
        *(Queue(name=_events_queue(n), consumer=n) for n in names if any(c.callee == n for c in events)),
    ]
    topics = [Topic(name=_topic(n, events), producer=n) for n in names if any(c.caller == n for c in events)]
    return Messaging(
        queues=tuple(queues),
        topics=tuple(topics),
        subscriptions=tuple(
            Subscription(topic=_topic(c.caller, events), queue=_events_queue(c.callee), messages=c.messages)
            for c in events
        ),
    )


def talkers(stage: Stage) -> tuple[str, ...]:
    """The services that speak with the broker, each over a wire of its own, in the stage's order."""
    ends = {end for c in stage.channels if c.kind is not Kind.CALL for end in (c.caller, c.callee)}
    return tuple(s.name for s in stage.services if s.name in ends)


def _events_queue(consumer: str) -> str:
    return f"{consumer}-events{'.fifo' if consumer in ORDERED else ''}"


def _topic(producer: str, events: list[Channel]) -> str:
    """A FIFO queue can only be fed by a FIFO topic, a standard queue by either."""
    ordered = any(c.callee in ORDERED for c in events if c.caller == producer)
    return f"{producer}-events{'.fifo' if ordered else ''}"
