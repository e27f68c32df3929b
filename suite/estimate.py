"""What `stages show aws-STAGE --cost` prints: lines, total, assumptions, and what each step of the path adds."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from infra.aws.bill import Load
from infra.aws.cost import BROKERS, Estimate, path, possible, prices, steps
from infra.aws.sizing import SIZES
from stages.catalogue import STAGES
from suite.ports import BadInput
from suite.show import Page, table

PREFIX = "aws-"


def named(name: str) -> str:
    """The stage of a name such as 'aws-mesh'. Raise BadInput for any other name."""
    known = [f"{PREFIX}{stage}" for stage in STAGES]
    if name in known:
        return name.removeprefix(PREFIX)
    if name in STAGES:
        raise BadInput([f"only AWS sends a bill for stage {name!r}: 'stages show {PREFIX}{name} --cost'"])
    raise BadInput([f"unknown stage on AWS {name!r}: there are {', '.join(known)}"])


def page(name: str, size: str, broker: str) -> Page:
    """The estimate of a stage on AWS. Raise BadInput for a name, size or broker that is none, all at once."""
    problems = [
        f"unknown {kind} {value!r}: there are {' and '.join(known)}"
        for kind, value, known in (("size", size, tuple(SIZES)), ("broker", broker, BROKERS))
        if value not in known
    ]
    try:
        stage = named(name)
    except BadInput as error:
        raise BadInput([*error.problems, *problems]) from None
    if not problems and not possible(STAGES[stage], broker):
        problems.append(f"stage {stage!r} on AWS has no broker {broker!r}: leave out --broker")
    if problems:
        raise BadInput(problems)
    load = Load()
    estimates = path(SIZES[size], broker, load)
    chosen = next(e for e in estimates if e.stage == stage)
    return Page(_content(chosen, estimates, load), _text(chosen, estimates, load))


def _content(chosen: Estimate, estimates: tuple[Estimate, ...], load: Load) -> dict[str, Any]:
    read = prices()
    return {
        "stage": chosen.stage,
        "target": "aws",
        "region": read.region,
        "size": chosen.size,
        "broker": chosen.broker,
        "currency": read.currency,
        "prices_of": read.date,
        "basis": read.basis,
        "monthly": round(chosen.monthly, 2),
        "parts": _rounded(chosen.parts),
        "lines": [
            {
                "part": line.amount.part,
                "what": line.amount.what,
                "pieces": round(line.amount.pieces, 4),
                "units": round(line.amount.units, 4),
                "per": line.price.per,
                "price": line.price.usd,
                "monthly": round(line.monthly, 2),
                "source": line.price.source,
            }
            for line in chosen.lines
        ],
        "assumptions": list(load.sentences()),
        "steps": [
            {"stage": e.stage, "monthly": round(e.monthly, 2), "adds": round(sum(added.values()), 2), "by": by}
            for e, added in zip(estimates, steps(estimates), strict=True)
            for by in (_rounded(added),)
        ],
    }


def _rounded(parts: dict[str, float]) -> dict[str, float]:
    return {part: round(value, 2) for part, value in parts.items()}


def _text(chosen: Estimate, estimates: tuple[Estimate, ...], load: Load) -> tuple[RenderableType, ...]:
    read = prices()
    title = f"stage {chosen.stage} on AWS, size {chosen.size}, broker {chosen.broker}"
    lines = table("part", "what", "how many", "price in USD", "a month", title=title)
    part = ""
    for line in chosen.lines:
        again, part = part == line.amount.part, line.amount.part
        lines.add_row(
            "" if again else part,
            line.amount.what,
            f"{line.amount.pieces:,.4g}",
            f"{line.price.usd:g} per {line.price.per}",
            f"{line.monthly:,.2f}",
        )
    lines.add_row("total", "", "", "", f"{chosen.monthly:,.2f}", style="bold")
    path_ = table("stage", "USD a month", "the step adds", "namely", title="what each step costs")
    for e, added in zip(estimates, steps(estimates), strict=True):
        namely = ", ".join(f"{name} {value:+,.0f}" for name, value in added.items())
        path_.add_row(e.stage, f"{e.monthly:,.0f}", f"{sum(added.values()):+,.0f}", namely)
    return (
        lines,
        path_,
        f"prices of {read.date}, {read.region}. {read.basis}",
        f"assumed: {'; '.join(load.sentences())}",
    )
