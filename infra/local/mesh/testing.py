"""What do tests of the mesh share? A few real Envoys without control plane, a service to be kind or cruel, a client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from infra.local.mesh import authority, envoy, envoyconf, pki
from infra.local.mesh.envoyconf import APP, BOOTSTRAP, Doc, Paths
from infra.local.testing import until
from stages.catalogue import MESH
from stages.mesh import STABLE, ClusterPlan, Member, cluster_plan, gateway_of, sidecar_of
from stages.model import Mesh, Stage

Answer = tuple[int, Mapping[str, str], bytes]
OK: Answer = (200, {}, b"{}")
TTL_S = 600
BRIEF = replace(MESH, mesh=Mesh(connection_age_ms=300, ejection_ms=1000, ejection_ms_max=1500))
"""The mesh with less patience, so that tests need less."""


@dataclass(slots=True)
class App:
    """A service on loopback that answers as it is told to, and counts."""

    behave: Callable[[str, str], Answer] = lambda method, path: OK
    """May sleep, or raise ConnectionError to hang up without an answer."""
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(method, path, headers) of every request, headers in lower case."""
    _server: ThreadingHTTPServer | None = None
    _open: set[socket.socket] = field(default_factory=set)

    @property
    def address(self) -> str:
        assert self._server is not None, "start() comes first"
        return f"127.0.0.1:{self._server.server_address[1]}"

    def start(self, port: int = 0) -> App:
        """Listen, on a port that may have been this app's before."""
        app = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                app.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                try:
                    status, headers, body = app.behave(self.command, self.path)
                except ConnectionError:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def handle(self) -> None:
                app._open.add(self.connection)
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True  # who asked has gone
                finally:
                    app._open.discard(self.connection)

            def log_message(self, *_args: Any) -> None:
                """Be quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Die: nobody listens any more, and whoever is connected is hung up on."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True, kw_only=True)
class Envoy:
    """One that runs."""

    name: str
    directory: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes]
    targets: Callable[[Mapping[str, Sequence[str]]], dict[str, Doc]]
    """Its file of clusters, given their endpoints."""

    def address(self, port: str) -> str:
        return f"127.0.0.1:{self.ports[port]}"

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Ask its admin interface."""
        try:
            status, _, body = ask(self.ports["admin"], method, path)
        except OSError:
            return 0, b""
        return status, body

    def stats(self, pattern: str = "") -> dict[str, int]:
        """Its statistics whose names match a regular expression."""
        found = json.loads(self.get(f"/stats?format=json&filter={pattern}")[1])
        return {s["name"]: s["value"] for s in found["stats"] if "name" in s}

    def stat(self, name: str) -> int:
        return self.stats(f"^{name.replace('.', '[.]')}$").get(name, 0)

    def write(self, docs: Mapping[str, Doc | str]) -> None:
        """Replace files as a control plane does: each by renaming another one onto it."""
        for name, doc in docs.items():
            write(self.directory / name, doc if isinstance(doc, str) else json.dumps(doc))


