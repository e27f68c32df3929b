"""How does a service start, change without losing a request, end, and come back?

A rollover: start the new instance on a port of its own -> wait until it is ready -> switch the wires ->
wait until no request is under way to the old one -> SIGTERM -> it drains. If the new one does not get
ready, the old one has never been touched. A service that dies stays dead: that is drift, and visible.
"""

from __future__ import annotations

import asyncio
import time

from infra.local.clusters import Clusters
from infra.local.context import Context, log
from infra.local.edges import Edges
from infra.local.errors import Conflict, NotFound, Unavailable
from infra.local.home import tail
from infra.local.launch import POLL_S, READY_S, Launcher
from infra.local.namedports import NamedPorts
from infra.local.processes import ProcessId, alive, describe_status, gone, state_of, stop
from infra.local.state import SERVICE, Instance, Service, ServiceSpec

QUIET_S = 3.0
"""Longest wait for the last answers of an instance that is being replaced; it drains itself anyway."""

DRAIN_S = 10.0
"""Longest drain after SIGTERM."""


class Services:
    """The services of one deployment."""

    def __init__(self, context: Context, clusters: Clusters, edges: Edges, ports: NamedPorts) -> None:
        self._context = context
        self._ports = ports
        self._launcher = Launcher(context, clusters)
        self._edges = edges
        self._services = context.state.services

    async def put(self, name: str, spec: ServiceSpec, *, restart: bool = False) -> dict[str, object]:
        """Have this service, run from this spec. Raise Died if the instance does not get ready."""
        async with self._context.lock("service", name):
            self._check(name, spec)
            if spec.ports:
                self._ports.put(name, spec.ports)
            service = self._services.get(name)
            running = service is not None and service.instance is not None and alive(service.instance.process)
            if service is None or not (running and service.spec == spec and not restart):
                await self._roll(name, spec)
        return self.get(name)

    def get(self, name: str) -> dict[str, object]:
        service = self._named(name)
        instance = service.instance
        return {
            "kind": "service",
            "name": name,
            "state": self.state(name),
            "cluster": service.spec.cluster,
            "pid": instance.process.pid if instance and instance.process else None,
            "url": f"http://{instance.address}" if instance else None,
            "log": str(self._context.log_of(name)),
            "ended": service.ended,
            **self._outputs(name, service.spec),
        }

    def state(self, name: str) -> str:
        """running, paused, exited, down-by-fault, or starting before the first instance is ready."""
        service = self._named(name)
        if service.instance is None:
            return "starting"
        seen = state_of(service.instance.process)
        if seen is None:
            return "down-by-fault" if self._down(name) else "exited"
        return "paused" if seen == "T" else "running"

    def logged(self, name: str, lines: int) -> list[str]:
        self._named(name)
        return tail(self._context.log_of(name), lines)

    async def delete(self, name: str) -> None:
        """End the service; idempotent. Its wires refuse from then on."""
        async with self._context.lock("service", name):
            service = self._services.get(name)
            if service is None:
                return
            self._refuse_while_faulty(name)
            instance, service.instance = service.instance, None
            await self._edges.point(name)
            if instance is not None:
                await stop(instance.process, self._context.tags, DRAIN_S)
                self._context.ports.release(instance.port)
            self._services.pop(name, None)
            self._ports.delete(name)
            self._context.save()

    async def start_again(self, name: str) -> None:
        """Start an ended service from its spec, on its old port if that can be had."""
        async with self._context.lock("service", name):
            service = self._services.get(name)
            if service is None or service.instance is None or alive(service.instance.process) or self._down(name):
                return
            await self._roll(name, service.spec, preferred=service.instance.port)

    async def until_ready(self, name: str, timeout_s: float = READY_S) -> None:
        """Wait until a service that lives is ready; return at once if it does not live. Raise Unavailable."""
        service = self._named(name)
        deadline = time.monotonic() + timeout_s
        while service.instance is not None and alive(service.instance.process):
            if await self._launcher.is_ready(service.spec, service.instance):
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} is not ready {timeout_s:g} s after its fault was undone")
            await asyncio.sleep(POLL_S)

    def instance(self, name: str) -> Instance:
        """The instance that serves now. Raise Conflict if there is none."""
        service = self._services.get(name)
        if service is None or service.instance is None or not alive(service.instance.process):
            state = self.state(name) if service else "unknown"
            raise Conflict(f"service {name!r} of {self._context.state.name} is {state}, not running")
        return service.instance

    def watch(self, name: str) -> None:
        """Notice the end of the instance that serves now."""
        instance = self._services[name].instance
        process = instance.process if instance else None
        if instance is not None and process is not None:
            self._context.background(self._until_gone(name, instance, process), f"watching {name}")

    async def end_leftovers(self, name: str) -> None:
        """After an interruption: end what was starting or draining."""
        service = self._services[name]
        for instance in (service.next, service.old):
            if instance is not None:
                await stop(instance.process, self._context.tags, DRAIN_S)
        service.next = service.old = None

    # how

    async def _roll(self, name: str, spec: ServiceSpec, preferred: int | None = None) -> None:
        fresh = name not in self._services
        service = self._services.setdefault(name, Service(spec))
        try:
            started = await self._launcher.launch(name, service, spec, preferred)
        except BaseException:
            if fresh:
                self._services.pop(name, None)
                self._context.save()
            raise
        before = service.instance
        service.old = before if before is not None and alive(before.process) else None
        service.instance, service.next, service.spec, service.ended = started, None, spec, None
        self._ports.release(name)
        self._context.save()
        self.watch(name)
        await self._edges.point(name)
        await self._retire(service)
        if before is not None and before.port != started.port:
            self._context.ports.release(before.port)

    async def _retire(self, service: Service) -> None:
        if service.old is None:
            return
        await self._edges.quiet(service.old.address, QUIET_S)
        await stop(service.old.process, self._context.tags, DRAIN_S)
        service.old = None
        self._context.save()

    async def _until_gone(self, name: str, instance: Instance, process: ProcessId) -> None:
        await gone(process)
        service = self._services.get(name)
        if self._context.closing or service is None or service.instance is not instance:
            return
        service.ended = describe_status(await self._launcher.status(service.spec.cluster, process))
        log.info("%s: %s (process %d) %s", self._context.state.name, name, process.pid, service.ended)
        self._context.ports.hold(instance.port)  # it comes back there, and until then the address must refuse
        self._ports.hold(name)
        self._context.save()
        await self._edges.point(name)

    def _outputs(self, name: str, spec: ServiceSpec) -> dict[str, object]:
        """What only parts of a mesh have."""
        named = self._ports.outputs(name)
        return {"role": spec.role, "of": spec.of, "version": spec.version, **named} if spec.role != SERVICE else named

    def _check(self, name: str, spec: ServiceSpec) -> None:
        state = self._context.state
        found = []
        if spec.cluster not in state.clusters:
            found.append(f"service {name} is for cluster {spec.cluster!r}, which does not exist")
        if spec.database is not None and spec.database not in state.databases:
            found.append(f"service {name} uses database {spec.database!r}, which does not exist")
        if found:
            raise Conflict("; ".join(found), found)
        self._refuse_while_faulty(name)

    def _refuse_while_faulty(self, name: str) -> None:
        for lease, held in self._context.state.leases.items():
            if held.fault.kind in ("partition", "canary"):
                continue  # its process is left alone
            if held.holds and (held.fault.meaning.target, held.fault.target) in self._targets(name):
                raise Conflict(f"service {name} is under the fault {lease!r} ({held.fault.kind}); undo it first")

    def _down(self, name: str) -> bool:
        """Whether a fault wants this service dead."""
        return any(
            held.holds
            and held.fault.kind in ("kill", "kill-in-flight", "cluster-outage")
            and (held.fault.meaning.target, held.fault.target) in self._targets(name)
            for held in self._context.state.leases.values()
        )

    def _targets(self, name: str) -> set[tuple[str, str]]:
        service = self._services.get(name)
        return {("service", name)} | ({("cluster", service.spec.cluster)} if service else set())

    def _named(self, name: str) -> Service:
        service = self._services.get(name)
        if service is None:
            raise NotFound(f"there is no service {name!r} in {self._context.state.name}")
        return service
