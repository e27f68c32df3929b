"""From what was swept to sweep.json: which requests count for which block, and what each operation's slope says. (pure)

{"verdict", "because", "delays_ms", "stages": {s: {"verdict", "operations": {op: {"points": [[one_way_ms, p50_ms, n]],
 "blocks": [[one_way_ms, p50_ms, n]], "slope", "low", "high", "at_zero_ms", "predicted", "verdict", "because"}},
 "completions": {name: the same without a prediction}, "checks": [...], ...}}, ...}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any

from stages.check import Check, Seen, Verdict, guarded, worst
from stages.check.completion import waited
from stages.check.counting import Censor, generators_fault
from stages.distance import Block, Line, fit, line, points
from stages.history import Invocation, Outcome
from suite.observe import SECOND_NS
from suite.sweep import SweepResult, SweptBlock
from suite.sweep_plan import SweepPlan

FORMAT = 1

BITES = 0.9
"""Of the delay asked for, at least so much was seen on the wires, or the distance was not there."""


def sweep_document(
    plan: SweepPlan,
    results: Sequence[SweepResult],
    *,
    started: datetime,
    duration_s: float,
    command: Sequence[str],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Judge everything; pure but for the CPU it takes."""
    stages = {result.plan.stage.name: _stage(plan, result) for result in results}
    verdict = worst(Verdict(stage["verdict"]) for stage in stages.values())
    return {
        "format": FORMAT,
        "kind": "distance",
        "verdict": str(verdict),
        "because": _because(stages, verdict),
        "started": started.isoformat(timespec="seconds"),
        "duration_s": round(duration_s, 1),
        "command": list(command),
        "seed": plan.seed,
        "rate": plan.rate,
        "quick": plan.quick,
        "delays_ms": list(plan.delays_ms),
        "settle_s": plan.timings.settle_s,
        "block_s": plan.timings.block_s,
        "stages": stages,
        "environment": dict(environment),
    }


def decided(result: SweepResult) -> bool:
    """Whether every operation's slope says yes or no."""
    return all(found["verdict"] != Verdict.UNKNOWN for found in _operations(result).values())


def _stage(plan: SweepPlan, result: SweepResult) -> dict[str, Any]:
    checks = _checks(result)
    complete = result.rounds >= plan.timings.rounds
    operations = _operations(result) if complete else {}
    verdicts = [*(Verdict(o["verdict"]) for o in operations.values()), *(check.verdict for check in checks)]
    return {
        "verdict": str(worst([*verdicts, *([] if complete else [Verdict.UNKNOWN])])),
        "trouble": result.trouble,
        "title": result.plan.stage.title,
        "variant": result.variant,
        "wires": list(result.plan.wires),
        "rounds": result.rounds,
        "operations": operations,
        "completions": _completions(result) if complete else {},
        "checks": [
            {"name": c.name, "verdict": str(c.verdict), "because": c.because, "evidence": dict(c.evidence)}
            for c in checks
        ],
        "blocks": [
            {
                "one_way_ms": block.one_way_ms,
                "seconds": round((block.span.end_ns - block.span.start_ns) / SECOND_NS, 3),
                "pieces": block.stretched.pieces,
                "rested_ms": _rounded(block.stretched.mean_ms),
            }
            for block in result.blocks
        ],
    }


def _operations(result: SweepResult) -> dict[str, Any]:
    censor = Censor(result.gathered.stalls)
    requests: dict[str, list[Invocation]] = {}
    for invocation in result.gathered.invocations:
        requests.setdefault(invocation.operation, []).append(invocation)
    unsent: dict[str, list[int]] = {}
    for lost in filter(generators_fault, result.gathered.unsent):
        unsent.setdefault(lost.operation, []).append(lost.intended_ns)
    found = {}
    for operation in result.plan.stage.operations:
        name = operation.name
        blocks = [
            _block(swept, requests.get(name, ()), unsent.get(name, ()), censor, operation.latency_slo_ms)
            for swept in result.blocks
        ]
        judged = fit(blocks, result.plan.predicted[name])
        found[name] = {
            **_drawn(blocks, judged.line),
            "lag_ms": _rounded(max((block.lag_ms for block in blocks), default=0.0)),
            "predicted": judged.predicted,
            "verdict": str(judged.verdict),
            "because": judged.because,
        }
    return found


