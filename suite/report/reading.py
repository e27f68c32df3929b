"""How is verdict.json read? Tolerantly: a report must be possible for a run that crashed half-way.

What is missing or has another type becomes None, an empty tuple, or the verdict 'unknown'; nothing is ever read
as 'valid' that does not say so.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from stages.evidence import wilson
from suite.report.document import VERDICTS, Cell, Check, Fault, Healthy, Json, Pooled, Radius, Run, StageRun
from suite.report.grouping import fault_class
from suite.report.words import line


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
