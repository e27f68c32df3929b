"""How does a run look in a terminal? Letters carry the meaning, colour only helps.

    . unaffected   o degraded   ~ delayed   X failing   ? not decided   ! a leak   + better than predicted

Stages stand side by side where the width allows it and below one another where it does not. Text from the run
is never taken for markup, and never reaches the terminal with control characters in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from suite.report.document import EFFECTS, Cell, Run, StageRun
from suite.report.matrix import Group, StageCells, groups, troubles
from suite.report.reading import load
from suite.report.text_compared import comparison
from suite.report.text_governed import governed
from suite.report.words import SYMBOLS, count, duration, figure, milliseconds

STYLES = {"unaffected": "dim", "degraded": "yellow", "delayed": "dark_orange", "failing": "red", "unknown": "magenta"}
VERDICT_STYLES = {"valid": "bold green", "invalid": "bold red", "unknown": "bold magenta"}
BAR = 24
"""Characters of a blast radius of 1."""
TROUBLES_SHOWN = 12


def print_summary(verdict: Mapping[str, Any], console: Console) -> None:
    """Print the verdict.json object for people: matrix, blast radius, what is not valid, and the verdict last."""
    for part in report(verdict):
        console.print(part)


def report(verdict: Mapping[str, Any]) -> tuple[RenderableType, ...]:
    """What `print_summary` prints, top to bottom."""
    run = load(verdict)
    compared = comparison(run.comparison) if run.comparison else ()
    return (*_matrix(run), *_radii(run), *compared, *governed(run), *_troubles(run), _closing(run))


def _matrix(run: Run) -> Iterator[RenderableType]:
    rows = groups(run)
    if rows:
        yield _Matrix(run, rows)
        yield _legend(run)
        yield Text()


def _legend(run: Run) -> _Flow:
    items = [Text(SYMBOLS[effect], STYLES[effect]).append(f" {effect}", "default") for effect in EFFECTS]
    if any(c.shown == "unknown" for s in run.stages for c in s.cells):
        items.append(Text("?", STYLES["unknown"]).append(" not decided", "default"))
    if run.cells("leak"):
        items.append(Text("!", "bold reverse").append(" worse than predicted", "default not bold not reverse"))
    if run.cells("better"):
        items.append(Text("+ better than predicted"))
    return _Flow(items)


class _Flow:
    """Items one after the other, never broken within one."""

    def __init__(self, items: Sequence[Text]) -> None:
        self._items = items

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Text(" ")
        for item in self._items:
            if line.cell_len + 1 + item.cell_len > options.max_width and line.plain.strip():
                yield line
                line = Text(" ")
            line.append(" ").append_text(item).append(" ")
        line.rstrip()
        yield line


class _Matrix:
    """The heat map. It takes the most spacious layout that fits the width, stages side by side if any does."""

    def __init__(self, run: Run, rows: Sequence[Group]) -> None:
        self._stages = [_columns(stage, rows, number) for number, stage in enumerate(run.stages)]
        self._rows = rows
        self._label = max(len(row.fault) for group in rows for row in group.rows) + 2

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for heads in (_names, _pairs, _letters):
            blocks = [_Block(stage, heads(stage.operations)) for stage in self._stages]
            if self._label + sum(block.width + 1 for block in blocks) <= options.max_width:
                yield from self._lines(blocks)
                return
        for stage in self._stages:
            yield from self._lines([_Block(stage, _pairs(stage.operations))])

    def _lines(self, blocks: Sequence[_Block]) -> Iterator[RenderableType]:
        if len(self._stages) > 1:
            yield self._line("", [Text(block.stage.name, "bold") for block in blocks], blocks)
        yield self._line("fault", [block.head() for block in blocks], blocks)
        for group in self._rows:
            rows = [row for row in group.rows if any(row.fault in block.stage.parts for block in blocks)]
            if rows:
                yield Text(group.title, "dim italic")
            for row in rows:
                yield self._line(f" {row.fault}", [block.cells(row.fault) for block in blocks], blocks, leaks=row.leaks)
        if blocks[0].heads != blocks[0].stage.operations:
            names = dict(pair for block in blocks for pair in zip(block.heads, block.stage.operations, strict=True))
            yield _Flow([Text(f"{short} {name}", "dim") for short, name in names.items()])

    def _line(self, label: str, parts: Sequence[Text], blocks: Sequence[_Block], *, leaks: bool = False) -> Text:
        text = Text(label.ljust(self._label), "bold" if leaks else "", no_wrap=True, overflow="ellipsis", end="\n")
        for part, block in zip(parts, blocks, strict=True):
            part.pad_right(block.width + 1 - part.cell_len)
            text.append_text(part)
        text.rstrip()
        return text


@dataclass(frozen=True, slots=True)
class _Columns:
    """One stage as the matrix needs it."""

    name: str
    operations: tuple[str, ...]
    parts: Mapping[str, StageCells]
    """By fault, for those that the stage has."""


def _columns(stage: StageRun, rows: Sequence[Group], number: int) -> _Columns:
    parts = {row.fault: row.stages[number] for group in rows for row in group.rows}
    return _Columns(stage.name, stage.operations, {f: p for f, p in parts.items() if p.pooled or any(p.cells)})


@dataclass(frozen=True, slots=True)
class _Block:
    """One stage's columns at a chosen width."""

    stage: _Columns
    heads: tuple[str, ...]

    @property
    def width(self) -> int:
        return max(sum(map(self._column, self.heads)), len(self.stage.name))

    @staticmethod
    def _column(head: str) -> int:
        """A cell is a symbol and its mark; a head of more than one letter needs a space after it."""
        return 2 if len(head) == 1 else max(2, len(head)) + 1

    def head(self) -> Text:
        return Text("".join(head.ljust(self._column(head)) for head in self.heads), "bold")

    def cells(self, fault: str) -> Text:
        text = Text()
        part = self.stage.parts.get(fault)
        for head, cell in zip(self.heads, part.cells if part else (None,) * len(self.heads), strict=True):
            symbol = _symbol(cell)
            symbol.pad_right(self._column(head) - symbol.cell_len)
            text.append_text(symbol)
        return text


