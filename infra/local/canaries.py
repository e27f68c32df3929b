"""How does another version of a service come beside the one that serves, take a share of its calls, and go?

    ports -> sidecar and service "<name>-canary", wires -> callers know it -> share        ... -> share 0 -> all goes

The newcomer runs from the same spec, on the same database, with a sidecar of its own; callers in its cluster reach
that by wires of their own, those in other clusters by the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from infra.local.context import Context
from infra.local.controls import ControlPlanes
from infra.local.edges import Edges
from infra.local.errors import Conflict, NotFound
from infra.local.namedports import NamedPorts
from infra.local.services import Services
from infra.local.state import SERVICE, Canary, ServiceSpec, WireSpec
from stages.mesh import CANARY, STABLE, sidecar_of

SHARE_SETTLES_S = 1.0
"""After this nobody sends the canary anything new: control planes look ten times a second, Envoys follow at once."""


def canary_of(name: str) -> str:
    """Name of the second version of a service, or of a wire to it.

    >>> canary_of("inventory")
    'inventory-canary'
    """
    return f"{name}-canary"


class Canaries:
    """The canaries of one deployment, by service."""

    def __init__(
        self, context: Context, edges: Edges, services: Services, ports: NamedPorts, controls: ControlPlanes
    ) -> None:
        self._context = context
        self._controls = controls
        self._edges = edges
        self._services = services
        self._ports = ports

    async def put(self, service: str, canary: Canary) -> dict[str, object]:
        """Have this canary; with another share, only that changes. Raise Conflict if the service cannot have one."""
        async with self._context.lock("canary", service):
            self.check(service)
            known = self._context.state.canaries.get(service)
            if known is None or known.defect != canary.defect or not self._runs(service):
                self._context.state.canaries[service] = replace(canary, share_percent=0)
                self._context.save()
                try:
                    await self._start(service, canary.defect)
                except BaseException:
                    await self._end(service)
                    raise
            self._context.state.canaries[service] = canary
            self._context.save()
        return self.get(service)

    def get(self, service: str) -> dict[str, object]:
        canary = self._context.state.canaries.get(service)
        if canary is None:
            raise NotFound(f"{service} of {self._context.state.name} has no canary")
        return {
            "kind": "canary",
            "name": service,
            "state": "running" if self._runs(service) else "exited",
            "share_percent": canary.share_percent,
            "defect": canary.defect,
            "service": canary_of(service),
        }

    async def delete(self, service: str) -> None:
        """Give its calls back to the first version, let it finish what it has, and take it away; idempotent."""
        async with self._context.lock("canary", service):
            canary = self._context.state.canaries.get(service)
            if canary is None:
                return
            canary.share_percent = 0
            self._context.save()
            await asyncio.sleep(SHARE_SETTLES_S)
            await self._end(service)

    def check(self, service: str) -> None:
        """Raise Conflict if the service cannot have a canary."""
        state = self._context.state
        known = state.services.get(service)
        if known is None or known.spec.role != SERVICE or known.spec.version != STABLE:
            raise Conflict(f"there is no service {service!r} in {state.name} that could have a canary")
        if sidecar_of(service) not in state.services:
            raise Conflict(f"{service} has no sidecar: without a mesh nobody shares its calls out")

    # how

    def _runs(self, service: str) -> bool:
        names = (canary_of(service), sidecar_of(canary_of(service)))
        return all(name in self._context.state.services and self._services.state(name) == "running" for name in names)

    async def _start(self, service: str, defect: str) -> None:
        state = self._context.state
        name, beside = canary_of(service), sidecar_of(canary_of(service))
        old = state.ports[sidecar_of(service)]
        self._ports.put(beside, tuple(old))
        spec = self._spec(service, defect, {old[key]: state.ports[beside][key] for key in old})
        wires = [
            (canary_of(wire), replace(known.spec, to=beside))
            for wire, known in state.wires.items()
            if known.spec.to == sidecar_of(service) and known.spec.port == "inbound"
        ]
        await asyncio.gather(
            self._services.put(beside, self._sidecar(service, beside)),
            self._services.put(name, spec),
            *(self._put_wire(wire, wire_spec) for wire, wire_spec in wires),
        )
        await self._controls.until(
            [cluster for cluster in state.clusters if service in self._controls.status(cluster).get("known", {})],
            lambda status: CANARY in status["known"].get(service, {}).get("healthy", []),
            f"{name} is known to the callers of {service}",
        )

    async def _put_wire(self, name: str, spec: WireSpec) -> None:
        await self._edges.put(name, spec)

    def _spec(self, service: str, defect: str, ports: Mapping[int, int]) -> ServiceSpec:
        """As the first version's, but through its own sidecar."""
        known = self._context.state.services[service].spec
        env = {
            key: _moved(value, ports).replace(f"/traces/{service}.", f"/traces/{canary_of(service)}.")
            for key, value in known.env.items()
        }
        env |= {"SHOP_VERSION": CANARY, "SHOP_DEFECT": "" if defect == "none" else defect}
        return replace(known, env=env, of=service, version=CANARY)

    def _sidecar(self, service: str, beside: str) -> ServiceSpec:
        known = self._context.state.services[sidecar_of(service)].spec
        args = tuple(_renamed(argument, sidecar_of(service), beside) for argument in known.args)
        return replace(known, args=args, version=CANARY)

    async def _end(self, service: str) -> None:
        """All of it, as far as it is there: its sidecar last, for through that it finishes what it has."""
        state = self._context.state
        name, beside = canary_of(service), sidecar_of(canary_of(service))
        for part in (name, beside):
            await self._services.delete(part)
        self._ports.delete(beside)
        for wire in [w for w, known in state.wires.items() if known.spec.to == beside]:
            await self._edges.delete(wire)
        state.canaries.pop(service, None)
        self._context.save()


def _moved(text: str, ports: Mapping[int, int]) -> str:
    """A text that speaks of one sidecar's ports, made to speak of another's."""
    for before, after in ports.items():
        text = text.replace(f"127.0.0.1:{before}", f"127.0.0.1:{after}")
    return text


def _renamed(path: str, before: str, after: str) -> str:
    head, _, last = path.rpartition("/")
    return f"{head}/{after}" if last == before else path
