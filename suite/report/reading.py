"""How is verdict.json read? Tolerantly: a report must be possible for a run that crashed half-way.

What is missing or has another type becomes None, an empty tuple, or the verdict 'unknown'; nothing is ever read
as 'valid' that does not say so.
"""

from __future__ import annotations

import shlex

from stages.evidence import wilson
from suite.report import compared, governed
from suite.report.document import Cell, Check, Completion, Fault, Healthy, Json, Letter, Pooled, Radius, Run, StageRun
from suite.report.grouping import fault_class
from suite.report.tolerant import each, integer, mapping, names, number, sequence, share, text, verdict_of
from suite.report.words import line


def load(verdict: Json) -> Run:
    """Read the object of verdict.json. Never raises for what it holds."""
    return Run(
        verdict=verdict_of(verdict),
        because=text(verdict, "because"),
        stages=tuple(_stage(name, mapping(raw)) for name, raw in mapping(verdict.get("stages")).items()),
        seed=integer(verdict.get("seed")),
        rate=number(verdict.get("rate")),
        duration_s=number(verdict.get("duration_s")),
        started_utc=text(verdict, "started_utc"),
        command=command_line(verdict.get("command")),
        variant=text(verdict, "variant"),
        environment=mapping(verdict.get("environment")),
        comparison=compared.load(verdict.get("comparison")),
    )


def _stage(name: str, raw: Json) -> StageRun:
    radius = mapping(raw.get("blast_radius"))
    operations = mapping(raw.get("operations"))
    return StageRun(
        name=line(name),
        verdict=verdict_of(raw),
        because=text(raw, "because"),
        up_s=number(raw.get("up_s")),
        memory_mb=number(raw.get("memory_mb")),
        processes=integer(raw.get("processes")),
        cpu_cores=number(raw.get("cpu_cores")),
        cpu_ms_per_order=number(raw.get("cpu_ms_per_order")),
        drained_s=number(raw.get("drained_s")),
        radius=Radius(
            predicted=share(radius.get("predicted")),
            measured=share(radius.get("measured")),
            low=share(radius.get("measured_low")),
            high=share(radius.get("measured_high")),
        ),
        healthy=tuple(_healthy(n, mapping(o)) for n, o in operations.items()),
        completions=tuple(_completion(n, mapping(c)) for n, c in mapping(raw.get("completions")).items()),
        letters=each(raw.get("dead_letters"), _letter) if raw.get("dead_letters") is not None else None,
        cells=each(raw.get("matrix"), lambda r: _cell(line(name), r)),
        pooled=each(raw.get("pooled"), lambda r: _pooled(line(name), r)),
        faults=each(raw.get("faults"), _fault),
        checks=each(raw.get("checks"), read_check),
        owned=each(raw.get("governance"), governed.read_owned),
        policy=governed.read_policy(raw.get("policy")),
    )


def _healthy(name: str, raw: Json) -> Healthy:
    return Healthy(
        name=line(name),
        n=integer(raw.get("n")) or 0,
        ok=integer(raw.get("ok")) or 0,
        p50_ms=number(raw.get("p50_ms")),
        p95_ms=number(raw.get("p95_ms")),
        p99_ms=number(raw.get("p99_ms")),
        slo_ms=number(raw.get("slo_ms")),
        verdict=verdict_of(raw),
        because=text(raw, "because"),
    )


def _completion(name: str, raw: Json) -> Completion:
    return Completion(
        name=line(name),
        operation=text(raw, "operation"),
        n=integer(raw.get("n")) or 0,
        in_time=integer(raw.get("in_time")) or 0,
        late=integer(raw.get("late")) or 0,
        lost=integer(raw.get("lost")) or 0,
        p50_ms=number(raw.get("p50_ms")),
        p99_ms=number(raw.get("p99_ms")),
        within_ms=number(raw.get("within_ms")),
        verdict=verdict_of(raw),
        because=text(raw, "because"),
    )


def _letter(raw: Json) -> Letter:
    return Letter(
        queue=text(raw, "queue"),
        consumer=text(raw, "consumer"),
        id=text(raw, "id"),
        type=text(raw, "type"),
        reason=text(raw, "reason"),
        detail=text(raw, "detail"),
        receives=integer(raw.get("receives")),
        since_utc=text(raw, "since_utc"),
    )


def _cell(stage: str, raw: Json) -> Cell:
    evidence = mapping(raw.get("evidence"))
    n, bad = integer(raw.get("n")) or 0, integer(raw.get("bad")) or 0
    return Cell(
        stage=stage,
        fault=text(raw, "fault"),
        operation=text(raw, "operation"),
        predicted=text(raw, "predicted") or "unknown",
        measured=text(raw, "measured") or "unknown",
        verdict=verdict_of(raw),
        n=n,
        bad=bad,
        interval=_interval(raw.get("interval", evidence.get("interval")), bad, n),
        decided_after_s=number(raw.get("decided_after_s")),
        because=text(raw, "because"),
        path=names(raw.get("path", evidence.get("path"))),
        gaps=names(raw.get("gaps", evidence.get("gaps"))),
        evidence={k: v for k, v in evidence.items() if k not in {"path", "gaps", "interval"}},
    )


def _interval(value: object, bad: int, n: int) -> tuple[float, float] | None:
    given = [share(bound) for bound in sequence(value)]
    if len(given) == 2 and given[0] is not None and given[1] is not None:
        return given[0], given[1]
    return wilson(bad, n) if 0 <= bad <= n and n > 0 else None


def _pooled(stage: str, raw: Json) -> Pooled:
    return Pooled(
        stage=stage,
        fault=text(raw, "fault"),
        n=integer(raw.get("n")) or 0,
        bad=integer(raw.get("bad")) or 0,
        verdict=verdict_of(raw),
        because=text(raw, "because"),
        evidence=mapping(raw.get("evidence")),
    )


def _fault(raw: Json) -> Fault:
    name = text(raw, "name")
    return Fault(
        name=name,
        summary=text(raw, "summary"),
        group=text(raw, "class") or fault_class(name),
        injected=raw.get("injected") is True,
        seen_by=text(raw, "seen_by"),
        recovered_s=number(raw.get("recovered_s")),
        because=text(raw, "because"),
    )


def read_check(raw: Json) -> Check:
    return Check(
        name=text(raw, "name"),
        verdict=verdict_of(raw),
        because=text(raw, "because"),
        evidence=mapping(raw.get("evidence")),
    )


def command_line(value: object) -> str:
    """A command line may come as its words or as one text."""
    words = [line(word, 2000) for word in sequence(value)]
    return shlex.join(words) if words else line(value, 2000) if isinstance(value, str) else ""
