"""Did the mesh stop calling what did not answer, and take it up again? Per fault and edge. (pure)

    fault on                    undone
    |--- fail fail EJECT ..........|....... UNEJECT  ok ok ok
                   |<--- open: fallbacks answer -->|

An edge is open from the first ejection of its callee (or the first call refused because no address of it was left: then
discovery was faster, or because too many were under way) to the first good answer after the last of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.blast_radius import Impact
from stages.check import Check, Span, Verdict
from stages.history import Invocation, Record
from stages.mesh import calls, crosses, gateway_of, sidecar_of
from stages.model import Channel, Stage
from suite.signals import NO_HOST, OVERFLOW, SECOND_NS, Window, by_edge, starting, windows
from suite.signals_clock import Offset
from suite.signals_lines import Line, Outlier, Read

CHECK = "breakers-open-and-close"

AFTER_NS = 8 * SECOND_NS
"""How long after the shop was well again an edge may still be found closed: a rarely used one needs a call for it."""

SLACK = 2
"""So many failures more than the mesh allows prove that it let them pass."""

DEAD = frozenset({502, 504})
"""Answers that count against a callee; its own 503 says that it lives."""

LOST = frozenset({"UF", "UC", "UT", "UR", "LR"})
"""Flags of exchanges that failed on the way: no connection, broken, timed out, reset by the callee or locally."""

BY_ITSELF = frozenset({NO_HOST, OVERFLOW, "NR", "RL"})
"""Flags of answers that no callee had a part in: they count for no ejection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One edge under one fault."""

    fault: str
    edge: str
    expected: bool
    """The fault takes the callee away, by the model."""
    calls: int
    """While the fault was on."""
    in_a_row: int
    """Attempts that failed one after the other, at most, while the fault was on."""
    ejections: int
    returns: int
    overflows: int
    no_host: int
    opened_s: float | None
    """From the injection on; None if it never opened."""
    opened_by: str
    """'outlier detection', 'discovery', 'limit of requests', '' if it never opened."""
    closed_s: float | None
    """From the undo to the first good answer, 0 where that came before; None if none came."""
    fallbacks: int
    """Answers from a fallback while it was open."""
    asked: int
    """All answers of those operations meanwhile."""
    verdict: Verdict
    because: str


def breakers(
    stage: Stage, impacts: Mapping[str, Impact], seen: Read, records: Sequence[Record], offset: Offset
) -> tuple[Breaker, ...]:
    """Every edge that a fault of the run takes the callee away from, and every other that opened under one."""
    lines = by_edge(seen.lines)
    outliers = {c.name: [o for o in seen.outliers if o.enforced and edge_of(o, stage) == c.name] for c in calls(stage)}
    answers = [r for r in records if isinstance(r, Invocation)]
    found = []
    for window in windows(records):
        impact = impacts.get(window.name)
        for channel in calls(stage) if window.injected_ns is not None else ():
            one = _breaker(
                stage,
                channel,
                window,
                impact is not None and cuts(stage, impact, channel),
                lines.get(channel.name, []),
                outliers[channel.name],
                answers,
                offset,
            )
            if one.expected or one.opened_s is not None:
                found.append(one)
    return tuple(found)


def cuts(stage: Stage, impact: Impact, channel: Channel) -> bool:
    """Whether calls over a channel cannot succeed under a fault, although their caller lives."""
    ways = {channel.callee, *channel.via, sidecar_of(channel.callee)}
    if crosses(stage, channel):
        ways.add(gateway_of(stage.cluster_of(channel.callee)))
    slow = impact.delay_ms.get(channel.name, 0) > (channel.timeout_ms or 0)
    return channel.caller not in impact.down and (bool(ways & impact.down) or channel.name in impact.cut or slow)


def edge_of(event: Outlier, stage: Stage) -> str:
    """The channel whose callee a sidecar speaks of, '' if none fits: Envoy's name for it holds the callee's."""
    words = set(re.split(r"[^a-z0-9]+", event.cluster.lower()))
    mine = [c for c in calls(stage) if sidecar_of(c.caller) == event.part and c.callee in words]
    return mine[0].name if mine else ""


def _breaker(
    stage: Stage,
    channel: Channel,
    window: Window,
    expected: bool,
    lines: Sequence[Line],
    outliers: Sequence[Outlier],
    answers: Sequence[Invocation],
    offset: Offset,
) -> Breaker:
    injected_ns = window.injected_ns or window.span.start_ns
    undone_ns = window.undone_ns or window.span.end_ns
    over_ns = max(undone_ns, window.recovered_ns or 0) + AFTER_NS
    whole = starting(lines, Span(start_ns=injected_ns, end_ns=over_ns), offset)
    under_fault = starting(lines, Span(start_ns=injected_ns, end_ns=undone_ns), offset)
    events = [(offset.monotonic(o.at_ns), o) for o in outliers if injected_ns <= offset.monotonic(o.at_ns) < over_ns]
    ejected = [at for at, o in events if o.ejected and at < undone_ns]
    refused = {
        flag: [offset.monotonic(r.end_ns) for r in under_fault if flag in r.flags and not _lost_first(r)]
        for flag in (NO_HOST, OVERFLOW)
    }
    signs = [
        (min(times), by)
        for times, by in (
            (ejected, "outlier detection"),
            (refused[NO_HOST], "discovery"),
            (refused[OVERFLOW], "limit of requests"),
        )
        if times
    ]
    opened = min(signs, default=None)
    last_ns = max([at for at, o in events if o.ejected], default=0)
    closed_ns = None
    if opened:
        good = (offset.monotonic(r.end_ns) for r in whole if r.good)
        closed_ns = next((at for at in good if at >= max(undone_ns, last_ns)), None)
    ejection_ns = (stage.mesh.ejection_ms_max if stage.mesh else 0) * 1_000_000
    back_ns = min(over_ns, max(undone_ns, last_ns + ejection_ns if last_ns else 0))
    since = starting(lines, Span(start_ns=back_ns, end_ns=over_ns), offset)
    meant = [
        i
        for i in answers
        if channel.fallback and opened and i.operation in channel.operations
        and opened[0] <= i.intended_ns < (closed_ns or over_ns)
    ]  # fmt: skip
    in_a_row = _in_a_row(under_fault)
    verdict, because = _judged(stage, expected, len(under_fault), in_a_row, opened, closed_ns, len(since))
    return Breaker(
        fault=window.name,
        edge=channel.name,
        expected=expected,
        calls=len(under_fault),
        in_a_row=in_a_row,
        ejections=len(ejected),
        returns=sum(not o.ejected for _, o in events),
        overflows=len(refused[OVERFLOW]),
        no_host=len(refused[NO_HOST]),
        opened_s=(opened[0] - injected_ns) / SECOND_NS if opened else None,
        opened_by=opened[1] if opened else "",
        closed_s=None if closed_ns is None else max(0, closed_ns - undone_ns) / SECOND_NS,
        fallbacks=sum(i.degraded for i in meant),
        asked=len(meant),
        verdict=verdict,
        because=because,
    )


def _lost_first(line: Line) -> bool:
    """Whether an attempt failed on the way. An overflow beside that is the retry budget's: no second one was made."""
    return bool(LOST.intersection(line.flags)) and not (BY_ITSELF - {OVERFLOW}).intersection(line.flags)


