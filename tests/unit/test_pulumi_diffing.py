"""Which property of a resource changes, in place or by another resource, and what did somebody else change?"""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

from infra.local import api
from infra.local.errors import CloudError, Invalid
from infra.local.pulumi.diffing import UNKNOWN, Difference, differences, seen_inputs
from infra.local.pulumi.kinds import DEPLOYMENT, EDGE, KINDS, kind_of, run_id_of
from infra.local.pulumi.values import plain_map, property_map, supposed

AT = {"deployment": "shop", "name": "orders"}
SERVICE: dict[str, Any] = {
    **AT,
    "cluster": "plant",
    "module": "infra.local.standin",
    "args": ["orders"],
    "env": {"A": "1", "B": "2"},
    "ready_path": "/ready",
}
QUEUE = {**AT, "broker": "broker", "fifo": False, "visibility_timeout_s": 30}


def changed(kind: str, olds: dict[str, Any], **news: Any) -> tuple[Difference, ...]:
    known = {key: value for key, value in {**olds, **news}.items() if value is not None}
    inputs = {key: value for key, value in known.items() if key in (*AT, *KINDS[kind].inputs)}
    return differences(KINDS[kind], olds, inputs)


def test_every_kind_of_the_local_cloud_is_a_resource() -> None:
    """But a canary: that is a part of a verification, not of a stage."""
    assert KINDS.keys() == {*api.KINDS_OF_RESOURCES, DEPLOYMENT, EDGE} - {"canary"}


def test_nothing_that_changed_is_no_difference() -> None:
    assert changed("service", {**SERVICE, "state": "running", "url": "http://x"}) == ()


def test_a_changed_variable_of_a_service_is_an_update_of_just_that() -> None:
    assert changed("service", SERVICE, env={"A": "1", "B": "3", "C": "4"}) == (
        Difference("env.B", "update"),
        Difference("env.C", "add"),
    )


def test_an_input_that_is_gone_is_deleted() -> None:
    assert changed("service", SERVICE, args=None) == (Difference("args", "delete"),)


@pytest.mark.parametrize("key", ["deployment", "name"])
def test_another_address_is_another_resource(key: str) -> None:
    assert changed("service", SERVICE, **{key: "other"}) == (Difference(key, "update", replace=True),)


@pytest.mark.parametrize(
    ("kind", "key", "value", "replace"),
    [
        ("service", "cluster", "annex", False),
        ("service", "module", "other", False),
        ("cluster", "network", "10.9.0.0/16", True),
        ("cluster", "preload", ["json"], True),
        ("broker", "url", "http://127.0.0.1:1", True),
        ("queue", "visibility_timeout_s", 60, False),
        ("queue", "fifo", True, True),
        ("queue", "broker", "other", True),
        ("topic", "fifo", True, True),
        ("subscription", "messages", ["placed"], False),
        ("subscription", "topic", "other", True),
        ("authority", "trust_domain", "other", True),
        ("port", "names", ["inbound", "admin"], False),
        ("wire", "callee", "other", False),
        ("deployment", "stage", "async", False),
        ("deployment", "variant", "no-dlq", False),
        ("deployment", "run_id", "other", True),
        ("edge", "stage", "async", False),
    ],
)
def test_what_can_be_changed_in_place_is(kind: str, key: str, value: Any, replace: bool) -> None:
    (found,) = changed(kind, AT, **{key: value})
    assert found == Difference(key, "add", replace)


@pytest.mark.parametrize("state", ["exited", "missing", "down-by-fault", "paused"])
def test_a_state_that_nobody_asked_for_is_repaired(state: str) -> None:
    assert changed("service", {**SERVICE, "state": state}) == (Difference("state", "update", is_input=False),)


def test_a_service_goes_with_the_cluster_that_is_replaced() -> None:
    """The engine makes the name unknown to ask whether the dependent has to be replaced as well."""
    assert differences(KINDS["service"], SERVICE, {**SERVICE, "cluster": UNKNOWN}) == (
        Difference("cluster", "update", replace=True),
    )
    env = {**SERVICE["env"], "B": UNKNOWN}
    assert differences(KINDS["service"], SERVICE, {**SERVICE, "env": env}) == (Difference("env.B", "update"),)


