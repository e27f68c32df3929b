"""What does a sweep plan to do, and what does it refuse before anything is started?"""

from __future__ import annotations

import pytest

from stages.catalogue import STAGES
from stages.deployment import Deployment
from stages.distance import Block, fit, line, round_trips, wires_between_systems
from suite.ports import BadInput
from suite.sweep_plan import DELAYS_MS, QUICK_DELAYS_MS, make_sweep, rounds_of_blocks
from suite.wishes import SweepWishes

RUNNING = Deployment(
    name="mine", run_id="r", stage="sync", target="local", control="", edge="http://127.0.0.1:1", directory=""
)


def problems(wishes: SweepWishes, **more: object) -> str:
    with pytest.raises(BadInput) as refused:
        make_sweep(wishes, **{"cannot": {}, **more})  # type: ignore[arg-type]
    return "\n".join(refused.value.problems)


def test_without_wishes_all_stages_that_can_run_are_swept_at_five_distances() -> None:
    plan = make_sweep(SweepWishes(), cannot={"mesh": ["no registry"]})
    assert [s.stage.name for s in plan.stages] == ["sync", "async"]
    assert plan.delays_ms == DELAYS_MS == (0, 5, 10, 25, 50)
    for swept in plan.stages:
        assert swept.wires == wires_between_systems(swept.stage)
        assert swept.predicted == round_trips(swept.stage)


def test_quick_means_fewer_distances_and_less_time() -> None:
    quick, full = (make_sweep(SweepWishes(stages=("sync",), quick=q), cannot={}) for q in (True, False))
    assert quick.delays_ms == QUICK_DELAYS_MS
    assert len(quick.stages[0].rounds_ms) < full.timings.rounds < len(full.stages[0].rounds_ms)
    wished = make_sweep(SweepWishes(stages=("sync",), quick=True, delays="30, 10,0,20,10"), cannot={})
    assert wished.delays_ms == (0, 10, 20, 30)


def test_each_distance_comes_as_early_as_late_and_the_seed_decides_the_rest() -> None:
    rounds = rounds_of_blocks(DELAYS_MS, 2, "7/sync")
    for order in rounds:
        assert order == order[::-1]
        assert sorted(order) == sorted(DELAYS_MS * 2)
    assert rounds == rounds_of_blocks(DELAYS_MS, 2, "7/sync")
    assert len({rounds_of_blocks(DELAYS_MS, 1, f"{seed}/sync") for seed in range(20)}) > 10


@pytest.mark.parametrize("delays", [DELAYS_MS, QUICK_DELAYS_MS])
def test_one_round_of_what_is_planned_suffices_for_an_interval(delays: tuple[int, ...]) -> None:
    (order,) = rounds_of_blocks(delays, 1, "1")
    blocks = [Block(one_way_ms=d, latencies_ms=[2.0 * d] * 9) for d in order]
    assert line(blocks) is not None
    assert fit(blocks, 1).verdict == "valid"


def test_stages_come_in_the_order_of_the_path_however_they_were_typed() -> None:
    plan = make_sweep(SweepWishes(stages=("async", "sync", "async")), cannot={})
    assert [s.stage.name for s in plan.stages] == ["sync", "async"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    said = problems(
        SweepWishes(stages=("snyc", "mesh"), delays="0,fast,-5,5000", rate=0), cannot={"mesh": ["no registry"]}
    )
    for part in (
        "unknown stage 'snyc': did you mean 'sync'?",
        "stage 'mesh' cannot run here: no registry",
        "'fast', '-5', '5000' is no whole number of milliseconds from 0 to 1000",
        "--rate 0",
    ):
        assert part in said


@pytest.mark.parametrize(("delays", "count"), [("0,25,50", 2), ("5,5,5", 1), (",".join(map(str, range(14))), 13)])
def test_a_line_needs_a_few_distances_and_not_too_many(delays: str, count: int) -> None:
    assert f"names {count} different distances besides 0, 3 to 12" in problems(SweepWishes(delays=delays))


def test_a_distance_beyond_the_timeouts_is_refused_with_the_reason() -> None:
    said = problems(SweepWishes(stages=("sync",), delays="0,5,10,150"))
    assert "--delays 150 is too far for stage 'sync': " in said
    assert "place-order" in said or "register" in said
    assert make_sweep(SweepWishes(stages=("async",), delays="0,5,10,150"), cannot={}).delays_ms == (0, 5, 10, 150)


def test_the_distances_that_are_planned_by_default_are_near_enough_for_every_stage() -> None:
    assert make_sweep(SweepWishes(stages=tuple(STAGES)), cannot={}).delays_ms == DELAYS_MS


def test_a_running_deployment_decides_the_stage() -> None:
    assert [s.stage.name for s in make_sweep(SweepWishes(), cannot={}, use=RUNNING).stages] == ["sync"]
    said = problems(SweepWishes(stages=("async",)), use=RUNNING, busy=["payments-killed"])
    assert "'mine' runs stage 'sync', not async" in said
    assert "fault 'payments-killed' is on in deployment 'mine': 'stages heal' undoes it" in said


def test_where_nothing_can_run_the_reasons_are_given() -> None:
    said = problems(SweepWishes(), cannot={name: ["no Linux"] for name in STAGES})
    assert said.count("no Linux") == len(STAGES)
