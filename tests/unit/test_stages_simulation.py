"""The verdict rule on simulated traffic: healthy windows are never called leaked, clear leaks are found at once.

Poisson arrivals of 10 requests/s per operation, lognormal latency with a median of 25 ms, an outage of the given share.
"""

from __future__ import annotations

from random import Random

import pytest

from stages.blast_radius import Effect, Impact, predict
from stages.check import Baseline, FaultJudgement, Span, judge_fault
from stages.history import Invocation, Outcome, Stall
from stages.testing import SHOP, cpu_s

RATE_PER_S = 10.0
SEEN_S = 30.0
SECOND_NS = 1_000_000_000
PAYMENTS_DEAD = predict(SHOP, Impact(down=frozenset({"payments"})))
FAILING = {name for name, p in PAYMENTS_DEAD.items() if p.effect is Effect.FAILING}


def traffic(rng: Random, seconds: float, bad_share: dict[str, float], stalls: list[Stall]) -> list[Invocation]:
    """All operations' requests; `bad_share` applies from the moment the fault is seen."""
    history = []
    for operation in SHOP.operations:
        at_s = rng.expovariate(RATE_PER_S)
        while at_s < seconds:
            history.append(request(rng, operation.name, at_s, bad_share, stalls))
            at_s += rng.expovariate(RATE_PER_S)
    return history


def request(rng: Random, operation: str, at_s: float, bad_share: dict[str, float], stalls: list[Stall]) -> Invocation:
    intended_ns = round(at_s * SECOND_NS)
    bad = at_s >= SEEN_S and rng.random() < bad_share.get(operation, 0.0)
    ended_ns = intended_ns + round(rng.lognormvariate(3.2, 0.5) * 1e6)
    for stall in stalls:
        if intended_ns < stall.end_ns and ended_ns > stall.start_ns:
            ended_ns += stall.end_ns - max(stall.start_ns, intended_ns)
    return Invocation(
        operation=operation,
        key=f"r-{rng.random()}",
        intended_ns=intended_ns,
        started_ns=intended_ns,
        ended_ns=ended_ns,
        outcome=Outcome.FAIL if bad else Outcome.OK,
    )


def looks(history: list[Invocation], stalls: list[Stall], until_s: float) -> list[FaultJudgement]:
    """Every half second a look, as during a run, until all is decided."""
    baseline = Baseline.of(SHOP, history, [Span(start_ns=0, end_ns=round(SEEN_S * SECOND_NS))], stalls=stalls)
    seen: list[FaultJudgement] = []
    at_s = 2.5
    while at_s <= until_s and not (seen and seen[-1].decided):
        seen.append(
            judge_fault(
                stage=SHOP,
                fault="payments-killed",
                predictions=PAYMENTS_DEAD,
                invocations=history,
                unsent=[],
                baseline=baseline,
                seen_ns=round(SEEN_S * SECOND_NS),
                now_ns=round((SEEN_S + at_s) * SECOND_NS),
                stalls=stalls,
                promised_cells=40,
                bit=True,
                seen_by="simulation",
                final=False,
                outstanding=(),
                previous=seen[-1] if seen else None,
            )
        )
        at_s += 0.5
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_healthy_operation_is_never_called_leaked_at_any_look(seed: int) -> None:
    rng = Random(seed)
    stalls = [
        Stall(source="core-0", start_ns=round(s * SECOND_NS), end_ns=round((s + rng.uniform(0.05, 0.4)) * SECOND_NS))
        for s in (rng.uniform(0, 30), rng.uniform(32, 36), rng.uniform(36, 42))
    ]
    history = traffic(rng, 51, dict.fromkeys(FAILING, 1.0), stalls)
    judged = looks(history, stalls, 20)
    accused = [c for look in judged for c in look.cells if c.operation not in FAILING and c.measured == "failing"]
    assert accused == [], f"seed {seed}"
    assert [c.measured for c in judged[-1].cells if c.operation not in FAILING] == ["unaffected"] * 4, f"seed {seed}"
    assert judged[-1].decided, f"seed {seed}"
    assert judged[-1].pooled.verdict == "valid", f"seed {seed}: {judged[-1].pooled}"


@pytest.mark.parametrize("seed", range(5))
def test_total_failure_is_called_failing_within_2_s_after_tau(seed: int) -> None:
    history = traffic(Random(seed), 40, dict.fromkeys(FAILING, 1.0), [])
    last = looks(history, [], 4.0)[-1]
    measured = {c.operation: (c.measured, c.verdict) for c in last.cells if c.operation in FAILING}
    assert measured == dict.fromkeys(FAILING, ("failing", "valid")), f"seed {seed}"


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_of_one_third_into_an_unaffected_operation_is_found(seed: int) -> None:
    history = traffic(Random(seed), 51, {**dict.fromkeys(FAILING, 1.0), "track-order": 0.33}, [])
    last = looks(history, [], 20)[-1]
    leaked = {c.operation: c.verdict for c in last.cells if c.operation not in FAILING}
    assert leaked.pop("track-order") == "invalid", f"seed {seed}"
    assert set(leaked.values()) == {"valid"}, f"seed {seed}"
    assert last.pooled.verdict == "invalid", f"seed {seed}"


def test_a_look_costs_no_more_than_in_proportion_to_its_requests() -> None:
    def look_s(requests: int) -> float:
        history = traffic(Random(1), 51, {**dict.fromkeys(FAILING, 1.0), "track-order": 0.2}, [])[-requests:]
        looks(history, [], 20)
        return cpu_s(lambda: looks(history, [], 20))

    assert look_s(2000) < 12 * look_s(500), "four times the requests: a square would be 16 times the work"
