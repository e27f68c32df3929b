"""How do topics and queues get onto the system map?

A topic stands beside its producer as a place of its own, so that one line fans out into those to its consumers. A queue
belongs to one consumer and is drawn at its door; what is called directly goes past it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from xml.etree.ElementTree import Element

from stages.messaging import Messaging, Queue, messaging
from stages.model import Channel, Kind, Service, Stage
from suite.report import svg
from suite.report.placing import Rect

QUEUE_W = 21.0
"""How far a queue stands out from its consumer."""


TOPIC = "a topic: copies each event for every consumer"


def is_topic(place: Service) -> bool:
    """Whether `with_topics` has put it there."""
    return place.summary == TOPIC


def with_topics(stage: Stage) -> Stage:
    """The stage with a service in place of every topic: producer -> topic -> consumers instead of producer -> consumer.

    For drawing only; equal to the stage itself where it has no topic.
    """
    needed = messaging(stage)
    system = {s.name: s.system for s in stage.services}
    topics = tuple(
        Service(name=t.name, summary=TOPIC, system=system[t.producer], database=False)
        for t in needed.topics
        if t.producer in system
    )
    if not topics:
        return stage
    channels = tuple(_through(c, needed) for c in stage.channels)
    published = tuple(
        Channel(
            caller=t.producer,
            callee=t.name,
            kind=Kind.EVENT,
            operations=tuple(dict.fromkeys(o for c in _told(stage, t.producer) for o in c.operations)),
            messages=tuple(dict.fromkeys(m for c in _told(stage, t.producer) for m in c.messages)),
        )
        for t in needed.topics
    )
    return replace(stage, services=(*stage.services, *topics), channels=(*channels, *published))


def _told(stage: Stage, producer: str) -> list[Channel]:
    return [c for c in stage.channels if c.caller == producer and c.kind is Kind.EVENT]


def _through(channel: Channel, needed: Messaging) -> Channel:
    topic = needed.topic_of(channel.caller)
    return replace(channel, caller=topic.name) if channel.kind is Kind.EVENT and topic else channel


def queues_of(needed: Messaging) -> dict[str, tuple[Queue, ...]]:
    """By consumer."""
    found: dict[str, tuple[Queue, ...]] = {}
    for queue in needed.queues:
        found[queue.consumer] = (*found.get(queue.consumer, ()), queue)
    return found


def topic_node(name: str, at: Rect) -> Element:
    """A pill instead of a box: nothing runs there."""
    middle = (at.x1 + at.x2) / 2, (at.y1 + at.y2) / 2
    return svg.element(
        "g",
        None,
        svg.element("title", text=f"{name}: {TOPIC}"),
        svg.box(at.x1, middle[1] - 14, at.x2 - at.x1, 28, "topic", radius=14),
        svg.words(middle[0], middle[1] + 4, name, "topic-name", text_anchor="middle"),
    )


def queue_glyph(queues: tuple[Queue, ...], at: Rect, low: float, high: float) -> Element:
    """A row of messages at the door, as high as the lines that end there (from `low` to `high`)."""
    top, height = low - 7, high - low + 14
    cells = [svg.box(at.x1 - QUEUE_W + n * QUEUE_W / 3, top, QUEUE_W / 3, height, "queue") for n in range(3)]
    title = "; ".join(queue_words(q) for q in queues)
    return svg.element("g", None, svg.element("title", text=title), *cells)


def queue_words(queue: Queue) -> str:
    """Everything that a queue promises, in one sentence."""
    order = "in order per subject" if queue.fifo else "in any order"
    return (
        f"queue {queue.name}: read by {queue.consumer}, {order}; a message is hidden for "
        f"{queue.visibility_timeout_s} s while it is worked on, and after {queue.max_receives} deliveries "
        f"without success goes to {queue.dead_letters}"
    )


def parts_in_words(stage: Stage) -> tuple[str, ...]:
    """Every topic with its consumers, every queue; () for a stage without messages."""
    needed = messaging(stage)
    fans: Mapping[str, list[str]] = {
        t.name: [f"{', '.join(s.messages)} to {s.queue}" for s in needed.subscriptions if s.topic == t.name]
        for t in needed.topics
    }
    topics = [f"topic {t.name}: {t.producer} publishes {'; '.join(fans[t.name])}" for t in needed.topics]
    return (*topics, *(queue_words(q) for q in needed.queues))
