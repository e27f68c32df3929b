"""Experiments on a shop behind a mesh: what is lost, cut off or expired in one cluster is felt no further."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.driver import ChaosDriver
from infra.local.mesh.envoy import problems as envoy_problems
from suite.testing.experiments import deployed, plays_as_predicted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    if problems := envoy_problems():
        pytest.skip("; ".join(problems))
    with deployed("mesh") as directory:
        yield directory


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosDriver]:
    with ChaosDriver(errors=tmp_path_factory.mktemp("chaos") / "errors.log") as one:
        yield one


OF_MESH = (
    "storefront-inventory-blackhole",
    "inventory-sidecar-killed",
    "engagement-gateway-killed",
    "commerce-fulfilment-partitioned",
    "registry-outage",
    "registry-garbage",
    "fulfilment-control-paused",
    "storefront-garbage-config",
    "inventory-certificate-expired",
    "inventory-canary-failing",
    "root-rotated",
    "fulfilment-cluster-outage",
    "fulfilment-cluster-frozen",
    "payments-partitioned",
)
"""One of each class, and of each part of a mesh."""


@pytest.mark.drawn(5)
@pytest.mark.parametrize("name", OF_MESH)
def test_between_clusters_the_blast_radius_is_no_larger_than_predicted_either(driver, home, tmp_path, name) -> None:
    plays_as_predicted(driver, home, "mesh", name, tmp_path)
