"""How does a run look to a CI system? One JUnit file: a suite per stage, a case per cell, figure and check; and a
suite for the comparison, a case per step.

invalid is a failure, unknown is an error with type="unknown": neither lets a build pass. The dialect is the common
one (testsuites > testsuite > testcase with failure, error, system-out), with counts on both levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from suite.report.compared import Comparison
from suite.report.document import Cell, Pooled, Run, StageRun
from suite.report.matrix import says
from suite.report.reading import load
from suite.report.words import clean, line, percent

_BADNESS = {"valid": 0, "unknown": 1, "invalid": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One thing that was judged."""

    group: str
    name: str
    verdict: str
    message: str
    """One line: why."""
    evidence: Mapping[str, Any]
    seconds: float = 0.0


def render(verdict: Mapping[str, Any]) -> str:
    """The verdict.json object as JUnit XML, with its declaration. Never raises for what the verdict holds."""
    run = load(verdict)
    suites = [(stage, list(_complete(stage))) for stage in run.stages]
    steps = list(_steps(run.comparison)) if run.comparison else []
    if not suites or _worse(run.verdict, [*(s.verdict for s, _ in suites), *(c.verdict for c in steps)]):
        suites.append((_whole(run), [_as_a_whole("the run", run.verdict, run.because)]))
    if steps:
        suites.append((replace(_whole(run), name="comparison"), steps))
    root = Element("testsuites", {"name": "stages verify", **_counts([c for _, cases in suites for c in cases])})
    if run.duration_s is not None:
        root.set("time", f"{run.duration_s:.3f}")
    for stage, cases in suites:
        suite = SubElement(root, "testsuite", {"name": stage.name, **_counts(cases)})
        suite.set("time", f"{sum(c.seconds for c in cases):.3f}")
        if run.started_utc:
            suite.set("timestamp", run.started_utc.removesuffix("Z"))
        if stage.name == "comparison" and run.comparison is not None:
            _write_properties(suite, run.comparison)
        for case in cases:
            _write(suite, stage.name, case)
    indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _complete(stage: StageRun) -> Iterator[_Case]:
    """Every case of a stage; if none of them explains its verdict, the verdict is a case of its own."""
    cases = [
        *map(_cell, stage.cells),
        *map(_pooled, stage.pooled),
        *_operations(stage),
        *_completions(stage),
        *_faults(stage),
        *_checks(stage),
    ]
    yield from cases
    if not cases or _worse(stage.verdict, [c.verdict for c in cases]):
        yield _as_a_whole(f"stage {stage.name}", stage.verdict, stage.because)


def _steps(comparison: Comparison) -> Iterator[_Case]:
    """One case per step; a radius that falls only as little as predicted breaks nothing."""
    for step in comparison.steps:
        yield _Case(
            group="blast radius",
            name=f"blast radius falls from {step.before} to {step.after}",
            verdict=step.verdict,
            message=step.because or f"it is {step.verdict}",
            evidence={"bought": list(step.bought), "paid": list(step.paid)},
        )
    if not comparison.steps:
        yield _as_a_whole("the comparison", comparison.verdict, comparison.because)


def _write_properties(suite: Element, comparison: Comparison) -> None:
    """The figures that a CI system may plot from run to run."""
    node = SubElement(suite, "properties")

    def put(name: str, value: object) -> None:
        if value is not None:
            SubElement(node, "property", {"name": line(name), "value": line(value)})

    for stage, radius in comparison.radii.items():
        put(f"{stage}.blast_radius", radius.measured)
        put(f"{stage}.failing", radius.effects["failing"])
    for stage, price in comparison.prices.items():
        put(f"{stage}.memory_mb", price.memory_mb)
        put(f"{stage}.processes", price.processes)
        put(f"{stage}.cpu_ms_per_order", price.cpu_ms_per_order)
    for operation in comparison.operations:
        for stage, at in operation.stages.items():
            put(f"{stage}.{operation.name}.accepted_p99_ms", at.p99_ms)
            for completion, p50_ms in at.completions.items():
                put(f"{stage}.{completion}.p50_ms", p50_ms)


