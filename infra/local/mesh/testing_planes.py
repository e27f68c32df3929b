"""What do tests of control planes share? A registry and planes as processes, what they are told and what they wrote."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from infra.local.control import ask
from infra.local.home import write_atomically
from infra.local.mesh import pki
from infra.local.mesh.control import PLAN
from infra.local.mesh.envoyconf import port_names
from infra.local.mesh.testing import Answer, App, free_ports
from infra.local.mesh.testing import ask as ask_http
from infra.local.testing import until
from stages.catalogue import MESH
from stages.mesh import cluster_plan, sidecar_of


def unready(method: str, path: str) -> Answer:
    """How an application behaves that must not be called."""
    return 503, {}, b""


class Host:
    """Forks processes as a cluster's host does; importing everything in each of them would take most of the time."""

    MODULES = (
        "infra.local.mesh.controlplane",
        "infra.local.registryhost",
        "ministack.services.servicediscovery",
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

    def __init__(
        self, host: Host, root: Path, cluster: str, ttl_s: int | None = None, issuing: pki.Issuer | None = None
    ) -> None:
        """`ttl_s`: life of its certificates, if not the stage's. `issuing`: a root that it shares with others."""
        self.host = host
        self.cluster = cluster
        self.plan = cluster_plan(MESH, cluster)
        self.directory = root / "mesh" / cluster
        self.directory.mkdir(parents=True, mode=0o700)
        self.root = issuing or pki.make_root("first", pki.utc_now())
        self.trust(self.root, self.root)
        self.view: dict[str, Any] = {
            "format": 1,
            **{name: {} for name in ("instances", "sidecars", "parts", "routes", "broker_routes")},
            "splits": {},
            "afflictions": {},
            "registry": None,
            "variant": [],
        }
        self.port = free_ports(("http",))["http"]
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
        """Parts of a view: sidecars of services, with ports that are free."""
        ports = {m.service: free_ports(("admin", *port_names(m))) for m in self.plan.members if m.service in services}
        return {
            sidecar_of(s): {"role": "sidecar", "of": s, "version": "v1", "ports": held} for s, held in ports.items()
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
    """A registry, the plane of inventory, and the plane of storefront, which calls it; Envoys only after `flesh`."""

    def __init__(self, host: Host, root: Path) -> None:
        self._host, self._root = host, root
        (root / "traces").mkdir()
        port = free_ports(("registry",))["registry"]
        self.url = f"http://127.0.0.1:{port}"
        arguments = (str(root / "r.sock"), str(port))
        self.registry = Process(host, root / "registry.log", "infra.local.registryhost", *arguments)
        self.app = App().start()
        trusted = pki.make_root("first", pki.utc_now())
        self.callee = Plane(host, root, "fulfilment", issuing=trusted)
        self.caller = Plane(host, root, "commerce", issuing=trusted)
        self._parts = {**self.callee.sidecars("inventory"), **self.caller.sidecars("storefront")}
        self.inbound = self.port("inventory-sidecar", "inbound")
        self.callee.tell(
            instances={"inventory": {"v1": self.app.address}},
            sidecars={"inventory": {"v1": f"127.0.0.1:{self.inbound}"}},
            parts={"inventory-sidecar": self._parts["inventory-sidecar"]},
            registry=self.url,
        )
        to = f"127.0.0.1:{self.inbound}"
        self.caller.tell(
            parts={"storefront-sidecar": self._parts["storefront-sidecar"]},
            routes={"storefront-inventory": {"v1": to, "v2": to}},
            registry=self.url,
        )
        self.callee.start()
        self.caller.start()
        self._envoys: list[Process] = []

    def port(self, part: str, name: str) -> int:
        return int(self._parts[part]["ports"][name])

    def seen(self, version: str = "v1") -> list[int] | None:
        """Where storefront's sidecar finds a version of inventory."""
        return self.caller.endpoints("storefront-sidecar", f"inventory_{version}")

    def shares(self) -> Any:
        """How storefront's sidecar shares out its calls to inventory."""
        doc = self.caller.read("envoy/storefront-sidecar/rds/egress_inventory.json")
        route = doc["resources"][0]["virtual_hosts"][0]["routes"][-1]["route"]
        weighted = route.get("weighted_clusters", {}).get("clusters", [])
        return {c["name"]: c["weight"] for c in weighted} or route["cluster"]

    def up(self) -> World:
        until(lambda: self.seen() == [self.inbound], "inventory is found", 30)
        return self

    def flesh(self) -> World:
        """Start the two Envoys, and wait until a call goes through them."""
        for plane, part in ((self.callee, "inventory-sidecar"), (self.caller, "storefront-sidecar")):
            directory = str(plane.directory / "envoy" / part)
            self._envoys.append(Process(self._host, self._root / f"{part}.log", "infra.local.mesh.envoy", directory))
        until(lambda: self.call() == 200, "a call goes through", 30)
        return self

    def call(self) -> int:
        """Status of one call of inventory by storefront; 0 for none."""
        try:
            return ask_http(self.port("storefront-sidecar", "egress_inventory"), path="/stock")[0]
        except OSError:
            return 0

    def stats(self, part: str, words: str) -> int:
        """Sum of an Envoy's counters whose names match."""
        text = ask_http(self.port(part, "admin"), path=f"/stats?filter={words}")[2].decode()
        return sum(int(line.rpartition(": ")[2]) for line in text.splitlines())

    def certificates(self, part: str) -> str:
        """What an Envoy says of the certificates it uses."""
        return ask_http(self.port(part, "admin"), path="/certs")[2].decode()

    def connections(self) -> int:
        """How many storefront's sidecar has made to inventory's so far."""
        return self.stats("storefront-sidecar", "cluster.inventory_v1.upstream_cx_total")

    def close(self) -> None:
        for process in (*self._envoys, self.registry, self.callee.process, self.caller.process):
            process.end()
        self.app.stop()
