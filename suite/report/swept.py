"""What does sweep.json say? As records, read as tolerantly as verdict.json.

    {"verdict", "because", "delays_ms", "stages": {s: {"operations": {op: {"points": [[one_way_ms, p50_ms, n], ...],
     "slope", "low", "high", "at_zero_ms", "predicted", "verdict", "because"}}, "completions": {name: the same without
     a prediction}, "checks": [...]}}, ...}

The slope is in milliseconds per millisecond of round trip: how many exchanges, one after the other, an answer awaits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suite.report import words
from suite.report.document import Check, Json
from suite.report.reading import command_line, read_check
from suite.report.tolerant import each, integer, mapping, number, sequence, text, verdict_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """One operation or completion of one stage."""

    stage: str
    points: tuple[tuple[float, float, int], ...]
    """(delay added each way, median latency, both in milliseconds; requests), by distance."""
    blocks: tuple[tuple[float, float, int], ...]
    """The same for each stretch of time."""
    slope: float | None
    """Round trips; None where no line could be drawn. So are its ends."""
    low: float | None
    high: float | None
    at_zero_ms: float | None
    predicted: int | None
    """None for a completion: it is not only a chain of round trips."""
    verdict: str
    because: str

    @property
    def judged(self) -> bool:
        return self.predicted is not None

    def median_ms(self, one_way_ms: float) -> float | None:
        """As measured at that distance."""
        return next((ms for distance, ms, _ in self.points if distance == one_way_ms), None)

    def foreseen_ms(self, one_way_ms: float) -> float | None:
        """Latency if the prediction held exactly, from the measured one without distance."""
        if self.at_zero_ms is None or self.predicted is None:
            return None
        return self.at_zero_ms + 2 * one_way_ms * self.predicted

    def fitted_ms(self, one_way_ms: float) -> float | None:
        """Latency on the measured line."""
        if self.at_zero_ms is None or self.slope is None:
            return None
        return self.at_zero_ms + 2 * one_way_ms * self.slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One operation or completion at every stage."""

    name: str
    stages: tuple[Grown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSwept:
    """What the document says about a stage as a whole."""

    name: str
    verdict: str
    title: str
    trouble: str
    wires: int
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Everything that sweep.json says."""

    verdict: str
    because: str
    summary: str
    command: str
    started: str
    environment: Json
    delays_ms: tuple[float, ...]
    stages: tuple[StageSwept, ...]
    operations: tuple[Swept, ...]
    completions: tuple[Swept, ...]


def load(document: Mapping[str, Any]) -> Sweep:
    """Read the object of sweep.json, tolerantly."""
    stages = {words.line(name): mapping(raw) for name, raw in mapping(document.get("stages")).items()}
    delays = [found for each_ms in sequence(document.get("delays_ms")) if (found := number(each_ms)) is not None]
    return Sweep(
        verdict=verdict_of(document),
        because=text(document, "because"),
        summary=_summary(document, len(stages), delays),
        command=command_line(document.get("command")),
        started=text(document, "started"),
        environment=mapping(document.get("environment")),
        delays_ms=tuple(sorted(delays)),
        stages=tuple(
            StageSwept(
                name=name,
                verdict=verdict_of(raw),
                title=text(raw, "title"),
                trouble=text(raw, "trouble"),
                wires=len(sequence(raw.get("wires"))),
                checks=each(raw.get("checks"), read_check),
            )
            for name, raw in stages.items()
        ),
        operations=_swept(stages, "operations"),
        completions=_swept(stages, "completions"),
    )


def _swept(stages: Mapping[str, Json], kind: str) -> tuple[Swept, ...]:
    parts = {stage: mapping(raw.get(kind)) for stage, raw in stages.items()}
    names = dict.fromkeys(name for found in parts.values() for name in found)
    return tuple(
        Swept(
            name=words.line(name),
            stages=tuple(_grown(s, mapping(found[name])) for s, found in parts.items() if name in found),
        )
        for name in names
    )


def _grown(stage: str, raw: Json) -> Grown:
    return Grown(
        stage=stage,
        points=_points(raw.get("points")),
        blocks=_points(raw.get("blocks")),
        slope=number(raw.get("slope")),
        low=number(raw.get("low")),
        high=number(raw.get("high")),
        at_zero_ms=number(raw.get("at_zero_ms")),
        predicted=integer(raw.get("predicted")),
        verdict=verdict_of(raw),
        because=text(raw, "because"),
    )


def _points(value: object) -> tuple[tuple[float, float, int], ...]:
    found = []
    for item in sequence(value):
        parts = [number(part) for part in sequence(item)]
        if len(parts) == 3 and parts[0] is not None and parts[1] is not None:
            found.append((parts[0], parts[1], int(parts[2] or 0)))
    return tuple(found)


def _summary(document: Mapping[str, Any], stages: int, delays: list[float]) -> str:
    parts = ["latency against distance", words.count(stages, "stage")]
    if delays:
        parts.append(f"{min(delays):g} to {max(delays):g} ms one way")
    if (rate := number(document.get("rate"))) is not None:
        parts.append(f"{rate:g} requests/s")
    if (seed := integer(document.get("seed"))) is not None:
        parts.append(f"seed {seed}")
    if (seconds := number(document.get("duration_s"))) is not None:
        parts.append(words.duration(seconds))
    return ", ".join(parts)
