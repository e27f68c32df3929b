"""How did latency, failures and faults run over time? History records -> figures per operation and second.

Seconds count from the run's first phase (or its first request). Latency counts from the intended start, so
a generator that lags cannot make a service look fast. Percentiles are nearest rank over the raw samples of a
second: with ten requests in it, p99 is the slowest one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stages.history import FaultEvent, FaultStep, Invocation, Outcome, Phase, Record, Stall, Unsent, at

_ECDF_SHARES = (*(n / 40 for n in range(1, 39)), 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999, 1.0)
"""Where a distribution is sampled: enough for a smooth line, denser where the tail is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One second of one operation, by intended start."""

    second: int
    count: int
    bad: int
    """Not ok, or later than the operation's SLO."""
    degraded: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One injection of a fault; None for a step that was never reached."""

    fault: str
    intent_s: float
    injected_s: float | None = None
    seen_s: float | None = None
    undoing_s: float | None = None
    undone_s: float | None = None
    recovered_s: float | None = None
    seen_by: str = ""
    trouble: str = ""
    """Why it was refused, failed or never recovered."""

    @property
    def start_s(self) -> float:
        """When it began to bite, as far as known."""
        return next(s for s in (self.injected_s, self.seen_s, self.intent_s) if s is not None)

    @property
    def end_s(self) -> float:
        """When its undo was ordered; its start, if it was never undone."""
        return next((s for s in (self.undoing_s, self.undone_s) if s is not None), self.start_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A named stretch of time: a phase or a stall."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Latency of one operation in the baseline."""

    n: int
    points: tuple[tuple[float, float], ...]
    """(latency in milliseconds, share of requests at most as slow), ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One stage's run over time."""

    length_s: float
    bins: Mapping[str, tuple[Bin, ...]]
    """By operation; seconds without a request have no bin."""
    windows: tuple[Window, ...]
    phases: tuple[Span, ...]
    stalls: tuple[Span, ...]
    baseline: Mapping[str, Distribution]
    unsent: int
    """Arrivals that were due and never sent."""
    lag_p99_ms: float | None
    """How late the generator sent, at the 99th percentile."""


EMPTY = Series(length_s=0.0, bins={}, windows=(), phases=(), stalls=(), baseline={}, unsent=0, lag_p99_ms=None)


