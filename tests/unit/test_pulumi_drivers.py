"""Do `stages up` and `pulumi up` ask the local cloud for the same? One rendering, two drivers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

import pytest

from infra.config import options
from infra.local.client import LocalCloud
from infra.local.driver import apply
from infra.local.pulumi.kinds import BY_TOKEN, DEPLOYMENT, EDGE, run_id_of
from infra.local.pulumi.resources import deploy
from infra.local.render import render
from infra.local.render_messages import own_broker
from infra.local.resource import Ref
from infra.testing_pulumi import PROJECT, Recorded, record
from stages.catalogue import STAGES, VARIANTS

BROKER = "http://127.0.0.1:4566"
AWS = {"AWS_ACCESS_KEY_ID": "key-of-the-user", "AWS_SECRET_ACCESS_KEY": "secret-of-the-user", "AWS_REGION": "eu-west-1"}

EVERY: list[tuple[str, str | None, bool]] = [
    *((stage, None, own) for stage in STAGES for own in (False, True)),
    *((variant.stage, variant.name, False) for variant in VARIANTS.values()),
]


class Asked:
    """A local cloud that writes down what it is asked for, and answers with what refers to the answers."""

    def __init__(self) -> None:
        self.puts: dict[str, Any] = {}

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, str]:
        self.puts[path] = {key: value for key, value in body.items() if value is not None}
        kind, name = BY_PATH[path.split("/")[3]], path.split("/")[4]
        return {output: Ref(kind.name, name, output).token for output in kind.outputs_of(body)}


BY_PATH = {
    kind.id_of({"deployment": "d", "name": "n"}).split("/")[1]: kind
    for kind in BY_TOKEN.values()
    if kind.name != DEPLOYMENT
}


def through_pulumi(stage: str, variant: str | None, own: bool) -> Recorded:
    raw = {"stage": stage, **({"variant": variant} if variant else {}), **({"broker_url": BROKER} if own else {})}
    return record(lambda: deploy(options(raw, "mine"), STAGES[stage]), stack="mine")


def through_stages_up(stage: str, variant: str | None, own: bool) -> dict[str, Any]:
    broker = own_broker({**os.environ, "STAGES_BROKER_URL": BROKER}) if own else None
    asked = Asked()
    there = {key: Ref(DEPLOYMENT, "", key).token for key in ("directory", "control")}
    resources = render(STAGES[stage], run_id=run_id_of(PROJECT, "mine", "mine"), variant=variant, broker=broker)
    apply(cast(LocalCloud, asked), "mine", resources, {("deployment", ""): there}, lambda _: None)
    return asked.puts


@pytest.mark.parametrize(("stage", "variant", "own"), EVERY)
def test_both_drivers_ask_for_the_same(
    stage: str, variant: str | None, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    puts = {}
    for row in through_pulumi(stage, variant, own).rows:
        kind = BY_TOKEN[row.type]
        if kind.name not in (DEPLOYMENT, EDGE):
            given = {key: value for key, value in row.inputs.items() if value is not None}
            puts[f"/deployments/{kind.id_of(given)}"] = kind.body(given)
    assert puts == through_stages_up(stage, variant, own)


def test_what_holds_a_secret_of_the_user_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    secret = {(row.type, row.name): row.secrets for row in through_pulumi("async", None, True).rows if row.secrets}
    assert secret["stages:local:Broker", "broker"] == {"url", "env"}
    assert secret["stages:local:Service", "orders"] == {"env"}
    shown = [str(row.inputs) for row in through_pulumi("async", None, False).rows]
    assert not any("of-the-user" in text for text in shown)


def test_a_second_run_asks_for_the_same_run_id() -> None:
    """Else every `pulumi up` would replace everything."""
    first, second = (through_pulumi("sync", None, False).rows for _ in range(2))
    assert [row.inputs for row in first] == [row.inputs for row in second]


def test_every_resource_depends_on_the_deployment_and_on_what_it_needs() -> None:
    rows = {(BY_TOKEN[row.type].name, row.name): row for row in through_pulumi("mesh", None, False).rows}
    for record_ in render(STAGES["mesh"], run_id="r"):
        depends = {
            (urn.split("::")[2].rpartition("$")[2], urn.split("::")[3])
            for urn in rows[record_.kind, record_.name].dependencies
        }
        needed = {(rows[need].type, need[1]) for need in record_.needs} | {("stages:local:Deployment", "mine")}
        assert needed <= depends, record_.name


def test_users_come_last() -> None:
    rows = through_pulumi("sync", None, False).rows
    edge = next(row for row in rows if row.type == "stages:local:Edge")
    assert len(edge.dependencies) == len(rows) - 1


def test_an_envoy_waits_for_its_control_plane() -> None:
    """The engine does few things at once: Envoys that are begun first would take the control plane's turn."""
    rows = [row for row in through_pulumi("mesh", None, False).rows if row.type == "stages:local:Service"]
    envoys = [row for row in rows if row.inputs.get("role") in ("sidecar", "gateway")]
    assert envoys
    for row in envoys:
        assert any(urn.endswith(f"::{row.inputs['cluster']}-control") for urn in row.dependencies), row.name
