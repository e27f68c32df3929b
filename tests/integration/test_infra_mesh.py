"""A real stage with a mesh on the local target: does it come up, take every fault, survive its daemon, and go?"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.errors import CloudUnreachable
from infra.local.mesh import envoy
from infra.local.processes import carries, identify, stat_of
from infra.local.target import LocalTarget
from infra.local.testing import kill_daemon, until
from infra.naming import TAG_CLUSTER, USERS
from stages.catalogue import MESH
from stages.deployment import Deployment
from stages.mesh import cluster_plan, control_of, gateway_of, link_of, sidecar_of

pytestmark = pytest.mark.skipif(bool(envoy.problems()), reason="there is no Envoy for this platform")

NAME = "m"

FAULTS: dict[str, dict[str, Any]] = {
    "partition": {"cluster": "commerce", "from": "fulfilment"},
    "registry-outage": {"registry": "registry"},
    "garbage-discovery": {"registry": "registry"},
    "certificate-expired": {"service": "inventory"},
    "garbage-config": {"service": "storefront-sidecar"},
    "root-rotation": {"authority": "authority"},
    "canary": {"service": "inventory", "share_percent": 50, "defect": "failing"},
    "kill": {"service": "fulfilment-gateway"},
    "pause": {"service": "fulfilment-control"},
    "cluster-outage": {"cluster": "fulfilment"},
    "cluster-freeze": {"cluster": "fulfilment"},
}

HARMLESS = {"registry-outage", "garbage-discovery", "garbage-config", "root-rotation", "pause"}
"""Kinds that no user notices, as long as nothing else happens."""


class World:
    """One deployment of stage mesh, and users at its edge."""

    def __init__(self, home: Path) -> None:
        self.target = LocalTarget(home)
        self.deployment = self.target.up(MESH, name=NAME, run_id="r1")
        self.users = httpx.Client(base_url=self.deployment.edge, timeout=5.0, trust_env=False)

    def browse(self) -> str:
        """'fresh', 'stale', or the status."""
        answer = self.users.get("/products")
        if answer.status_code != 200:
            return str(answer.status_code)
        return "stale" if "warning" in answer.headers else "fresh"

    def is_well(self) -> bool:
        return [self.browse() for _ in range(5)] == ["fresh"] * 5

    def fault(self, lease: str, kind: str, ttl_s: float = 60.0) -> Any:
        body = {"fault": {"kind": kind, **FAULTS[kind]}, "ttl_s": ttl_s}
        return self.target.cloud.put(self.at(f"faults/{lease}"), body)

    def lease(self, name: str) -> Any:
        return self.target.cloud.get(self.at(f"faults/{name}"))

    def undo(self, lease: str) -> Any:
        return self.target.cloud.delete(self.at(f"faults/{lease}"))

    def at(self, rest: str) -> str:
        return f"/deployments/{NAME}/{rest}"

    def state(self, kind: str, name: str) -> str:
        return next(r["state"] for r in self.target.resources(NAME) if (r["kind"], r["name"]) == (kind, name))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    path = Path(tempfile.mkdtemp(prefix="mesh-"))
    world = World(path)
    try:
        yield world
    finally:
        world.users.close()
        world.target.down(NAME)
        left = world.target.residue(NAME)
        world.target.cloud.close()
        until(lambda: not (path / "cloud.sock").exists(), "the daemon leaves")
        shutil.rmtree(path)
        assert left == []


def test_users_browse_and_order_through_sidecars(world: World) -> None:
    until(world.is_well, "browsing is fresh")
    product = world.users.get("/products").json()["_embedded"]["products"][0]["id"]
    account = {"name": "Ada", "email": f"ada-{time.monotonic_ns()}@example.com"}
    key = {"Idempotency-Key": f"k-{time.monotonic_ns()}"}
    assert world.users.post("/accounts", json=account, headers=key).status_code in (201, 202)
    order = {"product": product, "quantity": 1, "email": account["email"]}
    placed = world.users.post("/orders", json=order, headers={"Idempotency-Key": f"o-{time.monotonic_ns()}"})
    assert placed.status_code in (201, 202), placed.text
    at = placed.headers["location"]
    until(
        lambda: world.users.get(at).json()["state"] == "confirmed", "the order is confirmed, by messages via sidecars"
    )


def test_the_record_has_all_parts_of_the_mesh_and_the_shop_alone_as_services(world: World) -> None:
    seen: Deployment = world.target.get(NAME)
    names = [cluster.name for cluster in MESH.clusters]
    assert set(seen.services) == {service.name for service in MESH.services}
    assert set(seen.parts) == (
        {sidecar_of(service.name) for service in MESH.services}
        | {control_of(name) for name in names}
        | {gateway_of(name) for name in names}
    )
    assert {link_of(a, b) for a in names for b in names if a != b} <= seen.wires.keys()
    assert all(httpx.get(f"{p.admin}/ready", trust_env=False).status_code == 200 for p in seen.parts.values())


def test_every_cluster_has_a_group_and_a_tag_of_its_own_and_nobody_else_is_in_it(world: World) -> None:
    groups: dict[str, set[int]] = {}
    for part in (*world.target.get(NAME).services.values(), *world.target.get(NAME).parts.values()):
        process, seen = identify(part.pid), stat_of(part.pid)
        assert process is not None
        assert seen is not None
        assert carries(process, {TAG_CLUSTER: part.cluster})
        groups.setdefault(part.cluster, set()).add(seen.group)
    assert all(len(group) == 1 for group in groups.values()), groups
    assert len(set.union(*groups.values())) == len(MESH.clusters)


def test_every_cluster_has_a_range_of_ports_of_its_own_also_for_what_leads_into_it(world: World) -> None:
    ranges = {r["name"]: r["ports"] for r in world.target.resources(NAME) if r["kind"] == "cluster"}
    assert ranges.keys() == {cluster.name for cluster in MESH.clusters}
    seen = world.target.get(NAME)
    homes = {name: service.cluster for name, service in seen.services.items()} | {USERS: ""}
    ports = [(service.cluster, service.url) for service in seen.services.values()]
    ports += [(part.cluster, part.admin) for part in seen.parts.values()]
    ports += [(part.cluster, f":{port}") for part in seen.parts.values() for port in part.ports.values()]
    ports += [(homes[w.callee], w.listen) for w in seen.wires.values() if w.caller in homes and w.callee in homes]
    ports += [(b, seen.wires[link_of(a, b)].listen) for a in ranges for b in ranges if a != b]
    assert len(ports) > 60
    for address, cluster in ((int(at.rpartition(":")[2]), cluster) for cluster, at in ports):
        assert [name for name, (first, last) in ranges.items() if first <= address <= last] == [cluster]
    regional = [w.listen for w in seen.wires.values() if w.callee in ("broker", "registry")]
    for address in (int(at.rpartition(":")[2]) for at in regional):
        assert not any(first <= address <= last for first, last in ranges.values())


def test_control_planes_know_everybody_whom_their_cluster_calls(world: World) -> None:
    status = world.target.mesh_status(NAME)
    for cluster in status:
        assert status[cluster]["known"].keys() == set(cluster_plan(MESH, cluster).callees)
        assert status[cluster]["registry_reachable"]


def test_a_part_has_a_log_like_any_service(world: World) -> None:
    assert isinstance(world.target.logs(NAME, "fulfilment-gateway"), list)


def test_keys_are_in_directories_of_ours_alone_and_told_to_nobody(world: World) -> None:
    directory = Path(world.deployment.directory)
    with_keys = set()
    for path in directory.rglob("*"):
        if path.is_file() and "PRIVATE KEY" in path.read_text(errors="replace"):
            with_keys.add(path.relative_to(directory).parts[0])
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path
    assert with_keys == {"mesh"}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_the_mesh_is_on_is_seen_and_is_undone(world: World, kind: str) -> None:
    until(world.is_well, "browsing is fresh before the fault")
    assert world.fault(kind, kind)["state"] == "on"
    if kind in HARMLESS:
        assert [world.browse() for _ in range(20)] == ["fresh"] * 20
    else:
        until(lambda: world.browse() != "fresh", f"{kind} bites")
    until(lambda: world.lease(kind)["evidence"]["seen"], f"{kind} is seen")
    world.undo(kind)
    assert world.lease(kind)["state"] == "undone"
    until(world.is_well, f"browsing is fresh after {kind}")
    drift = [r["name"] for r in world.target.resources(NAME) if r["state"] in ("exited", "paused", "down-by-fault")]
    assert drift == []


def test_certificates_lead_back_to_another_root_after_a_rotation(world: World) -> None:
    before = _roots(world)
    world.fault("rotate-again", "root-rotation")
    world.undo("rotate-again")
    after = _roots(world)
    assert (len(before), len(after), before & after) == (1, 1, set())


def _roots(world: World) -> set[str]:
    return {c["root"] for s in world.target.mesh_status(NAME).values() for c in s["certificates"].values()}


def test_a_share_can_be_changed_and_taken_back(world: World) -> None:
    until(world.is_well, "browsing is fresh before")
    assert world.target.canary(NAME, "inventory", 100) is not None
    until(lambda: {_version(world) for _ in range(5)} == {"v2"}, "all calls are answered by the canary")
    world.target.canary(NAME, "inventory", 0)
    until(lambda: {_version(world) for _ in range(5)} == {"v1"}, "no call is answered by the canary")
    assert world.state("canary", "inventory") == "running"
    assert world.target.canary(NAME, "inventory", None) is None
    parts = world.target.get(NAME)
    assert [name for name in (*parts.parts, *parts.wires) if "canary" in name] == []


def test_a_canary_that_goes_finishes_through_its_sidecar(world: World) -> None:
    world.target.canary(NAME, "orders", 0)
    assert world.target.canary(NAME, "orders", None) is None
    said = (Path(world.deployment.directory) / "logs" / "orders-canary.log").read_text()
    assert '"stopped"' in said
    assert '"away"' not in said, "it reached the broker to the end"


def _version(world: World) -> str:
    """Which version of inventory has answered most lately, as its sidecars have counted."""
    before = _calls(world)
    assert world.browse() == "fresh"
    after = _calls(world)
    return next(version for version, calls in after.items() if calls > before.get(version, 0))


def _calls(world: World) -> dict[str, int]:
    parts = world.target.get(NAME).parts
    found = {}
    for name in (n for n in parts if n in ("inventory-sidecar", "inventory-canary-sidecar")):
        stats = httpx.get(f"{parts[name].admin}/stats", trust_env=False).text.splitlines()
        (line,) = [line for line in stats if line.startswith("http.inbound.downstream_rq_total: ")]
        found[parts[name].version] = int(line.rpartition(" ")[2])
    return found


@pytest.mark.parametrize(
    "kind", ["partition", "registry-outage", "garbage-discovery", "certificate-expired", "canary", "cluster-freeze"]
)
def test_a_fault_outlives_the_daemon_and_is_undone_by_the_next_one(world: World, kind: str) -> None:
    until(world.is_well, "browsing is fresh before the fault")
    lease = f"{kind}-orphaned"
    world.fault(lease, kind)
    kill_daemon(world.target.home)
    assert world.lease(lease)["state"] == "on"
    assert world.target.heal(NAME) == {"healed": [f"{NAME}/{lease}"], "left": []}
    until(world.is_well, f"browsing is fresh after {kind}")


def test_a_rotation_that_the_daemons_death_interrupts_is_done_to_its_end_by_the_next_one(world: World) -> None:
    before = _roots(world)
    half = Path(world.deployment.directory) / "mesh" / "root" / "next.pem"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(world.fault, "half", "root-rotation")
        until(half.exists, "the rotation has begun")
        kill_daemon(world.target.home)
        with contextlib.suppress(CloudUnreachable):
            asked.result(60)
    until(lambda: world.lease("half")["state"] in ("expired", "on"), "the next daemon has found it")
    until(lambda: not half.exists(), "it is done to its end")
    until(lambda: len(_roots(world)) == 1 and not _roots(world) & before, "one root is left, another one")
    until(world.is_well, "browsing is fresh")


def test_a_fault_ends_with_its_lease(world: World) -> None:
    world.fault("short", "partition", ttl_s=1.0)
    until(lambda: world.lease("short")["state"] == "expired", "the lease runs out")
    until(world.is_well, "browsing is fresh afterwards")


def test_parts_survive_the_daemon_and_another_one_takes_them_over(world: World) -> None:
    before = {name: part.pid for name, part in world.target.get(NAME).parts.items()}
    kill_daemon(world.target.home)
    assert {name: part.pid for name, part in world.target.get(NAME).parts.items()} == before
    registry = next(r for r in world.target.resources(NAME) if r["kind"] == "registry")
    os.kill(registry["pid"], 9)
    until(lambda: world.state("registry", "registry") == "running", "the registry is started again")
    until(world.is_well, "browsing is fresh")
