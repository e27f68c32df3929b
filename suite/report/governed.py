"""What does verdict.json say about owners, budgets and policy? As records, read as tolerantly as the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from suite.report.document import Json
from suite.report.tolerant import each, integer, mapping, names, number, share, text, verdict_of

CREDENTIALS = {
    "own": "its own certificate",
    "other": "another service's certificate",
    "expired": "an expired certificate",
    "foreign": "a certificate of a foreign root",
    "plaintext": "no certificate, in plaintext",
}
"""What a caller showed, in the order in which a cell of the matrix shows it."""

WORST_SHOWN = 3
"""Faults named per budget; verdict.json has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much of an objective's room for bad requests is gone."""

    n: int
    bad: int
    allowed: float | None
    spent: float | None
    """Share of the budget, above 1 where it is overdrawn; None if not known."""
    worst: tuple[tuple[str, int], ...]
    """(fault, bad requests), most first; those that met none left out."""

    @property
    def bar(self) -> float:
        """Length of its bar, 0 to 1; full where it is overdrawn."""
        return min(1.0, self.spent or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What an owner answers for."""

    name: str
    operation: str
    completion: bool
    within_ms: float | None
    share: float | None
    budget: Budget | None

    @property
    def promise(self) -> str:
        """'99 % within 800 ms'."""
        good = "–" if self.share is None else f"{100 * self.share:g} %"
        return good if self.within_ms is None else f"{good} within {self.within_ms:g} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A system and its owner."""

    system: str
    owner: str
    cluster: str
    network: str
    services: tuple[str, ...]
    objectives: tuple[Objective, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One call with one credential."""

    caller: str
    callee: str
    credential: str
    shown: str
    expected: str
    """'allowed' or 'denied'."""
    measured: str
    """The same, or 'unknown'."""
    verdict: str
    answer: str

    @property
    def said(self) -> str:
        """'email calls payments with its own certificate: allowed; the model denies it'."""
        way = CREDENTIALS.get(self.credential, self.credential)
        if self.credential == "other" and self.shown:
            way = f"the certificate of {self.shown}"
        model = {"allowed": "allows", "denied": "denies"}.get(self.expected, "says nothing about")
        return f"{self.caller} calls {self.callee} with {way}: {self.answer or 'not tried'}; the model {model} it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which calls work, measured."""

    verdict: str
    because: str
    services: tuple[str, ...]
    cells: Mapping[tuple[str, str], tuple[Tried, ...]]
    """(caller, callee) -> one per credential, in the order of CREDENTIALS."""

    @property
    def wrong(self) -> tuple[Tried, ...]:
        """What is not as modelled."""
        return tuple(t for tried in self.cells.values() for t in tried if t.verdict == "invalid")


def read_owned(raw: Json) -> Owned:
    return Owned(
        system=text(raw, "system"),
        owner=text(raw, "owner"),
        cluster=text(raw, "cluster"),
        network=text(raw, "network"),
        services=names(raw.get("services") or ()),
        objectives=each(raw.get("objectives"), _objective),
    )


def _objective(raw: Json) -> Objective:
    budget = raw.get("budget")
    return Objective(
        name=text(raw, "name"),
        operation=text(raw, "operation"),
        completion=raw.get("kind") == "completion",
        within_ms=number(raw.get("within_ms")),
        share=share(raw.get("share")),
        budget=_budget(budget) if isinstance(budget, Mapping) else None,
    )


def _budget(raw: Json) -> Budget:
    spent = [(text(row, "fault"), integer(row.get("bad")) or 0) for row in each(raw.get("by_fault"), lambda row: row)]
    return Budget(
        n=integer(raw.get("n")) or 0,
        bad=integer(raw.get("bad")) or 0,
        allowed=number(raw.get("allowed")),
        spent=number(raw.get("spent")),
        worst=tuple(sorted(((f, bad) for f, bad in spent if bad > 0), key=lambda row: -row[1])),
    )


def read_policy(value: object) -> Policy | None:
    """None for a stage without a mesh."""
    if not isinstance(value, Mapping):
        return None
    raw = mapping(value)
    cells: dict[tuple[str, str], list[Tried]] = {}
    for tried in each(raw.get("cells"), _tried):
        cells.setdefault((tried.caller, tried.callee), []).append(tried)
    order = {name: n for n, name in enumerate(CREDENTIALS)}
    return Policy(
        verdict=verdict_of(raw),
        because=text(raw, "because"),
        services=names(raw.get("services") or ()),
        cells={
            pair: tuple(sorted(found, key=lambda t: order.get(t.credential, len(order))))
            for pair, found in cells.items()
        },
    )


def _tried(raw: Json) -> Tried:
    measured = text(raw, "measured")
    return Tried(
        caller=text(raw, "caller"),
        callee=text(raw, "callee"),
        credential=text(raw, "credential"),
        shown=text(raw, "shown"),
        expected=text(raw, "expected"),
        measured=measured if measured in ("allowed", "denied") else "unknown",
        verdict=verdict_of(raw),
        answer=text(raw, "answer"),
    )
