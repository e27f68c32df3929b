"""How far do the faults reach that all stages have, and does that fall from stage to stage?

Shares of (fault, operation) cells, weighted by traffic, as in `stages.check.radius`; here also by effect, because a
fault that delays is not as bad as one that fails.

Stages that are cut into clusters differently have no cluster's outage in common, and yet all of them can lose one. One
row stands for that, LOST: the mean over all outages of a stage, as if a cluster were lost at random. It counts only
where every cluster of every stage was lost in the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from stages.blast_radius import Effect
from stages.model import Stage
from suite.report.words import count, figure

UNKNOWN = "unknown"
"""The measured class of a cell that was not decided."""

LOST = "a cluster is lost"
"""Stands for the outages of all clusters of a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the faults reach at one stage."""

    total: Fraction
    """Weight of all cells."""
    foreseen: Mapping[str, Fraction]
    """Weight by predicted effect."""
    seen: Mapping[str, Fraction]
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
        return float(self.low * self.total / decided) if decided else (self.low + self.high) / 2

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

    def _share(self, weights: Mapping[str, Fraction], *effects: str) -> float:
        return float(sum((weights.get(e, Fraction()) for e in effects), Fraction()) / self.total) if self.total else 0.0


_EFFECTS = tuple(effect.value for effect in Effect)
_AFFECTED = _EFFECTS[1:]


def shared_faults(documents: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the faults that every stage was to be exposed to, in the order of the first."""
    rows = [dict.fromkeys(cell["fault"] for cell in document["matrix"]) for document in documents.values()]
    return tuple(name for name in rows[0] if all(name in row for row in rows))


def compared_rows(documents: Mapping[str, Mapping[str, Any]], stages: Mapping[str, Stage]) -> tuple[str, ...]:
    """The rows that the radii are over: the faults that all stages have, and LOST where their clusters differ."""
    shared = shared_faults(documents)
    lost = {name: set(outages(stages[name])) for name in documents}
    differ = len({frozenset(names) for names in lost.values()}) > 1
    complete = all(lost[name] <= {cell["fault"] for cell in documents[name]["matrix"]} for name in documents)
    if not differ or not complete:
        return shared
    return (*(fault for fault in shared if not any(fault in names for names in lost.values())), LOST)


def outages(stage: Stage) -> dict[str, str]:
    """The fault by which each cluster is lost -> the cluster."""
    return {f"{cluster.name}-cluster-outage": cluster.name for cluster in stage.clusters}


def reach(cells: Iterable[Mapping[str, Any]], rows: Iterable[str], stage: Stage) -> Reach:
    """The reach of some rows at a stage, from the cells of its matrix."""
    weights = {o.name: o.weight for o in stage.operations}
    shares = dict.fromkeys(rows, Fraction(1))
    if shares.pop(LOST, None):
        shares |= dict.fromkeys(outages(stage), Fraction(1, len(stage.clusters)))
    foreseen: dict[str, Fraction] = Counter()  # type: ignore[assignment]  # typed for whole numbers only
    seen: dict[str, Fraction] = Counter()  # type: ignore[assignment]
    for cell in cells:
        if cell["fault"] in shares and cell["operation"] in weights:
            weight = weights[cell["operation"]] * shares[cell["fault"]]
            foreseen[cell["predicted"]] += weight
            seen[cell["measured"]] += weight
    return Reach(total=sum(seen.values(), Fraction()), foreseen=foreseen, seen=seen)


def falls(before: Reach, after: Reach) -> bool | None:
    """Whether the measured radius strictly falls, whatever the undecided cells are; None if that depends on them."""
    if after.high < before.low:
        return True
    return False if after.low >= before.high else None


def why_falls(
    before: str,
    after: str,
    radii: Mapping[str, Reach],
    rows: tuple[str, ...],
    measured: bool | None,
    foreseen: bool,
) -> str:
    """The sentence for `falls`, figures included."""
    if not rows:
        return f"{before} and {after} have no fault in common"
    verb = {True: "falls", False: "does not fall", None: "may or may not fall"}[measured]
    aside = "" if foreseen or measured is not False else "; nor was it predicted to under these faults"
    figures = f"{_between(radii[before])} at {before}, {_between(radii[after])} at {after}"
    return f"the blast radius {verb}: {figures}, under {_under(rows)}{aside}"


def _under(rows: tuple[str, ...]) -> str:
    faults = [row for row in rows if row != LOST]
    said = [f"the {count(len(faults), 'fault')} that both have"] if faults else []
    return " and ".join([*said, *(["the loss of a cluster"] if LOST in rows else [])])


def _between(found: Reach) -> str:
    """From the rounded figures of the document, so that a report of those says the same."""
    shown = found.document()
    low, high = figure(shown["low"]), figure(shown["high"])
    return figure(shown["measured"]) if low == high else f"{low} to {high}"
