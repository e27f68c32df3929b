"""How do owners, budgets and policy look in a terminal? A line per system, a line for the policy."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from suite.report.document import Run, StageRun
from suite.report.governed import Budget, Owned
from suite.report.words import percent

STYLES = {"valid": "bold green", "invalid": "bold red", "unknown": "bold magenta"}


def governed(run: Run) -> Iterator[RenderableType]:
    """Of the stages that have owners or a mesh; nothing for others."""
    for stage in run.stages:
        at = f"{stage.name}: " if len(run.stages) > 1 else ""
        if any(o.budget for g in stage.owned for o in g.objectives):
            yield Text(f"{at}error budgets spent, by owner", "dim italic")
            yield Padding(_budgets(stage), (0, 0, 0, 1))
        if stage.policy is not None:
            yield Text(f"{at}policy, every call tried with every credential: ", "dim italic").append(
                stage.policy.verdict, STYLES[stage.policy.verdict]
            )
            yield Padding(Text(stage.policy.because), (0, 0, 0, 1))
        if stage.owned or stage.policy is not None:
            yield Text()


def _budgets(stage: StageRun) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for owned in stage.owned:
        table.add_row(Text(owned.owner or owned.system, "bold"), Text(_spent(owned)))
    return table


def _spent(owned: Owned) -> str:
    """'browse 3.1 times (inventory-killed 40), order-completed 0 %'."""
    return ", ".join(f"{o.name} {_words(o.budget)}" for o in owned.objectives if o.budget is not None) or "not counted"


def _words(budget: Budget) -> str:
    if budget.spent is None:
        return "–"
    said = f"{budget.spent:.1f} times" if budget.spent > 1 else percent(budget.spent)
    return f"{said} ({budget.worst[0][0]} {budget.worst[0][1]})" if budget.worst else said
