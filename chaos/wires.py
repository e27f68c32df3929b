"""Which channels go over which wire? Derived from the stage; a deployment's record says where each listens. (pure)

A call goes over a wire of its own, which bears its channel's name. Messages go to the broker and come from it: each
service that sends or receives some has one wire there, 'payments-broker', shared by all its message channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.messaging import messaging, talkers
from stages.model import Channel, Kind, Stage

BROKER = "broker"
"""The callee of every wire to the broker, and the name of that shared part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carries:
    """What a wire is for."""

    caller: str
    """The service that connects to it."""
    channels: tuple[Channel, ...]


def wires(stage: Stage) -> Mapping[str, Carries]:
    """Every wire of a stage but that of its users, by name."""
    found = {c.name: Carries(caller=c.caller, channels=(c,)) for c in wired(stage)}
    for service in talkers(stage):
        mine = tuple(c for c in message_channels(stage) if service in (c.caller, c.callee))
        found[f"{service}-{BROKER}"] = Carries(caller=service, channels=mine)
    return found


def wired(stage: Stage) -> tuple[Channel, ...]:
    """The channels that have a wire to themselves: calls."""
    return tuple(c for c in stage.channels if c.kind is Kind.CALL)


def message_channels(stage: Stage) -> tuple[Channel, ...]:
    """The channels that go through the broker."""
    return tuple(c for c in stage.channels if c.kind is not Kind.CALL)


def carried(stage: Stage, wire: str) -> tuple[str, ...]:
    """Names of the channels that a wire carries; its own name where the stage does not have it ('users-storefront')."""
    known = wires(stage).get(wire)
    return tuple(c.name for c in known.channels) if known else (wire,)


def brokers(stage: Stage) -> tuple[str, ...]:
    """Names of the stage's brokers: one where it sends messages."""
    return (BROKER,) if message_channels(stage) else ()


def queues(stage: Stage) -> tuple[str, ...]:
    """Names of the queues that services read; dead-letter queues are not among them."""
    return tuple(q.name for q in messaging(stage).queues)
