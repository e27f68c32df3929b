"""How much goes over each edge of a mesh, how much of it fails, how long it takes, how full is it? Per phase. (pure)

The four golden signals, as the caller's sidecar sees them, retries included: traffic (requests a second), errors (no
answer, or 5xx), latency (of the answers that were no error) and saturation (requests under way at once, beside the
limit at which further ones are refused). `users-<entry>` is what comes in from outside.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.check import Span
from stages.history import FaultEvent, FaultStep, Phase, Record, at
from stages.mesh import calls, crosses, gateway_of
from stages.model import Stage
from suite.signals_clock import Offset
from suite.signals_lines import INGRESS, OUT, Line, Read

BASELINE = "baseline"
SECOND_NS = 1_000_000_000
LONGEST_NS = 10 * SECOND_NS
"""No exchange takes longer: a sidecar gives up before."""
OVERFLOW, NO_HOST = "UO", "UH"
"""Envoy's flags: the limit of requests under way was reached; no address of the callee is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of the run of which the signals are taken."""

    name: str
    """'baseline', or a fault."""
    span: Span
    """From the sight of the fault to the order to undo it."""
    injected_ns: int | None = None
    undone_ns: int | None = None
    recovered_ns: int | None = None

    @property
    def seconds(self) -> float:
        return (self.span.end_ns - self.span.start_ns) / SECOND_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """One edge during one window."""

    n: int
    rate: float
    """Requests a second."""
    errors: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    error_p50_ms: float | None
    """How long a caller waited for a failure."""
    under_way_most: int
    under_way_mean: float
    overflows: int
    """Refused at once because too many were under way."""
    no_host: int
    """Refused at once because every address of the callee is left alone or gone."""
    retried: int
    """Requests that took more than one attempt."""
    flags: Mapping[str, int]

    @property
    def error_share(self) -> float:
        return self.errors / self.n if self.n else 0.0


def windows(records: Iterable[Record]) -> tuple[Window, ...]:
    """The baseline and every fault that was seen to bite, in order; of a fault injected twice the last time."""
    records = sorted((r for r in records if isinstance(r, Phase | FaultEvent)), key=at)
    phases = [r for r in records if isinstance(r, Phase)]
    found: dict[str, Window] = {}
    for n, phase in enumerate(phases[:-1]):
        if phase.name == BASELINE:
            found[BASELINE] = Window(name=BASELINE, span=Span(start_ns=phase.at_ns, end_ns=phases[n + 1].at_ns))
    steps: dict[str, dict[FaultStep, int]] = {}
    for event in (r for r in records if isinstance(r, FaultEvent)):
        if event.step is FaultStep.INTENT:
            steps.pop(event.fault, None)
        steps.setdefault(event.fault, {})[event.step] = event.at_ns
    for fault, when in steps.items():
        begin = when.get(FaultStep.SEEN)
        end = when.get(FaultStep.UNDOING, when.get(FaultStep.UNDONE))
        if begin is not None and end is not None and begin < end:
            found[fault] = Window(
                name=fault,
                span=Span(start_ns=begin, end_ns=end),
                injected_ns=when.get(FaultStep.INJECTED),
                undone_ns=when.get(FaultStep.UNDONE),
                recovered_ns=when.get(FaultStep.RECOVERED),
            )
    return tuple(found.values())


def signals(lines: Sequence[Line], window: Window, offset: Offset) -> Signals:
    """What one edge's lines, those of the caller's side in order of start, say of a window; by start of the request."""
    mine = starting(lines, window.span, offset)
    good = sorted(r.duration_ms for r in mine if r.good)
    bad = sorted(r.duration_ms for r in mine if not r.good)
    flags = Counter(flag for r in mine for flag in r.flags)
    before = Span(start_ns=window.span.start_ns - LONGEST_NS, end_ns=window.span.end_ns)
    most, busy_ns = _under_way(starting(lines, before, offset), window, offset)
    seconds = window.seconds
    return Signals(
        n=len(mine),
        rate=len(mine) / seconds if seconds else 0.0,
        errors=len(bad),
        p50_ms=percentile(good, 50),
        p90_ms=percentile(good, 90),
        p99_ms=percentile(good, 99),
        error_p50_ms=percentile(bad, 50),
        under_way_most=most,
        under_way_mean=busy_ns / SECOND_NS / seconds if seconds else 0.0,
        overflows=flags[OVERFLOW],
        no_host=flags[NO_HOST],
        retried=sum(r.attempts > 1 for r in mine),
        flags=dict(sorted(flags.items())),
    )