def test_what_somebody_else_asked_for_since_is_seen() -> None:
    said = {**KINDS["service"].normal(SERVICE), "env": {"A": "1", "B": "by hand"}}
    assert seen_inputs(KINDS["service"], SERVICE, said) == {**SERVICE, "env": {"A": "1", "B": "by hand"}}


def test_defaults_that_nobody_gave_are_no_drift() -> None:
    assert seen_inputs(KINDS["service"], SERVICE, KINDS["service"].normal(SERVICE)) == SERVICE
    broker = {"deployment": "shop", "name": "broker"}
    assert seen_inputs(KINDS["broker"], broker, KINDS["broker"].normal(broker)) == broker


def test_an_imported_resource_is_as_the_cloud_says() -> None:
    said = KINDS["service"].normal(SERVICE)
    assert differences(KINDS["service"], seen_inputs(KINDS["service"], dict(AT), said), SERVICE)[0].path == "role"


def test_every_problem_of_the_inputs_is_found_at_once() -> None:
    found = KINDS["queue"].problems({"deployment": "Shop", "name": "x y", "visibility_timeout_s": 0, "colour": "red"})
    assert [problem.split(" ")[0] for problem in found] == [
        "deployment",
        "queue",
        "broker",
        "visibility_timeout_s",
        "unknown",
    ]


def test_what_is_not_known_yet_is_no_problem() -> None:
    assert KINDS["service"].problems(supposed({**SERVICE, "env": {"A": UNKNOWN}, "args": [UNKNOWN]})) == []


@pytest.mark.parametrize("kind", [DEPLOYMENT, EDGE])
def test_a_stage_that_there_is_not_is_a_problem(kind: str) -> None:
    found = KINDS[kind].problems({**AT, "stage": "later", "variant": "none", "run_id": "r"} | {"name": "shop"})
    assert "stage is 'later', must be one of sync, async, mesh" in found
    assert any(problem.startswith("variant is 'none'") for problem in found)


def test_a_resource_is_known_by_its_address() -> None:
    assert KINDS["registry"].id_of({"deployment": "shop", "name": "registry"}) == "shop/registries/registry"
    assert KINDS[DEPLOYMENT].id_of({"name": "shop"}) == "shop"
    assert kind_of("stages:local:Service") is KINDS["service"]
    with pytest.raises(CloudError, match="no resource type 'stages:local:Moon'"):
        kind_of("stages:local:Moon")


def test_run_ids_differ_by_project_stack_and_name() -> None:
    found = {run_id_of("p", "s", "n"), run_id_of("q", "s", "n"), run_id_of("p", "t", "n"), run_id_of("p", "s", "m")}
    assert len(found) == 4
    assert run_id_of("p", "s", "n") in found


def test_values_keep_their_secrets_and_whole_numbers() -> None:
    given = {
        "ttl": PropertyValue(30.0),
        "share": PropertyValue(0.5),
        "env": PropertyValue({"A": PropertyValue("x", is_secret=True), "B": PropertyValue(rpc.UNKNOWN)}),
        "none": PropertyValue(None),
        "__defaults": PropertyValue([]),
    }
    plain = plain_map(given)
    assert plain == {"ttl": 30, "share": 0.5, "env": {"A": "x", "B": UNKNOWN}}
    assert type(plain["ttl"]) is int
    back = property_map({**plain, "url": "http://x"}, given)
    assert back["env"] == given["env"]
    assert back["url"] == PropertyValue("http://x")


def test_what_is_pure_is_pure() -> None:
    """Diffing imports nothing that could ask somebody."""
    from infra.local.pulumi import diffing

    tree = ast.parse(inspect.getsource(diffing))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {
        "__future__",
        "collections.abc",
        "dataclasses",
        "typing",
        "infra.local.errors",
        "infra.local.pulumi.kinds",
    }


def test_wrong_inputs_cannot_be_normal() -> None:
    with pytest.raises(Invalid):
        KINDS["queue"].normal(dict(AT))