def _block(
    swept: SweptBlock, requests: Iterable[Invocation], unsent: Iterable[int], censor: Censor, slo_ms: int
) -> Block:
    """One operation in one block; `unsent` are the intended starts of requests that the generator failed to send."""
    due = [i for i in requests if swept.holds(i.intended_ns) and not censor.hides(i.intended_ns, slo_ms)]
    plain = [i for i in due if i.outcome is Outcome.OK and not i.degraded]
    lost = sum(swept.holds(at_ns) and not censor.hides(at_ns, slo_ms) for at_ns in unsent)
    return Block(
        one_way_ms=swept.one_way_ms,
        latencies_ms=[i.latency_ms for i in plain],
        left_out=len(due) - len(plain) + lost,
        lag_ms=median(i.lag_ms for i in plain) if plain else 0.0,
    )


def _completions(result: SweepResult) -> dict[str, Any]:
    """How long what was accepted took to be complete; no prediction, since it is not only a chain of round trips."""
    seen = Seen(
        stage=result.plan.stage,
        run_id=result.run_id,
        invocations=result.gathered.invocations,
        audits=result.audits,
    )
    censor = Censor(result.gathered.stalls)
    found = {}
    for operation in result.plan.stage.operations:
        for completion in operation.completions:
            blocks = []
            for swept in result.blocks:
                # an order may have been cancelled by an earlier request whose answer got lost: that took nobody's time
                took = [
                    w.ms for w in waited(seen, operation.name, completion, [swept.span], censor) if (w.ms or 0) >= 0
                ]
                blocks.append(
                    Block(
                        one_way_ms=swept.one_way_ms,
                        latencies_ms=[ms for ms in took if ms is not None],
                        left_out=sum(ms is None for ms in took),
                    )
                )
            found[completion.name] = {"operation": operation.name, **_drawn(blocks, line(blocks))}
    return found


def _drawn(blocks: Sequence[Block], drawn: Line | None) -> dict[str, Any]:
    return {
        "points": [[distance, round(p50_ms, 2), n] for distance, p50_ms, n in points(blocks)],
        "blocks": [
            [block.one_way_ms, round(block.median_ms, 2), len(block.latencies_ms)]
            for block in blocks
            if block.latencies_ms
        ],
        "left_out": sum(block.left_out for block in blocks),
        "slope": _rounded(drawn.slope if drawn else None),
        "low": _rounded(drawn.low if drawn else None),
        "high": _rounded(drawn.high if drawn else None),
        "at_zero_ms": _rounded(drawn.at_zero_ms if drawn else None),
    }


def _checks(result: SweepResult) -> list[Check]:
    return [
        guarded("distance-was-there", lambda: _distance_was_there(result)),
        guarded("nothing-left-behind", lambda: _nothing_left_behind(result)),
    ]


def _distance_was_there(result: SweepResult) -> Check:
    """A distance that nobody felt predicts flat lines by itself."""
    wrong = [
        f"at {block.one_way_ms} ms {block.stretched.pieces} pieces rested on the wires"
        + (f", {block.stretched.mean_ms:.1f} ms each" if block.stretched.mean_ms is not None else "")
        for block in result.blocks
        if (block.stretched.mean_ms or 0.0) < BITES * block.one_way_ms or not block.stretched.pieces
    ]
    name = "distance-was-there"
    if not result.blocks or wrong:
        because = "; ".join(wrong[:3]) or "no block was reached"
        return Check(name=name, verdict=Verdict.UNKNOWN, because=because, evidence={"blocks": wrong})
    pieces = sum(block.stretched.pieces for block in result.blocks)
    because = f"{pieces} pieces of requests and answers rested on the wires as long as asked for"
    return Check(name=name, verdict=Verdict.VALID, because=because, evidence={"pieces": pieces})


def _nothing_left_behind(result: SweepResult) -> Check:
    name = "nothing-left-behind"
    if result.residue is None:
        return Check(name=name, verdict=Verdict.UNKNOWN, because="nobody could look")
    if result.residue:
        because = f"{len(result.residue)} things are still there: {'; '.join(result.residue[:3])}"
        return Check(name=name, verdict=Verdict.INVALID, because=because, evidence={"residue": result.residue})
    return Check(name=name, verdict=Verdict.VALID, because="no process, port, file or fault is left")


def _because(stages: Mapping[str, Mapping[str, Any]], verdict: Verdict) -> str:
    if verdict is Verdict.VALID:
        return "every operation grows slower with distance by the round trips that it waits for"
    why = []
    for name, stage in stages.items():
        if stage["trouble"]:
            why.append(f"{name}: {stage['trouble']}")
        rows = [*stage["operations"].items(), *((check["name"], check) for check in stage["checks"])]
        why += [f"{name} {what}: {row['because']}" for what, row in rows if row["verdict"] == str(verdict)]
    return "; ".join(why[:3]) + (f"; and {len(why) - 3} more" if len(why) > 3 else "")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
