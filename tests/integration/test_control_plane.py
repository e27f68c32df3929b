"""Do control planes and a registry, as processes, keep endpoints true, and change nothing when they cannot know?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.local.control import ask
from infra.local.home import write_atomically
from infra.local.mesh import pki
from infra.local.mesh.control import PLAN
from infra.local.mesh.envoyconf import port_names
from infra.local.mesh.registry import Entry, Named, connect
from infra.local.testing import until
from stages.catalogue import MESH
from stages.mesh import cluster_plan, sidecar_of

pytestmark = pytest.mark.slow

INVENTORY = "spiffe://shop/fulfilment/inventory"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class App(threading.Thread):
    """Answers /ready as it is told to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.status = 200
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(app.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.start()

    def run(self) -> None:
        self.server.serve_forever(poll_interval=0.02)

    def die(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Host:
    """Forks processes as a cluster's host does; importing everything in each of them would take most of the time."""

    MODULES = (
        "infra.local.mesh.controlplane",
        "infra.local.registryhost",
        "ministack.services.servicediscovery",
        "boto3",
    )

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "h.sock"
        argv = [sys.executable, "-P", "-m", "infra.local.clusterhost", str(self._socket), *self.MODULES]
        self._process = subprocess.Popen(argv)
        until(self._socket.exists, "the host listens", 60)

    def ask(self, **question: object) -> Any:
        return asyncio.run(ask(self._socket, question))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


class Process:
    """One module, started and ended by its id."""

    def __init__(self, host: Host, log: Path, module: str, *args: str, **env: str) -> None:
        self._host, self._log = host, log
        self._order = {"name": "test", "module": module, "args": args, "env": env, "log": str(log)}
        self.start()

    def start(self) -> None:
        self._pid = int(self._host.ask(cmd="spawn", **self._order)["pid"])
        self._running = True

    def send(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> Any:
        """Its exit status; None if it had been ended before."""
        if not self._running:
            return None
        self.send(number)
        ended: list[Any] = []

        def collected() -> bool:
            ended[:] = [self._host.ask(cmd="status", pid=self._pid)["status"]]
            return ended != [None]

        until(collected, f"process {self._pid} ends", 5)
        self._running = False
        return ended[0]

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")


class Plane:
    """A control plane, what it is told, and what it wrote."""

    def __init__(self, host: Host, root: Path, cluster: str, ttl_s: int | None = None) -> None:
        self.host = host
        self.cluster = cluster
        self.plan = cluster_plan(MESH, cluster)
        self.directory = root / "mesh" / cluster
        self.directory.mkdir(parents=True, mode=0o700)
        self.root = pki.make_root("first", pki.utc_now())
        self.trust(self.root, self.root)
        self.view: dict[str, Any] = {
            "format": 1,
            **{
                key: {}
                for key in ("instances", "sidecars", "parts", "routes", "broker_routes", "splits", "afflictions")
            },
            "registry": None,
            "variant": [],
        }
        self.port = free_port()
        env = json.loads(self.plan.to_json())
        if ttl_s is not None:
            env["mesh"]["certificate_ttl_s"] = ttl_s
        self._args = (str(self.directory), str(self.port))
        self._env = {PLAN: json.dumps(env)}
        self._log = root / f"{cluster}.log"
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None, "it has been started"
        return self._process

    def start(self) -> None:
        self._process = Process(self.host, self._log, "infra.local.mesh.control", *self._args, **self._env)

    def trust(self, issuing: pki.Issuer, *trusted: pki.Issuer) -> None:
        """What the authority does: pki/ says who signs and who is trusted."""
        issuer = pki.make_intermediate(issuing, self.cluster, pki.utc_now())
        (self.directory / "pki").mkdir(exist_ok=True, mode=0o700)
        for name, text in (
            ("trust.pem", "".join(r.certificate for r in trusted)),
            ("intermediate.pem", issuer.certificate),
            ("intermediate.key", issuer.key),
        ):
            write_atomically(self.directory / "pki" / name, text)

    def tell(self, **view: Any) -> None:
        """What the local cloud does: the view says this too."""
        self.view.update(view)
        write_atomically(self.directory / "view.json", json.dumps(self.view))

    def sidecars(self, *services: str) -> dict[str, Any]:
        """Parts of a view: sidecars of services."""
        members = {m.service: m for m in self.plan.members}
        return {
            sidecar_of(s): {
                "role": "sidecar",
                "of": s,
                "version": "v1",
                "ports": {name: 30000 + n for n, name in enumerate(("admin", *port_names(members[s])))},
            }
            for s in services
        }

    def read(self, file: str) -> Any:
        try:
            return json.loads((self.directory / file).read_text("utf-8"))
        except (OSError, ValueError):
            return None

    @property
    def status(self) -> Any:
        return self.read("status.json") or {}

    def ask(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def endpoints(self, part: str, cluster: str) -> list[int] | None:
        """Ports of the endpoints that an Envoy is told."""
        doc = self.read(f"envoy/{part}/cds/clusters.json")
        if doc is None:
            return None
        (told,) = (c["load_assignment"] for c in doc["resources"] if c["name"] == cluster)
        found = [e for group in told["endpoints"] for e in group["lb_endpoints"]]
        return [e["endpoint"]["address"]["socket_address"]["port_value"] for e in found]

    def serial(self, service: str) -> str:
        return str(self.status.get("certificates", {}).get(service, {}).get("serial", ""))

    def root_of(self, service: str) -> str:
        return str(self.status["certificates"][service]["root"])

    def stamps(self) -> dict[str, tuple[int, int]]:
        """When each file below envoy/ was written, by its inode."""
        files = [p for p in (self.directory / "envoy").rglob("*") if p.is_file()]
        return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


class World:
    """A registry, the plane of inventory, and the plane of storefront, which calls it."""

    def __init__(self, host: Host, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.registry = Process(
            host, root / "registry.log", "infra.local.registryhost", str(root / "r.sock"), str(self.port)
        )
        self.app = App()
        self.callee = Plane(host, root, "fulfilment")
        self.caller = Plane(host, root, "commerce")
        self.callee.tell(
            instances={"inventory": {"v1": self.app.address}},
            sidecars={"inventory": {"v1": "127.0.0.1:20040"}},
            parts=self.callee.sidecars("inventory"),
            registry=self.url,
        )
        self.caller.tell(
            parts=self.caller.sidecars("storefront"),
            routes={"storefront-inventory": {"v1": "127.0.0.1:22001", "v2": "127.0.0.1:22001"}},
            registry=self.url,
        )
        self.callee.start()
        self.caller.start()

    def seen(self, version: str = "v1") -> list[int] | None:
        """Where storefront's sidecar finds a version of inventory."""
        return self.caller.endpoints("storefront-sidecar", f"inventory_{version}")

    def shares(self) -> Any:
        doc = self.caller.read("envoy/storefront-sidecar/rds/egress_inventory.json")
        route = doc["resources"][0]["virtual_hosts"][0]["routes"][-1]["route"]
        return {c["name"]: c["weight"] for c in route.get("weighted_clusters", {}).get("clusters", [])} or route[
            "cluster"
        ]

    def up(self) -> World:
        until(lambda: self.seen() == [22001], "inventory is found", 30)
        return self

    def close(self) -> None:
        for process in (self.registry, self.callee.process, self.caller.process):
            process.end()
        with contextlib.suppress(OSError):
            self.app.die()


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
    world.app.die()
    until(lambda: world.seen() == [], "the dead instance leaves", 3)
    world.app = App()
    world.callee.tell(instances={"inventory": {"v1": world.app.address}})
    until(lambda: world.seen() == [22001], "the new one is found", 3)
    world.app.status = 503
    until(lambda: world.seen() == [], "an instance that is not ready leaves", 3)
    assert world.caller.status["rejected"] == 0, "nothing of it was doubted"


def test_a_silent_registry_changes_nothing_and_holds_up_no_local_work(world: World) -> None:
    before = world.caller.stamps()
    world.registry.send(signal.SIGSTOP)
    until(lambda: not world.caller.status["registry_reachable"], "the caller's plane notices")
    until(lambda: not world.callee.status["registry_reachable"], "the callee's plane notices")
    assert world.caller.stamps() == before
    assert world.caller.status["rejected"] > 0

    world.app.status = 503
    until(lambda: world.callee.status["health"] == {"inventory": {"v1": "UNHEALTHY"}}, "health goes on", 3)
    serial = world.callee.serial("inventory")
    world.callee.trust(world.callee.root, world.callee.root)
    until(lambda: world.callee.serial("inventory") != serial, "a new certificate goes out", 3)
    assert world.seen() == [22001], "nobody could say that it is not"

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
        ("v2", {"address": "127.0.0.1:0"}, "address"),
        ("v2", {"identity": "spiffe://shop/payments/payments"}, "foreign identity"),
        ("v7", {}, "unknown version"),
        ("v2", {"cluster": "payments"}, "wrong cluster"),
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
    canary = App()
    world.callee.tell(
        instances={"inventory": {"v1": world.app.address, "v2": canary.address}},
        sidecars={"inventory": {"v1": "127.0.0.1:20040", "v2": "127.0.0.1:20041"}},
    )
    until(lambda: world.seen("v2") == [22001], "the canary is found")
    assert world.shares() == "inventory_v1"
    world.caller.tell(splits={"inventory": {"v2": 10}})
    until(lambda: world.shares() == {"inventory_v1": 90, "inventory_v2": 10}, "the share is written")
    canary.die()
    until(lambda: world.shares() == "inventory_v1", "a dead canary gets nothing", 3)
    world.callee.tell(
        instances={"inventory": {"v1": world.app.address}}, sidecars={"inventory": {"v1": "127.0.0.1:20040"}}
    )
    until(lambda: world.caller.status["known"]["inventory"]["instances"] == 1, "and is forgotten")
    assert world.seen() == [22001]


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
    world.app.status = 503
    until(lambda: world.callee.status["health"] == {"inventory": {"v1": "UNHEALTHY"}}, "the callee's plane knows")
    assert world.seen() == [22001]
    process.send(signal.SIGCONT)
    until(lambda: world.seen() == [], "it catches up", 3)


def test_an_ending_control_plane_takes_its_instances_away_if_the_registry_answers(world: World) -> None:
    registry = connect(world.url)
    assert world.callee.process.end(signal.SIGTERM) == 0
    assert dict(registry.discover("inventory").entries) == {}
    registry.close()
    until(lambda: "inventory" in world.caller.status["refusals"], "which nobody believes")
    assert world.seen() == [22001]
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
