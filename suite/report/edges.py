"""How does the page of a mesh's edges look? verdict.json in, one HTML page out; nothing is judged here.

The system map with what was measured on it, the golden signals of every edge by phase, when edges opened and closed,
and single requests followed from the edge to their last effect. Self-contained, as the report beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.model import Stage
from suite.report.edges_reading import Edges, Figures, load
from suite.report.system_map import Mark, system_map
from suite.report.templating import page
from suite.report.waterfall import waterfall
from suite.report.words import milliseconds, percent

BASELINE = "baseline"
MAPS_SHOWN = 6
"""Maps under a fault: of those that broke most."""
WIDEST = 3.6
"""Width of the line of the busiest edge."""


@dataclass(frozen=True, slots=True)
class Part:
    """One stage's part of the page."""

    edges: Edges
    map: str
    """Of the baseline, '' where the model is not known."""
    faults: Mapping[str, str]
    """Maps under the faults that broke most."""
    falls: tuple[str, ...]
    """One drawing per example, '' for one that was not found."""


def has_edges(verdict: Mapping[str, Any]) -> bool:
    """Whether there is anything to show."""
    return bool(load(verdict))


def render(verdict: Mapping[str, Any], stages: Mapping[str, Stage]) -> str:
    """The page. Never raises for what the verdict holds."""
    parts = [_part(found, stages.get(found.stage), n) for n, found in enumerate(load(verdict))]
    return page("edges.html.j2", parts=parts, baseline=BASELINE)


def _part(found: Edges, stage: Stage | None, number: int) -> Part:
    worst = sorted(
        ((_broken(found, name), name) for name in found.phases if name != BASELINE), key=lambda p: p[0], reverse=True
    )
    shown = {name for broken, name in worst[:MAPS_SHOWN] if broken}
    return Part(
        edges=found,
        map="" if stage is None else _map(stage, found, BASELINE, f"edges{number}"),
        faults={
            name: _map(stage, found, name, f"edges{number}f{n}")
            for n, name in enumerate(found.phases)
            if stage is not None and name in shown
        },
        falls=tuple(waterfall(e.title, e.bars) if e.bars else "" for e in found.examples),
    )


def _broken(found: Edges, phase: str) -> float:
    """Error shares of all edges, one added to the other."""
    return sum(e.phases[phase].error_share or 0.0 for e in found.edges if phase in e.phases)


def _map(stage: Stage, found: Edges, phase: str, prefix: str) -> str:
    measured = {
        e.name: e.phases[phase] for e in (*found.edges, *found.messages) if phase in e.phases and e.phases[phase].n
    }
    busiest = max((f.rate or 0.0 for f in measured.values()), default=0.0) or 1.0
    return system_map(stage, prefix, {name: _mark(name, f, busiest) for name, f in measured.items()})


def _mark(name: str, f: Figures, busiest: float) -> Mark:
    rate = "" if f.rate is None else f"{f.rate:.{0 if f.rate >= 10 else 1}f}/s"
    bad = percent(f.error_share) if f.error_share else ""
    label = " · ".join(word for word in (rate, bad, milliseconds(f.p90_ms) if f.p90_ms is not None else "") if word)
    told = f"{name}: {rate or 'rate unknown'}"
    if f.error_share is not None:
        told += f", {percent(f.error_share)} errors"
    told += f", p50 {milliseconds(f.p50_ms)}, p90 {milliseconds(f.p90_ms)}, p99 {milliseconds(f.p99_ms)}"
    style = "" if f.mark in ("", "unaffected") else f"hurt-{f.mark}"
    return Mark(label=label, told=told, style=style, width=1.2 + (WIDEST - 1.2) * ((f.rate or 0.0) / busiest) ** 0.5)
