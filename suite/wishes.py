"""What did the user type? The wishes of the long commands, with their defaults; importing it costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_RATE = 50.0
"""Requests per second: the shuffled deck then deals some 8/s to every operation, and a promise of 'less than 5 % lost'
(63 good requests) is decided in about 8 s. Stage async then keeps one of two cores busy, so that a machine that has
something else to do for a moment does not look like a fault."""

QUICK_RATE = 30.0
"""The wider margins of --quick are decided by 21 good requests to an operation, which then take 5 s; the mesh, the
dearest stage, keeps its promises at this rate on two slow cores that it fills at 50/s."""

SWEEP_RATE = 40.0
"""Requests per second: about six to each operation, and an idle machine even while place-order takes 0.7 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Of `stages verify`."""

    stages: tuple[str, ...] = ()
    """Empty: all that can run."""
    quick: bool = False
    faults: tuple[str, ...] = ()
    """Empty: all of the catalogue, or the quick ones."""
    rate: float | None = None
    """None: what suits a quick run, or a whole one."""
    seed: int = 7
    variant: str | None = None

    @property
    def rate_per_s(self) -> float:
        """The rate asked for, or the one that suits."""
        if self.rate is not None:
            return self.rate
        return QUICK_RATE if self.quick else DEFAULT_RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepWishes:
    """Of `stages sweep distance`."""

    stages: tuple[str, ...] = ()
    """Empty: all that can run."""
    delays: str = ""
    """Milliseconds one way, separated by commas; empty: the default."""
    rate: float = SWEEP_RATE
    seed: int = 7
    quick: bool = False
