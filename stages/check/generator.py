"""Was the load what it claimed to be? A generator that lagged measured itself, so its run proves nothing.

Never invalid: this says nothing about the shop.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from stages.check.counting import CENSORED_MAX, Censor, generators_fault
from stages.check.verdict import Check, Verdict
from stages.history import Invocation, Phase, Stall, Unsent, Usage

LAG_SHARE_MAX = 0.08
"""Of the tightest SLO: latency counts from the intended start, so the generator's lag is part of it. An SLO is at least
three times the p99 of good answers, so up to this much (64 ms at an SLO of 800 ms) it cannot make one late."""

ACHIEVED_MIN = 0.98
"""Of the arrivals that were due."""

FEWEST_REQUESTS = 50
"""Fewer say nothing about a 99th percentile."""

NOT_JUDGED = ("warm-up", "policy", "restock", "undo", "end")
"""Phases from which no verdict draws evidence, by the part of their name before a colon. While a fault is undone,
services are started, which takes all the processor there is."""

NAME = "generator-honest"


@dataclass(slots=True)
class _Part:
    """What happened in one phase."""

    lags_ms: list[float] = field(default_factory=list)
    sent: int = 0
    stalled: int = 0
    """Sent or due near a stall: not held against the generator, no evidence either."""
    lost: Counter[str] = field(default_factory=Counter)
    """Due but not sent, by reason, through the generator's fault."""
    not_ready: int = 0
    cpu_share_max: float = 0.0
    in_flight_max: int = 0

    def figures(self) -> dict[str, Any]:
        lost = sum(self.lost.values())
        return {
            "sent": self.sent,
            "lag_p99_ms": percentile(self.lags_ms, 99),
            "achieved": round(self.sent / (self.sent + lost), 4) if self.sent + lost else None,
            "unsent": dict(self.lost),
            "not_ready": self.not_ready,
            "stalled": self.stalled,
            "cpu_share_max": self.cpu_share_max,
            "in_flight_max": self.in_flight_max,
        }

    def problems(self, lag_ms_max: float) -> list[str]:
        found = []
        lag_ms = percentile(self.lags_ms, 99)
        if lag_ms is not None and len(self.lags_ms) >= FEWEST_REQUESTS and lag_ms > lag_ms_max:
            found.append(f"p99 of the dispatch lag was {lag_ms:.1f} ms, allowed are {lag_ms_max:g}")
        lost = sum(self.lost.values())
        if lost and self.sent / (self.sent + lost) < ACHIEVED_MIN:
            found.append(f"only {self.sent} of {self.sent + lost} arrivals were sent")
        found += [f"{count} arrivals were not sent: {reason}" for reason, count in self.lost.items()]
        return found


def generator_honest(
    invocations: Iterable[Invocation],
    unsent: Iterable[Unsent],
    usage: Iterable[Usage],
    stalls: Iterable[Stall],
    phases: Iterable[Phase],
    *,
    slo_ms: int,
) -> Check:
    """Judge the dispatch lag and the arrivals that were not sent, phase by phase, outside stalls of the machine.

    Unknown where p99 of the lag exceeds LAG_SHARE_MAX of `slo_ms`, the tightest of the operations, where an arrival
    was lost through the generator's fault, or where stalls leave too little of the run to judge. (How much of a single
    fault's window they took is judged with its cells.)
    """
    parts = _parts(invocations, unsent, usage, Censor(stalls), sorted(phases, key=lambda p: p.at_ns))
    judged = {name: part for name, part in parts.items() if name.partition(":")[0] not in NOT_JUDGED}
    problems = [
        f"{name}: {problem}" for name, part in judged.items() for problem in part.problems(LAG_SHARE_MAX * slo_ms)
    ]
    evidence: dict[str, Any] = {"phases": {name: part.figures() for name, part in parts.items()}}
    sent = sum(part.sent for part in judged.values())
    if sent == 0:
        return Check(name=NAME, verdict=Verdict.UNKNOWN, evidence=evidence, because="no request was sent")
    stalled = sum(part.stalled for part in judged.values())
    if stalled > CENSORED_MAX * sent:
        problems.append(f"{stalled} of {sent} arrivals were due near a stall")
    if problems:
        evidence["problems"] = problems
        return Check(name=NAME, verdict=Verdict.UNKNOWN, evidence=evidence, because="; ".join(problems[:3]))
    because = f"{sent} requests were sent, on time in every phase"
    return Check(name=NAME, verdict=Verdict.VALID, evidence=evidence, because=because)


def _parts(
    invocations: Iterable[Invocation],
    unsent: Iterable[Unsent],
    usage: Iterable[Usage],
    censor: Censor,
    phases: Sequence[Phase],
) -> dict[str, _Part]:
    starts = [p.at_ns for p in phases]
    parts: dict[str, _Part] = {}

    def part(at_ns: int) -> _Part:
        i = bisect_right(starts, at_ns) - 1
        return parts.setdefault(phases[i].name if i >= 0 else "before", _Part())

    for invocation in invocations:
        of = part(invocation.intended_ns)
        of.sent += 1
        if censor.hides(invocation.intended_ns, 0):
            of.stalled += 1
        else:
            of.lags_ms.append(invocation.lag_ms)
    for lost in unsent:
        of = part(lost.intended_ns)
        if not generators_fault(lost):
            of.not_ready += 1
        elif censor.hides(lost.intended_ns, 0):
            of.stalled += 1
        else:
            of.lost[lost.reason] += 1
    for used in usage:
        of = part(used.at_ns)
        of.cpu_share_max = max(of.cpu_share_max, used.cpu_share)
        of.in_flight_max = max(of.in_flight_max, used.in_flight)
    return parts


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Nearest rank; None without values.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 50)
    2.0
    """
    if not values:
        return None
    return sorted(values)[max(0, ceil(len(values) * percent / 100) - 1)]
