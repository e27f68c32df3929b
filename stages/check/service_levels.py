"""Does each operation keep its promise while nothing is broken?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.check.counting import MS_NS, Censor, Span, bad_in
from stages.check.generator import percentile
from stages.check.verdict import Verdict
from stages.evidence import binomial_tail
from stages.history import Invocation, Outcome, Stall
from stages.model import Operation, Stage

SURELY = 0.001
"""An operation is below its promise if so many bad requests had at most this chance had it kept it. Small, since
some six operations are judged per stage and the machine has bad seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevel:
    """One operation in healthy time."""

    operation: str
    n: int
    ok: int
    """Answered well, late or not."""
    bad: int
    """Not answered well within the SLO."""
    p50_ms: float | None
    """Of the ok answers, from the intended start; None without any. So are the other two."""
    p95_ms: float | None
    p99_ms: float | None
    slo_ms: int
    verdict: Verdict
    because: str


def service_levels(
    stage: Stage, invocations: Iterable[Invocation], spans: Sequence[Span], stalls: Iterable[Stall]
) -> tuple[ServiceLevel, ...]:
    """Every operation's latency and share of good answers in the given healthy spans, stalls left out."""
    censor = Censor(stalls)
    by_operation: dict[str, list[Invocation]] = {o.name: [] for o in stage.operations}
    slo_ms = {o.name: o.latency_slo_ms for o in stage.operations}
    for i in invocations:
        if i.operation not in slo_ms or censor.hides(i.intended_ns, slo_ms[i.operation]):
            continue
        over_ns = i.intended_ns + slo_ms[i.operation] * MS_NS
        if any(span.start_ns <= i.intended_ns and over_ns <= span.end_ns for span in spans):
            by_operation[i.operation].append(i)
    return tuple(_level(o, by_operation[o.name]) for o in stage.operations)


def _level(operation: Operation, requests: Sequence[Invocation]) -> ServiceLevel:
    ok = [i for i in requests if i.outcome is Outcome.OK]
    bad = sum(bad_in(i, operation.latency_slo_ms)[1] for i in requests)
    verdict, because = _judged(operation, len(requests), len(ok), bad)
    latencies = [i.latency_ms for i in ok]
    return ServiceLevel(
        operation=operation.name,
        n=len(requests),
        ok=len(ok),
        bad=bad,
        p50_ms=percentile(latencies, 50),
        p95_ms=percentile(latencies, 95),
        p99_ms=percentile(latencies, 99),
        slo_ms=operation.latency_slo_ms,
        verdict=verdict,
        because=because,
    )


def _judged(operation: Operation, n: int, ok: int, bad: int) -> tuple[Verdict, str]:
    if n == 0:
        return Verdict.UNKNOWN, f"{operation.name} had no request in healthy time"
    said = f"{n - bad} of {n} good within {operation.latency_slo_ms} ms, promised are {operation.slo_share:.1%}"
    if binomial_tail(bad, n, 1 - operation.slo_share) < SURELY:
        return Verdict.INVALID, f"{operation.name} is below its promise: {said}"
    if ok == 0:
        return Verdict.UNKNOWN, f"{operation.name} was never answered well: {said}"
    return Verdict.VALID, said
