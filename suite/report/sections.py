"""What does each section of the page need, computed before the template sees it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.model import Gap, Kind, SharedPart, Stage
from suite.report import charts
from suite.report.axis import axis_for
from suite.report.document import Run
from suite.report.matrix import CHECKS, POOLED, Group, Key
from suite.report.message_map import parts_in_words
from suite.report.series import Series
from suite.report.system_map import channel_words, system_map
from suite.report.words import count, milliseconds


@dataclass(frozen=True, slots=True)
class Timeline:
    """Latency over time of one stage, as drawings."""

    stage: str
    ribbon: str
    charts: Mapping[str, str]
    """By operation."""
    seconds: str
    note: str
    """What to know about the load itself."""


@dataclass(frozen=True, slots=True)
class Topology:
    """One stage's model, drawn and in words."""

    stage: Stage
    drawing: str
    kinds: tuple[Kind, ...]
    """The kinds of channel that occur."""
    channels: tuple[str, ...]
    messaging: tuple[str, ...]
    """Topics and queues."""
    gaps: tuple[Gap, ...]
    shared: tuple[SharedPart, ...]


@dataclass(frozen=True, slots=True)
class Recovery:
    """One fault's way back to health at one stage."""

    injected: bool
    seconds: float | None
    share: float
    """Of the slowest recovery of the run, 0 to 1: the length of the bar."""


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One fault: who saw it bite, and how long recovery took, per stage (None where the stage has no such fault)."""

    name: str
    seen_by: tuple[str, ...]
    stages: tuple[Recovery | None, ...]


def element_ids(run: Run, rows: tuple[Group, ...]) -> dict[Key, str]:
    """An id for everything that can be pointed at; made of numbers, so no name can break out of it."""
    keys: list[Key] = []
    for group in rows:
        for row in group.rows:
            for stage, part in zip(run.stages, row.stages, strict=True):
                keys += [(stage.name, row.fault, c.operation) for c in part.cells if c is not None]
                keys += [(stage.name, row.fault, POOLED)] if part.pooled is not None else []
    keys += [(stage.name, CHECKS, check.name) for stage in run.stages for check in stage.checks]
    return {key: f"w{n}" for n, key in enumerate(dict.fromkeys(keys))}


def timelines(run: Run, series: Mapping[str, Series]) -> list[Timeline]:
    """Charts for every stage that has a history. All share one latency axis."""
    shown = [(s, series[s.name]) for s in run.stages if s.name in series and series[s.name].bins]
    objectives = [o.slo_ms for s, _ in shown for o in s.healthy if o.slo_ms is not None]
    axis = charts.shared_axis([found for _, found in shown], objectives)
    result = []
    for stage, found in shown:
        slo = {o.name: o.slo_ms for o in stage.healthy}
        names = [n for n in stage.operations if n in found.bins] or list(found.bins)
        drawings = {n: charts.timeline(n, found, axis, slo.get(n)) for n in names}
        result.append(
            Timeline(stage.name, charts.ribbon(found), drawings, charts.seconds_axis(found), _load_note(found))
        )
    return result


def _load_note(series: Series) -> str:
    sent = sum(b.count for bins in series.bins.values() for b in bins)
    parts = [f"{sent} requests, open loop, timed from their intended start"]
    if series.lag_p99_ms is not None:
        parts.append(f"the generator sent them {milliseconds(series.lag_p99_ms)} late at p99")
    parts.append(f"{series.unsent} could not be sent" if series.unsent else "none was left unsent")
    if series.stalls:
        parts.append(f"{count(len(series.stalls), 'stall')} of the machine (grey), left out of the verdicts")
    return "; ".join(parts) + "."


def distributions(run: Run, series: Mapping[str, Series]) -> dict[str, str]:
    """By operation: how latency was distributed in the baseline, a line per stage."""
    shown = {s.name: series[s.name].baseline for s in run.stages if s.name in series}
    objectives = {o.name: o.slo_ms for s in run.stages for o in s.healthy if o.slo_ms is not None}
    values = [ms for found in shown.values() for d in found.values() for ms, _ in d.points]
    axis = axis_for([*values, *objectives.values()])
    names = dict.fromkeys(n for s in run.stages for n in s.operations)
    drawn = {n: {stage: found[n] for stage, found in shown.items() if n in found} for n in names}
    return {n: charts.distribution(n, lines, objectives.get(n), axis) for n, lines in drawn.items() if lines}


def topologies(run: Run, stages: Mapping[str, Stage]) -> list[Topology]:
    """The model of every stage of the run."""
    found = [stages[s.name] for s in run.stages if s.name in stages]
    return [
        Topology(
            stage=stage,
            drawing=system_map(stage, prefix=f"map{n}"),
            kinds=tuple(k for k in Kind if any(c.kind is k for c in stage.channels)),
            channels=tuple(channel_words(c) for c in stage.channels),
            messaging=parts_in_words(stage),
            gaps=stage.gaps,
            shared=stage.shared,
        )
        for n, stage in enumerate(found)
    ]


def fault_rows(run: Run) -> list[FaultRow]:
    """Every fault once, in the order of the document."""
    by_stage = [{f.name: f for f in s.faults} for s in run.stages]
    slowest = max((f.recovered_s or 0.0 for s in run.stages for f in s.faults), default=0.0) or 1.0
    rows = []
    for name in run.fault_names:
        found = [faults.get(name) for faults in by_stage]
        seen = dict.fromkeys(f.seen_by or f.because for f in found if f is not None)
        ways = [
            None if f is None else Recovery(f.injected, f.recovered_s, (f.recovered_s or 0.0) / slowest) for f in found
        ]
        rows.append(FaultRow(name, tuple(s for s in seen if s), tuple(ways)))
    return rows


def ideal_radius(stages: Mapping[str, Stage]) -> float | None:
    """1/N for N systems: what is left when every fault touches its own system only."""
    systems = max((len(s.systems) for s in stages.values()), default=0)
    return 1 / systems if systems > 1 else None
