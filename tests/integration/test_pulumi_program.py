"""Do the real program and the real provider process bring a stage up, see drift, move it on, and leave nothing?

As `tests/integration/test_pulumi_cli.py`, but with a small engine of our own in place of the CLI, so everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.pulumi.testing import Engine, Result, Step
from infra.local.target import LocalTarget
from infra.local.testing import Callers, end, until
from stages.deployment import Deployment

SYNC = {"stage": "sync", "name": "shop"}


class Stack:
    """A stack, its deployment, and how users fare."""

    def __init__(self, home: Path) -> None:
        self.engine = Engine("mine", home)
        self.target = LocalTarget(home)
        self.first = Result()

    def up(self, **config: str) -> Result:
        result = self.engine.up(config)
        assert result.errors == []
        return result

    def deployment(self, name: str = "shop") -> Deployment:
        return self.target.get(name)

    def browse(self, name: str = "shop") -> int:
        return httpx.get(self.deployment(name).edge, trust_env=False, timeout=10).status_code


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def stack(home: Path) -> Iterator[Stack]:
    """Stage sync, up."""
    made = Stack(home)
    try:
        made.first = made.up(**SYNC)
        yield made
    finally:
        for deployment in made.target.list():
            made.target.down(deployment["name"])
        made.target.cloud.close()


def test_a_preview_starts_nothing(tmp_path: Path) -> None:
    result = Engine("mine", tmp_path / "home").up(SYNC, preview=True)
    assert (result.errors, set(result.acts())) == ([], {"create"})
    assert not (tmp_path / "home").exists()


def test_a_wrong_configuration_is_told_whole_before_anything_runs(tmp_path: Path) -> None:
    result = Engine("mine", tmp_path / "home").up({"stage": "later", "target": "moon"})
    (said,) = result.errors
    assert [line.split(" ")[2] for line in said.splitlines()[1:]] == ["stage", "target"]
    assert (result.steps, (tmp_path / "home").exists()) == ([], False)


def test_a_secret_that_is_not_encrypted_is_refused(tmp_path: Path) -> None:
    result = Engine("mine", tmp_path / "home").up({**SYNC, "broker_url": "http://127.0.0.1:1"})
    assert result.errors == ["configuration: broker_url must be encrypted; `pulumi config set --secret broker_url ...`"]


def test_the_stack_says_where_everything_is(stack: Stack) -> None:
    outputs: dict[str, Any] = stack.first.outputs
    found = stack.deployment()
    assert outputs["edge"] == found.edge
    assert outputs["services"] == {name: service.url for name, service in found.services.items()}
    assert outputs["wires"] == {name: wire.listen for name, wire in found.wires.items()}
    assert Deployment.from_json(Path(outputs["record"]).read_text()) == found
    assert json.loads(Path(outputs["record"]).read_text())["name"] == outputs["deployment"] == "shop"


def test_users_are_served(stack: Stack) -> None:
    assert stack.browse() == 200


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    before = stack.deployment()
    assert stack.up(**SYNC).changes == []
    assert stack.engine.refresh().steps == []
    assert stack.deployment() == before


def test_a_killed_service_is_drift_and_up_repairs_it(stack: Stack) -> None:
    end(stack.deployment().services["payments"].pid)
    assert stack.engine.refresh().steps == [Step("drift", "Service", "payments", ("ended", "state"))]
    assert stack.up(**SYNC).changes == [Step("update", "Service", "payments", ("state",))]
    assert stack.engine.refresh().steps == []
    assert stack.up(**SYNC).changes == []


def test_what_is_deleted_by_hand_comes_back(stack: Stack) -> None:
    stack.target.cloud.delete("/deployments/shop/wires/storefront-cache")
    assert stack.engine.refresh().steps == [Step("gone", "Wire", "storefront-cache")]
    assert Step("create", "Wire", "storefront-cache") in stack.up(**SYNC).changes
    assert stack.browse() == 200


def test_a_changed_configuration_changes_services_in_place_while_users_are_served(stack: Stack) -> None:
    before = {name: service.pid for name, service in stack.deployment().services.items()}
    edge = httpx.URL(stack.deployment().edge)
    users = Callers((edge.host, edge.port or 80), "/ready", connections=2)
    users.start()
    changes = stack.up(**SYNC, variant="no-breaker").changes
    users.finish()
    after = stack.deployment()
    assert (users.failures, len(users.answers) > 10) == ([], True)
    assert after.variant == "no-breaker"
    assert {step.act for step in changes} == {"update"}
    assert {step.kind for step in changes} == {"Deployment", "Service", "Edge"}
    assert all(service.pid != before[name] for name, service in after.services.items())
    assert {step.diffs for step in changes if step.kind == "Service"} == {("env.SHOP_DISABLED",)}


def test_a_stage_moves_on_and_back_and_keeps_what_stays(stack: Stack) -> None:
    before = stack.deployment()
    onward = stack.up(**{**SYNC, "stage": "async"})
    now = stack.deployment()
    assert (now.stage, now.run_id) == ("async", before.run_id)
    assert stack.browse() == 200
    kinds = {(step.act, step.kind) for step in onward.changes}
    assert {("create", "Broker"), ("create", "Queue"), ("update", "Service"), ("delete", "Wire")} <= kinds
    assert not {step for step in onward.changes if step.kind in ("Database", "Cluster") and step.act != "same"}
    assert stack.engine.refresh().steps == []

    stack.up(**SYNC)
    assert stack.deployment().wires.keys() == before.wires.keys()
    assert {resource["kind"] for resource in stack.target.resources("shop")} == {
        "cluster",
        "database",
        "wire",
        "service",
    }
    assert stack.browse() == 200


def test_destroy_leaves_nothing(stack: Stack) -> None:
    run_id = stack.deployment().run_id
    assert set(stack.engine.destroy().acts()) == {"delete"}
    assert (stack.target.list(), stack.target.residue("shop", run_id), stack.engine.state) == ([], [], {})


def test_a_mesh_comes_up_stays_the_same_and_goes(stack: Stack) -> None:
    """After the others: one deployment at a time is enough for a small machine."""
    result = stack.up(**{**SYNC, "stage": "mesh"})
    assert stack.browse() == 200
    assert result.outputs["stage"] == "mesh"
    assert stack.engine.refresh().steps == []
    assert stack.up(**{**SYNC, "stage": "mesh"}).changes == []
    stack.engine.destroy()
    until(lambda: stack.target.residue("shop") == [], "nothing is left")