def starting(lines: Sequence[Line], span: Span, offset: Offset) -> Sequence[Line]:
    """Those of some lines, in order of start, whose request started within a span."""
    first, last = (
        bisect_left(lines, instant_ns + offset.offset_ns, key=lambda r: r.start_ns)
        for instant_ns in (span.start_ns, span.end_ns)
    )
    return lines[first:last]


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Nearest rank."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None


def _under_way(lines: Sequence[Line], window: Window, offset: Offset) -> tuple[int, int]:
    """Requests at once at most, and the time that all spent in the window together, nanoseconds."""
    steps: list[tuple[int, int]] = []
    busy_ns = 0
    for line in lines:
        start = max(offset.monotonic(line.start_ns), window.span.start_ns)
        end = min(offset.monotonic(line.end_ns), window.span.end_ns)
        if end >= start:
            steps += [(start, 1), (end, -1)]
            busy_ns += end - start
    now = most = 0
    for _, step in sorted(steps):  # an end at the same instant as a start comes first: -1 before 1
        now += step
        most = max(most, now)
    return max(most, int(bool(steps))), busy_ns


def by_edge(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """The caller's view of every edge, in order of start."""
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.side in (OUT, INGRESS) and line.edge:
            found[line.edge].append(line)
    return {name: sorted(mine, key=lambda r: r.start_ns) for name, mine in found.items()}


def edges_of(stage: Stage) -> list[tuple[str, str, str]]:
    """(edge, caller, callee) of all that passes sidecars: from users, then every call, in the stage's order."""
    entries = dict.fromkeys(o.entry for o in stage.operations)
    return [*((f"users-{e}", "users", e) for e in entries), *((c.name, c.caller, c.callee) for c in calls(stage))]


def signals_document(stage: Stage, seen: Read, records: Iterable[Record], offset: Offset) -> dict[str, Any]:
    """What verdict.json carries under stages.<name>.signals; every edge of the model, also one without a line."""
    shown = windows(records)
    lines = by_edge(seen.lines)
    limit = stage.mesh.requests_max if stage.mesh else None
    channels = {c.name: c for c in calls(stage)}
    edges = []
    for name, caller, callee in edges_of(stage):
        channel = channels.get(name)
        crossing = channel is not None and crosses(stage, channel)
        mine = lines.get(name, [])
        edges.append(
            {
                "edge": name,
                "caller": caller,
                "callee": callee,
                "gateway": gateway_of(stage.cluster_of(callee)) if crossing else None,
                "limit": limit if channel else None,
                "lines": len(mine),
                "phases": {w.name: written(signals(mine, w, offset)) for w in shown} if mine else {},
            }
        )
    known = {edge["edge"] for edge in edges}
    return {
        "clock_off_by_ms": round(offset.off_by_ns / 1e6, 3),
        "lines": len(seen.lines),
        "unreadable": seen.unreadable,
        "parts": list(seen.parts),
        "unknown_edges": sorted(set(lines) - known),
        "phases": [{"name": w.name, "seconds": round(w.seconds, 2)} for w in shown],
        "edges": edges,
    }


def written(found: Signals) -> dict[str, Any]:
    """As JSON; counts of nothing are left out."""
    most = {
        "n": found.n,
        "rate": round(found.rate, 2),
        "error_share": round(found.error_share, 4),
        "p50_ms": _rounded(found.p50_ms),
        "p90_ms": _rounded(found.p90_ms),
        "p99_ms": _rounded(found.p99_ms),
        "under_way_most": found.under_way_most,
        "under_way_mean": round(found.under_way_mean, 2),
    }
    counts = {
        "errors": found.errors,
        "error_p50_ms": _rounded(found.error_p50_ms),
        "overflows": found.overflows,
        "no_host": found.no_host,
        "retried": found.retried,
        "flags": dict(found.flags),
    }
    return most | {k: v for k, v in counts.items() if v}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
