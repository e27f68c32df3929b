"""A small fake of the local cloud on a real unix socket, with toys for services; verified by the contract suite.

It speaks the API that `chaos.client` speaks, in one thread, and breaks its toys (`chaos.toys`) and SQLite
files as the real one breaks services, so that what looks at a fault from outside sees it bite. It deploys
a stage's record, not a shop: operations have nothing to talk to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.faults import (
    DatabaseLocked,
    DatabaseSlow,
    Fault,
)
from chaos.faults_mesh import Canary
from chaos.parts import REGISTRY, authorities, controls, links, parts, registries, registry_wires, sidecars
from chaos.spec import FaultError, from_spec
from chaos.toy_faults import behaviour, broken, door_of
from chaos.toy_tls import GreetingToy, certificates
from chaos.toys import Toy
from chaos.wires import BROKER, Carries, brokers, wires
from stages.catalogue import STAGES
from stages.deployment import Deployment, Instance, Part, Wire
from stages.mesh import CANARY, STABLE, control_of
from stages.messaging import messaging
from stages.model import Kind

SWEEP_S = 0.05
"""How often the fake looks for leases that ran out."""


@dataclass(slots=True)
class _Held:
    """One lease of the fake."""

    fault: Fault
    ends: float
    """time.monotonic() at which it runs out."""
    state: str = "on"
    lost: bool = False
    """It runs out at the next look, for a test that asks for that."""
    lock: asyncio.Task[None] | None = None
    """Holds the lock of a database's fault."""

    def said(self, lease: str) -> dict[str, Any]:
        evidence = {"fake": self.fault.kind, "seen": f"the fake has {self.fault.target} under {self.fault.kind}"}
        return {"lease": lease, "fault": self.fault.spec(), "state": self.state, "evidence": evidence}


