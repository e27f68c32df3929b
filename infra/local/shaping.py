"""When may a piece of a stream go on, under latency and limited bandwidth? (pure: clock and random are given)

    arrives -> Bucket (when the link has carried the bytes before it) -> Delay (distance) -> due

Due times never decrease along one stream: a fault may hold bytes, never reorder them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from infra.local.faultspec import Fault

PIECE_S = 0.02
"""A limited link hands bytes on in pieces of at most this much time, so that a stream trickles."""

BURST_S = 0.02
"""How much unused capacity a limited link may save up, seconds: below, timers' own error would waste it."""


class Chance(Protocol):
    def uniform(self, a: float, b: float, /) -> float: ...


@dataclass(slots=True)
class Delay:
    """Uniform in [delay_s - jitter_s, delay_s + jitter_s], one draw per piece."""

    delay_s: float
    jitter_s: float
    chance: Chance

    def draw(self) -> float:
        return self.chance.uniform(self.delay_s - self.jitter_s, self.delay_s + self.jitter_s)


@dataclass(slots=True)
class Bucket:
    """A link that carries so many bytes per second, shared by all connections of a wire in one direction."""

    bytes_per_s: float
    free_at_s: float = 0.0
    """When everything accepted so far has been carried."""

    def carry(self, size: int, now_s: float) -> float:
        """When a piece that arrives now has passed the link."""
        self.free_at_s = max(self.free_at_s, now_s - BURST_S) + size / self.bytes_per_s
        return max(self.free_at_s, now_s)


@dataclass(slots=True)
class Shape:
    """What happens to one direction of a wire. Nothing, when both are empty."""

    delays: list[Delay] = field(default_factory=list)
    bucket: Bucket | None = None

    def due(self, size: int, now_s: float) -> float:
        """When a piece of this size, arriving now, may go on; the caller keeps the order."""
        at = self.bucket.carry(size, now_s) if self.bucket else now_s
        return at + sum(delay.draw() for delay in self.delays)

    def pieces(self, data: bytes) -> list[bytes]:
        """The data cut as the link carries it."""
        if self.bucket is None:
            return [data]
        step = max(1, int(self.bucket.bytes_per_s * PIECE_S))
        return [data[at : at + step] for at in range(0, len(data), step)]


@dataclass(slots=True)
class Effect:
    """All faults of one wire taken together; `calm` when there is none."""

    refuse: bool = False
    reset: bool = False
    blackhole: bool = False
    up: Shape = field(default_factory=Shape)
    """Caller to callee."""
    down: Shape = field(default_factory=Shape)
    """Callee to caller."""

    @property
    def shaped(self) -> bool:
        return bool(self.up.delays or self.up.bucket)

    @property
    def calm(self) -> bool:
        return not (self.refuse or self.reset or self.blackhole or self.shaped)


def combine(faults: Sequence[Fault]) -> Effect:
    """The effect of several faults at once: delays add up, the narrowest link counts."""
    effect = Effect()
    for fault in faults:
        match fault.kind:
            case "refuse":
                effect.refuse = True
            case "reset":
                effect.reset = True
            case "blackhole":
                effect.blackhole = True
            case "latency":
                for shape, direction in ((effect.up, "up"), (effect.down, "down")):
                    chance = random.Random(f"{fault.numbers['seed']}/{direction}")
                    shape.delays.append(
                        Delay(fault.numbers["delay_ms"] / 1000, fault.numbers["jitter_ms"] / 1000, chance)
                    )
            case "bandwidth":
                rate = fault.numbers["bytes_per_s"]
                for shape in (effect.up, effect.down):
                    if shape.bucket is None or rate < shape.bucket.bytes_per_s:
                        shape.bucket = Bucket(rate)
            case other:
                raise ValueError(f"{other!r} is no fault of a wire")
    return effect
