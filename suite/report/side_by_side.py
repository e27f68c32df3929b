"""Which figures stand side by side on the first screen of a run of several stages, and how long is the bar of each?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from suite.report.compared import Comparison, OperationChange, Price
from suite.report.words import count, milliseconds


@dataclass(frozen=True, slots=True)
class Value:
    """One figure of one stage."""

    text: str
    """'–' where nothing was measured."""
    aside: str = ""
    share: float | None = None
    """Of the largest in its row, 0 to 1: the length of the bar; None for what is no quantity."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure at every stage."""

    label: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


def figures(found: Comparison) -> tuple[Figures, ...]:
    """Latency at acceptance, time to completion, and the price; groups without rows are left out."""
    groups = (
        Figures("answered within, p99; round trips between systems", tuple(_answers(found))),
        Figures("done within, median", tuple(_completions(found))),
        Figures("price", tuple(_prices(found))),
    )
    return tuple(group for group in groups if group.rows)


def _answers(found: Comparison) -> Iterator[Row]:
    """Of operations that answer faster or slower than a stage before, or wait for other round trips."""
    for operation in [o for o in found.operations if _moves(o)] or found.operations:
        at = [operation.stages.get(name) for name in found.stages]
        trips = [None if a is None or a.round_trips is None else count(a.round_trips, "round trip") for a in at]
        texts = [None if a is None or a.p99_ms is None else milliseconds(a.p99_ms) for a in at]
        shares = _shares([None if a is None else a.p99_ms for a in at])
        yield Row(
            operation.name, tuple(Value(t or "–", k or "", s) for t, k, s in zip(texts, trips, shares, strict=True))
        )


def _moves(operation: OperationChange) -> bool:
    trips = {a.round_trips for a in operation.stages.values()}
    return len(trips) > 1 or any(change in {"faster", "slower"} for change, _ in operation.changes.values())


def _completions(found: Comparison) -> Iterator[Row]:
    for operation in found.operations:
        for name in dict.fromkeys(n for at in operation.stages.values() for n in at.completions):
            at = [operation.stages.get(stage) for stage in found.stages]
            ms = [None if a is None else a.completions.get(name) for a in at]
            yield Row(name, tuple(Value(milliseconds(m), "", s) for m, s in zip(ms, _shares(ms), strict=True)))


def _prices(found: Comparison) -> Iterator[Row]:
    prices = [found.prices.get(name) for name in found.stages]
    if not any(prices):
        return
    yield _quantities("CPU per order", [None if p is None else p.cpu_ms_per_order for p in prices], milliseconds)
    yield _quantities("memory", [None if p is None else p.memory_mb for p in prices], lambda v: f"{v:.0f} MB")
    yield _quantities("processes", [None if p is None else p.processes for p in prices], lambda v: f"{v:.0f}")
    yield Row("queues and topics", tuple(Value(_queues(p)) for p in prices))
    yield Row("shared by all", tuple(Value(", ".join(p.shared) or "nothing" if p else "–") for p in prices))
    yield Row("known gaps", tuple(Value(str(len(p.gaps)) if p else "–") for p in prices))


def _quantities(label: str, values: Sequence[float | None], said: Callable[[float], str]) -> Row:
    texts = ["–" if v is None else said(v) for v in values]
    return Row(label, tuple(Value(t, "", s) for t, s in zip(texts, _shares(values), strict=True)))


def _queues(price: Price | None) -> str:
    if price is None:
        return "–"
    kinds = (("queue", "queues"), ("topic", "topics"))
    return ", ".join(count(price.parts[many], one) for one, many in kinds if price.parts.get(many)) or "none"


def _shares(values: Sequence[float | None]) -> list[float | None]:
    most = max((v for v in values if v is not None), default=0.0)
    return [None if v is None else max(0.0, v / most) if most > 0 else 0.0 for v in values]