def _symbol(cell: Cell | None) -> Text:
    text = Text()
    if cell is None:
        return text
    text.append(SYMBOLS[cell.shown], STYLES[cell.shown])
    if cell.mark == "leak":
        text.append("!", "bold reverse")
    if cell.mark == "better":
        text.append("+", "dim")
    return text


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names)


def _pairs(names: Sequence[str]) -> tuple[str, ...]:
    return beginnings(names, 2)


def _letters(names: Sequence[str]) -> tuple[str, ...]:
    return beginnings(names, 1)


def beginnings(names: Sequence[str], least: int) -> tuple[str, ...]:
    """The shortest beginning of each name, of `least` letters at least, that no other name has.

    >>> beginnings(("place-order", "track-order", "plan"), 1)
    ('plac', 't', 'plan')
    """

    def shortest(name: str) -> str:
        others = [n for n in names if n != name]
        lengths = range(least, len(name))
        return next((name[:n] for n in lengths if not any(o.startswith(name[:n]) for o in others)), name)

    return tuple(shortest(name) for name in names)


def _radii(run: Run) -> Iterator[RenderableType]:
    if not run.stages:
        return
    yield Text("blast radius and price", "dim italic")
    wide = max(len(stage.name) for stage in run.stages) + 2
    for stage in run.stages:
        yield Text(" ").append(stage.name.ljust(wide), "bold").append_text(_bar(stage)).append(f"  {_radius(stage)}")
        price = _price(stage)
        if price:
            yield Text(f" {' ' * wide}{price}", "dim")
    yield Text()


def _bar(stage: StageRun) -> Text:
    length = round((stage.radius.measured or 0.0) * BAR)
    return Text("#" * length, "blue").append("-" * (BAR - length), "dim")


def _radius(stage: StageRun) -> str:
    r = stage.radius
    return f"{figure(r.measured)} ({figure(r.low)}-{figure(r.high)}), predicted {figure(r.predicted)}"


def _price(stage: StageRun) -> str:
    slowest = stage.slowest
    parts = [f"{slowest.name} p99 {milliseconds(slowest.p99_ms)}"] if slowest else []
    parts += [count(stage.processes, "process", "processes")] if stage.processes else []
    if stage.cpu_ms_per_order is not None:
        parts.append(f"{milliseconds(stage.cpu_ms_per_order)} of CPU per order")
    parts += [f"{stage.memory_mb:.0f} MB"] if stage.memory_mb is not None else []
    parts += [f"up in {duration(stage.up_s)}"] if stage.up_s is not None else []
    return ", ".join(parts)


def _troubles(run: Run) -> Iterator[RenderableType]:
    found = troubles(run)
    if not found:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for trouble in found[:TROUBLES_SHOWN]:
        said = Text(trouble.where, "bold").append(f": {trouble.what}" if trouble.what else "", "not bold")
        table.add_row(Text(trouble.verdict, VERDICT_STYLES[trouble.verdict]), said)
    if len(found) > TROUBLES_SHOWN:
        table.add_row(Text(), Text(f"and {len(found) - TROUBLES_SHOWN} more", "dim"))
    yield Padding(table, (0, 0, 1, 0))


def _closing(run: Run) -> Text:
    """One line that says it all."""
    parts = [count(len(run.stages), "stage"), count(len(run.fault_names), "fault")]
    leaks, undecided = len(run.cells("leak")), len(run.cells("unknown"))
    checks = [c for s in run.stages for c in s.checks]
    parts += [count(leaks, "leak")] if leaks else []
    parts += [count(undecided, "cell undecided", "cells undecided")] if undecided else []
    parts.append(f"{sum(c.verdict == 'valid' for c in checks)} of {len(checks)} checks valid")
    if run.comparison and run.comparison.because:
        kept = run.comparison.verdict == "valid"
        parts.append(
            {
                True: "blast radius falls",
                False: "blast radius falls where predicted" if kept else "blast radius does not fall",
                None: "fall of the blast radius undecided",
            }[run.comparison.falls]
        )
    parts += [run.variant] if run.variant else []
    parts += [duration(run.duration_s)] if run.duration_s is not None else []
    return Text(run.verdict.upper(), VERDICT_STYLES[run.verdict]).append("  " + ", ".join(parts), "not bold default")
