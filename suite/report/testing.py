"""What does a run look like? Sample verdicts with the histories they could come from, made from a seed.

For tests and for looking at the report without deploying anything. A valid run, one that leaks and charges
twice, and one in which too little was seen; of one stage or of several, then with their comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from stages.blast_radius import Effect
from stages.catalogue import STAGES
from stages.history import FaultEvent, Phase, Record
from stages.model import Stage
from suite.comparison import compare
from suite.report.series import Series, summarize
from suite.report.simulated import EPOCH_NS, SampleKind, history, impacts, timetable
from suite.report.simulated_verdict import stage_document


@dataclass(frozen=True, slots=True)
class Sample:
    """A run as the report gets it."""

    verdict: dict[str, Any]
    histories: Mapping[str, list[Record]]
    stages: Mapping[str, Stage]

    @property
    def series(self) -> dict[str, Series]:
        """By stage."""
        return {name: summarize(self.histories[name], objectives(self.stages[name])) for name in self.stages}


def sample(
    kind: SampleKind = "valid",
    *,
    seed: int = 7,
    stages: Sequence[str] = ("sync",),
    rate: float = 65.0,
    faults: int = 99,
) -> Sample:
    """A run of the named stages with at most `faults` faults each. Equal arguments give equal samples."""
    chosen = {name: STAGES[name] for name in stages}
    histories: dict[str, list[Record]] = {}
    documents: dict[str, Any] = {}
    for name, stage in chosen.items():
        rng = Random(f"{seed} {name} {kind}")
        held = tuple(timetable(stage, kind, rng, faults))
        histories[name] = history(stage, held, rng, rate)
        documents[name] = stage_document(stage, kind, held, histories[name], rng)
    verdict = {
        "verdict": kind,
        "because": "",
        "seed": seed,
        "rate": rate,
        "duration_s": sum((h[-1].at_ns - EPOCH_NS) / 1e9 + 6 for h in histories.values() if isinstance(h[-1], Phase)),
        "started_utc": "2026-03-02T09:30:00Z",
        "command": f"stages verify {' '.join(stages)} --seed {seed} --rate {rate:g}",
        "variant": "no-idempotency" if kind == "invalid" else None,
        "environment": {
            "python": "3.12.4",
            "system": "Linux 6.8.0 x86_64",
            "cores": 2,
            "memory_mb": 7936,
            "load_average": [0.41, 0.3, 0.2],
            "packages": {"locust": "2.47.0", "chaostoolkit": "1.21.4", "sqlalchemy": "2.0.44"},
            "git": {"head": "3f1c2ab", "uncommitted_changes": False},
        },
        "stages": documents,
    }
    if len(chosen) > 1:
        felt = {name: impacts(stage) for name, stage in chosen.items()}
        verdict["comparison"] = compare(documents, chosen, felt)
    return Sample(verdict=verdict, histories=histories, stages=chosen)


def objectives(stage: Stage) -> dict[str, float]:
    """The latency objective of each operation, milliseconds."""
    return {o.name: float(o.latency_slo_ms) for o in stage.operations}


def hostile(run: Sample, text: str = "<img src=x onerror=alert(1)>'\"]]>\x1b[31m\x00{{7*7}}[red]") -> Sample:
    """The same run after an attacker named everything that has a name."""
    verdict = {
        **run.verdict,
        "command": text,
        "variant": text,
        "started_utc": text,
        "environment": {text: [text, {text: text}]},
    }
    if "comparison" in verdict:
        known = verdict["comparison"]
        verdict["comparison"] = {**_poisoned(known, text), "stages": known["stages"]}
    verdict["stages"] = {name: _poisoned(stage, text) for name, stage in run.verdict["stages"].items()}
    histories = {
        name: [replace(r, fault=r.fault + text, detail=text) if isinstance(r, FaultEvent) else r for r in records]
        for name, records in run.histories.items()
    }
    return Sample(verdict=verdict, histories=histories, stages=run.stages)


def _poisoned(value: Any, text: str) -> Any:
    """Every string but the words of the contract gets the text appended; so does every key of an evidence."""
    words = {"valid", "invalid", "unknown", *(e.value for e in Effect)}
    if isinstance(value, str):
        return value if value in words else value + text
    if isinstance(value, list):
        return [_poisoned(item, text) for item in value]
    if isinstance(value, dict):
        return {k + (text if k in {"captures", "lost"} else ""): _poisoned(v, text) for k, v in value.items()}
    return value
