"""What do real Envoys do when the files they watch change, or make no sense?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.mesh import authority, envoy, envoyconf
from infra.local.mesh.policyprobe import Door, measure_at
from infra.local.mesh.testing import BRIEF, OK, Envoy, Rig, app_of, ask, wait_ms, write
from infra.local.testing import until
from stages.catalogue import MESH
from stages.check import Credential
from stages.mesh import identity, server_name

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(envoy.find_envoy() is None, reason="; ".join(envoy.problems())),
]

SERVICES = ("storefront", "inventory")


class Loaded:
    """storefront's sidecar -> inventory's, called all the time."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.app = rig.app()
        callee = rig.sidecar("inventory", app_of(self.app))
        self.known = {"inventory_v1": [callee.address("inbound")]}
        self.caller: Envoy = rig.sidecar("storefront", self.known)
        self.sides = dict(zip(SERVICES, (self.caller, callee), strict=True))
        rig.ready()
        self.statuses = Counter[int]()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._load, daemon=True) for _ in range(3)]

    def _load(self) -> None:
        while not self._over.is_set():
            self.statuses[ask(self.caller.ports["egress_inventory"], "POST")[0]] += 1  # tried once

    def __enter__(self) -> Loaded:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def more(self, calls: int) -> None:
        """Wait for so many further calls."""
        goal = self.statuses.total() + calls
        until(lambda: self.statuses.total() >= goal, f"{calls} further calls", 30.0)

    def aged(self) -> None:
        """Wait until no connection is left that was there before."""
        name = "cluster.inventory_v1.upstream_cx_max_duration_reached"
        before = self.caller.stat(name)
        until(lambda: self.caller.stat(name) >= before + 2, "connections were replaced")

    def renew(self) -> None:
        """Give both sides a new certificate."""
        for service, side in self.sides.items():
            before = side.stat("sds.own.update_success")
            side.write(self.rig.secrets(service))
            until(lambda side=side, before=before: side.stat("sds.own.update_success") > before, "it is read")


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Loaded]:
    with Rig(tmp_path, BRIEF) as rig:
        yield Loaded(rig)


def test_certificates_are_renewed_under_load_without_an_error(loaded: Loaded) -> None:
    handshakes = loaded.caller.stat("cluster.inventory_v1.ssl.handshake")
    with loaded:
        for _ in range(12):
            loaded.renew()
            loaded.more(20)
        loaded.aged()
    assert set(loaded.statuses) == {200}
    assert loaded.caller.stat("cluster.inventory_v1.ssl.handshake") > handshakes + 2
    assert loaded.caller.stat("sds.own.update_rejected") == loaded.caller.stat("sds.own.update_failure") == 0


def test_a_root_is_replaced_under_load_without_an_error(loaded: Loaded) -> None:
    mesh, clusters = loaded.rig.mesh, loaded.rig.clusters
    door = Door(
        host="127.0.0.1",
        port=loaded.sides["inventory"].ports["inbound"],
        server_name=server_name("inventory", "v1", "fulfilment"),
        identity=identity(MESH, "inventory"),
    )
    old = loaded.rig.leaf("storefront")
    first = authority.read(authority.pki_directory(mesh, "commerce"))
    with loaded:
        new = authority.begin(mesh, "shop", clusters)
        loaded.renew()
        loaded.aged()
        authority.issue(mesh, clusters)
        loaded.renew()
        loaded.aged()
        assert authority.finish(mesh, clusters) == new
        loaded.renew()
        loaded.aged()
        loaded.more(50)
    assert set(loaded.statuses) == {200}
    now = authority.read(authority.pki_directory(mesh, "commerce"))
    assert (now.root, first.root != new) == (new, True)
    # whoever still has a certificate of the old root is nobody now
    loaded.caller.write(envoyconf.secrets(old.chain, old.key, now.trust))
    until(lambda: ask(loaded.caller.ports["egress_inventory"])[0] == 503, "the old certificate is refused")
    (own,) = (t for t in measure_at(MESH, mesh, {("storefront", "inventory"): door}) if t.credential is Credential.OWN)
    assert own.answer == "allowed"


