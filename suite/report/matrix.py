"""Which rows and columns has the matrix, what does each cell say in words, and what went wrong?

Rows are faults grouped by class, columns are operations, side by side for every stage. A fault that a stage
does not have leaves its cells empty. Every renderer takes its rows from here, so they all agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from suite.report.document import Cell, Pooled, Run, StageRun
from suite.report.grouping import CLASSES, TITLES, fault_class

POOLED = "pooled"
"""Stands for the operation in the key of a pooled figure."""

CHECKS = "checks"
"""Stands for the fault in the key of a check."""

Key = tuple[str, str, str]
"""Stage, fault and operation of a cell; POOLED or CHECKS where it is something else."""


@dataclass(frozen=True, slots=True)
class StageCells:
    """One stage's part of a row."""

    cells: tuple[Cell | None, ...]
    """In the order of the stage's operations; None where nothing was planned."""
    pooled: Pooled | None

    @property
    def empty(self) -> bool:
        """Whether the stage has no such fault."""
        return self.pooled is None and not any(self.cells)


@dataclass(frozen=True, slots=True)
class Row:
    """One fault at every stage."""

    fault: str
    stages: tuple[StageCells, ...]

    @property
    def notable(self) -> bool:
        """Whether any cell or pooled figure is not simply as predicted."""
        cells = [c for s in self.stages for c in s.cells if c is not None]
        pooled = [s.pooled for s in self.stages if s.pooled is not None]
        return any(c.mark != "as-predicted" for c in cells) or any(p.verdict != "valid" for p in pooled)

    @property
    def differs(self) -> bool:
        """Whether the stages do not show the same: other effects, or a fault that not all of them have."""
        return len({tuple(c and c.shown for c in s.cells) for s in self.stages}) > 1

    @property
    def leaks(self) -> bool:
        """Whether the fault reached further than predicted, at any stage."""
        return any(c is not None and c.mark == "leak" for s in self.stages for c in s.cells)


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one class of faults."""

    name: str
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One reason why a run is not simply valid."""

    verdict: str
    where: str
    what: str
    key: Key


def groups(run: Run) -> tuple[Group, ...]:
    """All rows, from the smallest kind of victim to the largest; within a class in the order of the document."""
    classes = {name: fault_class(name) for name in run.fault_names}
    classes |= {f.name: f.group for s in run.stages for f in s.faults}
    parts = [(stage, _part(stage)) for stage in run.stages]
    found = []
    for group in [*CLASSES, *sorted(set(classes.values()) - set(CLASSES))]:
        names = [n for n in run.fault_names if classes[n] == group]
        rows = tuple(Row(n, tuple(part.get(n) or _nothing(stage) for stage, part in parts)) for n in names)
        if rows:
            found.append(Group(group, TITLES.get(group, group), rows))
    return tuple(found)


def wide_columns(run: Run) -> tuple[int, ...]:
    """By stage, the number of its first column: operations, then the pooled figure; column 0 names the fault."""
    widths = [len(stage.operations) + 1 for stage in run.stages]
    return tuple(1 + sum(widths[:n]) for n in range(len(widths)))


def _part(stage: StageRun) -> dict[str, StageCells]:
    cells = {(c.fault, c.operation): c for c in stage.cells}
    pooled = {p.fault: p for p in stage.pooled}
    faults = dict.fromkeys([*(c.fault for c in stage.cells), *pooled])
    return {f: StageCells(tuple(cells.get((f, o)) for o in stage.operations), pooled.get(f)) for f in faults}


def _nothing(stage: StageRun) -> StageCells:
    return StageCells((None,) * len(stage.operations), None)


def says(cell: Cell) -> str:
    """What the mark of a cell means, as a clause; an undecided cell never sounds like a result."""
    if cell.bounded:
        return f"not decided, but surely not worse than predicted ({cell.predicted})"
    if cell.mark == "unknown":
        return f"not decided; predicted {cell.predicted}"
    if cell.mark == "better":
        return f"{cell.measured}, better than predicted ({cell.predicted})"
    if cell.mark == "as-predicted" and cell.measured != cell.predicted:
        return f"{cell.measured} while users waited; predicted {cell.predicted}, what came later was not watched"
    if cell.mark == "leak" and cell.measured != cell.predicted:
        return f"{cell.measured}, worse than predicted ({cell.predicted}): a leak"
    if cell.mark == "leak":
        return f"{cell.measured} as predicted, but it broke a promise"
    return f"{cell.measured}, as predicted"


def troubles(run: Run) -> list[Trouble]:
    """Every reason, worst first; for equal badness checks, then cells, then the rest, the comparison last."""
    found = [t for stage in run.stages for t in _troubles(stage, f"{stage.name}: " if len(run.stages) > 1 else "")]
    if run.comparison is not None:
        steps = [(s.verdict, f"{s.before} to {s.after}", s.because) for s in run.comparison.steps]
        for verdict, where, what in steps or [(run.comparison.verdict, "the comparison", run.comparison.because)]:
            found += [Trouble(verdict, where, what, ("", "", ""))] if verdict != "valid" else []
    return [t for verdict in ("invalid", "unknown") for t in found if t.verdict == verdict]


def _troubles(stage: StageRun, at: str) -> Iterator[Trouble]:
    if stage.because and stage.verdict != "valid":
        # why the run of a stage broke off is no proof of anything broken in it
        yield Trouble("unknown", f"stage {stage.name}", stage.because, (stage.name, "", ""))
    for check in stage.checks:
        if check.verdict != "valid":
            yield Trouble(check.verdict, at + check.name, check.because, (stage.name, CHECKS, check.name))
    for cells in _alike(stage.cells):
        first = cells[0]
        leak = first.mark == "leak"
        said = f"{'leak: ' if leak else ''}{first.because}" if first.because else says(first)
        where = f"{at}{first.fault} × {', '.join(c.operation for c in cells)}"
        key = (stage.name, first.fault, first.operation)
        yield Trouble("invalid" if leak else "unknown", where, said, key)
    for pooled in stage.pooled:
        if pooled.verdict != "valid":
            undecided = "not decided: " if pooled.verdict == "unknown" else ""
            said = f"{undecided}{pooled.bad} of {pooled.n} requests that the fault must not touch were bad"
            yield Trouble(
                pooled.verdict,
                f"{at}{pooled.fault}, pooled",
                pooled.because or said,
                (stage.name, pooled.fault, POOLED),
            )
    for completion in stage.completions:
        if completion.verdict != "valid":
            said = completion.because or f"{completion.lost} lost and {completion.late} late of {completion.n}"
            yield Trouble(completion.verdict, f"{at}{completion.name}, without faults", said, (stage.name, "", ""))
    for operation in stage.healthy:
        if operation.verdict != "valid":
            said = operation.because or f"only {operation.ok} of {operation.n} requests were ok without any fault"
            yield Trouble(operation.verdict, f"{at}{operation.name}, baseline", said, (stage.name, "", operation.name))
    for fault in stage.faults:
        if not fault.injected:
            said = fault.because or "it was not injected, or no probe saw it bite"
            yield Trouble("unknown", at + fault.name, said, (stage.name, fault.name, ""))


def _alike(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Leaks and undecided cells; those of one fault that say the same are one piece of news."""
    found: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        if cell.mark in {"leak", "unknown"} and not cell.bounded:
            found.setdefault((cell.fault, cell.mark, cell.because or says(cell)), []).append(cell)
    return list(found.values())