def _worse(verdict: str, than: list[str]) -> bool:
    return _BADNESS[verdict] > max((_BADNESS[v] for v in than), default=0)


def _as_a_whole(name: str, verdict: str, because: str) -> _Case:
    return _Case(group="verdict", name=name, verdict=verdict, message=because or f"{name} is {verdict}", evidence={})


def _whole(run: Run) -> StageRun:
    """Stands for the run itself where no stage carries its verdict."""
    return load({"stages": {"run": {"verdict": run.verdict}}}).stages[0]


def _cell(cell: Cell) -> _Case:
    counted = "" if cell.because else f"{cell.bad} of {cell.n} requests bad"
    return _Case(
        group=cell.fault,
        name=cell.operation,
        verdict=cell.verdict
        if cell.bounded
        else {"leak": "invalid", "unknown": "unknown"}.get(cell.mark, cell.verdict),
        message="; ".join(part for part in (says(cell), counted, cell.because) if part),
        evidence=cell.evidence,
        seconds=cell.decided_after_s or 0.0,
    )


def _pooled(pooled: Pooled) -> _Case:
    share = percent(pooled.bad / pooled.n) if pooled.n else "nothing counted"
    said = f"{pooled.bad} of {pooled.n} requests that the fault must not touch were bad ({share})"
    message = f"{pooled.because}; {said}" if pooled.because else said
    return _Case(
        group=pooled.fault,
        name="pooled",
        verdict=pooled.verdict,
        message=message,
        evidence=pooled.evidence,
    )


def _operations(stage: StageRun) -> Iterator[_Case]:
    for o in stage.healthy:
        said = o.because or f"{o.ok} of {o.n} requests ok without faults, p99 {o.p99_ms} ms, objective {o.slo_ms} ms"
        yield _Case(group="baseline", name=o.name, verdict=o.verdict, message=said, evidence={})


def _completions(stage: StageRun) -> Iterator[_Case]:
    for c in stage.completions:
        said = c.because or f"{c.in_time} of {c.n} complete within {c.within_ms} ms, {c.late} late, {c.lost} lost"
        yield _Case(group="completions", name=c.name, verdict=c.verdict, message=said, evidence={})


def _faults(stage: StageRun) -> Iterator[_Case]:
    """Only those that were not injected: they prove nothing, and no cell may be there to say so."""
    for f in stage.faults:
        if not f.injected:
            said = f.because or "it was not injected, or no probe saw it bite"
            yield _Case(group=f.name, name="injected", verdict="unknown", message=said, evidence={})


def _checks(stage: StageRun) -> Iterator[_Case]:
    for check in stage.checks:
        said = check.because or f"{check.name} is {check.verdict}"
        yield _Case(group="checks", name=check.name, verdict=check.verdict, message=said, evidence=check.evidence)


def _counts(cases: list[_Case]) -> dict[str, str]:
    return {
        "tests": str(len(cases)),
        "failures": str(sum(c.verdict == "invalid" for c in cases)),
        "errors": str(sum(c.verdict == "unknown" for c in cases)),
        "skipped": "0",
    }


def _write(suite: Element, stage: str, case: _Case) -> None:
    attributes = {"classname": f"{stage}.{line(case.group)}", "name": line(case.name), "time": f"{case.seconds:.3f}"}
    node = SubElement(suite, "testcase", attributes)
    detail = "\n".join([case.message, *(f"{k}: {v}" for k, v in case.evidence.items())])
    if case.verdict == "valid":
        if "better than predicted" in case.message:
            SubElement(node, "system-out").text = clean(detail)
        return
    tag, kind = ("failure", "invalid") if case.verdict == "invalid" else ("error", "unknown")
    SubElement(node, tag, {"message": line(case.message), "type": kind}).text = clean(detail)
