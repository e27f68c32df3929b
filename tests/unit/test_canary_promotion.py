"""How a candidate becomes the only version: in which order the local cloud is asked for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from infra.local import promotion
from infra.local.errors import NotFound, Unavailable
from stages.catalogue import MESH
from stages.deployment import Deployment, Instance

INSTANCES = {
    s.name: Instance(url="http://127.0.0.1:1", cluster=MESH.cluster_of(s.name), pid=1, log="") for s in MESH.services
}


class Cloud:
    """Remembers what it was asked for; says of everything that it is there."""

    def __init__(self, health: str = "HEALTHY") -> None:
        self.health = health
        self.asked: list[object] = []
        self.environment: Mapping[str, str] = {}
        self.cloud: Any = self

    def get(self, path: str) -> Any:
        if not path.startswith("/"):
            record = {"name": path, "run_id": "r", "stage": "mesh", "target": "local", "control": "", "edge": ""}
            return Deployment(**record, directory="/d", services=INSTANCES)
        return Known()

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        self.asked.append(path)
        self.environment = body["env"]
        return {}

    def canary(self, name: str, service: str, share_percent: int | None, defect: str = "none") -> None:
        self.asked.append((service, share_percent))

    def mesh_status(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return {"fulfilment": {"health": {"inventory": {"v1": self.health}}}}


class Known(dict[str, object]):
    def __missing__(self, key: str) -> object:
        return "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "SETTLES_S", 0.0)
    monkeypatch.setattr(promotion, "HEALTHY_S", 0.2)


def test_the_candidate_serves_everybody_while_the_old_process_is_replaced() -> None:
    cloud = Cloud()
    promotion.promote(cloud, "d", "inventory")
    assert cloud.asked == [("inventory", 100), "/deployments/d/services/inventory", ("inventory", None)]
    assert (cloud.environment["SHOP_VERSION"], cloud.environment["SHOP_SERVICE"]) == ("v2", "inventory")


def test_the_candidate_serves_on_if_the_new_process_does_not_come_up() -> None:
    cloud = Cloud(health="UNHEALTHY")
    with pytest.raises(Unavailable, match="UNHEALTHY"):
        promotion.promote(cloud, "d", "inventory")
    assert ("inventory", None) not in cloud.asked


def test_what_no_stage_has_cannot_be_another_version() -> None:
    with pytest.raises(NotFound, match="no service 'inventry'"):
        promotion.have_version(Cloud(), "d", "inventry", "v2")
