"""What did the generator do so far, in figures? For progress and for Locust's summary; verdicts read the history.

Counts restart with every phase. Nothing is dropped: arrivals offered = sent + unsent, sent = answered + in flight.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from stages.history import Invocation, Outcome

SAMPLES_MAX = 1000
"""Latest answers per operation that percentiles are taken from: sorting them all takes a millisecond or two, so asking
for figures hardly delays arrivals."""


@dataclass(slots=True)
class _Operation:
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    degraded: int = 0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))


class Tally:
    """One phase's counts; `phase` starts over."""

    def __init__(self) -> None:
        self.phase("")

    def phase(self, name: str) -> None:
        """Forget everything and count for the phase `name`."""
        self.name = name
        self.offered = 0
        self.answered = 0
        self.unsent: Counter[str] = Counter()
        self._lags_ms: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._operations: dict[str, _Operation] = {}

    def add(self, invocation: Invocation) -> None:
        """Count an answer, or the certainty that none will come."""
        self.answered += 1
        self._lags_ms.append(invocation.lag_ms)
        of = self._operations.setdefault(invocation.operation, _Operation())
        of.outcomes[invocation.outcome] += 1
        of.degraded += invocation.degraded
        of.latencies_ms.append(invocation.latency_ms)

    def outcomes(self, operation: str) -> Counter[Outcome]:
        """How an operation's invocations ended so far."""
        return Counter(self._operations[operation].outcomes) if operation in self._operations else Counter()

    def figures(self) -> dict[str, Any]:
        """JSON-ready: the fields of `loadtests.driver.LoadStats` that are known here."""
        lag_p50_ms, lag_p99_ms = percentiles(self._lags_ms, 50, 99)
        return {
            "phase": self.name,
            "offered": self.offered,
            "answered": self.answered,
            "unsent": dict(self.unsent),
            "lag_p50_ms": lag_p50_ms,
            "lag_p99_ms": lag_p99_ms,
            "operations": {name: _figures(of) for name, of in sorted(self._operations.items())},
        }


def percentiles(values: Iterable[float], *percents: float) -> list[float | None]:
    """Nearest rank for each percent, such as 99 for p99; None without values.

    >>> percentiles([4.0, 3.0, 2.0, 1.0], 50, 99)
    [2.0, 4.0]
    """
    ordered = sorted(values)
    return [ordered[max(0, math.ceil(len(ordered) * p / 100) - 1)] if ordered else None for p in percents]


def _figures(of: _Operation) -> dict[str, Any]:
    p50_ms, p95_ms, p99_ms = percentiles(of.latencies_ms, 50, 95, 99)
    return {
        "n": of.outcomes.total(),
        **{str(outcome): of.outcomes[outcome] for outcome in Outcome},
        "degraded": of.degraded,
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "p99_ms": p99_ms,
    }
