"""What did the user type? The wishes of the long commands, with their defaults; importing it costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_RATE = 50.0
"""Requests per second: the shuffled deck then deals some 8/s to every operation, and a promise of 'less than 5 % lost'
(63 good requests) is decided in about 8 s. Stage async then keeps one of two cores busy, so that a machine that has
something else to do for a moment does not look like a fault."""

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
    rate: float = DEFAULT_RATE
    seed: int = 7
    variant: str | None = None


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
