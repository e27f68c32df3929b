"""The whole pipeline on a simulated shop: what verdict does each kind of run end with?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from stages.blast_radius import Effect
from stages.check import PolicyTry
from stages.history import Audit
from suite.bootstrap import fault_catalogue
from suite.plan import make_plan
from suite.ports import SuiteError
from suite.stage_run import StageResult, run_stage
from suite.store import Store
from suite.testing.world import World
from suite.verdict import run_document
from suite.wishes import Wishes

CATALOGUE = fault_catalogue()


def judge(tmp_path: Path, *faults: str, stage: str = "sync", **world: Any) -> dict[str, Any]:
    """Run a stage with some faults in a simulated world; return the stage's part of verdict.json."""
    plan = make_plan(Wishes(stages=(stage,), faults=faults), catalogue=CATALOGUE, cannot={})
    simulated = World(tmp_path, catalogue={f.name: f for f in CATALOGUE[stage]}, **world)
    store = Store.create(tmp_path / "run", now=datetime.now(UTC), seed=1)
    result = StageResult(plan=plan.stages[0])
    run_stage(plan, result, simulated.tools(store))
    now, machine = datetime.now(UTC), {"cores": 2}
    document = run_document(plan, [result], started=now, duration_s=1, command=("test",), environment=machine)
    found: dict[str, Any] = document["stages"][stage]
    assert document["verdict"] == found["verdict"]
    return found


def cell(found: dict[str, Any], operation: str) -> dict[str, Any]:
    return next(c for c in found["matrix"] if c["operation"] == operation)


def check(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in found["checks"] if c["name"] == name)


def not_valid(found: dict[str, Any]) -> list[Any]:
    parts = [*found["matrix"], *found["pooled"], *found["checks"], *found["operations"].values()]
    return [p for p in parts if p["verdict"] != "valid"]


@pytest.mark.parametrize(("busy_cores", "told"), [(0.5, False), (1.9, True)])
def test_who_fails_on_a_machine_without_a_core_to_spare_is_told_so(
    tmp_path: Path, busy_cores: float, told: bool
) -> None:
    found = judge(tmp_path, "payments-killed", sticky=frozenset({"payments-killed"}), busy_cores=busy_cores)
    assert found["verdict"] == "invalid"
    assert ("1.90 of this machine's 2 cores were busy with 50 requests/s" in found["because"]) is told
    assert ("a lower --rate" in found["because"]) is told


