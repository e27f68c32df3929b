"""What does verdict.json say? The document as records, so that no renderer digs in dictionaries.

Reading is tolerant: a report must be possible for a run that crashed half-way. What is missing or has
another type becomes None, an empty tuple, or the verdict 'unknown'; nothing is ever read as 'valid'.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stages.evidence import wilson
from suite.report.grouping import fault_class
from suite.report.words import line

Json = Mapping[str, Any]

VERDICTS = ("valid", "unknown", "invalid")
"""From best to worst for showing; merging of verdicts is done elsewhere."""

EFFECTS = ("unaffected", "degraded", "delayed", "failing")
"""From harmless to harmful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One fault and one operation: what was foreseen and what happened."""

    stage: str
    fault: str
    operation: str
    predicted: str
    measured: str
    verdict: str
    n: int
    bad: int
    interval: tuple[float, float] | None
    """Where the bad share lies: as given by the document, else Wilson 95 %."""
    decided_after_s: float | None
    because: str
    path: tuple[str, ...]
    """Names from the user to what broke."""
    gaps: tuple[str, ...]
    """Promises that the stage, as such, cannot keep under this fault."""
    evidence: Json

    @property
    def mark(self) -> str:
        """'leak' (worse than predicted), 'unknown', 'better' or 'as-predicted'."""
        if self.verdict == "invalid":
            return "leak"
        if self.verdict == "unknown" or self.measured not in EFFECTS or self.predicted not in EFFECTS:
            return "unknown"
        difference = EFFECTS.index(self.measured) - EFFECTS.index(self.predicted)
        if difference < 0 and self.evidence.get("better") is False:
            return "as-predicted"  # its completion was not watched, so nothing is better for sure
        return "leak" if difference > 0 else "better" if difference < 0 else "as-predicted"

    @property
    def shown(self) -> str:
        """The effect whose colour and symbol the cell gets: nothing undecided is drawn as if it were known."""
        return "unknown" if self.mark == "unknown" or self.measured not in EFFECTS else self.measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """All operations that a fault must not touch, taken together."""

    stage: str
    fault: str
    n: int
    bad: int
    verdict: str
    because: str
    evidence: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What became of one fault of a stage."""

    name: str
    summary: str
    group: str
    injected: bool
    seen_by: str
    recovered_s: float | None
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise about the whole run."""

    name: str
    verdict: str
    because: str
    evidence: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """One operation without any fault."""

    name: str
    n: int
    ok: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    slo_ms: float | None
    verdict: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Radius:
    """The blast radius of a stage, each figure from 0 to 1."""

    predicted: float | None = None
    measured: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """Everything the document says about one stage."""

    name: str
    verdict: str
    because: str
    up_s: float | None
    memory_mb: float | None
    processes: int | None
    cpu_cores: float | None
    """Kept busy by the stage under the load of the baseline."""
    drained_s: float | None
    """How long accepted work took to end once the load had stopped."""
    radius: Radius
    healthy: tuple[Healthy, ...]
    cells: tuple[Cell, ...]
    pooled: tuple[Pooled, ...]
    faults: tuple[Fault, ...]
    checks: tuple[Check, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        """Names, in the order of the document."""
        return tuple(dict.fromkeys([*(o.name for o in self.healthy), *(c.operation for c in self.cells)]))

    @property
    def slowest(self) -> Healthy | None:
        """The operation with the highest p99 without faults, None if none is known."""
        return max((o for o in self.healthy if o.p99_ms is not None), key=lambda o: o.p99_ms or 0.0, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the suite."""

    verdict: str
    because: str
    stages: tuple[StageRun, ...]
    seed: int | None
    rate: float | None
    duration_s: float | None
    started_utc: str
    command: str
    variant: str
    environment: Json = field(default_factory=dict)

    def cells(self, mark: str) -> tuple[Cell, ...]:
        """Every cell of every stage that carries a mark."""
        return tuple(c for s in self.stages for c in s.cells if c.mark == mark)

    @property
    def fault_names(self) -> tuple[str, ...]:
        """Each fault once, in the order in which it first appears."""
        return tuple(
            dict.fromkeys(n for s in self.stages for n in (*(f.name for f in s.faults), *(c.fault for c in s.cells)))
        )


def load(verdict: Json) -> Run:
    """Read the object of verdict.json. Never raises for what it holds."""
    return Run(
        verdict=_verdict(verdict),
        because=_text(verdict, "because"),
        stages=tuple(_stage(name, _mapping(raw)) for name, raw in _mapping(verdict.get("stages")).items()),
        seed=_integer(verdict.get("seed")),
        rate=_number(verdict.get("rate")),
        duration_s=_number(verdict.get("duration_s")),
        started_utc=_text(verdict, "started_utc"),
        command=_command(verdict.get("command")),
        variant=_text(verdict, "variant"),
        environment=_mapping(verdict.get("environment")),
    )