def _in_a_row(lines: Sequence[Line]) -> int:
    """Attempts that failed without a good one in between, at most; in the order in which they ended."""
    most = now = 0
    for line in sorted(lines, key=lambda r: r.end_ns):
        if line.good:
            now = 0
        elif _lost_first(line) or (line.status in DEAD and not BY_ITSELF.intersection(line.flags)):
            now += line.attempts
            most = max(most, now)
    return most


def _judged(
    stage: Stage,
    expected: bool,
    asked: int,
    in_a_row: int,
    opened: tuple[int, str] | None,
    closed_ns: int | None,
    asked_since: int,
) -> tuple[Verdict, str]:
    """`asked_since`: calls after the undo and after the longest ejection; an edge that is a fallback may have none."""
    least = stage.mesh.ejected_after if stage.mesh else 0
    if opened and closed_ns is not None:
        return Verdict.VALID, f"opened by {opened[1]}, and closed again"
    if opened and not expected:
        return Verdict.VALID, f"opened by {opened[1]}; nobody called since, so nothing says that it closed"
    if opened:
        return (
            Verdict.INVALID if asked_since else Verdict.UNKNOWN,
            f"opened by {opened[1]}, but no good answer was seen since the fault was undone",
        )
    if not asked:
        return Verdict.UNKNOWN, "nobody called while the fault was on"
    if in_a_row >= least:
        # The order in which answers ended is not quite the one in which the sidecar counted them.
        return (
            Verdict.INVALID if in_a_row >= least + SLACK else Verdict.UNKNOWN,
            f"{in_a_row} attempts failed in a row and nothing was ejected: the mesh should have opened after {least}",
        )
    return Verdict.VALID, f"no {least} attempts failed in a row: nothing to open for"