class FakeCloud:
    """One deployment named `name`; use `serving` to start it."""

    def __init__(self, home: Path, stage: str, name: str) -> None:
        self.control = home / "cloud.sock"
        self.directory = home / "deployments" / name
        self.stage, self.name, self.run_id = STAGES[stage], name, "run-1"
        self.services = {s.name: Toy() for s in self.stage.services}
        shows = certificates(home) if self.stage.mesh else {}

        def path(greeted: bool) -> Toy:
            return GreetingToy(shows) if greeted and self.stage.mesh else Toy()

        self.wires = {name: path(_callee(carries) != BROKER) for name, carries in wires(self.stage).items()}
        self.wires |= {link: path(True) for link in links(self.stage)}
        self.wires |= {wire: Toy() for wire in registry_wires(self.stage)}
        self.parts = {part: Toy() for part in parts(self.stage)}
        """Their own interfaces."""
        self.doors = {door_of(sidecar): path(True) for sidecar in sidecars(self.stage)}
        queues = messaging(self.stage).queues
        self.depths = {name: 0 for q in queues for name in (q.name, q.dead_letters)}
        """Messages in each queue and dead-letter queue, as the fake says."""
        self.leases: dict[str, _Held] = {}
        self.asked: list[tuple[str, str]] = []
        """Method and path of every request, in order."""

    @property
    def record(self) -> Path:
        """Where the deployment record lies."""
        return self.directory / "deployment.json"

    def on(self) -> list[str]:
        """Names of the leases that are on."""
        return [name for name, held in self.leases.items() if held.state == "on"]

    def expire(self, lease: str) -> None:
        """Let a lease run out now, whatever its next renewal wants."""
        self.leases[lease].lost = True

    @property
    def toys(self) -> dict[str, Toy]:
        """Everything that listens, by name."""
        return {**self.services, **self.wires, **self.parts, **self.doors}

    def deployment(self) -> Deployment:
        """The record of what the fake pretends to run."""
        return Deployment(
            name=self.name,
            run_id=self.run_id,
            stage=self.stage.name,
            target="local",
            control=str(self.control),
            edge=f"http://{self.services['storefront'].address}",
            directory=str(self.directory),
            services={
                s.name: Instance(
                    url=f"http://{self.services[s.name].address}",
                    cluster=self.stage.cluster_of(s.name),
                    pid=os.getpid(),
                    log="",
                    database=f"sqlite:///{self._file(s.name)}" if s.database else None,
                )
                for s in self.stage.services
            },
            wires={
                name: Wire(listen=self.wires[name].address, caller=caller, callee=callee)
                for name, (caller, callee) in self._ways().items()
            },
            parts={**{name: self._part(name) for name in self.parts}, **self._twins()},
        )

    def _ways(self) -> dict[str, tuple[str, str]]:
        """Every wire: from where to where."""
        to_registry = {
            name: (control_of(name.removesuffix(f"-{REGISTRY}")), REGISTRY) for name in registry_wires(self.stage)
        }
        between = {name: (carries.caller, _callee(carries)) for name, carries in wires(self.stage).items()}
        return {**between, **links(self.stage), **to_registry}

    def _part(self, name: str) -> Part:
        of = sidecars(self.stage).get(name)
        role = "sidecar" if of else "control" if name in controls(self.stage) else "gateway"
        ports = {"inbound": self.doors[door_of(name)].port} if of else {}
        cluster, admin = parts(self.stage)[name], f"http://{self.parts[name].address}"
        return Part(
            role=role, of=of, cluster=cluster, version=STABLE, admin=admin, pid=os.getpid(), log="", ports=ports
        )

    def _twins(self) -> dict[str, Part]:
        """Second versions: the fake has one process for both."""
        found = [f.service for lease in self.on() if isinstance(f := self.leases[lease].fault, Canary)]
        return {
            f"{service}-canary": Part(
                role="service",
                of=service,
                cluster=self.stage.cluster_of(service),
                version=CANARY,
                admin=f"http://{self.services[service].address}",
                pid=os.getpid(),
                log="",
            )
            for service in found
        }

    def resources(self) -> list[dict[str, Any]]:
        """What the fake says it runs, as far as that is asked for."""
        return [
            *({"kind": "broker", "name": name, "embedded": True} for name in brokers(self.stage)),
            *({"kind": "queue", "name": name, "broker": BROKER} for name in self.depths),
            *({"kind": "registry", "name": name} for name in registries(self.stage)),
            *({"kind": "authority", "name": name} for name in authorities(self.stage)),
        ]

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Run until `stop`; every lease is undone on the way out."""
        for toy in self.toys.values():
            await toy.listen()
        self._lay_out()
        server = await asyncio.start_unix_server(self._connection, str(self.control))
        sweeper = asyncio.create_task(self._sweep())
        ready.set()
        await stop.wait()
        sweeper.cancel()
        server.close()
        for lease in self.on():
            await self._undo(lease, "undone")
        for toy in self.toys.values():
            await toy.close()
        open_connections = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # closing a transport takes a turn of the loop

    def _lay_out(self) -> None:
        (self.directory / "databases").mkdir(parents=True, mode=0o700)
        for service in self.stage.services:
            if service.database:
                with contextlib.closing(sqlite3.connect(self._file(service.name))) as connection:
                    connection.execute("CREATE TABLE t (n INTEGER)")
        self.record.write_text(self.deployment().to_json())

    def _file(self, service: str) -> Path:
        return self.directory / "databases" / f"{service}.db"

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for lease in self.on():
                if self.leases[lease].lost or self.leases[lease].ends < time.monotonic():
                    await self._undo(lease, "expired")

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._exchange(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client went away
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        method, path, _ = head[0].split()
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append((method, path))
        status, said = await self._answer(method, path, json.loads(body or b"{}"))
        payload = json.dumps(said).encode()
        writer.write(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n" % (status, len(payload)) + payload)
        await writer.drain()

    async def _answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match [method, *path.strip("/").split("/")]:
            case ["GET", "deployments", name] if name == self.name:
                faults = [held.said(lease) for lease, held in self.leases.items() if held.state == "on"]
                record = json.loads(self.deployment().to_json())
                return 200, {"deployment": record, "resources": self.resources(), "faults": faults}
            case ["GET", "deployments", name, "queues", queue] if name == self.name and queue in self.depths:
                return 200, {"name": queue, "messages": {"visible": self.depths[queue], "in_flight": 0, "delayed": 0}}
            case ["PUT", "deployments", name, "faults", lease] if name == self.name:
                return await self._put(lease, body)
            case ["POST", "deployments", name, "faults", lease, "renew"] if name == self.name:
                return self._renew(lease, float(body["ttl_s"]))
            case ["GET", "deployments", name, "faults", lease] if name == self.name and lease in self.leases:
                return 200, self.leases[lease].said(lease)
            case ["DELETE", "deployments", name, "faults", lease] if name == self.name:
                if lease in self.on():
                    await self._undo(lease, "undone")
                return 200, self.leases[lease].said(lease) if lease in self.leases else {"state": "undone"}
        return 404, {"error": f"nothing at {path}", "problems": []}

    async def _put(self, lease: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            fault = from_spec(body["fault"])
        except FaultError as error:
            return 422, {"error": "not a fault", "problems": error.problems}
        for need in fault.needs:
            kind, _, name = need.partition(" ")
            if name not in self._there(kind):
                return 409, {"error": f"no {kind} {name!r}", "problems": []}
        ends = time.monotonic() + float(body["ttl_s"])
        if lease in self.on():
            self.leases[lease].ends = ends
        else:
            self.leases[lease] = _Held(fault=fault, ends=ends)
            await self._break(self.leases[lease])
        return 200, self.leases[lease].said(lease)

    def _there(self, kind: str) -> Collection[str]:
        return {
            "cluster": [c.name for c in self.stage.clusters],
            "wire": self.wires,
            "broker": brokers(self.stage),
            "queue": self.depths,
            "registry": registries(self.stage),
            "authority": authorities(self.stage),
        }.get(kind, {**self.services, **self.parts})

    def _renew(self, lease: str, ttl_s: float) -> tuple[int, dict[str, Any]]:
        held = self.leases.get(lease)
        if held is None:
            return 404, {"error": f"no lease {lease!r}", "problems": []}
        if held.state != "on":
            return 409, {"error": f"lease {lease!r} is {held.state}", "problems": []}
        held.ends = time.monotonic() + ttl_s
        return 200, held.said(lease)

    async def _undo(self, lease: str, state: str) -> None:
        held = self.leases[lease]
        held.state = state
        if held.lock is not None:
            held.lock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await held.lock
        for name in broken(held.fault, self.stage):
            await self._toy(name).change("well")

    async def _break(self, held: _Held) -> None:
        fault = held.fault
        match fault:
            case DatabaseLocked(database=database):
                held.lock = asyncio.create_task(self._lock(database, 1.0, 0.0))
            case DatabaseSlow(database=database, hold_ms=hold, every_ms=every):
                held.lock = asyncio.create_task(self._lock(database, hold / 1000, (every - hold) / 1000))
        for name in broken(fault, self.stage):
            await self._toy(name).change(**behaviour(fault))

    def _toy(self, name: str) -> Toy:
        return self.toys[name]

    async def _lock(self, database: str, hold_s: float, free_s: float) -> None:
        """Hold an exclusive lock by turns; without a pause in between it is never given back."""
        with contextlib.closing(sqlite3.connect(self._file(database), isolation_level=None)) as connection:
            while True:
                connection.execute("BEGIN EXCLUSIVE")
                await asyncio.sleep(hold_s if free_s else 3600)
                connection.execute("ROLLBACK")
                await asyncio.sleep(free_s)


def _callee(carries: Carries) -> str:
    return carries.channels[0].callee if carries.channels[0].kind is Kind.CALL else BROKER


@contextlib.contextmanager
def serving(home: Path, *, stage: str = "sync", name: str = "shop") -> Iterator[FakeCloud]:
    """A fake local cloud in a thread of its own, with its state in `home` (0700, a short path)."""
    cloud = FakeCloud(home, stage, name)
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(cloud.serve(ready, stop)), name="fake cloud")
    thread.start()
    if not ready.wait(10):
        raise TimeoutError("the fake cloud did not start within 10 s")
    try:
        yield cloud
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
