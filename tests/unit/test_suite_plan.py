"""What a run will do is decided, and every problem found, before anything starts."""

from __future__ import annotations

import pytest

from stages.catalogue import STAGES, VARIANTS
from stages.deployment import Deployment
from suite.bootstrap import fault_catalogue
from suite.plan import QUICK, Plan, Timings, make_plan
from suite.ports import BadInput
from suite.wishes import DEFAULT_RATE, QUICK_RATE, Wishes

CATALOGUE = fault_catalogue()
NO_MESH = {"mesh": ["not built"]}


def plan(wishes: Wishes, use: Deployment | None = None) -> Plan:
    return make_plan(wishes, catalogue=CATALOGUE, cannot=NO_MESH, use=use)


def deployment(stage: str = "sync", variant: str | None = None) -> Deployment:
    return Deployment(
        name="mine", run_id="r", stage=stage, target="local", control="", edge="", directory="", variant=variant
    )


def test_without_wishes_every_stage_that_can_run_gets_every_fault() -> None:
    made = plan(Wishes())
    assert [s.stage.name for s in made.stages] == ["sync", "async"]
    for staged in made.stages:
        assert [f.name for f in staged.faults] == [f.name for f in CATALOGUE[staged.stage.name]]
    assert (made.timings, made.rate) == (Timings(), DEFAULT_RATE)


def test_quick_takes_three_faults_short_phases_and_a_lower_rate() -> None:
    made = plan(Wishes(quick=True))
    assert len(made.stages[0].faults) == 3
    assert (made.timings, made.rate) == (QUICK, QUICK_RATE)


def test_a_rate_that_was_asked_for_counts() -> None:
    assert plan(Wishes(quick=True, rate=80.0)).rate == 80.0


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_quick_run_of_a_variant_includes_the_fault_that_exposes_it(variant: str) -> None:
    made = make_plan(Wishes(quick=True, variant=variant), catalogue=CATALOGUE, cannot={})
    names = [f.name for f in made.stages[0].faults]
    assert VARIANTS[variant].exposed_by in names


def test_named_faults_run_in_the_order_of_the_catalogue() -> None:
    made = plan(Wishes(faults=("inventory-killed", "payments-killed")))
    order = [f.name for f in CATALOGUE["sync"] if f.name in ("inventory-killed", "payments-killed")]
    assert [f.name for f in made.stages[0].faults] == order


def test_all_problems_are_told_at_once_with_what_was_meant() -> None:
    wishes = Wishes(stages=("snyc", "mesh"), faults=("payments-kiled",), variant="no-brakes", rate=0.5)
    with pytest.raises(BadInput) as caught:
        plan(wishes)
    told = "\n".join(caught.value.problems)
    assert "did you mean 'sync'" in told
    assert "stage 'mesh' cannot run here: not built" in told
    assert "did you mean 'no-breaker'" in told
    assert "--rate 0.5" in told
    assert len(caught.value.problems) == 5


def test_a_used_deployment_decides_the_stage() -> None:
    assert [s.stage.name for s in plan(Wishes(), use=deployment()).stages] == ["sync"]


def test_a_used_deployment_of_another_stage_or_variant_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        plan(Wishes(stages=("async",)), use=deployment(variant="no-timeout"))
    assert len(caught.value.problems) == 2


def test_promised_cells_are_those_that_users_are_promised_an_answer_in() -> None:
    made = plan(Wishes(faults=("shop-cluster-outage", "inventory-killed"))).stages[0]
    fine = [p for row in made.predictions.values() for p in row.values() if str(p.effect) != "failing"]
    assert made.promised_cells == len(fine) > 0


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_exposed_by_a_fault_of_its_stage(name: str) -> None:
    assert VARIANTS[name].exposed_by in {f.name for f in CATALOGUE[VARIANTS[name].stage]}


def test_a_variant_runs_on_its_own_stage() -> None:
    assert [s.stage.name for s in plan(Wishes(variant="no-dlq")).stages] == ["async"]
    with pytest.raises(BadInput) as caught:
        plan(Wishes(variant="no-dlq", stages=("sync",)))
    assert "stages verify async --variant no-dlq" in str(caught.value)


def test_every_stage_has_its_faults() -> None:
    assert all(CATALOGUE[name] for name in STAGES)
