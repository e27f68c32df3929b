"""What does a stage on AWS cost in a month, and what does each step add? (pure)

    bill of materials + prices.json --> lines, total, difference to the stage before

An estimate: public prices of a date, for a load that is assumed. It is there to compare the stages, where its errors
cancel out; for a budget ask AWS's own calculator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from infra.aws.bill import Amount, Load, bill
from infra.aws.sizing import Sizing
from stages.catalogue import STAGES
from stages.model import Stage

TABLE = "prices.json"
BROKERS = ("sqs", "kafka")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One line of the price table."""

    usd: float
    per: str
    source: str
    """Page of aws.amazon.com that decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The whole table."""

    date: str
    region: str
    currency: str
    basis: str
    prices: Mapping[str, Price]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An amount and what it costs."""

    amount: Amount
    price: Price

    @property
    def monthly(self) -> float:
        """Dollars."""
        return self.amount.units * self.price.usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A stage, line by line."""

    stage: str
    size: str
    broker: str
    lines: tuple[Line, ...]

    @property
    def monthly(self) -> float:
        return sum(line.monthly for line in self.lines)

    @property
    def parts(self) -> dict[str, float]:
        """Dollars by part, in the order of the lines."""
        found: dict[str, float] = {}
        for line in self.lines:
            found[line.amount.part] = found.get(line.amount.part, 0) + line.monthly
        return found


@cache
def prices() -> Prices:
    """The table that is part of this package."""
    read: Any = json.loads(resources.files("infra.aws").joinpath(TABLE).read_text())
    return Prices(
        date=read["date"],
        region=read["region"],
        currency=read["currency"],
        basis=read["basis"],
        prices={name: Price(**price) for name, price in read["prices"].items()},
    )


def estimate(stage: Stage, sizing: Sizing, broker: str = "sqs", load: Load | None = None) -> Estimate:
    """What a stage costs. Raise KeyError for an amount without a price."""
    table = prices().prices
    amounts = bill(stage, sizing, broker, load)
    lines = tuple(Line(amount=amount, price=table[amount.price]) for amount in amounts)
    return Estimate(stage=stage.name, size=sizing.name, broker=broker, lines=lines)


def possible(stage: Stage, broker: str) -> bool:
    """Whether there is such a stage on AWS: brokers of Kafka are in a network, and a mesh has none that all share."""
    return not (stage.mesh and broker == "kafka")


def path(sizing: Sizing, broker: str = "sqs", load: Load | None = None) -> tuple[Estimate, ...]:
    """Every stage that there is with a broker, in the order of the path."""
    return tuple(estimate(stage, sizing, broker, load) for stage in STAGES.values() if possible(stage, broker))


def steps(estimates: Sequence[Estimate]) -> tuple[dict[str, float], ...]:
    """What each step adds, by part; the first one adds everything. Parts that stay as they are, are left out."""
    before: dict[str, float] = {}
    found = []
    for after in estimates:
        parts = after.parts
        change = {part: parts.get(part, 0) - before.get(part, 0) for part in dict.fromkeys((*before, *parts))}
        found.append({part: delta for part, delta in change.items() if abs(delta) >= 0.005})
        before = parts
    return tuple(found)
