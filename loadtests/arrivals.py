"""When does the next user come, and to do what?

Poisson arrivals: the gaps are exponential and never wait for an answer, so the load does not adapt to the shop (an
open loop). The operations are dealt from a shuffled deck: over each deck the mix is exact, so the rarest operation gets
its share early, while the moment of each remains random. Constant pacing would let a fault that beats in time with it
hide: a 20 ms outage each second was judged harmless in half of the runs (2 % of the runs with this deck).

Pure: no clock, no sleeping. Offsets are nanoseconds from an origin that the caller chooses. Time and operations draw
from streams of their own, so a change of mix leaves the moments alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Arrival:
    """One user who wants one thing."""

    offset_ns: int
    """When it is due, nanoseconds from the origin."""
    operation: str


class Arrivals(Iterator[Arrival]):
    """Endless; equal arguments give equal arrivals.

    >>> [a.operation for a in take(Arrivals(rate_per_s=10, mix={"browse": 1}, seed="7"), 2)]
    ['browse', 'browse']
    """

    def __init__(self, *, rate_per_s: float, mix: Mapping[str, int], seed: str) -> None:
        """`rate_per_s` > 0; `mix` weighs at least one operation with a whole number > 0: ValueError otherwise."""
        self._gaps = Random(f"{seed}/gaps")
        self._shuffles = Random(f"{seed}/deck")
        self._rate_per_s = _checked_rate(rate_per_s)
        self._cards = _cards(mix)
        self._deck: list[str] = []
        self._offset_ns = 0
        self._last: Arrival | None = None

    def __next__(self) -> Arrival:
        self._offset_ns += round(self._gaps.expovariate(self._rate_per_s) * 1e9)
        self._last = Arrival(self._offset_ns, self._deal())
        return self._last

    def change(self, *, at_ns: int, rate_per_s: float | None = None, mix: Mapping[str, int] | None = None) -> None:
        """From `at_ns` on, arrive at another rate or with another mix (a fresh deck).

        The last arrival handed out is withdrawn if it is due later than `at_ns`: the caller drops it and asks for the
        next. Nothing is lost by that, since a Poisson process has no memory of how long it has been waiting.
        """
        withdrawn = self._last if self._last is not None and self._last.offset_ns > at_ns else None
        if rate_per_s is not None:
            self._rate_per_s = _checked_rate(rate_per_s)
        if mix is not None:
            self._cards, self._deck = _cards(mix), []
        elif withdrawn is not None:
            self._deck.append(withdrawn.operation)
        self._offset_ns, self._last = at_ns, None

    def _deal(self) -> str:
        if not self._deck:
            self._deck = list(self._cards)
            self._shuffles.shuffle(self._deck)
        return self._deck.pop()


def take(arrivals: Arrivals, count: int) -> list[Arrival]:
    """The next `count` arrivals."""
    return [next(arrivals) for _ in range(count)]


def _checked_rate(rate_per_s: float) -> float:
    if not rate_per_s > 0:
        raise ValueError(f"rate_per_s={rate_per_s!r} must be above 0")
    return rate_per_s


def _cards(mix: Mapping[str, int]) -> tuple[str, ...]:
    cards = tuple(operation for operation, weight in mix.items() for _ in range(weight))
    if not cards:
        raise ValueError(f"mix={dict(mix)!r} weighs no operation")
    return cards
