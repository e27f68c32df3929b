"""What does verdict.json's "comparison" say? As records, read as tolerantly as the rest of the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from suite.report.document import EFFECTS, Json
from suite.report.tolerant import each, integer, mapping, names, number, share, text, truth, verdict_of
from suite.report.words import line


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From one stage to the next."""

    before: str
    after: str
    verdict: str
    falls: bool | None
    """Whether the measured blast radius strictly falls; None where that was not decided."""
    because: str
    change: str
    """The one thing that the later stage changes."""
    reason: str
    sentences: tuple[str, ...]
    """The change in parts."""
    bought: tuple[str, ...]
    paid: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRadius:
    """The blast radius of a stage under the faults that all stages have; shares from 0 to 1."""

    predicted: float | None
    measured: float | None
    low: float | None
    high: float | None
    effects: Mapping[str, float]
    """Share of cells by measured effect, 'unknown' included; 0 for one that did not occur."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One operation at one stage, without faults."""

    p50_ms: float | None
    p99_ms: float | None
    round_trips: int | None
    """Exchanges between systems, one after the other, that the answer waits for; predicted."""
    completions: Mapping[str, float | None]
    """Median time to each completion, milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationChange:
    """One operation at every stage."""

    name: str
    stages: Mapping[str, Answered]
    changes: Mapping[str, tuple[str, str]]
    """By the later stage of a step: (faster | slower | similar | unknown, why)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One fault and operation, from one stage to the next."""

    before: str
    change: str
    """better | worse | same | undecided"""
    because: str

    @property
    def before_because(self) -> str:
        """The part about the earlier stage; the whole where it is not told stage by stage."""
        said = self.because.partition("; ")[0]
        return said.removeprefix(f"{self.before}: ") if said.startswith(f"{self.before}: ") else self.because


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one stage costs."""

    up_s: float | None
    processes: int | None
    memory_mb: float | None
    cpu_cores: float | None
    cpu_ms_per_order: float | None
    parts: Mapping[str, int]
    """Number of things by kind, such as 'queues'."""
    shared: tuple[str, ...]
    gaps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostCluster:
    """The loss of one cluster of a stage that has several."""

    stage: str
    cluster: str
    contained: bool | None
    """Whether whatever does not live there was unaffected or delayed; None where that was not decided."""
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that the document says about its stages side by side."""

    verdict: str
    falls: bool | None
    because: str
    stages: tuple[str, ...]
    steps: tuple[Step, ...]
    faults: tuple[str, ...]
    """Those that all stages have."""
    radii: Mapping[str, SharedRadius]
    operations: tuple[OperationChange, ...]
    missing: Mapping[tuple[str, str], str]
    """(fault, stage) -> why that stage has no such fault."""
    changes: Mapping[tuple[str, str, str], CellChange]
    """(later stage of a step, fault, operation) -> what changed."""
    prices: Mapping[str, Price]
    clusters: tuple[LostCluster, ...] = ()


def load(value: object) -> Comparison | None:
    """Read the comparison; None if there is none. Never raises for what it holds."""
    if not isinstance(value, Mapping):
        return None
    radius = mapping(value.get("blast_radius"))
    faults = each(value.get("faults"), lambda raw: raw)
    return Comparison(
        verdict=verdict_of(value),
        falls=truth(value.get("falls")),
        because=text(value, "because"),
        stages=names(value.get("stages") or ()),
        steps=each(value.get("steps"), _step),
        faults=names(radius.get("faults") or ()),
        radii={line(n): _radius(mapping(raw)) for n, raw in mapping(radius.get("stages")).items()},
        operations=each(value.get("operations"), _operation),
        missing={
            (text(raw, "fault"), line(stage)): line(why)
            for raw in faults
            for stage, why in mapping(raw.get("missing")).items()
        },
        changes={key: change for raw in faults for key, change in _changes(raw)},
        prices={line(n): _price(mapping(raw)) for n, raw in mapping(value.get("price")).items()},
        clusters=each(value.get("clusters"), _lost),
    )


def _lost(raw: Json) -> LostCluster:
    return LostCluster(
        stage=text(raw, "stage"),
        cluster=text(raw, "cluster"),
        contained=truth(raw.get("contained")),
        because=text(raw, "because"),
    )


def _step(raw: Json) -> Step:
    return Step(
        before=text(raw, "before"),
        after=text(raw, "after"),
        verdict=verdict_of(raw),
        falls=truth(raw.get("falls")),
        because=text(raw, "because"),
        change=text(raw, "change"),
        reason=text(raw, "reason"),
        sentences=names(raw.get("sentences") or (), 2000),
        bought=names(raw.get("bought") or (), 2000),
        paid=names(raw.get("paid") or (), 2000),
    )


def _radius(raw: Json) -> SharedRadius:
    effects = mapping(raw.get("effects"))
    return SharedRadius(
        predicted=share(raw.get("predicted")),
        measured=share(raw.get("measured")),
        low=share(raw.get("low")),
        high=share(raw.get("high")),
        effects={effect: share(effects.get(effect)) or 0.0 for effect in (*EFFECTS, "unknown")},
    )


def _operation(raw: Json) -> OperationChange:
    return OperationChange(
        name=text(raw, "operation"),
        stages={line(n): _answered(mapping(found)) for n, found in mapping(raw.get("stages")).items()},
        changes={
            text(step, "after"): (text(step, "change"), text(step, "because"))
            for step in each(raw.get("steps"), lambda step: step)
        },
    )


def _answered(raw: Json) -> Answered:
    return Answered(
        p50_ms=number(raw.get("accepted_p50_ms")),
        p99_ms=number(raw.get("accepted_p99_ms")),
        round_trips=integer(raw.get("round_trips")),
        completions={
            line(n): number(mapping(found).get("p50_ms")) for n, found in mapping(raw.get("completions")).items()
        },
    )


def _changes(raw: Json) -> list[tuple[tuple[str, str, str], CellChange]]:
    fault = text(raw, "fault")
    return [
        (
            (text(step, "after"), fault, text(operation, "operation")),
            CellChange(before=text(step, "before"), change=text(step, "change"), because=text(step, "because")),
        )
        for operation in each(raw.get("operations"), lambda found: found)
        for step in each(operation.get("steps"), lambda found: found)
    ]


def _price(raw: Json) -> Price:
    parts = mapping(raw.get("parts"))
    return Price(
        up_s=number(raw.get("up_s")),
        processes=integer(raw.get("processes")),
        memory_mb=number(raw.get("memory_mb")),
        cpu_cores=number(raw.get("cpu_cores")),
        cpu_ms_per_order=number(raw.get("cpu_ms_per_order")),
        parts={line(kind): found for kind, n in parts.items() if (found := integer(n)) is not None},
        shared=names(parts.get("shared") or ()),
        gaps=names(parts.get("gaps") or ()),
    )