def test_who_is_valid_is_not_excused(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", busy_cores=1.9)
    assert (found["verdict"], found["because"]) == ("valid", "")


def test_a_shop_that_does_as_predicted_is_valid(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", "inventory-killed", "shop-cluster-outage")
    assert not_valid(found) == []
    assert found["verdict"] == "valid"
    radius = found["blast_radius"]
    assert radius["predicted"] == radius["measured"] == radius["measured_low"] == radius["measured_high"] > 0


def test_what_waits_for_the_faults_end_is_delayed_and_as_predicted(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", "email-killed", stage="async")
    assert not_valid(found) == []
    assert {c["operation"]: c["measured"] for c in found["matrix"] if c["fault"] == "payments-killed"} == {
        "browse": "unaffected",
        "register": "unaffected",
        "place-order": "delayed",
        "track-order": "unaffected",
        "cancel-order": "delayed",
        "insights": "unaffected",
    }
    assert found["completions"]["order-completed"]["verdict"] == "valid"
    assert found["blast_radius"]["measured"] == found["blast_radius"]["predicted"]


def test_a_completion_that_waits_where_none_should_is_a_leak(tmp_path: Path) -> None:
    leak = {("cache-killed", "place-order"): Effect.DELAYED}
    found = judge(tmp_path, "cache-killed", stage="async", reality=leak)
    assert (cell(found, "place-order")["measured"], cell(found, "place-order")["verdict"]) == ("delayed", "invalid")


def test_what_was_accepted_and_never_completed_is_lost_and_named(tmp_path: Path) -> None:
    def forget(audits: list[Audit]) -> list[Audit]:
        return [replace(a, detail={}) if a.kind == "order" and a.detail else a for a in audits]

    found = judge(tmp_path, "payments-killed", stage="async", spoil=forget)
    assert cell(found, "place-order")["measured"] == "failing"
    assert found["completions"]["order-completed"]["verdict"] == "invalid"
    assert "accepted, then lost" in found["completions"]["order-completed"]["because"]


def test_a_leak_is_invalid_and_named_in_its_cell(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", reality={("payments-killed", "track-order"): Effect.FAILING})
    assert found["verdict"] == "invalid"
    assert cell(found, "track-order")["verdict"] == "invalid"
    assert cell(found, "browse")["verdict"] == "valid"


def test_better_than_predicted_is_valid_and_said(tmp_path: Path) -> None:
    found = judge(tmp_path, "inventory-killed", reality={("inventory-killed", "browse"): Effect.UNAFFECTED})
    assert cell(found, "browse")["verdict"] == "valid"
    assert cell(found, "browse")["evidence"]["better"] is True


def test_a_fault_that_did_not_bite_leaves_its_row_unknown(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", dull=frozenset({"payments-killed"}))
    assert found["verdict"] == "unknown"
    assert {c["verdict"] for c in found["matrix"]} == {"unknown"}
    assert found["faults"][0]["injected"] is False


def test_a_shop_that_does_not_recover_is_invalid_and_gets_no_further_fault(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", "inventory-killed", sticky=frozenset({"inventory-killed"}))
    assert found["verdict"] == "invalid"
    assert check(found, "recovered-after-every-fault")["verdict"] == "invalid"
    assert found["faults"][-1]["because"] == "the run ended before"


def test_everything_failing_where_nothing_should_is_found_by_a_second_injection(tmp_path: Path) -> None:
    every = {
        ("storefront-analytics-latency", o): Effect.FAILING
        for o in ("browse", "register", "place-order", "track-order", "cancel-order", "insights")
    }
    found = judge(tmp_path, "storefront-analytics-latency", reality=every)
    assert {c["measured"] for c in found["matrix"]} == {"failing"}
    assert found["verdict"] == "invalid"


STANDS = {"mail": "confirmation", "order": "confirmed", "capture": "captured", "reservation": "reserved"}


def standing(audits: list[Audit], kind: str) -> Audit:
    """A record of an order that was not cancelled."""
    kept = {a.key for a in audits if (a.kind, a.state) == ("order", "confirmed")}
    return next(a for a in audits if (a.kind, a.state) == (kind, STANDS[kind]) and a.key in kept)


def double(audits: list[Audit]) -> list[Audit]:
    return [*audits, replace(standing(audits, "capture"), id="another")]


def without(kind: str) -> Callable[[list[Audit]], list[Audit]]:
    def spoil(audits: list[Audit]) -> list[Audit]:
        victim = standing(audits, kind)
        return [a for a in audits if a is not victim]

    return spoil


@pytest.mark.parametrize(
    ("spoil", "broken"),
    [
        (double, "no-order-applied-twice"),
        (without("mail"), "one-email-per-confirmed-order"),
        (without("order"), "no-order-lost"),
        (without("capture"), "money-conserved"),
        (without("reservation"), "stock-conserved"),
    ],
)
def test_a_broken_promise_is_found_in_the_audits(
    tmp_path: Path, spoil: Callable[[list[Audit]], list[Audit]], broken: str
) -> None:
    found = judge(tmp_path, "payments-killed", spoil=spoil)
    assert check(found, broken)["verdict"] == "invalid"
    assert found["verdict"] == "invalid"


def test_something_left_behind_is_invalid(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", left_over=["process 4711 (payments)"])
    assert check(found, "nothing-left-behind")["verdict"] == "invalid"


def test_a_deployment_that_fails_is_unknown_with_its_reason_and_every_cell_present(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", broken_up="payments exited with 1")
    assert found["verdict"] == "unknown"
    assert "payments exited with 1" in found["because"]
    assert {c["verdict"] for c in found["matrix"]} == {"unknown"}


def test_the_crash_of_the_load_generator_is_unknown_not_a_crash_of_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suite.testing.world import WorldLoad

    def dead(self: WorldLoad) -> Iterable[Any]:
        raise SuiteError("the load process ended with 1")

    monkeypatch.setattr(WorldLoad, "outstanding", dead)
    found = judge(tmp_path, "payments-killed")
    assert found["verdict"] == "unknown"
    assert "load process" in found["because"]


def test_a_run_of_two_stages_tells_what_the_step_bought(tmp_path: Path) -> None:
    plan = make_plan(Wishes(stages=("sync", "async"), quick=True, rate=50.0), catalogue=CATALOGUE, cannot={})
    results = []
    for staged in plan.stages:
        directory = tmp_path / staged.stage.name
        directory.mkdir()
        world = World(directory, catalogue={f.name: f for f in CATALOGUE[staged.stage.name]})
        results.append(StageResult(plan=staged))
        run_stage(plan, results[-1], world.tools(Store.create(directory / "run", now=datetime.now(UTC), seed=1)))
    document = run_document(plan, results, started=datetime.now(UTC), duration_s=1, command=("test",), environment={})
    radii = document["comparison"]["blast_radius"]["stages"]
    assert (document["verdict"], document["comparison"]["falls"]) == ("valid", True)
    assert radii["async"]["measured"] < radii["sync"]["measured"]
    assert radii["async"]["failing"]["high"] == 0


SCHEMA = json.loads((resources.files("suite") / "governed_schema.json").read_text())


def test_the_mesh_says_who_answers_whose_budget_is_spent_and_which_calls_work(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed", "inventory-killed", stage="mesh")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA)
    assert [part["name"] for part in not_valid(found)] == ["breakers-open-and-close"], "no sidecar wrote anything"
    assert check(found, "policy-as-modelled")["verdict"] == found["policy"]["verdict"] == "valid"
    assert list(found["control_planes"]) == ["commerce", "fulfilment", "payments", "engagement"]
    payments = next(g for g in found["governance"] if g["system"] == "payments")
    budget = payments["objectives"][0]["budget"]
    spent = {row["fault"]: row["bad"] for row in budget["by_fault"]}
    assert (payments["owner"], payments["objectives"][0]["name"]) == ("team-money", "order-completed")
    assert spent["payments-killed"] > 0
    assert spent["without any fault"] == 0
    assert budget["bad"] == sum(spent.values())
    assert budget["spent"] == pytest.approx(budget["bad"] / budget["allowed"], rel=0.01)


def test_a_mesh_that_takes_plaintext_is_invalid(tmp_path: Path) -> None:
    def permissive(tries: list[PolicyTry]) -> list[PolicyTry]:
        return [replace(t, allowed=True, answer="allowed") if t.credential == "plaintext" else t for t in tries]

    found = judge(tmp_path, "payments-killed", stage="mesh", misrule=permissive)
    assert (found["verdict"], check(found, "policy-as-modelled")["verdict"]) == ("invalid", "invalid")
    wrong = {c["credential"] for c in found["policy"]["cells"] if c["verdict"] == "invalid"}
    assert wrong == {"plaintext"}


def test_policy_that_could_not_be_tried_is_unknown_and_the_run_goes_on(tmp_path: Path) -> None:
    def refuse(tries: list[PolicyTry]) -> list[PolicyTry]:
        raise SuiteError("no root to forge with")

    found = judge(tmp_path, "payments-killed", stage="mesh", misrule=refuse)
    assert found["verdict"] == "unknown"
    assert check(found, "policy-as-modelled")["because"] == ("nobody tried which calls work: no root to forge with")
    assert cell(found, "browse")["verdict"] == "valid"


def test_a_stage_without_a_mesh_has_no_policy_to_check(tmp_path: Path) -> None:
    found = judge(tmp_path, "payments-killed")
    jsonschema.validate(found, SCHEMA)
    assert (found["governance"], found["policy"], found["control_planes"]) == ([], None, {})
    assert "policy-as-modelled" not in {c["name"] for c in found["checks"]}
