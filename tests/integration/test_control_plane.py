"""Do control planes and a registry, as processes, keep endpoints true, and change nothing when they cannot know?"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.home import write_atomically
from infra.local.mesh import pki
from infra.local.mesh.registry import Entry, Named, connect
from infra.local.mesh.testing import App
from infra.local.mesh.testing_planes import Host, Plane, World, unready
from infra.local.testing import until

pytestmark = pytest.mark.slow

INVENTORY = "spiffe://shop/fulfilment/inventory"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("host"))
    yield host
    host.close()


@pytest.fixture
def world(host: Host, tmp_path: Path) -> Iterator[World]:
    world = World(host, tmp_path)
    try:
        yield world.up()
    finally:
        world.close()


def test_an_instance_that_dies_leaves_the_endpoints_within_three_seconds_and_comes_back(world: World) -> None:
    world.app.stop()
    until(lambda: world.seen() == [], "the dead instance leaves", 3)
    world.app = App().start()
    world.callee.tell(instances={"inventory": {"v1": world.app.address}})
    until(lambda: world.seen() == [world.inbound], "the new one is found", 3)
    world.app.behave = unready
    until(lambda: world.seen() == [], "an instance that is not ready leaves", 3)
    assert world.caller.status["rejected"] == 0, "nothing of it was doubted"


def test_a_silent_registry_changes_nothing_and_holds_up_no_local_work(world: World) -> None:
    before = world.caller.stamps()
    world.registry.send(signal.SIGSTOP)
    until(lambda: not world.caller.status["registry_reachable"], "the caller's plane notices")
    until(lambda: not world.callee.status["registry_reachable"], "the callee's plane notices")
    assert world.caller.stamps() == before
    assert world.caller.status["rejected"] > 0

    world.app.behave = unready
    until(lambda: world.callee.status["health"] == {"inventory": {"v1": "UNHEALTHY"}}, "health goes on", 3)
    serial = world.callee.serial("inventory")
    world.callee.trust(world.callee.root, world.callee.root)
    until(lambda: world.callee.serial("inventory") != serial, "a new certificate goes out", 3)
    assert world.seen() == [world.inbound], "nobody could say that it is not"

    world.registry.send(signal.SIGCONT)
    until(lambda: world.seen() == [], "what happened meanwhile is told", 5)


def test_a_registry_that_lost_its_memory_is_told_everything_again(world: World) -> None:
    before = world.caller.stamps()
    world.registry.end()
    until(lambda: not world.caller.status["registry_reachable"], "it is gone")
    world.registry.start()
    registry = connect(world.url)
    until(lambda: _entries(registry, "inventory"), "inventory is registered again", 15)
    registry.close()
    until(lambda: world.caller.status["registry_reachable"] and not world.caller.status["refusals"], "believed again")
    assert world.caller.stamps() == before, "and meanwhile nothing changed for anybody"


def _entries(registry: Any, service: str) -> Any:
    with contextlib.suppress(Exception):
        return registry.discover(service).entries
    return None


@pytest.mark.parametrize(
    ("version", "change", "reason"),
    [
        ("v2", {"address": "10.9.8.7:80"}, "address"),
        ("v2", {"identity": "spiffe://shop/payments/payments"}, "foreign identity"),
        ("v7", {}, "unknown version"),
    ],
)
def test_garbage_in_the_registry_is_refused_counted_and_taken_away(
    world: World, version: str, change: dict[str, str], reason: str
) -> None:
    before = world.caller.stamps()
    world.callee.process.send(signal.SIGSTOP)  # who would take the garbage away
    registry = connect(world.url)
    good = {"address": "127.0.0.1:20041", "version": version, "cluster": "fulfilment", "identity": INVENTORY}
    registry.register(Named("inventory", version), Entry(**{**good, **change}))
    until(lambda: reason in world.caller.status["refusals"].get("inventory", ""), f"refused: {reason}")
    assert world.caller.status["rejected"] > 0
    assert world.caller.stamps() == before
    world.callee.process.send(signal.SIGCONT)
    until(lambda: not world.caller.status["refusals"], "the owner takes it away", 5)
    assert list(registry.discover("inventory").entries) == ["inventory-v1"]
    registry.close()


def test_a_canary_gets_its_share_while_it_is_there(world: World) -> None:
    canary, stable = App().start(), f"127.0.0.1:{world.inbound}"
    world.callee.tell(
        instances={"inventory": {"v1": world.app.address, "v2": canary.address}},
        sidecars={"inventory": {"v1": stable, "v2": "127.0.0.1:20041"}},
    )
    until(lambda: world.seen("v2") == [world.inbound], "the canary is found")
    assert world.shares() == "inventory_v1"
    world.caller.tell(splits={"inventory": {"v2": 10}})
    until(lambda: world.shares() == {"inventory_v1": 90, "inventory_v2": 10}, "the share is written")
    canary.stop()
    until(lambda: world.shares() == "inventory_v1", "a dead canary gets nothing", 3)
    world.callee.tell(instances={"inventory": {"v1": world.app.address}}, sidecars={"inventory": {"v1": stable}})
    until(lambda: world.caller.status["known"]["inventory"]["instances"] == 1, "and is forgotten")
    assert world.seen() == [world.inbound]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_control_plane_that_starts_again_disturbs_nothing(world: World, number: signal.Signals) -> None:
    before = world.caller.stamps(), world.callee.stamps()
    for plane in (world.caller, world.callee):
        plane.process.end(number)
    world.registry.end()  # and nobody is there to ask
    for plane in (world.caller, world.callee):
        plane.start()
        until(lambda plane=plane: plane.ask("/ready") == 200, "it is ready again")
        until(lambda plane=plane: plane.status.get("registry_reachable") is False, "it has looked around")
    assert (world.caller.stamps(), world.callee.stamps()) == before


def test_a_control_plane_that_was_stopped_goes_on(world: World) -> None:
    process = world.caller.process
    process.send(signal.SIGSTOP)
    world.app.behave = unready
    until(lambda: world.callee.status["health"] == {"inventory": {"v1": "UNHEALTHY"}}, "the callee's plane knows")
    assert world.seen() == [world.inbound]
    process.send(signal.SIGCONT)
    until(lambda: world.seen() == [], "it catches up", 3)


def test_an_ending_control_plane_takes_its_instances_away_if_the_registry_answers(world: World) -> None:
    registry = connect(world.url)
    assert world.callee.process.end(signal.SIGTERM) == 0
    assert dict(registry.discover("inventory").entries) == {}
    registry.close()
    until(lambda: "inventory" in world.caller.status["refusals"], "which nobody believes")
    assert world.seen() == [world.inbound]
    world.registry.send(signal.SIGSTOP)
    assert world.caller.process.end(signal.SIGTERM) == 0


def test_every_file_is_ours_alone_and_none_is_half_written(world: World) -> None:
    for plane in (world.caller, world.callee):
        found = [p for p in plane.directory.rglob("*") if p.name != "view.json" and "pki" not in p.parts]
        assert {oct(p.stat().st_mode & 0o777) for p in found if p.is_file()} == {"0o600"}
        assert {oct(p.stat().st_mode & 0o777) for p in found if p.is_dir()} == {"0o700"}
        assert [p.name for p in found if p.name.startswith(".")] == []
        assert "PRIVATE KEY" not in plane.process.log + json.dumps(plane.status)


@pytest.fixture
def alone(host: Host, tmp_path: Path) -> Iterator[Plane]:
    """A plane without a registry whose certificates live for two seconds, and a sidecar."""
    plane = Plane(host, tmp_path, "fulfilment", ttl_s=2)
    plane.tell(sidecars={"inventory": {"v1": "127.0.0.1:20040"}}, parts=plane.sidecars("inventory"))
    plane.start()
    try:
        until(lambda: plane.ask("/ready") == 200, "it is ready", 30)
        yield plane
    finally:
        plane.process.end()


def test_certificates_are_renewed_at_half_of_their_life(alone: Plane) -> None:
    first = alone.serial("inventory")
    until(lambda: alone.serial("inventory") not in ("", first), "a new one", 1.9)
    (own,) = alone.read("envoy/inventory-sidecar/sds/own.json")["resources"]
    assert pki.fingerprint(alone.root.certificate) == alone.root_of("inventory")
    assert own["tls_certificate"]["certificate_chain"]["inline_string"].count("BEGIN CERTIFICATE") == 2


def test_a_new_root_is_taken_up_in_steps(alone: Plane) -> None:
    second = pki.make_root("second", pki.utc_now())
    old, new = pki.fingerprint(alone.root.certificate), pki.fingerprint(second.certificate)
    for issuing, trusted in (
        (alone.root, (alone.root, second)),
        (second, (alone.root, second)),
        (second, (second,)),
    ):
        alone.trust(issuing, *trusted)
        expected = [pki.fingerprint(t.certificate) for t in trusted]
        root = old if issuing is alone.root else new
        until(
            lambda told=(expected, root): (alone.status["trusted"], alone.root_of("inventory")) == told,
            "trust and certificates are out",
            3,
        )


def test_keys_that_do_not_belong_together_are_not_used(alone: Plane) -> None:
    other = pki.make_intermediate(pki.make_root("other", pki.utc_now()), "fulfilment", pki.utc_now())
    good = alone.status["trusted"]
    write_atomically(alone.directory / "pki" / "intermediate.key", other.key)
    write_atomically(alone.directory / "pki" / "trust.pem", "nonsense")
    serial = alone.serial("inventory")
    until(lambda: alone.serial("inventory") != serial, "the old issuer goes on", 3)
    assert alone.status["trusted"] == good


def test_an_affliction_puts_an_expired_certificate_out_and_its_end_a_good_one(alone: Plane) -> None:
    alone.tell(afflictions={"l1": {"kind": "certificate-expired", "service": "inventory"}})
    words = until(lambda: alone.status["afflictions"].get("l1"), "it is told", 3)
    certificate = alone.status["certificates"]["inventory"]
    assert certificate["not_after_utc"] < pki.utc_now().isoformat()
    assert words == f"inventory has certificate {certificate['serial']}, which ended {certificate['not_after_utc']}"
    alone.tell(afflictions={})
    until(lambda: alone.status["afflictions"] == {}, "it is over", 3)
    assert alone.status["certificates"]["inventory"]["not_after_utc"] > pki.utc_now().isoformat()[:19]


def test_an_affliction_puts_garbage_out_and_its_end_restores_every_file(alone: Plane) -> None:
    cds = alone.directory / "envoy" / "inventory-sidecar" / "cds"
    before = {p.name: p.read_text("utf-8") for p in cds.iterdir()}
    alone.tell(afflictions={"l1": {"kind": "garbage-config", "service": "inventory-sidecar"}})
    until(lambda: alone.status["afflictions"].get("l1"), "it is told", 3)
    assert [alone.read(f"envoy/inventory-sidecar/cds/{name}") for name in before] == [None] * len(before)
    assert alone.read("envoy/inventory-sidecar/bootstrap.json") is not None
    alone.tell(afflictions={})
    until(lambda: alone.status["afflictions"] == {}, "it is over", 3)
    assert {p.name: p.read_text("utf-8") for p in cds.iterdir()} == before


def test_a_part_that_is_gone_takes_its_key_along(alone: Plane) -> None:
    alone.tell(parts={})
    until(lambda: not (alone.directory / "envoy" / "inventory-sidecar").exists(), "its files are removed", 3)


def test_a_view_that_makes_no_sense_changes_nothing(alone: Plane) -> None:
    (alone.directory / "view.json").write_text('{"format": 2}', "utf-8")
    process = alone.process
    until(lambda: "this control plane reads 1" in process.log, "it is said")
    assert alone.ask("/ready") == 200
