"""How do the stages of a run look side by side in a terminal? Figures in columns, then what each step brought."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from suite.report.compared import Comparison, Step
from suite.report.side_by_side import figures
from suite.report.words import figure

NEWS_SHOWN = 5
"""Sentences for and against a step; verdict.json has them all."""

MARKS = {True: ("+", "green"), False: ("-", "dark_orange"), None: ("?", "magenta")}


def comparison(found: Comparison) -> Iterator[RenderableType]:
    """Everything about the stages side by side, top to bottom."""
    yield Text("stage by stage", "dim italic")
    yield Padding(_figures(found), (0, 0, 0, 1))
    yield Text()
    for step in found.steps:
        yield Text(f"from {step.before} to {step.after}", "dim italic")
        yield Padding(_news(step), (0, 0, 0, 1))
        yield Text()


def _figures(found: Comparison) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    for name in found.stages:
        table.add_column(Text(name, "bold"))
    table.add_row(Text("blast radius, same faults"), *(_radius(found, name, "") for name in found.stages))
    for effect in ("failing", "delayed", "degraded", "unknown"):
        if any(r.effects[effect] for r in found.radii.values()):
            label = "not decided" if effect == "unknown" else effect
            table.add_row(Text(f"  {label}", "dim"), *(_radius(found, name, effect) for name in found.stages))
    for group in figures(found):
        table.add_row(Text(group.title, "dim"))
        for row in group.rows:
            cells = (Text(v.text).append(f"  {v.aside}" if v.aside else "", "dim") for v in row.values)
            table.add_row(Text(f"  {row.label}"), *cells)
    return table


def _radius(found: Comparison, stage: str, effect: str) -> Text:
    radius = found.radii.get(stage)
    if radius is None:
        return Text("–")
    if effect:
        return Text(figure(radius.effects[effect]), "dim")
    return Text(figure(radius.measured), "bold").append(f"  predicted {figure(radius.predicted)}", "dim not bold")


def _news(step: Step) -> Table:
    """What is good and what is not, the most important first."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for good, said in ((True, step.bought), (False, step.paid)):
        for sentence in said[:NEWS_SHOWN]:
            undecided = step.falls is None and sentence == step.because
            mark, style = MARKS[None if undecided else good]
            table.add_row(Text(mark, f"bold {style}"), Text(sentence))
    return table
