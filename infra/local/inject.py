"""How is each kind of fault put on, seen, and taken off? One small class per holder.

Every `on` returns once the fault can be seen; every `off` returns once its target could be seen to be
free of it, and may be repeated. What a fault does to requests is for the prober to find out.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from infra.local.clusters import Clusters
from infra.local.context import Context
from infra.local.edges import Edges
from infra.local.errors import Conflict, Unavailable
from infra.local.evidence import seen_by_holder, seen_on_wire, try_database
from infra.local.holder import status_path
from infra.local.home import read_json, write_atomically
from infra.local.probe import refuses
from infra.local.processes import ProcessId, alive, gone, send, spawn, state_of, stop
from infra.local.regional import Regional
from infra.local.services import Services
from infra.local.state import Lease

HOLDER_START_S = 10.0


class Injector(Protocol):
    """What can be done with the faults of one holder."""

    def check(self, lease: Lease) -> None:
        """Raise Conflict, nothing done, if the target does not exist or cannot take the fault now."""

    async def on(self, name: str, lease: Lease) -> None: ...

    async def renew(self, name: str, lease: Lease) -> None: ...

    async def off(self, name: str, lease: Lease) -> None:
        """Undo; wait until the target is up again. Raise a CloudError if it does not come up."""

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        """What can be seen of the fault now; 'seen' is a sentence, None while nothing is seen."""

    def held(self, lease: Lease) -> bool:
        """Whether the holder still lives; a fault without its holder is to be undone."""


class DeathInjector:
    """Kills a service, or everything of a cluster; held by the daemon, undone by starting it again."""

    def __init__(self, context: Context, clusters: Clusters, edges: Edges, services: Services) -> None:
        self._context = context
        self._clusters = clusters
        self._edges = edges
        self._services = services

    def check(self, lease: Lease) -> None:
        if lease.fault.meaning.target == "service":
            self._services.instance(lease.fault.target)
        elif lease.fault.target not in self._context.state.clusters:
            raise Conflict(f"there is no cluster {lease.fault.target!r} in {self._context.state.name}")

    async def on(self, name: str, lease: Lease) -> None:
        target = lease.fault.target
        if lease.fault.kind == "cluster-outage":
            lease.evidence = {"pids": await self._clusters.strike(target)}
            await asyncio.gather(*(self._edges.point(name) for name in self._clusters.services_in(target)))
            return
        process = self._services.instance(target).process
        assert process is not None
        lease.evidence = {"pids": [process.pid]}
        self._context.save()
        if send(process, signal.SIGKILL, self._context.tags) and not await gone(process, 5):
            raise Unavailable(f"{target} (process {process.pid}) did not end within 5 s of SIGKILL")
        await self._edges.point(target)

    async def renew(self, name: str, lease: Lease) -> None:
        """The daemon's own timer is all there is."""

    async def off(self, name: str, lease: Lease) -> None:
        if lease.fault.meaning.target == "service":
            await self._services.start_again(lease.fault.target)
            return
        await self._clusters.host(lease.fault.target)
        results = await asyncio.gather(
            *(self._services.start_again(s) for s in self._clusters.services_in(lease.fault.target)),
            return_exceptions=True,
        )
        for failed in results:
            if isinstance(failed, BaseException):
                raise failed

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        state = self._context.state
        members = [lease.fault.target]
        if lease.fault.kind == "cluster-outage":
            members = self._clusters.services_in(lease.fault.target)
        up = [m for m in members if (s := state.services.get(m)) and s.instance and alive(s.instance.process)]
        pids = lease.evidence.get("pids", [])
        seen = f"processes {', '.join(map(str, pids))} are gone" if pids and not up else None
        return {"pids": pids, "alive": up, "seen": seen}

    def held(self, lease: Lease) -> bool:
        return True


class WireInjector:
    """Faults of a wire; the wire host holds them and ends them by itself."""

    def __init__(self, context: Context, edges: Edges) -> None:
        self._context = context
        self._edges = edges

    def check(self, lease: Lease) -> None:
        if lease.fault.target not in self._context.state.wires:
            raise Conflict(f"there is no wire {lease.fault.target!r} in {self._context.state.name}")

    async def on(self, name: str, lease: Lease) -> None:
        await self._edges.ask(
            {
                "cmd": "fault",
                "lease": name,
                "wire": lease.fault.target,
                "fault": lease.fault.to_json(),
                "ttl_s": max(0.0, lease.expires_s - time.monotonic()),
            }
        )

    async def renew(self, name: str, lease: Lease) -> None:
        await self._edges.ask({"cmd": "renew", "lease": name, "ttl_s": lease.expires_s - time.monotonic()})

    async def off(self, name: str, lease: Lease) -> None:
        await self._edges.ask({"cmd": "undo", "lease": name})

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        stats = await self._edges.stats()
        known = stats["leases"].get(name)
        if known is None:
            return {"state": "unknown to the wire host", "seen": None}
        wire = stats["wires"].get(lease.fault.target, {})
        since = known["since"]
        found = {"state": known["state"], "since": since, "open": wire.get("open"), "listening": wire.get("listening")}
        if lease.fault.kind == "refuse":
            port = self._context.state.wires[lease.fault.target].port
            found["refused"] = lease.holds and await refuses("127.0.0.1", port)
        return {**found, "seen": seen_on_wire(lease.fault.kind, found)}

    def held(self, lease: Lease) -> bool:
        return alive(self._context.state.wire_host)


