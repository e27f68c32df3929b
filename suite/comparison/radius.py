"""How far do the faults reach that all stages have, and does that fall from stage to stage?

Shares of (fault, operation) cells, weighted by traffic, as in `stages.check.radius`; here also by effect, because a
fault that delays is not as bad as one that fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.blast_radius import Effect
from stages.model import Stage
from suite.report.words import figure

UNKNOWN = "unknown"
"""The measured class of a cell that was not decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the faults reach at one stage."""

    total: int
    """Weight of all cells."""
    foreseen: Mapping[str, int]
    """Weight by predicted effect."""
    seen: Mapping[str, int]
    """Weight by measured effect, `UNKNOWN` included."""

    @property
    def predicted(self) -> float:
        """Share of cells predicted to be affected, in [0, 1]; so are the others."""
        return self._share(self.foreseen, *_AFFECTED)

    @property
    def low(self) -> float:
        """If every undecided cell is unaffected."""
        return self._share(self.seen, *_AFFECTED)

    @property
    def high(self) -> float:
        """If every undecided cell is affected; 1 if there is no cell."""
        return self._share(self.seen, *_AFFECTED, UNKNOWN) if self.total else 1.0

    @property
    def measured(self) -> float:
        """Among the decided cells; the middle of low and high where none is."""
        decided = self.total - self.seen.get(UNKNOWN, 0)
        return self.low * self.total / decided if decided else (self.low + self.high) / 2

    def document(self) -> dict[str, Any]:
        """As in verdict.json."""
        failing = self._share(self.seen, Effect.FAILING.value)
        return {
            "predicted": round(self.predicted, 4),
            "measured": round(self.measured, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "failing": {
                "predicted": round(self._share(self.foreseen, Effect.FAILING.value), 4),
                "low": round(failing, 4),
                "high": round(failing + self._share(self.seen, UNKNOWN), 4),
            },
            "effects": {name: round(self._share(self.seen, name), 4) for name in (*_EFFECTS, UNKNOWN)},
        }

    def _share(self, weights: Mapping[str, int], *effects: str) -> float:
        return sum(weights.get(e, 0) for e in effects) / self.total if self.total else 0.0


_EFFECTS = tuple(effect.value for effect in Effect)
_AFFECTED = _EFFECTS[1:]


def shared_faults(documents: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the faults that every stage was to be exposed to, in the order of the first."""
    rows = [dict.fromkeys(cell["fault"] for cell in document["matrix"]) for document in documents.values()]
    return tuple(name for name in rows[0] if all(name in row for row in rows))


def reach(cells: Iterable[Mapping[str, Any]], faults: Iterable[str], stage: Stage) -> Reach:
    """The reach of some faults at a stage, from the cells of its matrix."""
    weights = {o.name: o.weight for o in stage.operations}
    chosen = frozenset(faults)
    foreseen: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for cell in cells:
        if cell["fault"] in chosen and cell["operation"] in weights:
            weight = weights[cell["operation"]]
            foreseen[cell["predicted"]] += weight
            seen[cell["measured"]] += weight
    return Reach(total=seen.total(), foreseen=foreseen, seen=seen)


def falls(before: Reach, after: Reach) -> bool | None:
    """Whether the measured radius strictly falls, whatever the undecided cells are; None if that depends on them."""
    if after.high < before.low:
        return True
    return False if after.low >= before.high else None


def why_falls(
    before: str, after: str, radii: Mapping[str, Reach], faults: int, measured: bool | None, foreseen: bool
) -> str:
    """The sentence for `falls`, figures included."""
    if faults == 0:
        return f"{before} and {after} have no fault in common"
    verb = {True: "falls", False: "does not fall", None: "may or may not fall"}[measured]
    known = "1 fault" if faults == 1 else f"{faults} faults"
    aside = "" if foreseen or measured is not False else "; nor was it predicted to under these faults"
    figures = f"{_between(radii[before])} at {before}, {_between(radii[after])} at {after}"
    return f"the blast radius {verb}: {figures}, under the {known} that both have{aside}"


def _between(found: Reach) -> str:
    """From the rounded figures of the document, so that a report of those says the same."""
    shown = found.document()
    low, high = figure(shown["low"]), figure(shown["high"])
    return figure(shown["measured"]) if low == high else f"{low} to {high}"
