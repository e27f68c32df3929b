"""What does a run look like? Sample verdicts with the histories they could come from, made from a seed.

For tests and for looking at the report without deploying anything. A valid run, one that leaks and charges
twice, and one in which too little was seen; every figure in the verdict is counted from the sample's history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from stages.blast_radius import Effect, Impact, Prediction, predict
from stages.catalogue import STAGES
from stages.evidence import e_base, e_iso, wilson
from stages.history import FaultEvent, FaultStep, Invocation, Outcome, Phase, Record, Stall, merged
from stages.model import Kind, Stage
from suite.report.series import Series, is_bad, percentile, summarize

SampleKind = Literal["valid", "invalid", "unknown"]

EPOCH_NS = 71_000_000_000_000
"""Where the sample's clock starts: a monotonic clock never starts at zero."""
BASELINE_S = 20.0
TAU_S = 2.0
"""Requests this soon after a fault began do not count, as in a real run."""
MEDIAN_MS = {"browse": 9, "register": 28, "place-order": 46, "track-order": 6, "cancel-order": 30, "insights": 7}
LEAK = ("payments-paused", "track-order")
BETTER = ("email-cpu-starved", "register")
UNDECIDED = "inventory-paused"


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


@dataclass(frozen=True, slots=True)
class _Held:
    """A fault of the sample: from when to when it was on, and what it did."""

    name: str
    start_s: float
    end_s: float
    recovered_s: float
    predicted: Mapping[str, Prediction]
    measured: Mapping[str, Effect | None]
    """None: not decided."""


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
        held = tuple(_timetable(stage, kind, rng, faults))
        histories[name] = _history(stage, held, rng, rate)
        documents[name] = _document(stage, kind, held, histories[name], rng)
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
    return Sample(verdict=verdict, histories=histories, stages=chosen)


def objectives(stage: Stage) -> dict[str, float]:
    """The latency objective of each operation, milliseconds."""
    return {o.name: float(o.latency_slo_ms) for o in stage.operations}


def impacts(stage: Stage) -> dict[str, Impact]:
    """Faults of all classes that a stage has the targets for, and what each takes from the graph."""
    calls = {c.name for c in stage.channels if c.kind is Kind.CALL}
    found = {
        f"{s.name}-killed": Impact(down=frozenset({s.name}), crashed=frozenset({s.name}))
        for s in stage.services
        if s.name not in {"storefront", "shipping"}
    }
    found |= {f"{name}-paused": Impact(down=frozenset({name})) for name in ("payments", "inventory")}
    found["email-cpu-starved"] = Impact(down=frozenset({"email"}))
    wires = {
        "orders-payments": "latency",
        "storefront-inventory": "blackhole",
        "orders-email": "reset",
        "accounts-email": "refused",
        "orders-shipping": "blackhole",
    }
    for wire, what in wires.items():
        if wire in calls:
            slow = Impact(delay_ms={wire: 440})
            found[f"{wire}-{what}"] = slow if what == "latency" else Impact(cut=frozenset({wire}))
    found["payments-database-locked"] = Impact(down=frozenset({"payments"}))
    found["inventory-database-slow"] = Impact()
    found |= {f"{part.name}-outage": Impact(down=frozenset({part.name})) for part in stage.shared}
    for cluster in stage.clusters:
        inside = frozenset(stage.services_in(cluster.name))
        found[f"{cluster.name}-cluster-outage"] = Impact(down=inside, crashed=inside)
    return found


def _timetable(stage: Stage, kind: SampleKind, rng: Random, most: int) -> Iterator[_Held]:
    now = 4.0 + BASELINE_S
    for name, impact in list(impacts(stage).items())[:most]:
        predicted = predict(stage, impact)
        start, end = now + 0.3, now + 0.3 + rng.uniform(7.0, 9.5)
        recovered = end + rng.uniform(0.2, 2.4)
        yield _Held(name, start, end, recovered, predicted, _measured(name, predicted, kind))
        now = recovered + 1.5