def breakers_document(
    stage: Stage, impacts: Mapping[str, Impact], seen: Read, records: Sequence[Record], offset: Offset
) -> dict[str, Any]:
    """What verdict.json carries under stages.<name>.breakers. `impacts` is by name of the fault."""
    found = breakers(stage, impacts, seen, records, offset)
    check = breakers_check(found)
    return {
        "verdict": str(check.verdict) if check else None,
        "because": check.because if check else "no fault of this run takes a callee away",
        "evidence": dict(check.evidence) if check else {},
        "events": len(seen.outliers),
        "edges": [_written(b) for b in found],
    }


def breakers_check(found: Iterable[Breaker]) -> Check | None:
    """All edges as one check; None where no fault of the run takes a callee away."""
    expected = [b for b in found if b.expected]
    if not expected:
        return None
    opened = [b for b in expected if b.opened_s is not None and b.closed_s is not None]
    wrong = [b for b in expected if b.verdict is Verdict.INVALID]
    verdict = Verdict.INVALID if wrong else Verdict.VALID if opened else Verdict.UNKNOWN
    because = f"{len(opened)} of {len(expected)} edges that lost their callee opened and closed again"
    if wrong:
        because += f"; {wrong[0].edge} under {wrong[0].fault}: {wrong[0].because}"
    elif not opened:
        because += ": none was seen to open"
    return Check(
        name=CHECK,
        verdict=verdict,
        evidence={
            "edges": len(expected),
            "opened": len(opened),
            "ejections": sum(b.ejections for b in expected),
            "fallback answers": sum(b.fallbacks for b in expected),
            "not as it should be": [f"{b.edge} under {b.fault}: {b.because}" for b in wrong],
        },
        because=because,
    )


def check_of(document: Mapping[str, Any]) -> Check | None:
    """The check that a document of breakers holds; None where no fault of the run takes a callee away."""
    if document["verdict"] is None:
        return None
    verdict = Verdict(document["verdict"])
    return Check(name=CHECK, verdict=verdict, evidence=document["evidence"], because=document["because"])


def _written(b: Breaker) -> dict[str, Any]:
    return {
        "fault": b.fault,
        "edge": b.edge,
        "expected": b.expected,
        "calls": b.calls,
        "failed_in_a_row": b.in_a_row,
        "ejections": b.ejections,
        "returns": b.returns,
        "overflows": b.overflows,
        "no_host": b.no_host,
        "opened_after_s": _rounded(b.opened_s),
        "opened_by": b.opened_by,
        "closed_after_undo_s": _rounded(b.closed_s),
        "fallback_answers": b.fallbacks,
        "answers_meanwhile": b.asked,
        "verdict": str(b.verdict),
        "because": b.because,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
