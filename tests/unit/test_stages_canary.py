"""Histories of a candidate beside the stable version, and what must become of it; several must fail."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from stages.catalogue import ASYNC, MESH
from stages.check.canary import (
    Call,
    CanaryJudgement,
    Dealt,
    Decision,
    Tally,
    deal,
    judge_canary,
    limits_ms,
    measured_share,
    users_spared,
)
from stages.check.verdict import Verdict
from stages.evidence_dealt import bounds, e_close, e_worse

EDGE = "storefront-inventory"
LIMITS = limits_ms(MESH, "inventory")


def dealt(stable: tuple[int, int], candidate: tuple[int, int], **more: int) -> Dealt:
    """(calls, bad) of either version; what is bad is broken."""
    both = (Tally(n=n, bad=bad, broken=bad) for n, bad in (stable, candidate))
    return Dealt(stable=next(both), candidate=next(both), **more)


def judged(seen: Dealt, wished: float = 0.1, watched_s: float = 20.0) -> CanaryJudgement:
    return judge_canary(seen, wished=wished, watched_s=watched_s)


@pytest.mark.parametrize(
    ("stable", "candidate", "wished", "expected"),
    [
        pytest.param((600, 0), (66, 0), 0.1, Decision.PROMOTE, id="good"),
        pytest.param((6500, 0), (66, 0), 0.01, Decision.PROMOTE, id="good-at-one-percent"),
        pytest.param((70, 0), (70, 0), 0.5, Decision.PROMOTE, id="good-at-half"),
        pytest.param((4500, 45), (500, 5), 0.1, Decision.PROMOTE, id="as-bad-as-the-stable-one"),
        pytest.param((600, 0), (66, 2), 0.1, Decision.ROLL_BACK, id="worse-by-few"),
        pytest.param((18, 0), (2, 2), 0.1, Decision.ROLL_BACK, id="all-bad-at-once"),
        pytest.param((5000, 50), (550, 50), 0.1, Decision.ROLL_BACK, id="worse-though-neither-is-well"),
        pytest.param((600, 0), (600, 0), 0.1, Decision.ROLL_BACK, id="good-but-half-of-all-calls"),
        pytest.param((600, 0), (2, 0), 0.1, Decision.ROLL_BACK, id="good-but-hardly-any-calls"),
        pytest.param((200, 0), (20, 0), 0.1, Decision.UNDECIDED, id="too-few"),
        pytest.param((600, 120), (66, 12), 0.1, Decision.UNDECIDED, id="both-are-ill"),
        pytest.param((600, 0), (0, 0), 0.1, Decision.UNDECIDED, id="never-met"),
        pytest.param((0, 0), (0, 0), 0.1, Decision.UNDECIDED, id="nothing-seen"),
    ],
)
def test_a_candidate_is_judged_by_what_happened_to_both_at_the_same_time(
    stable: tuple[int, int], candidate: tuple[int, int], wished: float, expected: Decision
) -> None:
    found = judged(dealt(stable, candidate), wished)
    assert (found.decision, bool(found.because)) == (expected, True), found


def test_nothing_is_promoted_before_it_was_watched_for_a_while_but_what_is_bad_goes_at_once() -> None:
    assert judged(dealt((600, 0), (66, 0)), watched_s=1.0).decision is Decision.UNDECIDED
    assert judged(dealt((18, 0), (2, 2)), watched_s=0.0).decision is Decision.ROLL_BACK


def test_a_machine_that_stood_still_too_often_gives_no_verdict() -> None:
    seen = replace(dealt((600, 0), (66, 2)), censored=400)
    assert judged(seen).decision is Decision.UNDECIDED


@pytest.mark.parametrize(
    ("calls", "wished", "verdict"),
    [
        ((634, 66), 0.1, Verdict.VALID),
        ((6930, 70), 0.01, Verdict.VALID),
        ((60, 60), 0.5, Verdict.VALID),
        ((70, 630), 0.9, Verdict.VALID),
        ((90, 10), 0.1, Verdict.UNKNOWN),
        ((0, 0), 0.1, Verdict.UNKNOWN),
        ((500, 200), 0.1, Verdict.INVALID),
        ((700, 20), 0.1, Verdict.INVALID),
    ],
)
def test_the_measured_share_is_judged_by_its_bounds(calls: tuple[int, int], wished: float, verdict: Verdict) -> None:
    stable, candidate = calls
    share = measured_share(dealt((stable, 0), (candidate, 0)), wished)
    assert share.verdict is verdict, share
    assert share.low <= (share.measured if share.measured is not None else 0.5) <= share.high


def test_a_call_is_bad_if_it_fails_or_takes_longer_than_its_caller_or_its_users_can_wait() -> None:
    assert LIMITS == {EDGE: 266}
    assert limits_ms(MESH, "orders") == {"storefront-orders": 266}
    assert limits_ms(MESH, "accounts") == {"storefront-accounts": 500}
    calls = [
        Call(edge=EDGE, version="v1", status=200, duration_ms=5),
        Call(edge=EDGE, version="v1", status=404, duration_ms=5),
        Call(edge=EDGE, version="v1", status=0, duration_ms=5),
        Call(edge=EDGE, version="v2", status=200, duration_ms=605),
        Call(edge=EDGE, version="v2", status=500, duration_ms=5),
        Call(edge=EDGE, version="", status=503, duration_ms=1),
        Call(edge="storefront-cache", version="v2", status=500, duration_ms=5),
    ]
    assert deal(calls, LIMITS) == Dealt(
        stable=Tally(n=3, bad=1, broken=1),
        candidate=Tally(n=2, bad=2, broken=1),
        lost=Tally(n=1, bad=1, broken=1),
    )


def test_only_who_is_called_can_have_a_candidate() -> None:
    assert limits_ms(MESH, "payments") == {}
    assert limits_ms(MESH, "storefront") == {}
    assert set(limits_ms(ASYNC, "inventory")) == {EDGE}


@pytest.mark.parametrize(
    ("seen", "users", "failed", "verdict"),
    [
        (dealt((600, 0), (66, 30)), 700, 30, Verdict.VALID),
        (dealt((600, 0), (66, 30)), 700, 0, Verdict.VALID),
        (dealt((600, 1), (66, 30)), 700, 31, Verdict.VALID),
        (dealt((600, 0), (66, 30)), 700, 31, Verdict.INVALID),
        (dealt((600, 0), (66, 0)), 0, 0, Verdict.UNKNOWN),
    ],
)
def test_users_may_only_feel_the_calls_that_met_the_candidate(
    seen: Dealt, users: int, failed: int, verdict: Verdict
) -> None:
    assert users_spared(seen, users=users, failed=failed).verdict is verdict


def looked_at(rng: random.Random, chance: float, candidate: float, stable: float, *, storms: bool) -> str:
    """30 s of 50 calls/s, two looks a second. In a storm, a second of ten, most calls are bad, whoever gets them."""
    n = bad = stable_bad = 0
    for look in range(60):
        storm = storms and (look // 2) % 10 == 3
        for _ in range(25):
            met = rng.random() < chance
            n += 1
            if rng.random() < (0.7 if storm else candidate if met else stable):
                bad, stable_bad = bad + met, stable_bad + (not met)
        if e_worse(bad=bad, stable_bad=stable_bad, chance=chance) >= 20:
            return "worse"
        if e_close(n=n, bad=bad, stable_bad=stable_bad, chance=chance, margin=0.05) >= 20:
            return "close"
    return "undecided"


@pytest.mark.parametrize("chance", [0.1, 0.5])
@pytest.mark.parametrize("storms", [False, True])
def test_in_at_most_a_twentieth_of_histories_an_equal_candidate_is_called_worse_or_a_worse_one_equal(
    chance: float, storms: bool
) -> None:
    rng = random.Random(11)
    equal = [looked_at(rng, chance, 0.02, 0.02, storms=storms) for _ in range(100)]
    worse = [looked_at(rng, chance, 0.09, 0.02, storms=False) for _ in range(100)]
    assert equal.count("worse") <= 5
    assert worse.count("close") <= 5
    assert worse.count("worse") > worse.count("undecided") / 2


def test_bounds_without_any_candidate_or_with_nothing_else_reach_to_the_end() -> None:
    assert bounds(0, 50, 100)[0] == 0.0
    assert bounds(50, 50, 100)[1] == 1.0
