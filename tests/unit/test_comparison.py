"""The comparison of stages: how far faults reach side by side, what changed and why, the price; doubt stays doubt."""

from __future__ import annotations

import json
from copy import deepcopy
from importlib import resources
from typing import Any

import jsonschema
import pytest

from stages.blast_radius import predict
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from suite.bootstrap import fault_catalogue
from suite.comparison import compare
from suite.comparison.faults import why_missing
from suite.comparison.operations import told, waited_for
from suite.comparison.radius import LOST, compared_rows, reach
from suite.report.simulated import impacts
from suite.report.testing import Sample, sample

SCHEMA = json.loads((resources.files("suite.comparison") / "schema.json").read_text())
IMPACTS = {name: impacts(stage) for name, stage in STAGES.items()}


@pytest.fixture(scope="module")
def run() -> Sample:
    return sample("valid", stages=("sync", "async"))


@pytest.fixture
def documents(run: Sample) -> dict[str, Any]:
    """The stages of verdict.json, to be changed by a test."""
    return deepcopy(run.verdict["stages"])


def compared(documents: dict[str, Any]) -> dict[str, Any]:
    return compare(documents, STAGES, IMPACTS)


def cell(documents: dict[str, Any], stage: str, fault: str, operation: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = documents[stage]["matrix"]
    return next(c for c in rows if (c["fault"], c["operation"]) == (fault, operation))


def entry(found: dict[str, Any], fault: str, operation: str) -> dict[str, Any]:
    row = next(f for f in found["faults"] if f["fault"] == fault)
    return next(o for o in row["operations"] if o["operation"] == operation)


@pytest.mark.parametrize("stages", [("sync", "async"), ("sync", "async", "mesh")])
@pytest.mark.parametrize("kind", ["valid", "invalid", "unknown"])
def test_every_comparison_is_as_its_schema_says_and_json(kind: Any, stages: tuple[str, ...]) -> None:
    found = sample(kind, stages=stages, faults=12, rate=20).verdict["comparison"]
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_one_stage_cannot_be_compared(documents: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs two stages at least, not 1: sync"):
        compare({"sync": documents["sync"]}, STAGES, IMPACTS)


def test_blast_radius_is_over_the_faults_that_all_stages_have(run: Sample) -> None:
    found = run.verdict["comparison"]["blast_radius"]
    assert "payments-killed" in found["faults"]
    assert {"orders-payments-latency", "broker-outage"}.isdisjoint(found["faults"])
    for stage in found["stages"].values():
        assert sum(stage["effects"].values()) == pytest.approx(1, abs=0.001)
        assert stage["low"] <= stage["measured"] <= stage["high"]


def test_a_radius_that_falls_is_valid_and_says_by_how_much(run: Sample) -> None:
    found = run.verdict["comparison"]
    assert (found["verdict"], found["falls"]) == ("valid", True)
    sync, later = (found["blast_radius"]["stages"][name] for name in ("sync", "async"))
    assert later["high"] < sync["low"]
    assert f"{sync['measured']:.2f} at sync, {later['measured']:.2f} at async" in found["because"]
    assert later["failing"]["high"] < sync["failing"]["low"]


def test_undecided_cells_that_could_turn_it_round_leave_it_open(documents: dict[str, Any]) -> None:
    for operation in SYNC.operations:
        for fault in ("accounts-killed", "payments-killed", "inventory-database-slow"):
            cell(documents, "async", fault, operation.name)["measured"] = "unknown"
    found = compared(documents)
    assert (found["verdict"], found["falls"]) == ("unknown", None)
    assert "may or may not fall" in found["because"]
    assert entry(found, "payments-killed", "browse")["steps"][0] == {
        "before": "sync",
        "after": "async",
        "change": "undecided",
        "because": "not decided at async",
    }


def test_undecided_cells_that_cannot_turn_it_round_leave_it_valid(documents: dict[str, Any]) -> None:
    cell(documents, "async", "payments-killed", "browse")["measured"] = "unknown"
    assert (compared(documents)["verdict"], compared(documents)["falls"]) == ("valid", True)


def test_a_radius_that_does_not_fall_against_the_prediction_is_invalid(documents: dict[str, Any]) -> None:
    for row in documents["async"]["matrix"]:
        row["measured"] = "failing"
    found = compared(documents)
    assert (found["verdict"], found["falls"]) == ("invalid", False)
    assert found["steps"][0]["bought"] == [] or "falls" not in found["steps"][0]["bought"][0]
    assert found["steps"][0]["paid"][0] == found["because"]


def test_faults_that_do_not_tell_the_stages_apart_break_nothing(documents: dict[str, Any]) -> None:
    for document in documents.values():
        document["matrix"] = [c for c in document["matrix"] if c["fault"] == "shop-cluster-outage"]
    found = compared(documents)
    assert (found["verdict"], found["falls"]) == ("valid", False)
    assert found["because"].endswith("under the 1 fault that both have; nor was it predicted to under these faults")


def test_without_a_fault_in_common_nothing_is_known(documents: dict[str, Any]) -> None:
    documents["async"]["matrix"] = [c for c in documents["async"]["matrix"] if c["fault"] == "broker-outage"]
    found = compared(documents)
    assert (found["verdict"], found["falls"]) == ("unknown", None)
    assert found["because"] == "sync and async have no fault in common"


def test_cells_that_change_say_how_and_why_at_both_stages(run: Sample) -> None:
    assert entry(run.verdict["comparison"], "payments-killed", "place-order")["steps"] == [
        {
            "before": "sync",
            "after": "async",
            "change": "better",
            "because": "sync: place-order fails because storefront calls orders and orders calls payments "
            "synchronously, and payments does not answer; async: place-order is delayed because storefront calls "
            "orders synchronously, and orders commands payments by message, and payments does not answer",
        }
    ]


def test_a_measurement_against_the_prediction_is_not_explained_by_it(documents: dict[str, Any]) -> None:
    cell(documents, "async", "payments-killed", "browse")["measured"] = "failing"
    step = entry(compared(documents), "payments-killed", "browse")["steps"][0]
    assert step["change"] == "worse"
    assert step["because"].endswith("async: failing, against the prediction (unaffected)")
    assert "payments-killed is worse for browse" in compared(documents)["steps"][0]["paid"]


@pytest.mark.parametrize(
    ("fault", "having", "lacking", "why"),
    [
        ("orders-payments-latency", SYNC, ASYNC, "orders commands payments by message: there is no such wire"),
        ("accounts-email-refused", SYNC, ASYNC, "accounts tells email by message: there is no such wire"),
        ("broker-outage", ASYNC, SYNC, "sync has no broker"),
        ("broker-slow", ASYNC, SYNC, "sync has no broker"),
        ("payments-poisoned", ASYNC, SYNC, "sync sends no messages"),
        ("accounts-killed-publishing", ASYNC, SYNC, "sync sends no messages"),
        ("payments-cluster-outage", MESH, ASYNC, "async has no payments cluster"),
        ("shop-cluster-outage", SYNC, MESH, "mesh has no shop cluster"),
        ("commerce-payments-partitioned", MESH, SYNC, "sync has no mesh"),
        ("inventory-sidecar-killed", MESH, ASYNC, "async has no mesh"),
        ("root-rotated", MESH, ASYNC, "async has no mesh"),
        ("registry-outage", MESH, ASYNC, "async has no registry"),
        ("storefront-inventory-blackhole", ASYNC, SYNC, "not injected at sync in this run"),
        ("payments-killed", SYNC, ASYNC, "not injected at async in this run"),
    ],
)
def test_a_fault_that_a_stage_lacks_has_its_reason(fault: str, having: Any, lacking: Any, why: str) -> None:
    assert why_missing(fault, having, lacking) == why


def test_every_fault_of_the_catalogue_has_a_reason_where_it_is_missing() -> None:
    faults = {name: {f.name for f in plans} for name, plans in fault_catalogue().items()}
    for having in STAGES.values():
        for lacking in STAGES.values():
            for fault in faults[having.name] - faults[lacking.name]:
                assert "not injected" not in why_missing(fault, having, lacking), (fault, having.name, lacking.name)


def test_what_users_wait_for_is_what_is_called() -> None:
    assert waited_for(SYNC, "place-order")[:4] == ["orders", "inventory", "payments", "shipping"]
    assert waited_for(ASYNC, "place-order") == ["orders"]
    assert told(ASYNC, "place-order") == ["inventory", "payments", "shipping", "email", "analytics", "cache"]
    assert waited_for(ASYNC, "browse") == ["inventory"]


def test_latency_is_called_changed_only_where_median_and_tail_agree(documents: dict[str, Any]) -> None:
    def change(p50: float, p99: float) -> str:
        documents["sync"]["operations"]["browse"] |= {"p50_ms": 10, "p99_ms": 30}
        documents["async"]["operations"]["browse"] |= {"p50_ms": p50, "p99_ms": p99}
        step = compared(documents)["operations"][0]["steps"][0]
        assert step["because"] == "the answer waits for inventory, as before"
        return str(step["change"])

    assert [change(5, 15), change(10, 31), change(10, 90), change(20, 60)] == ["faster", "similar", "similar", "slower"]


def test_price_counts_parts_by_kind(run: Sample) -> None:
    parts = run.verdict["comparison"]["price"]["async"]["parts"]
    assert parts == {
        "services": 9,
        "calls": 5,
        "commands": 3,
        "events": 6,
        "queues": 7,
        "topics": 2,
        "dead_letter_queues": 7,
        "clusters": 1,
        "sidecars": 0,
        "gateways": 0,
        "control_planes": 0,
        "shared": ["broker"],
        "gaps": [],
    }


def test_a_step_is_told_with_what_it_bought_and_what_was_paid(run: Sample) -> None:
    step = run.verdict["comparison"]["steps"][0]
    bought, paid = " | ".join(step["bought"]), " | ".join(step["paid"])
    assert step["bought"][0] == step["because"]
    assert "the answer no longer waits for inventory, payments and shipping, which hear of it by message" in bought
    assert "gaps closed: lost-email, unannounced-user" in bought
    assert "broker-outage" in paid
    assert "order-completed" in paid
    assert "on top come 7 queues, 2 topics, 7 dead-letter queues and a broker that all share" in paid


def test_a_stage_that_never_ran_is_compared_without_figures(documents: dict[str, Any]) -> None:
    documents["async"] |= {"operations": {}, "completions": {}, "matrix": [], "faults": []}
    documents["async"] |= {
        "memory_mb": None,
        "processes": None,
        "cpu_cores": None,
        "cpu_ms_per_order": None,
        "up_s": None,
    }
    found = compared(documents)
    jsonschema.validate(found, SCHEMA)
    assert (found["verdict"], found["falls"]) == ("unknown", None)
    assert {step["change"] for o in found["operations"] for step in o["steps"]} == {"unknown"}


@pytest.fixture(scope="module")
def path() -> Sample:
    return sample("valid", stages=("sync", "async", "mesh"), rate=30)


def test_the_radius_falls_along_the_whole_path(path: Sample) -> None:
    found = path.verdict["comparison"]
    radii = [found["blast_radius"]["stages"][name] for name in ("sync", "async", "mesh")]
    assert (found["verdict"], found["falls"]) == ("valid", True)
    assert radii[2]["high"] < radii[1]["low"] <= radii[1]["high"] < radii[0]["low"]
    assert "and the loss of a cluster" in found["because"]


def test_the_prediction_over_the_whole_catalogue_falls_along_the_path() -> None:
    catalogue = fault_catalogue()
    documents = {
        name: {
            "matrix": [
                {"fault": f.name, "operation": o, "predicted": p.effect.value, "measured": p.effect.value}
                for f in catalogue[name]
                for o, p in predict(stage, f.impact).items()
            ]
        }
        for name, stage in STAGES.items()
    }
    rows = compared_rows(documents, STAGES)
    radii = {name: reach(documents[name]["matrix"], rows, stage) for name, stage in STAGES.items()}
    assert LOST in rows
    assert radii["mesh"].predicted < radii["async"].predicted < radii["sync"].predicted


def test_the_loss_of_a_cluster_is_the_mean_of_its_clusters_outages() -> None:
    cells = [
        {"fault": f"{c}-cluster-outage", "operation": o, "predicted": "failing", "measured": measured}
        for c, measured in (
            ("commerce", "failing"),
            ("fulfilment", "delayed"),
            ("payments", "unaffected"),
            ("engagement", "unaffected"),
        )
        for o in ("browse", "insights")
    ]
    found = reach(cells, (LOST,), MESH)
    assert (found.measured, found.predicted) == (0.5, 1.0)
    assert found.total == MESH.operation("browse").weight + MESH.operation("insights").weight


def test_the_loss_of_a_cluster_counts_only_where_all_were_lost(path: Sample) -> None:
    documents = deepcopy(path.verdict["stages"])
    assert compared(documents)["blast_radius"]["faults"][-1] == "a cluster is lost"
    kept = [c for c in documents["mesh"]["matrix"] if c["fault"] != "payments-cluster-outage"]
    documents["mesh"]["matrix"] = kept
    assert "a cluster is lost" not in compared(documents)["blast_radius"]["faults"]


def test_stages_with_the_same_clusters_share_their_outage(run: Sample) -> None:
    faults = run.verdict["comparison"]["blast_radius"]["faults"]
    assert "shop-cluster-outage" in faults
    assert "a cluster is lost" not in faults


def test_the_ideal_and_what_is_still_shared_are_named(path: Sample) -> None:
    radius = path.verdict["comparison"]["blast_radius"]
    shared = ["broker", "registry", "fulfilment-gateway", "engagement-gateway"]
    assert radius["ideal"] == {"clusters": 4, "share": 0.25}
    assert radius["shared"] == {"sync": [], "async": [], "mesh": shared}
    told = path.verdict["comparison"]["steps"][1]["paid"][-1]
    assert told.startswith("ideal for 4 clusters would be 0.25, against 0.3")
    assert told.endswith("they still share broker, registry, fulfilment-gateway and engagement-gateway")


def test_each_lost_cluster_says_what_lives_there_and_what_was_left_alone(path: Sample) -> None:
    rows = {row["cluster"]: row for row in path.verdict["comparison"]["clusters"]}
    assert {name: (row["contained"], row["lives_there"]) for name, row in rows.items()} == {
        "commerce": (True, [o.name for o in MESH.operations]),
        "fulfilment": (True, ["browse"]),
        "payments": (True, []),
        "engagement": (True, ["insights"]),
    }
    assert rows["engagement"]["because"] == (
        "the loss of engagement leaves browse, track-order and cancel-order unaffected and register and place-order "
        "delayed; insights lives there"
    )
    assert (
        "the loss of fulfilment, payments and engagement each leaves unaffected or delayed whatever does not live there"
        in path.verdict["comparison"]["steps"][1]["bought"]
    )


def test_a_lost_cluster_that_reaches_further_is_named_and_one_not_decided_left_open(path: Sample) -> None:
    documents = deepcopy(path.verdict["stages"])
    cell(documents, "mesh", "payments-cluster-outage", "track-order")["measured"] = "failing"
    cell(documents, "mesh", "engagement-cluster-outage", "browse").update(measured="unknown", verdict="unknown")
    cell(documents, "mesh", "fulfilment-cluster-outage", "place-order")["measured"] = "unknown"
    rows = {row["cluster"]: row for row in compared(documents)["clusters"]}
    assert [rows[c]["contained"] for c in ("fulfilment", "payments", "engagement")] == [True, False, None]
    assert rows["payments"]["because"] == (
        "the loss of payments reaches beyond what lives there: track-order (failing); no operation lives there"
    )
    assert rows["payments"]["because"] in compared(documents)["steps"][1]["paid"]


def test_a_step_that_was_not_predicted_to_fall_promises_nothing(path: Sample) -> None:
    documents = deepcopy(path.verdict["stages"])
    for document in documents.values():
        document["matrix"] = [c for c in document["matrix"] if c["fault"] in ("payments-killed", "email-killed")]
    cell(documents, "mesh", "payments-killed", "place-order").update(measured="unknown", verdict="valid")
    step = compared(documents)["steps"][1]
    assert (step["falls"], step["predicted_to_fall"], step["verdict"]) == (None, False, "valid")