class HolderInjector:
    """Faults that a process of their own holds: on one process, on all of a cluster, or on a database's file."""

    def __init__(
        self, context: Context, clusters: Clusters, services: Services, regional: Mapping[str, Regional]
    ) -> None:
        """`regional`: brokers and registries, by what they are called."""
        self._context = context
        self._clusters = clusters
        self._services = services
        self._regional = regional

    def check(self, lease: Lease) -> None:
        self._target(lease)

    async def on(self, name: str, lease: Lease) -> None:
        path = self._path(name)
        status = status_path(path)
        status.unlink(missing_ok=True)
        target = self._target(lease)
        lease.evidence = {"target": target}
        self._write(name, lease)
        log = self._context.directory / "logs" / "faults.log"
        lease.holder = spawn(["-m", "infra.local.holder", str(path)], self._context.tags, log)
        self._context.save()
        deadline = time.monotonic() + HOLDER_START_S
        while (read_json(status) or {}).get("state") != "on":
            if not alive(lease.holder) or time.monotonic() > deadline:
                reason = (read_json(status) or {}).get("reason") or f"its holder did not come up; log: {log}"
                raise Unavailable(f"{lease.fault.kind} on {lease.fault.target}: {reason}")
            await asyncio.sleep(0.01)

    async def renew(self, name: str, lease: Lease) -> None:
        self._write(name, lease)

    async def off(self, name: str, lease: Lease) -> None:
        await stop(lease.holder, self._context.tags, grace_s=2 * _longest_act_s(lease))
        target = lease.evidence.get("target", {})
        for process in self._processes(target):
            if state_of(process) == "T":  # its holder was killed
                send(process, signal.SIGCONT, self._context.tags)
        if regional := self._regional.get(lease.fault.meaning.target):
            await regional.until_ready(lease.fault.target)
        else:
            await asyncio.gather(*(self._services.until_ready(user) for user in self._users(lease)))
        lease.evidence["last"] = read_json(status_path(self._path(name)))
        for path in (self._path(name), status_path(self._path(name))):
            path.unlink(missing_ok=True)

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        status = read_json(status_path(self._path(name))) or lease.evidence.get("last") or {}
        seen = dict(status.get("seen", {}))
        target = lease.evidence.get("target", {})
        if "pid" in target:
            seen["process_state"] = state_of(ProcessId(**target))
        elif "cluster" in target:
            states = {process.pid: state_of(process) for process in self._processes(target)}
            seen["stopped"] = [pid for pid, state in states.items() if state == "T"]
            seen["running"] = [pid for pid, state in states.items() if state != "T"]
        elif lease.holds and "path" in target:
            seen["witness"] = try_database(Path(target["path"]))
        return {**seen, "seen": seen_by_holder(lease.fault.kind, seen) if status.get("state") == "on" else None}

    def held(self, lease: Lease) -> bool:
        return alive(lease.holder)

    def _target(self, lease: Lease) -> dict[str, Any]:
        name = lease.fault.target
        if lease.fault.meaning.target == "database":
            if name not in self._context.state.databases:
                raise Conflict(f"there is no database {name!r} in {self._context.state.name}")
            return {"path": str(self._context.directory / "databases" / f"{name}.db")}
        if lease.fault.meaning.target == "cluster":
            if name not in self._context.state.clusters:
                raise Conflict(f"there is no cluster {name!r} in {self._context.state.name}")
            return {"cluster": name}
        if regional := self._regional.get(lease.fault.meaning.target):
            process: ProcessId | None = regional.process(name)
        else:
            process = self._services.instance(name).process
        assert process is not None
        return {"pid": process.pid, "start": process.start}

    def _processes(self, target: Mapping[str, Any]) -> list[ProcessId]:
        """What the holder stops."""
        if "cluster" in target:
            return self._clusters.members(target["cluster"])
        return [ProcessId(**target)] if "pid" in target else []

    def _users(self, lease: Lease) -> list[str]:
        """Services that feel the fault."""
        name, services = lease.fault.target, self._context.state.services
        match lease.fault.meaning.target:
            case "database":
                return [user for user, service in services.items() if service.spec.database == name]
            case "cluster":
                return self._clusters.services_in(name)
        return [name]

    def _write(self, name: str, lease: Lease) -> None:
        document = {
            "fault": {"kind": lease.fault.kind, **lease.fault.numbers},
            "target": lease.evidence["target"],
            "tags": self._context.tags,
            "expires_s": lease.expires_s,
        }
        write_atomically(self._path(name), json.dumps(document))

    def _path(self, name: str) -> Path:
        return self._context.directory / "leases" / f"{name}.json"


def _longest_act_s(lease: Lease) -> float:
    return 1.5 + lease.fault.numbers.get("hold_ms", 0) / 1000
