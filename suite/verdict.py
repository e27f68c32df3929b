"""verdict.json: what a run came to, as one JSON object. Pure: results of stages in, document out.

The keys are a contract that others script against; README, "verdict.json", describes them. Keys are
added, never renamed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from stages.blast_radius import Prediction, blast_radius
from stages.check import (
    Cell,
    Check,
    CompletionLevel,
    Held,
    MeasuredRadius,
    Pooled,
    Seen,
    ServiceLevel,
    Span,
    Verdict,
    completion_levels,
    generator_honest,
    guarded,
    invariants,
    measured_radius,
    nothing_left_behind,
    policy_as_modelled,
    recovered_after_every_fault,
    service_levels,
    with_completions,
    worst,
)
from stages.check.policy import NAME as POLICY
from stages.governance import governance
from stages.history import Invocation, Outcome
from suite import signals_breakers
from suite.comparison import compare
from suite.governed import governed_document, policy_document
from suite.observe import SECOND_NS, Observation
from suite.plan import Plan, StagePlan
from suite.ports import Letter
from suite.stage_run import StageResult

CROWDED = 0.85
"""Share of the machine's cores that a deployment may keep busy; the generator and faults need some, too."""

ERRORS_SHOWN = 3
"""Kinds of error named per cell."""


def run_document(
    plan: Plan,
    results: Sequence[StageResult],
    *,
    started: datetime,
    duration_s: float,
    command: Sequence[str],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole verdict.json of a run. `results` are those of the plan's stages, in order."""
    stages = {r.plan.stage.name: stage_document(r, plan, environment.get("cores")) for r in results}
    compared = {"comparison": _comparison(stages, plan)} if len(stages) > 1 else {}
    return {
        "verdict": str(worst(Verdict(part["verdict"]) for part in (*stages.values(), *compared.values()))),
        "seed": plan.seed,
        "rate": plan.rate,
        "variant": plan.variant.name if plan.variant else None,
        "started_utc": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "duration_s": round(duration_s, 1),
        "command": list(command),
        **compared,
        "stages": stages,
        "environment": dict(environment),
    }


def _comparison(stages: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """What the steps between the stages bought; one that cannot be told is unknown, and hides no stage's verdict."""
    impacts = {p.stage.name: {f.name: f.impact for f in p.faults} for p in plan.stages}
    try:
        return compare(stages, {p.stage.name: p.stage for p in plan.stages}, impacts)
    except Exception as error:  # the border where a judge's own fault becomes a verdict
        said = f"the comparison itself failed: {type(error).__name__}: {error}"
        return {"verdict": str(Verdict.UNKNOWN), "falls": None, "because": said, "stages": list(stages)}


def stage_document(result: StageResult, plan: Plan, cores: int | None = None) -> dict[str, Any]:
    """One stage of verdict.json. `cores`: how many the machine has, if known."""
    stage = result.plan.stage
    levels = _levels(result)
    seen = _seen(result)
    completions = completion_levels(seen, _healthy(result), result.gathered.stalls) if result.audits is not None else ()
    cells = _cells(result, seen, plan)
    errors = {o.fault.name: _errors(o, result.gathered.invocations) for o in result.observations}
    pooled = [o.judgement.pooled for o in result.observations]
    missing = [f.name for f in result.plan.faults[len(result.observations) :]]
    edges = _edges(result)
    checks = _checks(result, seen, edges)
    verdicts = [
        *(level.verdict for level in levels),
        *(level.verdict for level in completions),
        *(cell.verdict for cell in cells),
        *(p.verdict for p in pooled),
        *(check.verdict for check in checks),
        *([Verdict.UNKNOWN] if missing or result.trouble or not cells else []),
    ]
    verdict = worst(verdicts)
    busy_cores = _cpu_cores(result)
    because = "; ".join(
        [
            *([result.trouble] if result.trouble else []),
            *([f"{len(missing)} faults were not reached: {', '.join(missing)}"] if missing else []),
            *(_crowded(busy_cores, cores, plan.rate) if verdict is not Verdict.VALID else []),
        ]
    )
    return {
        "verdict": str(verdict),
        "because": because,
        "up_s": _rounded(result.up_s),
        "memory_mb": _rounded(result.footprint.memory_mb) if result.footprint else None,
        "processes": result.footprint.processes if result.footprint else None,
        "cpu_cores": busy_cores,
        "cpu_ms_per_order": _cpu_ms_per_order(result),
        "drained_s": _rounded(result.drained_s),
        "blast_radius": _radius(result.plan, measured_radius(stage, cells), result),
        "operations": {level.operation: _level(level) for level in levels},
        "completions": {level.completion: _completion(level) for level in completions},
        "matrix": [
            *(
                _cell(cell, result.plan.predictions[cell.fault][cell.operation], errors[cell.fault][cell.operation])
                for cell in cells
            ),
            *(
                _unreached(result.plan, name, op, p)
                for name in missing
                for op, p in result.plan.predictions[name].items()
            ),
        ],
        "pooled": [_pooled(p) for p in pooled],
        "faults": [_fault(o) for o in result.observations] + [_skipped(name, result) for name in missing],
        "checks": [_check(check) for check in checks],
        "dead_letters": [_letter(letter) for letter in result.letters or ()],
        "gaps": [asdict(gap) for gap in stage.gaps],
        "governance": [governed_document(g) for g in governance(seen, result.gathered.stalls)],
        "policy": policy_document(stage, result.policy, result.policy_trouble),
        "control_planes": {cluster: dict(status) for cluster, status in result.mesh_status.items()},
        **edges,
    }


def _edges(result: StageResult) -> dict[str, Any]:
    """What the sidecars of a stage saw: signals, breakers, traces; {} where there are none, or were none in time."""
    if result.witness is None:
        return {}
    impacts = {fault.name: fault.impact for fault in result.plan.faults}
    try:
        return result.witness.documents(result.plan.stage, impacts, result.gathered.records())
    except Exception as error:  # a border: what cannot be told of the edges must not hide what is known of the stage
        return {"edges_because": f"what the sidecars saw cannot be told: {type(error).__name__}: {error}"}


def _healthy(result: StageResult) -> list[Span]:
    return [result.baseline_span] if result.baseline_span else []


def _levels(result: StageResult) -> tuple[ServiceLevel, ...]:
    return service_levels(result.plan.stage, result.gathered.invocations, _healthy(result), result.gathered.stalls)


def _seen(result: StageResult) -> Seen:
    """The run as the checks of its effects look at it."""
    gathered = result.gathered
    return Seen(
        stage=result.plan.stage,
        run_id=result.run_id,
        invocations=gathered.invocations,
        audits=result.audits or (),
        audited=None if result.audits is not None else frozenset(),
        fault_events=gathered.events,
        crashed={f.name: f.impact.crashed for f in result.plan.faults},
        poisoned={f.name: f.impact.poisoned for f in result.plan.faults},
        dead_letters=[letter.record for letter in result.letters] if result.letters is not None else None,
    )


def _cells(result: StageResult, seen: Seen, plan: Plan) -> list[Cell]:
    """The cells as their answers left them, then as their completions did; without audits nobody knows of those."""
    cells = [cell for o in result.observations for cell in o.judgement.cells]
    if result.audits is None:
        return cells
    held = {
        o.fault.name: Held(fault=o.fault.name, seen_ns=o.begin_ns, undo_ns=o.end_ns)
        for o in result.observations
        if o.bit
    }
    return with_completions(
        cells,
        seen,
        held,
        _healthy(result),
        result.gathered.stalls,
        promised_cells=max(1, result.plan.promised_cells),
        margin=plan.timings.margin,
    )


def _mesh_checks(result: StageResult, edges: Mapping[str, Any]) -> list[Check]:
    """What only a stage with a mesh has to keep."""
    stage = result.plan.stage
    if stage.mesh is None:
        return []
    policy = guarded(POLICY, lambda: policy_as_modelled(stage, result.policy, result.policy_trouble))
    if "breakers" in edges:
        opened = signals_breakers.check_of(edges["breakers"])
    else:
        because = edges.get("edges_because", "nobody read what the sidecars wrote")
        opened = Check(name=signals_breakers.CHECK, verdict=Verdict.UNKNOWN, because=because)
    return [policy, *([opened] if opened is not None else [])]


def _checks(result: StageResult, seen: Seen, edges: Mapping[str, Any]) -> list[Check]:
    """Every check of a stage's run; one that cannot run is unknown."""
    gathered = result.gathered
    stage = result.plan.stage
    return [
        *invariants(seen),
        *_mesh_checks(result, edges),
        guarded("recovered-after-every-fault", lambda: recovered_after_every_fault(gathered.events)),
        guarded(
            "generator-honest",
            lambda: generator_honest(
                gathered.invocations,
                gathered.unsent,
                gathered.usages,
                gathered.stalls,
                gathered.phases,
                slo_ms=min(o.latency_slo_ms for o in stage.operations),
            ),
        ),
        guarded("nothing-left-behind", lambda: nothing_left_behind(result.residue)),
    ]


def _radius(plan: StagePlan, measured: MeasuredRadius, result: StageResult) -> dict[str, float]:
    """Predicted and measured over the same faults, or they could not be compared."""
    reached = {o.fault.name for o in result.observations}
    predicted = {name: row for name, row in plan.predictions.items() if name in reached or not reached}
    return {
        "predicted": round(blast_radius(plan.stage, predicted), 4),
        "measured": round(measured.measured, 4),
        "measured_low": round(measured.low, 4),
        "measured_high": round(measured.high, 4),
    }


def _level(level: ServiceLevel) -> dict[str, Any]:
    return {
        "n": level.n,
        "ok": level.ok,
        "bad": level.bad,
        "p50_ms": _rounded(level.p50_ms),
        "p95_ms": _rounded(level.p95_ms),
        "p99_ms": _rounded(level.p99_ms),
        "slo_ms": level.slo_ms,
        "verdict": str(level.verdict),
        "because": level.because,
    }


def _completion(level: CompletionLevel) -> dict[str, Any]:
    return {
        "operation": level.operation,
        "n": level.n,
        "in_time": level.in_time,
        "late": level.late,
        "lost": level.lost,
        "p50_ms": _rounded(level.p50_ms),
        "p99_ms": _rounded(level.p99_ms),
        "within_ms": level.within_ms,
        "verdict": str(level.verdict),
        "because": level.because,
    }


def _letter(letter: Letter) -> dict[str, Any]:
    record = letter.record
    return {
        "queue": record.queue,
        "consumer": letter.consumer,
        "id": record.id,
        "type": record.type,
        "reason": record.reason,
        "detail": record.detail,
        "receives": record.receives,
        "since_utc": letter.since_utc,
    }


def _errors(observation: Observation, invocations: Iterable[Invocation]) -> dict[str, list[str]]:
    """Per operation, what requests that met the fault failed of: the most frequent kinds with an example each."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    examples: dict[tuple[str, str], str] = {}
    for i in invocations:
        if i.error is not None and observation.begin_ns <= i.intended_ns <= observation.end_ns:
            kind = i.error.partition(":")[0]
            kinds[i.operation][kind] += 1
            examples[i.operation, kind] = i.error  # the latest: by then it shows in full
    return defaultdict(
        list,
        {
            operation: [f"{count} x {examples[operation, kind]}" for kind, count in found.most_common(ERRORS_SHOWN)]
            for operation, found in kinds.items()
        },
    )


def _cell(cell: Cell, prediction: Prediction, errors: Sequence[str]) -> dict[str, Any]:
    leaked = cell.verdict is Verdict.INVALID and errors
    return {
        "fault": cell.fault,
        "operation": cell.operation,
        "predicted": str(cell.predicted),
        "measured": str(cell.measured),
        "verdict": str(cell.verdict),
        "n": cell.n,
        "bad": cell.bad,
        "decided_after_s": _rounded(cell.decided_after_s),
        "path": list(prediction.path),
        "gaps": list(prediction.gaps),
        "evidence": {**cell.evidence, "errors": list(errors)},
        "because": f"{cell.because}. Most often: {errors[0]}" if leaked else cell.because,
    }


def _unreached(plan: StagePlan, fault: str, operation: str, prediction: Prediction) -> dict[str, Any]:
    return {
        "fault": fault,
        "operation": operation,
        "predicted": str(prediction.effect),
        "measured": "unknown",
        "verdict": str(Verdict.UNKNOWN),
        "n": 0,
        "bad": 0,
        "decided_after_s": None,
        "path": list(prediction.path),
        "gaps": list(prediction.gaps),
        "evidence": {},
        "because": f"the run ended before {fault} was injected",
    }


def _pooled(pooled: Pooled) -> dict[str, Any]:
    return {
        "fault": pooled.fault,
        "n": pooled.n,
        "bad": pooled.bad,
        "verdict": str(pooled.verdict),
        "evidence": dict(pooled.evidence),
        "because": pooled.because,
    }


def _fault(observation: Observation) -> dict[str, Any]:
    return {
        "name": observation.fault.name,
        "summary": observation.fault.summary,
        "injected": observation.bit,
        "seen_by": observation.seen_by,
        "held_s": _rounded(observation.held_s),
        "recovered_s": _rounded(observation.recovered_s),
        "because": observation.trouble,
    }


def _skipped(name: str, result: StageResult) -> dict[str, Any]:
    summary = next(f.summary for f in result.plan.faults if f.name == name)
    return {
        "name": name,
        "summary": summary,
        "injected": False,
        "seen_by": "",
        "held_s": None,
        "recovered_s": None,
        "because": "the run ended before",
    }


def _check(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "verdict": str(check.verdict),
        "evidence": dict(check.evidence),
        "because": check.because,
    }


def _cpu_cores(result: StageResult) -> float | None:
    """Cores kept busy by the deployment's processes during the baseline."""
    if result.cpu_s is None or result.baseline_span is None:
        return None
    seconds = (result.baseline_span.end_ns - result.baseline_span.start_ns) / SECOND_NS
    return _rounded((result.cpu_s[1] - result.cpu_s[0]) / seconds)


def _crowded(busy_cores: float | None, cores: int | None, rate: float) -> list[str]:
    """What to know of a run on a machine without a core to spare; [] where there was one, or nobody knows."""
    if busy_cores is None or cores is None or busy_cores <= CROWDED * cores:
        return []
    said = (
        f"with nothing broken {busy_cores:.2f} of this machine's {cores} cores were busy with {rate:g} requests/s: "
        "latencies and recoveries tell of the queue for a core, too; a lower --rate leaves that out"
    )
    return [said]


def _cpu_ms_per_order(result: StageResult) -> float | None:
    """What an order costs all processes together, the other operations' share of the load included."""
    if result.cpu_s is None or result.baseline_span is None:
        return None
    span = result.baseline_span
    orders = sum(
        i.operation == "place-order" and i.outcome is Outcome.OK and span.start_ns <= i.intended_ns < span.end_ns
        for i in result.gathered.invocations
    )
    return _rounded((result.cpu_s[1] - result.cpu_s[0]) * 1000 / orders) if orders else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