def _measured(fault: str, predicted: Mapping[str, Prediction], kind: SampleKind) -> dict[str, Effect | None]:
    found: dict[str, Effect | None] = {name: p.effect for name, p in predicted.items()}
    if BETTER[0] == fault:
        found[BETTER[1]] = Effect.UNAFFECTED
    if kind == "invalid" and LEAK[0] == fault:
        found[LEAK[1]] = Effect.FAILING
    if kind == "unknown" and fault == UNDECIDED:
        found |= {name: None for name, p in predicted.items() if p.effect is Effect.UNAFFECTED}
    return found


def _ns(seconds: float) -> int:
    return EPOCH_NS + int(seconds * 1e9)


def _history(stage: Stage, held: Sequence[_Held], rng: Random, rate: float) -> list[Record]:
    end = held[-1].recovered_s + 4 if held else 4 + BASELINE_S
    events: list[Record] = [Phase(name="warm-up", at_ns=_ns(0)), Phase(name="baseline", at_ns=_ns(4))]
    for fault in held:
        events += [Phase(name=f"fault:{fault.name}", at_ns=_ns(fault.start_s - 0.1)), *_steps(fault)]
        events.append(Phase(name=f"recovery:{fault.name}", at_ns=_ns(fault.end_s)))
    events.append(Stall(source="core-1", start_ns=_ns(11.2), end_ns=_ns(11.55)))
    tail = [Phase(name="drain", at_ns=_ns(end)), Phase(name="end", at_ns=_ns(end + 9))]
    return merged(events, _requests(stage, held, rng, rate, end), tail)


def _steps(fault: _Held) -> Iterator[FaultEvent]:
    times = (
        (FaultStep.INTENT, fault.start_s - 0.05),
        (FaultStep.INJECTED, fault.start_s),
        (FaultStep.SEEN, fault.start_s + 0.1),
        (FaultStep.UNDOING, fault.end_s),
        (FaultStep.UNDONE, fault.end_s + 0.15),
        (FaultStep.RECOVERED, fault.recovered_s),
    )
    for step, when in times:
        yield FaultEvent(
            fault=fault.name, step=step, at_ns=_ns(when), detail=_probe(fault.name) if step == "seen" else ""
        )


def _probe(fault: str) -> str:
    target = fault.rsplit("-", 1)[0]
    return f"{target}: the probe got no answer within 200 ms, 5 of 5 times"


def _requests(stage: Stage, held: Sequence[_Held], rng: Random, rate: float, end: float) -> Iterator[Invocation]:
    names = [o.name for o in stage.operations]
    weights = [o.weight for o in stage.operations]
    now, number = 0.0, 0
    while (now := now + rng.expovariate(rate)) < end:
        operation = rng.choices(names, weights)[0]
        fault = next((f for f in held if f.start_s <= now < f.recovered_s - 0.2), None)
        number += 1
        yield _request(stage, operation, fault, now, number, rng)


def _request(stage: Stage, operation: str, fault: _Held | None, now: float, number: int, rng: Random) -> Invocation:
    hops = 1.0 if stage.name == "sync" or operation in {"browse", "track-order", "insights"} else 0.35
    ms = MEDIAN_MS[operation] * hops * rng.lognormvariate(0, 0.42)
    effect = fault.measured[operation] if fault is not None else Effect.UNAFFECTED
    outcome, degraded = Outcome.OK, False
    status: int | None = 200
    error: str | None = None
    if effect is Effect.DEGRADED:
        degraded, ms = True, ms + (rng.uniform(200, 260) if fault and now < fault.start_s + 0.9 else 0)
    if effect is Effect.FAILING and rng.random() < 0.97:
        hung = "paused" in (fault.name if fault else "") and rng.random() < 0.4
        outcome, status = (Outcome.UNKNOWN, None) if hung else (Outcome.FAIL, 503)
        error = "timeout after 1500 ms" if hung else "dependency-unavailable"
        ms = 1500 + ms if hung else ms + rng.choice((0, 2, 640))
    lag_ms = rng.expovariate(2)
    return Invocation(
        operation=operation,
        key=f"sample-{number}",
        intended_ns=_ns(now),
        started_ns=_ns(now + lag_ms / 1000),
        ended_ns=_ns(now + (lag_ms + ms) / 1000),
        outcome=outcome,
        degraded=degraded,
        status=status,
        error=error,
    )


