"""How far did the faults reach? The measured blast radius, comparable with `stages.blast_radius.blast_radius`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stages.blast_radius import Effect
from stages.check.cells import UNKNOWN, Cell
from stages.model import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRadius:
    """Shares of (fault, operation) cells that are not unaffected, weighted by traffic; low <= measured <= high."""

    measured: float
    """Among the decided cells; the middle of low and high where none is."""
    low: float
    """If every undecided cell is unaffected."""
    high: float
    """If every undecided cell is affected."""


def measured_radius(stage: Stage, cells: Iterable[Cell]) -> MeasuredRadius:
    """The radius over all cells of a stage's run; 0 with nothing known (high = 1) if there are none."""
    weights = {o.name: o.weight for o in stage.operations}
    affected = undecided = total = 0
    for cell in cells:
        weight = weights[cell.operation]
        total += weight
        if cell.measured == UNKNOWN:
            undecided += weight
        elif cell.measured != Effect.UNAFFECTED:
            affected += weight
    if total == 0:
        return MeasuredRadius(measured=0.0, low=0.0, high=1.0)
    low, high = affected / total, (affected + undecided) / total
    decided = total - undecided
    return MeasuredRadius(measured=affected / decided if decided else (low + high) / 2, low=low, high=high)
