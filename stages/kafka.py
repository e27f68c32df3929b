"""Which topics carry a stage's messages on Kafka, and who reads and writes them? Follows `stages.messaging`. (pure)

Queues and topics are both topics there, without their types. Consumers of events read the producers' topics themselves,
each under a group of its own, and filter by themselves; dead letters are one topic per consumer.
"""

from __future__ import annotations

from collections.abc import Mapping

from stages.messaging import Queue, messaging
from stages.model import Channel, Kind, Stage

DEAD_LETTERS = "dead-letters"


def kafka_topics(stage: Stage) -> tuple[str, ...]:
    """Every topic of a stage."""
    needed = messaging(stage)
    commands = [q.name for q in needed.queues if not _of_events(q)]
    events = [topic_name(t.name) for t in needed.topics]
    consumers = dict.fromkeys(q.consumer for q in needed.queues)
    return (*commands, *events, *(dead_letters(c) for c in consumers))


def kafka_reads(stage: Stage, service: str) -> tuple[str, ...]:
    """Topics that a service consumes."""
    return tuple(kafka_types(stage, service))


def kafka_types(stage: Stage, service: str) -> Mapping[str, tuple[str, ...]]:
    """The same, each with the types of message that count; () for all."""
    needed = messaging(stage)
    mine = [q for q in needed.queues if q.consumer == service]
    found: dict[str, tuple[str, ...]] = {q.name: () for q in mine if not _of_events(q)}
    for topic in needed.topics:
        wanted = [
            s.messages for s in needed.subscriptions if s.topic == topic.name and s.queue in {q.name for q in mine}
        ]
        if wanted:
            found[topic_name(topic.name)] = tuple(m for messages in wanted for m in messages)
    return found


def kafka_writes(stage: Stage, service: str) -> tuple[str, ...]:
    """Topics that a service produces to, its own dead letters among them."""
    needed = messaging(stage)
    commands = [q.name for to in partners(stage, service) if (q := needed.queue_of(to)) is not None]
    topic = needed.topic_of(service)
    dead = [dead_letters(service)] if kafka_reads(stage, service) else []
    return (*commands, *([topic_name(topic.name)] if topic else []), *dead)


def partners(stage: Stage, service: str) -> tuple[str, ...]:
    """Whom a service sends to directly: those it commands, and those whose commands it answers."""
    commands: list[Channel] = [channel for channel in stage.channels if channel.kind is Kind.COMMAND]
    found = [c.callee for c in commands if c.caller == service] + [c.caller for c in commands if c.callee == service]
    return tuple(dict.fromkeys(found))


def dead_letters(service: str) -> str:
    """Topic of what a service cannot handle."""
    return f"{service}-{DEAD_LETTERS}"


def topic_name(name: str) -> str:
    """A queue's or topic's name on Kafka, which knows no types.

    >>> topic_name("orders-events.fifo")
    'orders-events'
    """
    return name.removesuffix(".fifo")


def _of_events(queue: Queue) -> bool:
    return topic_name(queue.name).endswith("-events")
