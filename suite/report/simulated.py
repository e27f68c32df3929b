"""What could have happened in a sample run? A timetable of faults and the history that they leave, made from a seed.

Every request behaves as the sample says the fault affects its operation; `suite.report.testing` counts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from stages.blast_radius import Effect, Impact, Prediction, predict
from stages.history import FaultEvent, FaultStep, Invocation, Outcome, Phase, Record, Stall, merged
from stages.mesh import between, cluster_pairs
from stages.model import Kind, Stage

SampleKind = Literal["valid", "invalid", "unknown"]

EPOCH_NS = 71_000_000_000_000
"""Where the sample's clock starts: a monotonic clock never starts at zero."""
BASELINE_S = 20.0
TAU_S = 2.0
"""Requests this soon after a fault began do not count, as in a real run."""
COMPLETED_MS = {"order-completed": 46, "email-sent": 52, "order-cancelled": 30, "user-visible-in-analytics": 24}
"""Median time from the request to its completions, where everything is a call; by message it takes some hops more."""
MEDIAN_MS = {"browse": 9, "register": 28, "place-order": 46, "track-order": 6, "cancel-order": 30, "insights": 7}
LEAK = ("payments-paused", "track-order")
BETTER = ("email-cpu-starved", "register")
UNDECIDED = "inventory-paused"


@dataclass(frozen=True, slots=True)
class Held:
    """A fault of the sample: from when to when it was on, and what it did."""

    name: str
    start_s: float
    end_s: float
    recovered_s: float
    predicted: Mapping[str, Prediction]
    measured: Mapping[str, Effect | None]
    """None: not decided."""


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
    found |= {_lost(part.name): Impact(down=frozenset({part.name})) for part in stage.shared}
    found |= _impacts_on_messages(stage)
    for cluster in stage.clusters:
        inside = frozenset(stage.services_in(cluster.name))
        found[f"{cluster.name}-cluster-outage"] = Impact(down=inside, crashed=inside)
    return found | _impacts_on_the_mesh(stage)


def _lost(part: str) -> str:
    """Gateways are processes of a cluster, other shared parts have outages."""
    return f"{part}-killed" if part.endswith("-gateway") else f"{part}-outage"


def _impacts_on_the_mesh(stage: Stage) -> dict[str, Impact]:
    if stage.mesh is None:
        return {}
    apart = {
        f"{a}-{b}-partitioned": Impact(cut=frozenset(c.name for c in between(stage, a, b)))
        for a, b in cluster_pairs(stage)
    }
    return apart | {
        "inventory-sidecar-killed": Impact(down=frozenset({"inventory"})),
        "payments-sidecar-killed": Impact(down=frozenset({"payments"})),
        "fulfilment-control-paused": Impact(),
        "storefront-garbage-config": Impact(),
        "inventory-certificate-expired": Impact(cut=frozenset({"storefront-inventory"})),
        "root-rotated": Impact(),
        "inventory-canary-failing": Impact(),
    }


def _impacts_on_messages(stage: Stage) -> dict[str, Impact]:
    messages = [c.name for c in stage.channels if c.kind is not Kind.CALL]
    if not messages:
        return {}
    return {
        "broker-slow": Impact(delay_ms=dict.fromkeys(messages, 3000)),
        "broker-throttled": Impact(),
        "broker-duplicates": Impact(),
        "payments-poisoned": Impact(poisoned=frozenset({"payments-commands"})),
        "payments-killed-deleting": Impact(down=frozenset({"payments"}), crashed=frozenset({"payments"})),
        "accounts-killed-publishing": Impact(down=frozenset({"accounts"}), crashed=frozenset({"accounts"})),
    }


def timetable(stage: Stage, kind: SampleKind, rng: Random, most: int) -> Iterator[Held]:
    now = 4.0 + BASELINE_S
    for name, impact in list(impacts(stage).items())[:most]:
        predicted = predict(stage, impact)
        start, end = now + 0.3, now + 0.3 + rng.uniform(7.0, 9.5)
        recovered = end + rng.uniform(0.2, 2.4)
        yield Held(name, start, end, recovered, predicted, _measured(name, predicted, kind))
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


def ns(seconds: float) -> int:
    return EPOCH_NS + int(seconds * 1e9)


def history(stage: Stage, held: Sequence[Held], rng: Random, rate: float) -> list[Record]:
    end = held[-1].recovered_s + 4 if held else 4 + BASELINE_S
    events: list[Record] = [Phase(name="warm-up", at_ns=ns(0)), Phase(name="baseline", at_ns=ns(4))]
    for fault in held:
        events += [Phase(name=f"fault:{fault.name}", at_ns=ns(fault.start_s - 0.1)), *_steps(fault)]
        events.append(Phase(name=f"recovery:{fault.name}", at_ns=ns(fault.end_s)))
    events.append(Stall(source="core-1", start_ns=ns(11.2), end_ns=ns(11.55)))
    tail = [Phase(name="drain", at_ns=ns(end)), Phase(name="end", at_ns=ns(end + 9))]
    return merged(events, _requests(stage, held, rng, rate, end), tail)


def _steps(fault: Held) -> Iterator[FaultEvent]:
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
            fault=fault.name, step=step, at_ns=ns(when), detail=probe(fault.name) if step == "seen" else ""
        )


def probe(fault: str) -> str:
    target = fault.rsplit("-", 1)[0]
    return f"{target}: the probe got no answer within 200 ms, 5 of 5 times"


def _requests(stage: Stage, held: Sequence[Held], rng: Random, rate: float, end: float) -> Iterator[Invocation]:
    names = [o.name for o in stage.operations]
    weights = [o.weight for o in stage.operations]
    now, number = 0.0, 0
    while (now := now + rng.expovariate(rate)) < end:
        operation = rng.choices(names, weights)[0]
        fault = next((f for f in held if f.start_s <= now < f.recovered_s - 0.2), None)
        number += 1
        yield _request(stage, operation, fault, now, number, rng)


def _request(stage: Stage, operation: str, fault: Held | None, now: float, number: int, rng: Random) -> Invocation:
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
        intended_ns=ns(now),
        started_ns=ns(now + lag_ms / 1000),
        ended_ns=ns(now + (lag_ms + ms) / 1000),
        outcome=outcome,
        degraded=degraded,
        status=status,
        error=error,
    )
