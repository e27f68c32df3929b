"""What can verdict.json say? The document as records, so that no renderer digs in dictionaries.

`suite.report.reading` makes them. Nothing here judges; marks only compare what was predicted with what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suite.report.compared import Comparison
    from suite.report.governed import Owned, Policy

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
    def bounded(self) -> bool:
        """Whether what exactly happened was not decided, but surely nothing worse than predicted."""
        return self.verdict == "valid" and self.measured == "unknown" and self.predicted in EFFECTS

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
class Completion:
    """Something promised for later, without any fault."""

    name: str
    operation: str
    n: int
    in_time: int
    late: int
    lost: int
    p50_ms: float | None
    p99_ms: float | None
    within_ms: float | None
    verdict: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message that nobody could handle."""

    queue: str
    consumer: str
    id: str
    type: str
    reason: str
    """A word; '' where the broker gave it up by itself."""
    detail: str
    receives: int | None
    since_utc: str


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
    cpu_ms_per_order: float | None
    drained_s: float | None
    """How long accepted work took to end once the load had stopped."""
    radius: Radius
    healthy: tuple[Healthy, ...]
    completions: tuple[Completion, ...]
    letters: tuple[Letter, ...] | None
    """What lay in the dead-letter queues in the end; None where nobody looked."""
    cells: tuple[Cell, ...]
    pooled: tuple[Pooled, ...]
    faults: tuple[Fault, ...]
    checks: tuple[Check, ...]
    owned: tuple[Owned, ...] = ()
    """Systems that have an owner."""
    policy: Policy | None = None
    """None for a stage without a mesh."""

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
    comparison: Comparison | None = None
    """None for a single stage."""

    def cells(self, mark: str) -> tuple[Cell, ...]:
        """Every cell of every stage that carries a mark."""
        return tuple(c for s in self.stages for c in s.cells if c.mark == mark)

    @property
    def fault_names(self) -> tuple[str, ...]:
        """Each fault once, in the order in which it first appears."""
        return tuple(
            dict.fromkeys(n for s in self.stages for n in (*(f.name for f in s.faults), *(c.fault for c in s.cells)))
        )