def _document(
    stage: Stage, kind: SampleKind, held: Sequence[_Held], history: Sequence[Record], rng: Random
) -> dict[str, Any]:
    calls = [r for r in history if isinstance(r, Invocation)]
    counted = {fault.name: _counted(fault, calls) for fault in held}
    cells = [_cell(stage, fault, o.name, counted[fault.name]) for fault in held for o in stage.operations]
    weights = {o.name: o.weight for o in stage.operations}
    checks = _checks(kind)
    found = [c["verdict"] for c in (*cells, *checks)]
    verdict = "invalid" if "invalid" in found else "unknown" if "unknown" in found else "valid"
    return {
        "verdict": verdict,
        "because": "",
        "up_s": round(rng.uniform(3, 7), 2),
        "memory_mb": round(len(stage.services) * rng.uniform(60, 70)),
        "processes": len(stage.services) + len(stage.clusters) + 1,
        "cpu_cores": round(rng.uniform(0.4, 0.7), 2),
        "drained_s": round(rng.uniform(0.5, 4), 2),
        "blast_radius": _radius(cells, weights),
        "operations": {o.name: _healthy(o.name, o.latency_slo_ms, calls) for o in stage.operations},
        "matrix": cells,
        "pooled": [_pooled(fault, stage, counted[fault.name]) for fault in held],
        "faults": [_fault(fault) for fault in held],
        "checks": checks,
    }


def _fault(fault: _Held) -> dict[str, Any]:
    recovered = round(fault.recovered_s - fault.end_s, 2)
    summary = f"{fault.name.rsplit('-', 1)[0]} is {fault.name.rsplit('-', 1)[1]}"
    return {
        "name": fault.name,
        "summary": summary,
        "injected": True,
        "seen_by": _probe(fault.name),
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


def _counted(fault: _Held, calls: Sequence[Invocation]) -> list[Invocation]:
    start, end = _ns(fault.start_s + TAU_S), _ns(fault.end_s)
    return [c for c in calls if start <= c.intended_ns < end]


def _cell(stage: Stage, fault: _Held, operation: str, counted: Sequence[Invocation]) -> dict[str, Any]:
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


def _evidence(fault: _Held, operation: str, n: int, bad: int) -> dict[str, Any]:
    """As `stages.check` leaves it."""
    figures = {"bad": bad, "e_iso": e_iso(n, bad, 0.05), "e_base": e_base(bad, n, 0, 300), "e_conc": None}
    others = [o for o, p in fault.predicted.items() if p.effect is Effect.UNAFFECTED and o != operation]
    return {
        "bit": True,
        "seen_by": _probe(fault.name),
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
        "completions": "",
        "no_clean_control": False,
    }


def _pooled(fault: _Held, stage: Stage, counted: Sequence[Invocation]) -> dict[str, Any]:
    safe = {o for o, p in fault.predicted.items() if p.effect is Effect.UNAFFECTED}
    mine = [c for c in counted if c.operation in safe]
    bad = sum(is_bad(c, stage.operation(c.operation).latency_slo_ms) for c in mine)
    undecided = any(fault.measured[o] is None for o in safe)
    verdict = "unknown" if undecided else "invalid" if mine and bad / len(mine) > 0.01 else "valid"
    return {"fault": fault.name, "n": len(mine), "bad": bad, "verdict": verdict}


def _healthy(operation: str, slo_ms: int, calls: Sequence[Invocation]) -> dict[str, Any]:
    mine = [c for c in calls if c.operation == operation and _ns(4) <= c.intended_ns < _ns(4 + BASELINE_S)]
    ordered = sorted(c.latency_ms for c in mine)
    figures = {f"p{p}_ms": round(percentile(ordered, p / 100), 1) for p in (50, 95, 99)}
    ok = sum(c.outcome is Outcome.OK for c in mine)
    return {"n": len(mine), "ok": ok, **figures, "slo_ms": slo_ms, "verdict": "valid"}


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


def hostile(run: Sample, text: str = "<img src=x onerror=alert(1)>'\"]]>\x1b[31m\x00{{7*7}}[red]") -> Sample:
    """The same run after an attacker named everything that has a name."""
    verdict = {
        **run.verdict,
        "command": text,
        "variant": text,
        "started_utc": text,
        "environment": {text: [text, {text: text}]},
    }
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
