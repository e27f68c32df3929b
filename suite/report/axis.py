"""Which axis shows a range of latencies well, linear or logarithmic, and where do its marks stand?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LOG_FROM_RATIO = 20.0
"""A range wider than this is drawn logarithmically: on a linear axis its lower part would be a flat line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Maps a latency in milliseconds to 0 (bottom) .. 1 (top)."""

    low_ms: float
    high_ms: float
    logarithmic: bool
    ticks_ms: tuple[float, ...]

    def place(self, ms: float) -> float:
        """Position, clipped to the axis."""
        value = min(self.high_ms, max(self.low_ms, ms))
        if not self.logarithmic:
            return (value - self.low_ms) / (self.high_ms - self.low_ms)
        return math.log(value / self.low_ms) / math.log(self.high_ms / self.low_ms)


def axis_for(values_ms: Iterable[float]) -> Axis:
    """The axis that holds all values. Without any it is 1 to 1000 ms."""
    positive = [v for v in values_ms if v > 0 and math.isfinite(v)]
    low, high = (min(positive), max(positive)) if positive else (1.0, 1000.0)
    return _logarithmic(low, high) if high / low > LOG_FROM_RATIO else _linear(high)


def _logarithmic(low: float, high: float) -> Axis:
    """From the 1-2-5 step below to the one above; marks at decades, or at every step within two decades."""
    steps = [m * 10.0**e for e in range(-3, 8) for m in (1, 2, 5)]
    bottom = max((s for s in steps if s <= low), default=steps[0])
    top = min((s for s in steps if s >= high), default=steps[-1])
    decades = tuple(s for s in steps if bottom <= s <= top and math.isclose(math.log10(s) % 1, 0, abs_tol=1e-9))
    return Axis(low_ms=bottom, high_ms=top, logarithmic=True, ticks_ms=decades)


def _linear(high: float) -> Axis:
    """From zero, with three to six marks at a round distance."""
    raw = high / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    top = math.ceil(high / step) * step
    return Axis(
        low_ms=0.0, high_ms=top, logarithmic=False, ticks_ms=tuple(step * n for n in range(round(top / step) + 1))
    )
