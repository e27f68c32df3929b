"""What would the verdict on a simulated stage be? Every figure is counted from its history, or drawn from its seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from stages.blast_radius import Effect
from stages.check import PolicyTry, Seen, sends_messages
from stages.check.policy import NAME as POLICY
from stages.evidence import e_base, e_iso, wilson
from stages.governance import governance
from stages.history import FaultEvent, Invocation, Outcome, Record, Stall
from stages.model import Completion, Stage
from stages.testing import tries_as_modelled
from suite.governed import governed_document, policy_document
from suite.report.series import is_bad, percentile
from suite.report.simulated import (
    BASELINE_S,
    BETTER,
    COMPLETED_MS,
    TAU_S,
    UNDECIDED,
    Held,
    SampleKind,
    ns,
    probe,
)


def stage_document(
    stage: Stage, kind: SampleKind, held: Sequence[Held], history: Sequence[Record], rng: Random
) -> dict[str, Any]:
    """One stage of verdict.json, as the suite writes it."""
    calls = [r for r in history if isinstance(r, Invocation)]
    stalls = [r for r in history if isinstance(r, Stall)]
    counted = {fault.name: _counted(fault, calls) for fault in held}
    cells = [_cell(stage, fault, o.name, counted[fault.name]) for fault in held for o in stage.operations]
    weights = {o.name: o.weight for o in stage.operations}
    policy = policy_document(stage, _tries(stage, kind) if stage.mesh is not None else None, "")
    checks = _checks(kind) + ([_policy_check(policy)] if policy is not None else [])
    found = [c["verdict"] for c in (*cells, *checks)]
    verdict = "invalid" if "invalid" in found else "unknown" if "unknown" in found else "valid"
    return {
        "verdict": verdict,
        "because": "",
        "up_s": round(rng.uniform(3, 7), 2),
        "memory_mb": round(len(stage.services) * rng.uniform(38, 42) + 55 * len(stage.shared)),
        "processes": len(stage.services) + len(stage.clusters) + len(stage.shared) + 1,
        "cpu_cores": round(rng.uniform(0.4, 0.7), 2),
        "cpu_ms_per_order": round(rng.uniform(38, 44) + 9 * sends_messages(stage), 1),
        "drained_s": round(rng.uniform(0.5, 4), 2),
        "blast_radius": _radius(cells, weights),
        "operations": {o.name: _healthy(o.name, o.latency_slo_ms, calls) for o in stage.operations},
        "completions": {
            c.name: _completion(stage, o.name, c, calls, rng) for o in stage.operations for c in o.completions
        },
        "dead_letters": _dead_letters(held),
        "matrix": cells,
        "pooled": [_pooled(fault, stage, counted[fault.name]) for fault in held],
        "faults": [_fault(fault) for fault in held],
        "checks": checks,
        "governance": [governed_document(g) for g in governance(_seen(stage, calls, history), stalls)],
        "policy": policy,
        "control_planes": {},
    }


def _seen(stage: Stage, calls: Sequence[Invocation], history: Sequence[Record]) -> Seen:
    """Nobody read what the services of a sample recorded."""
    return Seen(
        stage=stage,
        run_id="sample",
        invocations=calls,
        audits=(),
        audited=frozenset(),
        fault_events=[r for r in history if isinstance(r, FaultEvent)],
    )


def _policy_check(policy: Mapping[str, Any]) -> dict[str, Any]:
    evidence = {"cells": len(policy["cells"])}
    return {"name": POLICY, "verdict": policy["verdict"], "because": policy["because"], "evidence": evidence}


def _tries(stage: Stage, kind: SampleKind) -> list[PolicyTry]:
    """One cell goes wrong in an invalid run, one cannot be tried in an unknown one."""
    tries = tries_as_modelled(stage)
    if kind == "invalid":
        tries[4] = replace(tries[4], allowed=True, answer="allowed")
    if kind == "unknown":
        tries[3] = replace(tries[3], allowed=None, answer="unknown: ConnectionRefusedError: Connection refused")
    return tries


def _completion(
    stage: Stage, operation: str, completion: Completion, calls: Sequence[Invocation], rng: Random
) -> dict[str, Any]:
    n = len(_in_baseline(operation, calls))
    hops = 60.0 if sends_messages(stage) else 0.0
    took = sorted(
        COMPLETED_MS[completion.name] * rng.lognormvariate(0, 0.35) + hops * rng.uniform(1, 2) for _ in "x" * n
    )
    return {
        "operation": operation,
        "n": n,
        "in_time": n,
        "late": 0,
        "lost": 0,
        "p50_ms": round(percentile(took, 0.5), 1),
        "p99_ms": round(percentile(took, 0.99), 1),
        "within_ms": completion.within_ms,
        "verdict": "valid",
        "because": f"{n} of {n} within {completion.within_ms} ms",
    }


def _dead_letters(held: Sequence[Held]) -> list[dict[str, Any]]:
    """One per fault that makes a message unreadable."""
    return [
        {
            "queue": "payments-commands",
            "consumer": "payments",
            "id": "m-5077",
            "type": "",
            "reason": "malformed",
            "detail": "the body is no JSON: Unterminated string starting at: line 1 column 118 (char 117)",
            "receives": 1,
            "since_utc": "2026-03-02T09:36:41Z",
        }
        for fault in held
        if fault.name.endswith("-poisoned")
    ]


def _fault(fault: Held) -> dict[str, Any]:
    recovered = round(fault.recovered_s - fault.end_s, 2)
    summary = f"{fault.name.rsplit('-', 1)[0]} is {fault.name.rsplit('-', 1)[1]}"
    return {
        "name": fault.name,
        "summary": summary,
        "injected": True,
        "seen_by": probe(fault.name),
        "recovered_s": recovered,
    }


def _radius(cells: Sequence[Mapping[str, Any]], weights: Mapping[str, int]) -> dict[str, float]:
    def share(touched: Callable[[Mapping[str, Any]], bool]) -> float:
        total = sum(weights[c["operation"]] for c in cells)
        return round(sum(weights[c["operation"]] for c in cells if touched(c)) / total, 4) if total else 0.0

    certain = share(lambda c: c["measured"] not in {"unaffected", "unknown"})
    return {
        "predicted": share(lambda c: c["predicted"] != "unaffected"),
        "measured": certain,
        "measured_low": max(0.0, certain - 0.012),
        "measured_high": share(lambda c: c["measured"] != "unaffected") + 0.012,
    }


def _counted(fault: Held, calls: Sequence[Invocation]) -> list[Invocation]:
    start, end = ns(fault.start_s + TAU_S), ns(fault.end_s)
    return [c for c in calls if start <= c.intended_ns < end]


def _cell(stage: Stage, fault: Held, operation: str, counted: Sequence[Invocation]) -> dict[str, Any]:
    slo = stage.operation(operation).latency_slo_ms
    mine = [c for c in counted if c.operation == operation]
    bad = sum(is_bad(c, slo) for c in mine)
    prediction, measured = fault.predicted[operation], fault.measured[operation]
    worse = measured is not None and measured > prediction.effect
    because = prediction.because
    if worse:
        because = (
            f"{bad} of {len(mine)} requests were bad: workers of orders wait for payments, tracking queues behind them"
        )
    elif measured is None:
        because = "the generator lagged behind its schedule in this window: 31 ms at p99, 10 ms allowed"
    return {
        "fault": fault.name,
        "operation": operation,
        "predicted": prediction.effect.value,
        "measured": "unknown" if measured is None else measured.value,
        "verdict": "unknown" if measured is None else "invalid" if worse else "valid",
        "n": len(mine),
        "bad": bad,
        "decided_after_s": None if measured is None else round(1.3 if measured is Effect.FAILING else 5.5, 1),
        "path": list(prediction.path),
        "gaps": list(prediction.gaps),
        "evidence": _evidence(fault, operation, len(mine), bad),
        "because": because,
    }


def _evidence(fault: Held, operation: str, n: int, bad: int) -> dict[str, Any]:
    """As `stages.check` leaves it."""
    figures = {"bad": bad, "e_iso": e_iso(n, bad, 0.05), "e_base": e_base(bad, n, 0, 300), "e_conc": None}
    others = [o for o, p in fault.predicted.items() if p.effect is Effect.UNAFFECTED and o != operation]
    return {
        "bit": True,
        "seen_by": probe(fault.name),
        "exposed_s": round(fault.end_s - fault.start_s - TAU_S, 3),
        "baseline_n": 300,
        "baseline_bad": 0,
        "censored": 0,
        "not_ready": 0,
        "interval": list(wilson(bad, n)),
        "within_margin": False,
        "margin": 0.05,
        "strict": figures,
        "lenient": figures,
        "pool": others,
        "control": "baseline and pool",
        "better": (fault.name, operation) == BETTER,
        **_completions(fault, operation, n, bad),
        "no_clean_control": False,
    }


def _completions(fault: Held, operation: str, n: int, bad: int) -> dict[str, Any]:
    """What was accepted under the fault and completed after it; nothing where the answers were bad."""
    if fault.measured[operation] is not Effect.DELAYED:
        return {}
    waited_ms = round(1000 * (fault.recovered_s - fault.start_s))
    late = n - bad - 1
    return {
        "completions": {"n": n - bad, "late": late, "lost": 0, "overdue": 0, "worst_ms": waited_ms, "baseline_n": n}
    }


def _pooled(fault: Held, stage: Stage, counted: Sequence[Invocation]) -> dict[str, Any]:
    safe = {o for o, p in fault.predicted.items() if p.effect is Effect.UNAFFECTED}
    mine = [c for c in counted if c.operation in safe]
    bad = sum(is_bad(c, stage.operation(c.operation).latency_slo_ms) for c in mine)
    undecided = any(fault.measured[o] is None for o in safe)
    verdict = "unknown" if undecided else "invalid" if mine and bad / len(mine) > 0.01 else "valid"
    return {"fault": fault.name, "n": len(mine), "bad": bad, "verdict": verdict}


def _healthy(operation: str, slo_ms: int, calls: Sequence[Invocation]) -> dict[str, Any]:
    mine = _in_baseline(operation, calls)
    ordered = sorted(c.latency_ms for c in mine)
    figures = {f"p{p}_ms": round(percentile(ordered, p / 100), 1) for p in (50, 95, 99)}
    ok = sum(c.outcome is Outcome.OK for c in mine)
    return {"n": len(mine), "ok": ok, **figures, "slo_ms": slo_ms, "verdict": "valid"}


def _in_baseline(operation: str, calls: Sequence[Invocation]) -> list[Invocation]:
    return [c for c in calls if c.operation == operation and ns(4) <= c.intended_ns < ns(4 + BASELINE_S)]


_CHECKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("every-accepted-order-terminates", "every order ended", {"orders": 2104, "confirmed": 1461, "rejected": 371}),
    ("no-order-lost", "every answered order is in the books", {"acknowledged": 1833, "lost": []}),
    ("no-order-applied-twice", "one capture per confirmed order", {"orders": 1461, "twice": []}),
    ("stock-conserved", "opened with = on hand + reserved", {"products": 20, "off": []}),
    ("money-conserved", "money was taken for confirmed orders only", {"captured_cents": 8_120_450, "off": []}),
    ("one-email-per-confirmed-order", "one mail each, but for the known gap", {"missing": 1, "gap": "lost-email"}),
    ("registrations-reach-every-consumer", "every user is everywhere", {"users": 1320, "missing": []}),
    ("no-effect-without-operation", "nothing happened unasked", {"effects": 9120, "unexplained": []}),
    ("recovered-after-every-fault", "the slowest took 2.4 s", {"slowest_s": 2.4}),
    ("generator-honest", "every arrival was sent, on time", {"arrivals": 13_800, "unsent": 0, "lag_p99_ms": 1.9}),
    ("nothing-left-behind", "no process, port or fault was left", {"left": []}),
)


def _checks(kind: SampleKind) -> list[dict[str, Any]]:
    checks = [{"name": n, "verdict": "valid", "because": b, "evidence": dict(e)} for n, b, e in _CHECKS]
    by_name = {c["name"]: c for c in checks}
    if kind == "invalid":
        twice = [{"order": f"o-{n}", "captures": 2, "cents": 4200 + n, "key": f"sample-{n}"} for n in range(611, 623)]
        by_name["no-order-applied-twice"] |= {
            "verdict": "invalid",
            "because": "12 orders were charged twice: the capture was repeated after a lost answer",
            "evidence": {"orders": 1461, "charged_twice": len(twice), "twice": twice},
        }
    if kind == "unknown":
        by_name["generator-honest"] |= {
            "verdict": "unknown",
            "because": "the generator sent 31 ms late at p99 while inventory-paused was on; 10 ms are allowed",
            "evidence": {"arrivals": 13_800, "unsent": 4, "lag_p99_ms": 31.2, "window": UNDECIDED},
        }
    return checks