@pytest.mark.parametrize(
    ("file", "counter"),
    [
        ("rds/egress_inventory.json", "http.egress_inventory.rds.egress_inventory"),
        ("cds/clusters.json", "cluster_manager.cds"),
        ("sds/own.json", "sds.own"),
        ("sds/trust.json", "sds.trust"),
    ],
)
@pytest.mark.parametrize("garbage", ["}{ garbage", '{"resources": [{"@type": "type.googleapis.com/nobody.knows.It"}]}'])
def test_garbage_changes_nothing_and_is_counted(loaded: Loaded, file: str, counter: str, garbage: str) -> None:
    good = (loaded.caller.directory / file).read_text()

    def refused() -> int:
        return loaded.caller.stat(f"{counter}.update_failure") + loaded.caller.stat(f"{counter}.update_rejected")

    assert refused() == 0
    with loaded:
        loaded.caller.write({file: garbage})
        until(refused, "Envoy says no")
        loaded.aged()
        accepted = loaded.caller.stat(f"{counter}.update_success")
        loaded.caller.write({file: good})
        until(lambda: loaded.caller.stat(f"{counter}.update_success") >= accepted, "it reads on")
        loaded.more(20)
    assert set(loaded.statuses) == {200}


def test_endpoints_change_under_load_without_an_error(loaded: Loaded) -> None:
    """The cluster is replaced; requests under way on the old one come to their end."""
    loaded.app.behave = lambda m, p: wait_ms(30) or OK
    twice = {"inventory_v1": loaded.known["inventory_v1"] * 2}
    with loaded:
        for n in range(10):
            updates = loaded.caller.stat("cluster_manager.cds.update_success")
            loaded.caller.write(loaded.caller.targets(twice if n % 2 else loaded.known))
            until(lambda u=updates: loaded.caller.stat("cluster_manager.cds.update_success") > u, "they are read")
            loaded.more(10)
    assert set(loaded.statuses) == {200}


def test_no_envoy_watches_more_files_than_it_must(loaded: Loaded) -> None:
    """Linux grants a user 128 instances of inotify, and Envoy opens one per file."""
    gateway = loaded.rig.gateway("engagement", {})
    loaded.rig.ready()
    sides = {"storefront": loaded.caller, "inventory": loaded.sides["inventory"], "gateway": gateway}
    assert {name: inotify_instances(side) for name, side in sides.items()} == {
        "storefront": 3 + 5,
        "inventory": 3,
        "gateway": 1,
    }


def inotify_instances(side: Envoy) -> int:
    links = (os.readlink(path) for path in Path(f"/proc/{side.process.pid}/fd").iterdir())
    return sum(link == "anon_inode:inotify" for link in links)


def test_a_launcher_waits_for_all_files_and_becomes_envoy(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    plan = rig.plan("payments")
    ports = rig.ports(("admin", "mtls"))
    home = tmp_path / "gateway"
    paths = envoyconf.Paths(directory=str(home), traces=str(rig.traces))
    command = [sys.executable, "-m", "infra.local.mesh.envoy", str(home)]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "MARK": "kept"})
    try:
        write(home / "bootstrap.json", json.dumps(envoyconf.gateway_bootstrap(plan, ports, paths)))
        assert envoy.missing(home) == [str(home / "cds" / "clusters.json")]
        docs = envoyconf.gateway_targets(plan, {})
        for file, doc in docs.items():
            write(home / file, json.dumps(doc))
        until(lambda: _ready(ports["admin"]), "Envoy runs")
        assert process.poll() is None
        assert b"MARK=kept" in Path(f"/proc/{process.pid}/environ").read_bytes()
    finally:
        process.terminate()
        process.wait(10)
        rig.close()


def _ready(port: int) -> bool:
    try:
        return ask(port, "GET", "/ready")[0] == 200
    except OSError:
        return False
