"""One deployment as a whole: how does it come, get adopted, describe itself, and go without a trace?"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from infra.local.authorities import Authority
from infra.local.brokers import Brokers
from infra.local.canaries import Canaries
from infra.local.clusters import Clusters
from infra.local.context import Context, log
from infra.local.controls import ControlPlanes
from infra.local.edges import Edges
from infra.local.errors import CloudError, Conflict, NotFound
from infra.local.home import Home
from infra.local.leases import Leases
from infra.local.namedports import NamedPorts
from infra.local.processes import NotOurs, ProcessId, alive, gone, kill, send, state_of, stop, tagged
from infra.local.queues import Queues
from infra.local.record import record
from infra.local.regional import Regional
from infra.local.registries import Registries
from infra.local.services import Services
from infra.naming import TAG_CLOUD, TAG_DEPLOYMENT

T = TypeVar("T")

GRACE_S = 2.0
"""What a service gets to end what it has in hand when everything goes."""

PARTS = ("logs", "traces", "databases", "leases")


class Deployed:
    """One deployment and everything in it."""

    def __init__(self, context: Context, orphaned: Callable[[str], None]) -> None:
        """`orphaned` is called with the name when the owner has ended."""
        self.context = context
        self._orphaned = orphaned
        self.state = context.state
        self.clusters = Clusters(context)
        self.edges = Edges(context)
        self.brokers = Brokers(context, self.edges)
        self.queues = Queues(context, self.brokers)
        self.registries = Registries(context, self.edges)
        self.authority = Authority(context)
        self.named_ports = NamedPorts(context)
        self.services = Services(context, self.clusters, self.edges, self.named_ports)
        self.controls = ControlPlanes(context)
        self.canaries = Canaries(context, self.edges, self.services, self.named_ports, self.controls)
        self.leases = Leases(
            context, self.clusters, self.edges, self.services, self.brokers, self.registries, self.canaries
        )
        self._work: set[asyncio.Task[Any]] = set()
        self._ending: asyncio.Task[list[str]] | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do a piece of work to its end, whether or not the one who asked still waits.

        Raise Conflict if the deployment is, or gets, torn down.
        """
        if self.context.closing:
            raise Conflict(f"deployment {self.state.name} is being deleted")
        task = asyncio.get_running_loop().create_task(work())
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() or self.context.closing:
                raise Conflict(f"deployment {self.state.name} is being deleted") from None
            raise

    def open(self, preload: Sequence[str]) -> None:
        """Make its directories; its wire host and, if it is to preload anything, its nursery start while the client
        asks for more."""
        for part in PARTS:
            (self.context.directory / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.context.save()
        self.context.background(self.edges.revive(), "starting the wire host")
        if preload:
            self.context.background(self.clusters.prepare(preload), "starting the nursery")
        self.watch_owner()

    def put_database(self, name: str) -> dict[str, object]:
        """A place for a SQLite file; the service that uses it creates it."""
        path = self.context.directory / "databases" / f"{name}.db"
        self.state.databases.setdefault(name, {"url": f"sqlite:///{path}"})
        self.context.save()
        return self.get_database(name)

    def get_database(self, name: str) -> dict[str, object]:
        known = self.state.databases.get(name)
        if known is None:
            raise NotFound(f"there is no database {name!r} in {self.state.name}")
        return {"kind": "database", "name": name, "state": "available", "url": known["url"]}

    def delete_database(self, name: str) -> None:
        """Delete the data; idempotent. Raise Conflict while a service uses it."""
        users = [n for n, s in self.state.services.items() if s.spec.database == name]
        if users and name in self.state.databases:
            raise Conflict(f"database {name} is used by {', '.join(users)}; delete them first")
        self.state.databases.pop(name, None)
        for file in (self.context.directory / "databases").glob(f"{name}.db*"):
            file.unlink(missing_ok=True)
        self.context.save()

    async def describe(self) -> dict[str, Any]:
        """The Deployment record, every resource with its state, every fault that is on."""
        listening = await self._listening()
        resources: list[dict[str, Any]] = [self.clusters.get(name) for name in self.state.clusters]
        resources += [self.get_database(name) for name in self.state.databases]
        resources += await self.queues.describe()
        resources += [self.registries.get(name) for name in self.state.registries]
        resources += [self.authority.get("authority")] if self.state.authority else []
        for name, wire in self.state.wires.items():
            known = {
                "listen": f"127.0.0.1:{wire.port}",
                **{k: v for k, v in asdict(wire.spec).items() if v is not None},
            }
            resources.append({"kind": "wire", "name": name, "state": listening.get(name, "unknown"), **known})
        resources += [self.services.get(name) for name in self.state.services]
        resources += [self.canaries.get(name) for name in self.state.canaries]
        return {
            "deployment": json.loads(record(self.state, self.context.home).to_json()),
            "resources": resources,
            "faults": await self.faults(),
        }

    async def _listening(self) -> dict[str, str]:
        """State per wire; empty while the wire host does not answer."""
        try:
            wires = (await self.edges.stats())["wires"]
        except CloudError:
            return {}
        return {name: "listening" if seen["listening"] else "refusing" for name, seen in wires.items()}

    async def faults(self) -> list[dict[str, Any]]:
        """Every fault that is on now."""
        names = [name for name, lease in self.state.leases.items() if lease.holds]
        return [{"deployment": self.state.name, **await self.leases.get(name)} for name in names]

    async def heal(self) -> tuple[list[str], list[str]]:
        """Undo every fault, also a stop that no lease knows of."""
        healed, left = await self.leases.heal()
        healed += [f"stop of {name}" for name in self._continue_stopped()]
        return [f"{self.state.name}/{n}" for n in healed], [f"{self.state.name}/{n}" for n in left]

    def _continue_stopped(self) -> list[str]:
        """SIGCONT every process of ours that is stopped, but not by a fault that is on; returns their names."""
        faults = [lease.fault for lease in self.state.leases.values() if lease.holds]
        held = {f"{f.meaning.target} {f.target}" for f in faults if f.meaning.holder == "holder"}
        held |= {f"service {n}" for n, s in self.state.services.items() if f"cluster {s.spec.cluster}" in held}
        processes = {f"service {n}": s.instance.process for n, s in self.state.services.items() if s.instance}
        processes |= {f"broker {n}": b.host for n, b in self.state.brokers.items() if b.host}
        processes |= {f"registry {n}": r.host for n, r in self.state.registries.items() if r.host}
        processes |= {f"cluster {n}": c.host for n, c in self.state.clusters.items()}
        processes = {name: process for name, process in processes.items() if name not in held}
        processes |= {"wires": self.state.wire_host, "nursery": self.state.nursery}
        stopped = {name: process for name, process in processes.items() if process and state_of(process) == "T"}
        return [name for name, process in stopped.items() if send(process, signal.SIGCONT, self.context.tags)]

    async def adopt(self) -> None:
        """Take over what a killed daemon left running: prove it, watch it, end what was half done."""
        await self._end_strays()
        self._continue_stopped()
        self.watch_owner()
        if alive(self.state.wire_host):
            self.edges.watch()
        else:
            await self.edges.revive()
        for regional in (self.brokers, self.registries):
            await self._adopt_regional(regional)
        for name in list(self.state.services):
            await self._adopt_service(name)
        self.leases.adopt()
        self.context.save()

    async def _adopt_regional(self, regional: Regional) -> None:
        for name, held in regional.held.items():
            if alive(held.host):
                regional.watch(name)
            else:
                self.context.background(regional.revive(name), f"starting {regional.kind} {name}")

    async def _adopt_service(self, name: str) -> None:
        service = self.state.services[name]
        await self.services.end_leftovers(name)
        if service.instance is None:
            del self.state.services[name]  # its first start was interrupted: it was never answered for
            return
        if alive(service.instance.process):
            self.services.watch(name)
        elif service.ended is None:
            service.ended = "ended while the local cloud was down"
        await self.edges.point(name)

    def watch_owner(self) -> None:
        """Tear the deployment down when its owner ends."""
        owner = self.state.owner
        if owner is not None:
            self.context.background(self._until_orphaned(owner), "watching the owner")

    async def _until_orphaned(self, owner: ProcessId) -> None:
        await gone(owner)
        if self.state.owner == owner:
            log.info("%s: its owner (process %d) is gone", self.state.name, owner.pid)
            self._orphaned(self.state.name)

    async def close(self) -> list[str]:
        """End everything and delete every trace; callers may come together.

        Returns what a user's own broker still holds and why: everything here is gone nevertheless.
        """
        if self._ending is None or (self._ending.done() and self._ending.exception()):
            self._ending = asyncio.get_running_loop().create_task(self._close())
        return await asyncio.shield(self._ending)

    async def _close(self) -> list[str]:
        self.context.closing = True
        self.state.deleting = True
        self.context.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have removed it
        self.context.save()
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self.context.end_background()
        await asyncio.gather(*(self._stop_service(name) for name in self.state.services))
        left = await self.queues.clear()
        await asyncio.gather(self.edges.stop(), self.brokers.stop(), self.registries.stop())
        for cluster in self.state.clusters.values():
            await stop(cluster.host, self.context.tags, grace_s=0.5)
        await stop(self.state.nursery, self.context.tags, grace_s=0.5)
        await sweep(self.context.home, self.state.name)
        for service in self.state.services.values():
            if service.instance is not None:
                self.context.ports.release(service.instance.port)
        for name in self.state.ports:
            self.named_ports.release(name)
        self.context.give_back_ranges()
        self._remove_files()
        return left

    async def _stop_service(self, name: str) -> None:
        service = self.state.services[name]
        for instance in (service.next, service.instance, service.old):
            if instance is not None:
                await stop(instance.process, self.context.tags, GRACE_S, drains=False)

    def _remove_files(self) -> None:
        home, name = self.context.home, self.state.name
        home.remove_controls(name)
        # the state goes last: a crash in between leaves a deployment that is still known, and being deleted
        for entry in self.context.directory.iterdir():
            if entry.name != "state.json":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree(self.context.directory)

    async def _end_strays(self) -> None:
        """Processes that carry our tags but are not in the state: forked just before the daemon was killed."""
        state = self.state
        instances = [i for s in state.services.values() for i in (s.instance, s.next, s.old) if i]
        known = {i.process for i in instances} | {c.host for c in state.clusters.values()} | {state.wire_host}
        known |= {hosted.host for hosted in (*state.brokers.values(), *state.registries.values())} | {state.nursery}
        known |= {lease.holder for lease in state.leases.values()}
        for process in tagged(self.context.tags):
            if process not in known:
                log.info("%s: ending stray process %d", state.name, process.pid)
                await kill(process, self.context.tags)


async def sweep(home: Home, name: str) -> list[int]:
    """SIGKILL every process that carries the tags of a deployment; returns their pids. Leaves others alone."""
    tags = {TAG_CLOUD: str(home.path), TAG_DEPLOYMENT: name}
    found: list[int] = []
    for _ in range(5):  # a process may fork while we look
        processes = tagged(tags)
        if not processes:
            break
        for process in processes:
            try:
                await kill(process, tags)
            except NotOurs:
                continue
            found.append(process.pid)
    return found