def _stage(name: str, raw: Json) -> StageRun:
    radius = _mapping(raw.get("blast_radius"))
    operations = _mapping(raw.get("operations"))
    return StageRun(
        name=line(name),
        verdict=_verdict(raw),
        because=_text(raw, "because"),
        up_s=_number(raw.get("up_s")),
        memory_mb=_number(raw.get("memory_mb")),
        processes=_integer(raw.get("processes")),
        cpu_cores=_number(raw.get("cpu_cores")),
        drained_s=_number(raw.get("drained_s")),
        radius=Radius(
            predicted=_share(radius.get("predicted")),
            measured=_share(radius.get("measured")),
            low=_share(radius.get("measured_low")),
            high=_share(radius.get("measured_high")),
        ),
        healthy=tuple(_healthy(n, _mapping(o)) for n, o in operations.items()),
        cells=_each(raw.get("matrix"), lambda r: _cell(line(name), r)),
        pooled=_each(raw.get("pooled"), lambda r: _pooled(line(name), r)),
        faults=_each(raw.get("faults"), _fault),
        checks=_each(raw.get("checks"), _check),
    )


def _healthy(name: str, raw: Json) -> Healthy:
    return Healthy(
        name=line(name),
        n=_integer(raw.get("n")) or 0,
        ok=_integer(raw.get("ok")) or 0,
        p50_ms=_number(raw.get("p50_ms")),
        p95_ms=_number(raw.get("p95_ms")),
        p99_ms=_number(raw.get("p99_ms")),
        slo_ms=_number(raw.get("slo_ms")),
        verdict=_verdict(raw),
        because=_text(raw, "because"),
    )


def _cell(stage: str, raw: Json) -> Cell:
    evidence = _mapping(raw.get("evidence"))
    n, bad = _integer(raw.get("n")) or 0, _integer(raw.get("bad")) or 0
    return Cell(
        stage=stage,
        fault=_text(raw, "fault"),
        operation=_text(raw, "operation"),
        predicted=_text(raw, "predicted") or "unknown",
        measured=_text(raw, "measured") or "unknown",
        verdict=_verdict(raw),
        n=n,
        bad=bad,
        interval=_interval(raw.get("interval", evidence.get("interval")), bad, n),
        decided_after_s=_number(raw.get("decided_after_s")),
        because=_text(raw, "because"),
        path=_names(raw.get("path", evidence.get("path"))),
        gaps=_names(raw.get("gaps", evidence.get("gaps"))),
        evidence={k: v for k, v in evidence.items() if k not in {"path", "gaps", "interval"}},
    )


def _interval(value: object, bad: int, n: int) -> tuple[float, float] | None:
    given = [_share(bound) for bound in _sequence(value)]
    if len(given) == 2 and given[0] is not None and given[1] is not None:
        return given[0], given[1]
    return wilson(bad, n) if 0 <= bad <= n and n > 0 else None


def _pooled(stage: str, raw: Json) -> Pooled:
    return Pooled(
        stage=stage,
        fault=_text(raw, "fault"),
        n=_integer(raw.get("n")) or 0,
        bad=_integer(raw.get("bad")) or 0,
        verdict=_verdict(raw),
        because=_text(raw, "because"),
        evidence=_mapping(raw.get("evidence")),
    )


def _fault(raw: Json) -> Fault:
    name = _text(raw, "name")
    return Fault(
        name=name,
        summary=_text(raw, "summary"),
        group=_text(raw, "class") or fault_class(name),
        injected=raw.get("injected") is True,
        seen_by=_text(raw, "seen_by"),
        recovered_s=_number(raw.get("recovered_s")),
        because=_text(raw, "because"),
    )


def _check(raw: Json) -> Check:
    return Check(
        name=_text(raw, "name"),
        verdict=_verdict(raw),
        because=_text(raw, "because"),
        evidence=_mapping(raw.get("evidence")),
    )


_T = TypeVar("_T")


def _each(value: object, read: Callable[[Json], _T]) -> tuple[_T, ...]:
    return tuple(read(item) for item in _sequence(value) if isinstance(item, Mapping))


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def _mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _text(raw: Json, key: str) -> str:
    value = raw.get(key)
    return "" if value is None else line(value, most=2000)


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (line(value),)
    return tuple(line(item) for item in value) if isinstance(value, Iterable) else ()


def _command(value: object) -> str:
    """A command line may come as its words or as one text."""
    words = [line(word, 2000) for word in _sequence(value)]
    return shlex.join(words) if words else line(value, 2000) if isinstance(value, str) else ""


def _verdict(raw: Json) -> str:
    value = raw.get("verdict")
    return value if isinstance(value, str) and value in VERDICTS else "unknown"


def _number(value: object) -> float | None:
    """A finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _share(value: object) -> float | None:
    number = _number(value)
    return None if number is None else min(1.0, max(0.0, number))