def summarize(records: Iterable[Record], slo_ms: Mapping[str, float]) -> Series:
    """The figures of one stage.

    `slo_ms` gives the latency objective by operation; one that has none is only bad when it is not ok.
    Audit and usage records are not looked at. An empty history gives EMPTY.
    """
    seen = [r for r in records if isinstance(r, Invocation | Unsent | Phase | FaultEvent | Stall)]
    if not seen:
        return EMPTY
    calls = [r for r in seen if isinstance(r, Invocation)]
    phases = [r for r in seen if isinstance(r, Phase)]
    start_ns = min(map(at, phases or seen))
    end_ns = max([*map(at, seen), *(c.ended_ns for c in calls)])
    clock = _Clock(start_ns)
    spans = _phases(phases, clock, clock(end_ns))
    return Series(
        length_s=clock(end_ns),
        bins=_bins(calls, clock, slo_ms),
        windows=_windows((r for r in seen if isinstance(r, FaultEvent)), clock),
        phases=spans,
        stalls=tuple(
            Span(name=r.source, start_s=max(0.0, clock(r.start_ns)), end_s=clock(r.end_ns))
            for r in seen
            if isinstance(r, Stall) and r.end_ns >= start_ns
        ),
        baseline=_baseline(calls, clock, [s for s in spans if s.name == "baseline"]),
        unsent=sum(isinstance(r, Unsent) for r in seen),
        lag_p99_ms=percentile(sorted(c.lag_ms for c in calls), 0.99) if calls else None,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank of an ascending, non-empty sequence; `share` in (0, 1]."""
    rank = -(-len(ordered) * share // 1)  # ceiling
    return ordered[max(0, int(rank) - 1)]


@dataclass(frozen=True, slots=True)
class _Clock:
    start_ns: int

    def __call__(self, instant_ns: int) -> float:
        return (instant_ns - self.start_ns) / 1e9


def _bins(calls: Iterable[Invocation], clock: _Clock, slo_ms: Mapping[str, float]) -> dict[str, tuple[Bin, ...]]:
    found: dict[str, dict[int, list[Invocation]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        second = int(clock(call.intended_ns) // 1)
        if second >= 0:
            found[call.operation][second].append(call)
    return {
        operation: tuple(
            _bin(second, found[operation][second], slo_ms.get(operation)) for second in sorted(found[operation])
        )
        for operation in sorted(found)
    }


def _bin(second: int, calls: Sequence[Invocation], slo_ms: float | None) -> Bin:
    ordered = sorted(c.latency_ms for c in calls)
    return Bin(
        second=second,
        count=len(calls),
        bad=sum(is_bad(c, slo_ms) for c in calls),
        degraded=sum(c.degraded for c in calls),
        p50_ms=percentile(ordered, 0.50),
        p95_ms=percentile(ordered, 0.95),
        p99_ms=percentile(ordered, 0.99),
    )


def is_bad(call: Invocation, slo_ms: float | None) -> bool:
    """Not ok, or later than the objective."""
    return call.outcome is not Outcome.OK or (slo_ms is not None and call.latency_ms > slo_ms)


def _phases(phases: Sequence[Phase], clock: _Clock, end_s: float) -> tuple[Span, ...]:
    ordered = sorted(phases, key=at)
    starts = [clock(p.at_ns) for p in ordered]
    ends = [*starts[1:], end_s]
    return tuple(Span(name=p.name, start_s=s, end_s=e) for p, s, e in zip(ordered, starts, ends, strict=False))


def _baseline(calls: Iterable[Invocation], clock: _Clock, spans: Sequence[Span]) -> dict[str, Distribution]:
    found: dict[str, list[float]] = defaultdict(list)
    for call in calls:
        if any(s.start_s <= clock(call.intended_ns) < s.end_s for s in spans):
            found[call.operation].append(call.latency_ms)
    return {operation: _distribution(sorted(found[operation])) for operation in sorted(found)}


def _distribution(ordered: Sequence[float]) -> Distribution:
    points = {share: percentile(ordered, share) for share in _ECDF_SHARES}
    return Distribution(n=len(ordered), points=tuple((ms, share) for share, ms in points.items()))


_TROUBLE = (FaultStep.REFUSED, FaultStep.FAILED, FaultStep.NOT_RECOVERED, FaultStep.UNSEEN)


def _windows(events: Iterable[FaultEvent], clock: _Clock) -> tuple[Window, ...]:
    """A fault may be injected more than once: each intent opens a window, later steps belong to the last one."""
    lives: list[list[FaultEvent]] = []
    last: dict[str, list[FaultEvent]] = {}
    for event in sorted(events, key=at):
        if event.step is FaultStep.INTENT or event.fault not in last:
            last[event.fault] = []
            lives.append(last[event.fault])
        last[event.fault].append(event)
    return tuple(_window(life, clock) for life in lives)


def _window(life: Sequence[FaultEvent], clock: _Clock) -> Window:
    """From the steps of one injection, the first of each kind counting."""
    first: dict[FaultStep, FaultEvent] = {}
    for event in life:
        first.setdefault(event.step, event)
    seconds = {step: clock(event.at_ns) for step, event in first.items()}
    trouble = [first[step].detail or step.value for step in _TROUBLE if step in first]
    return Window(
        fault=life[0].fault,
        intent_s=clock(life[0].at_ns),
        injected_s=seconds.get(FaultStep.INJECTED),
        seen_s=seconds.get(FaultStep.SEEN),
        undoing_s=seconds.get(FaultStep.UNDOING),
        undone_s=seconds.get(FaultStep.UNDONE),
        recovered_s=seconds.get(FaultStep.RECOVERED),
        seen_by=first[FaultStep.SEEN].detail if FaultStep.SEEN in first else "",
        trouble="; ".join(trouble),
    )
