"""When, on the run's clock, did something happen whose time is since the epoch?

The history is in CLOCK_MONOTONIC, sidecars and spans write the time of day. The distance of the two clocks is taken at
the start of a run and once more at its end: where somebody set the time of day in between, the two differ, and by so
much every time of the mesh may be off.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

TRIES = 16
"""Pairs of looks at the two clocks; the one taken fastest is the most exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """What to take from a time since the epoch to have it on the run's clock."""

    offset_ns: int
    off_by_ns: int
    """By how much that may be wrong."""

    def monotonic(self, epoch_ns: int) -> int:
        """The instant on the run's clock."""
        return epoch_ns - self.offset_ns

    def until(self, later: Offset) -> Offset:
        """The offset of a whole run, from those at its start and its end."""
        apart = abs(later.offset_ns - self.offset_ns)
        return replace(self, off_by_ns=apart + max(self.off_by_ns, later.off_by_ns))


def take(epoch_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> Offset:
    """The offset now; exact to half of what the fastest of some looks took."""
    best: Offset | None = None
    for _ in range(TRIES):
        before, wall, after = monotonic_ns(), epoch_ns(), monotonic_ns()
        found = Offset(offset_ns=wall - (before + after) // 2, off_by_ns=(after - before + 1) // 2)
        if best is None or found.off_by_ns < best.off_by_ns:
            best = found
    assert best is not None
    return best
