"""`stages canary` against a played shop: what is promoted, what is rolled back, and that nothing is left behind."""

from __future__ import annotations

import json

import pytest

from stages.deployment import Deployment
from suite.canary import EXIT_OF, CanaryPlan, CanaryWishes, make_canary, run_canary
from suite.ports import BadInput, SuiteError
from suite.testing.canaries import GOOD, Behaviour, CanaryShop

MESH = Deployment(name="m", run_id="r", stage="mesh", target="local", control="", edge="", directory="")
ILL = Behaviour(failing=0.3)
SYNC = Deployment(name="s", run_id="r", stage="sync", target="local", control="", edge="", directory="")


def plan(**wishes: object) -> CanaryPlan:
    return make_canary(CanaryWishes(**{"service": "inventory", **wishes}), MESH)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [1, 10, 50])
@pytest.mark.parametrize(
    ("candidate", "outcome"), [("good", "promoted"), ("slow", "rolled back"), ("failing", "rolled back")]
)
def test_a_good_candidate_is_promoted_and_a_bad_one_taken_away(share: int, candidate: str, outcome: str) -> None:
    shop = CanaryShop(seed=3)
    content = run_canary(plan(share_percent=share, candidate=candidate), shop.tools()).content
    assert content["outcome"] == outcome, content
    assert (shop.only_version, shop.running, shop.share) == ("v2" if outcome == "promoted" else "v1", None, 0.0)
    assert content["users"]["verdict"] == "valid"
    assert content["users"]["beyond"] == 0


def test_a_bad_candidate_meets_few_users_before_it_is_gone() -> None:
    content = run_canary(plan(candidate="failing"), CanaryShop(seed=5).tools()).content
    assert 0 < content["users"]["failed"] < 40
    assert content["users"]["failed"] / content["users"]["users"] < 0.1
    assert content["seconds"] < 15


@pytest.mark.parametrize(
    "shop",
    [
        pytest.param(
            CanaryShop(seed=2, stable=Behaviour(failing=0.3), candidate=Behaviour(failing=0.3)), id="both-ill"
        ),
        pytest.param(CanaryShop(seed=2, dead=True), id="never-met"),
    ],
)
def test_what_is_not_decided_in_time_is_taken_away(shop: CanaryShop) -> None:
    content = run_canary(plan(seconds=20), shop.tools()).content
    assert (content["outcome"], EXIT_OF[content["outcome"]]) == ("undecided", 2)
    assert (shop.only_version, shop.running) == ("v1", None)


def test_a_good_candidate_that_gets_more_than_its_share_is_rolled_back() -> None:
    content = run_canary(plan(), CanaryShop(seed=2, crooked=3).tools()).content
    assert (content["outcome"], content["share"]["verdict"]) == ("rolled back", "invalid")


def test_users_who_fail_beyond_the_candidates_share_are_shown() -> None:
    content = run_canary(plan(), CanaryShop(seed=2, user_failures=0.05).tools()).content
    assert (content["outcome"], content["users"]["verdict"]) == ("promoted", "invalid")
    assert content["users"]["beyond"] > 0


def test_a_fallback_spares_users_even_the_candidates_failures() -> None:
    content = run_canary(plan(candidate="failing"), CanaryShop(seed=2, rescued=True).tools()).content
    assert (content["outcome"], content["users"]["failed"], content["users"]["verdict"]) == ("rolled back", 0, "valid")


def test_load_is_driven_only_where_nobody_else_does() -> None:
    alone, busy = CanaryShop(), CanaryShop(driven_per_s=40)
    mine = run_canary(plan(), alone.tools()).content
    theirs = run_canary(plan(), busy.tools()).content
    assert (mine["load"], theirs["load"]) == (
        {"driven_by_us": True, "rate": 50.0},
        {"driven_by_us": False, "rate": None},
    )
    assert alone.done[0] == "load browse"
    assert busy.done == ["start inventory at 10", "promote inventory"]
    assert theirs["outcome"] == "promoted"


def test_what_sidecars_write_late_of_a_canary_before_is_not_taken_for_this_one() -> None:
    shop = CanaryShop(seed=6)
    before = run_canary(plan(candidate="failing"), shop.tools()).content
    after = run_canary(plan(), shop.tools()).content
    assert (before["outcome"], after["outcome"]) == ("rolled back", "promoted")
    assert after["load"]["driven_by_us"] is True
    assert after["versions"]["v2"]["broken"] == after["users"]["failed"] == 0


def test_orders_are_there_to_be_cancelled_before_a_candidate_of_orders_comes() -> None:
    shop = CanaryShop(edge="storefront-orders")
    assert run_canary(plan(service="orders"), shop.tools()).content["outcome"] == "promoted"
    assert shop.done == [
        "load place-order, track-order, cancel-order",
        "restock",
        "start orders at 10",
        "promote orders",
    ]


def test_whatever_goes_wrong_the_candidate_is_gone() -> None:
    shop = CanaryShop(candidate=GOOD)

    class Stop(Exception):
        pass

    def interrupt(_start: int, end_ns: int) -> None:
        if shop.running is not None and end_ns > 12 * 10**9 + 1_000 * 10**9:
            raise Stop

    shop.clock.listeners.append(interrupt)
    with pytest.raises(Stop):
        run_canary(plan(), shop.tools())
    assert (shop.running, shop.share, shop.rate) == (None, 0.0, 0.0)
    refusing = CanaryShop(refuses="inventory-canary exited with 1")
    with pytest.raises(SuiteError, match="exited with 1"):
        run_canary(plan(), refusing.tools())
    assert refusing.running is None


def test_all_that_is_wrong_with_the_wishes_is_said_at_once() -> None:
    wishes = CanaryWishes(service="payments", share_percent=0, candidate="dull", seconds=1, rate=0)
    with pytest.raises(BadInput) as caught:
        make_canary(wishes, MESH, busy=["inventory-paused"])
    said = "\n".join(caught.value.problems)
    for word in ("inventory-paused", "nobody calls 'payments'", "--share 0", "'dull'", "--seconds 1", "--rate 0"):
        assert word in said
    with pytest.raises(BadInput, match="stage 'sync' has no mesh"):
        make_canary(CanaryWishes(service="inventory"), SYNC)
    with pytest.raises(BadInput, match="did you mean 'inventory'"):
        make_canary(CanaryWishes(service="inventry"), MESH)


def test_the_answer_is_json_and_a_table() -> None:
    page = run_canary(plan(), CanaryShop(seed=4).tools())
    content = json.loads(json.dumps(page.content))
    assert {*content["versions"]} == {"v1", "v2"}
    assert content["versions"]["v2"]["p50_ms"] == 8.0
    assert "promoted after" in str(page.text[-1])