class Rig:
    """Some Envoys of a stage, with certificates; whom they call is said by `point`."""

    def __init__(self, home: Path, stage: Stage = MESH) -> None:
        self.home = home
        self.stage = stage
        self.clusters = tuple(c.name for c in stage.clusters)
        self.traces = home / "traces"
        self.traces.mkdir()
        self.mesh = home / "mesh"
        authority.create(self.mesh, "shop", self.clusters)
        self.envoys: list[Envoy] = []
        self.apps: list[App] = []
        self.held: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def plan(self, cluster: str) -> ClusterPlan:
        return cluster_plan(self.stage, cluster)

    def member(self, service: str) -> Member:
        found = {m.service: m for m in self.plan(self.stage.cluster_of(service)).members}
        return found[service]

    def ports(self, names: Sequence[str]) -> dict[str, int]:
        """Ports that nobody else gets while this rig lives.

        They have to be held: two Envoys that are given the same one do not complain, they share what comes in.
        """
        found, holders = hold_ports(names)
        self.held += holders
        return found

    def app(self) -> App:
        app = App().start()
        self.apps.append(app)
        return app

    def leaf(self, service: str, ttl_s: int = TTL_S) -> pki.Leaf:
        home = authority.pki_directory(self.mesh, self.stage.cluster_of(service))
        return pki.make_leaf(authority.read(home).issuer, self.member(service).identity, ttl_s, pki.utc_now())

    def secrets(self, service: str, leaf: pki.Leaf | None = None) -> dict[str, Doc]:
        """Files of a certificate for a service: a new one by its cluster's intermediate, if none is given."""
        home = authority.pki_directory(self.mesh, self.stage.cluster_of(service))
        leaf = leaf or self.leaf(service)
        return envoyconf.secrets(leaf.chain, leaf.key, authority.read(home).trust)

    def sidecar(
        self,
        service: str,
        known: Mapping[str, Sequence[str]],
        *,
        version: str = STABLE,
        splits: Mapping[str, Mapping[str, int]] | None = None,
        disabled: Sequence[str] = (),
    ) -> Envoy:
        """Start one; `known` are the endpoints of its clusters."""
        member = self.member(service)
        plan = self.plan(self.stage.cluster_of(service))
        name = sidecar_of(service) if version == STABLE else sidecar_of(f"{service}-canary")
        ports = self.ports(("admin", *envoyconf.port_names(member)))
        directory = self.mesh / plan.cluster / "envoy" / name
        paths = Paths(directory=str(directory), traces=str(self.traces))

        def targets(known: Mapping[str, Sequence[str]]) -> dict[str, Doc]:
            return envoyconf.targets(plan, member, known, paths, disabled=disabled)

        docs: dict[str, Doc] = {
            **targets(known),
            **envoyconf.routes(member, splits or {}),
            **self.secrets(service),
            BOOTSTRAP: envoyconf.bootstrap(plan, member, ports, paths, disabled=disabled, part=name, version=version),
        }
        return self.start(name, directory, ports, docs, targets)

    def gateway(self, cluster: str, known: Mapping[str, Sequence[str]]) -> Envoy:
        plan = self.plan(cluster)
        name = gateway_of(cluster)
        ports = self.ports(("admin", "mtls"))
        directory = self.mesh / cluster / "envoy" / name
        paths = Paths(directory=str(directory), traces=str(self.traces))
        docs: dict[str, Doc] = {
            **envoyconf.gateway_targets(plan, known),
            BOOTSTRAP: envoyconf.gateway_bootstrap(plan, ports, paths),
        }
        return self.start(name, directory, ports, docs, partial(envoyconf.gateway_targets, plan))

    def start(
        self,
        name: str,
        directory: Path,
        ports: dict[str, int],
        docs: Mapping[str, Doc],
        targets: Callable[[Mapping[str, Sequence[str]]], dict[str, Doc]],
    ) -> Envoy:
        for file, doc in docs.items():
            write(directory / file, json.dumps(doc))
        binary = envoy.find_envoy()
        assert binary is not None, envoy.problems()
        with open(self.home / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                envoy.command(binary, directory), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        started = Envoy(name=name, directory=directory, ports=ports, process=process, targets=targets)
        self.envoys.append(started)
        return started

    def ready(self) -> Rig:
        """Wait for all Envoys."""
        for each in self.envoys:
            until(partial(_started, each), f"{each.name} is ready")
            log = (self.home / f"{each.name}.log").read_text()
            assert each.process.poll() is None, f"{each.name} exited with {each.process.returncode}: {log}"
        return self

    def lines(self, name: str, kind: str = "access") -> list[dict[str, Any]]:
        """What an Envoy has written to its access log, or with 'outliers' to the other one."""
        path = self.traces / f"{name}.{kind}.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def close(self) -> None:
        for each in self.envoys:
            if each.process.poll() is None:
                each.process.send_signal(signal.SIGCONT)
                each.process.terminate()
        for each in self.envoys:
            try:
                each.process.wait(10)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
        for app in self.apps:
            app.stop()
        for holder in self.held:
            holder.close()


def _started(each: Envoy) -> bool:
    return each.get("/ready")[0] == 200 or each.process.poll() is not None


def ask(
    port: int,
    method: str = "GET",
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 5.0,
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def hold_ports(names: Sequence[str]) -> tuple[dict[str, int], list[socket.socket]]:
    """Ports, and what keeps everybody away from them who does not set SO_REUSEADDR as listeners do."""
    holders = [socket.socket() for _ in names]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return {name: int(h.getsockname()[1]) for name, h in zip(names, holders, strict=True)}, holders


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """Ports that nobody has at this moment; for Envoys, rather `Rig.ports`."""
    found, holders = hold_ports(names)
    for holder in holders:
        holder.close()
    return found


def write(path: Path, text: str) -> None:
    """Replace a file by renaming another one onto it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    scratch.write_text(text)
    scratch.chmod(0o600)
    os.replace(scratch, path)


def app_of(app: App) -> dict[str, list[str]]:
    """The endpoints of a sidecar that calls nobody."""
    return {APP: [app.address]}


def wait_ms(ms: float) -> None:
    """A service that takes its time."""
    time.sleep(ms / 1000)
