"""What does verdict.json say of the edges of a mesh? As records, read as tolerantly as the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from suite.report.document import Json
from suite.report.tolerant import each, integer, mapping, names, number, share, text, verdict_of
from suite.report.words import line

FEW, MANY = 0.01, 0.1
"""Shares of errors from which a cell is marked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One edge in one phase."""

    n: int
    rate: float | None
    error_share: float | None
    """None where nobody can tell: a message has no answer."""
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    under_way_most: int | None
    overflows: int
    no_host: int
    retried: int
    flags: Mapping[str, int]

    @property
    def mark(self) -> str:
        """The effect in whose colour it is drawn."""
        if not self.n or self.error_share is None:
            return ""
        return "failing" if self.error_share >= MANY else "degraded" if self.error_share >= FEW else "unaffected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One edge, over the whole run."""

    name: str
    caller: str
    callee: str
    kind: str
    """'call', 'command' or 'event'."""
    gateway: str
    limit: int | None
    phases: Mapping[str, Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One edge under one fault."""

    fault: str
    edge: str
    expected: bool
    ejections: int
    overflows: int
    no_host: int
    opened_s: float | None
    opened_by: str
    closed_s: float | None
    fallbacks: int
    asked: int
    verdict: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row of a waterfall."""

    depth: int
    kind: str
    where: str
    name: str
    start_ms: float
    ms: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One request, followed to its end."""

    title: str
    because: str
    trace_id: str
    fitting: int
    sampled: int
    duration_ms: float | None
    answered_ms: float | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Everything about one stage's edges."""

    stage: str
    verdict: str
    lines: int
    unreadable: int
    clock_off_by_ms: float | None
    phases: Mapping[str, float | None]
    """Name -> seconds, in order."""
    edges: tuple[Edge, ...]
    messages: tuple[Edge, ...]
    breakers: tuple[Breaker, ...]
    breakers_verdict: str
    """'' where no fault of the run takes a callee away."""
    breakers_because: str
    examples: tuple[Example, ...]


def load(verdict: Json) -> tuple[Edges, ...]:
    """The stages of verdict.json that say anything of their edges. Never raises for what it holds."""
    stages = mapping(verdict.get("stages"))
    return tuple(_stage(line(n), mapping(raw)) for n, raw in stages.items() if mapping(mapping(raw).get("signals")))


def _stage(name: str, raw: Json) -> Edges:
    signals, breakers = mapping(raw.get("signals")), mapping(raw.get("breakers"))
    phases = each(signals.get("phases"), lambda p: (text(p, "name"), number(p.get("seconds"))))
    return Edges(
        stage=name,
        verdict=verdict_of(raw),
        lines=integer(signals.get("lines")) or 0,
        unreadable=integer(signals.get("unreadable")) or 0,
        clock_off_by_ms=number(signals.get("clock_off_by_ms")),
        phases=dict(phases),
        edges=each(signals.get("edges"), _edge),
        messages=each(signals.get("messages"), _edge),
        breakers=each(breakers.get("edges"), _breaker),
        breakers_verdict=verdict_of(breakers) if breakers.get("verdict") is not None else "",
        breakers_because=text(breakers, "because"),
        examples=each(raw.get("traces"), _example),
    )


def _edge(raw: Json) -> Edge:
    return Edge(
        name=text(raw, "edge"),
        caller=text(raw, "caller"),
        callee=text(raw, "callee"),
        kind=text(raw, "kind") or "call",
        gateway=text(raw, "gateway"),
        limit=integer(raw.get("limit")),
        phases={line(n): _figures(mapping(f)) for n, f in mapping(raw.get("phases")).items()},
    )


def _figures(raw: Json) -> Figures:
    flags = {line(n, 20): integer(v) or 0 for n, v in mapping(raw.get("flags")).items()}
    return Figures(
        n=integer(raw.get("n", raw.get("sampled"))) or 0,
        rate=number(raw.get("rate")),
        error_share=share(raw.get("error_share")),
        p50_ms=number(raw.get("p50_ms")),
        p90_ms=number(raw.get("p90_ms")),
        p99_ms=number(raw.get("p99_ms")),
        under_way_most=integer(raw.get("under_way_most")),
        overflows=integer(raw.get("overflows")) or 0,
        no_host=integer(raw.get("no_host")) or 0,
        retried=integer(raw.get("retried")) or 0,
        flags=flags,
    )


def _breaker(raw: Json) -> Breaker:
    return Breaker(
        fault=text(raw, "fault"),
        edge=text(raw, "edge"),
        expected=raw.get("expected") is True,
        ejections=integer(raw.get("ejections")) or 0,
        overflows=integer(raw.get("overflows")) or 0,
        no_host=integer(raw.get("no_host")) or 0,
        opened_s=number(raw.get("opened_after_s")),
        opened_by=text(raw, "opened_by"),
        closed_s=number(raw.get("closed_after_undo_s")),
        fallbacks=integer(raw.get("fallback_answers")) or 0,
        asked=integer(raw.get("answers_meanwhile")) or 0,
        verdict=verdict_of(raw),
        because=text(raw, "because"),
    )


def _example(raw: Json) -> Example:
    return Example(
        title=text(raw, "title"),
        because=text(raw, "because"),
        trace_id="".join(names(raw.get("trace_id"), 32)[:1]),
        fitting=integer(raw.get("fitting")) or 0,
        sampled=integer(raw.get("sampled")) or 0,
        duration_ms=number(raw.get("duration_ms")),
        answered_ms=number(raw.get("answered_ms")),
        bars=each(raw.get("rows"), _bar),
    )


def _bar(raw: Json) -> Bar:
    return Bar(
        depth=min(30, max(0, integer(raw.get("depth")) or 0)),
        kind=text(raw, "kind"),
        where=text(raw, "where"),
        name=text(raw, "name"),
        start_ms=max(0.0, number(raw.get("start_ms")) or 0.0),
        ms=max(0.0, number(raw.get("ms")) or 0.0),
        detail=text(raw, "detail"),
    )
