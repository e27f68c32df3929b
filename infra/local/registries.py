"""How does the daemon run the registry of a deployment, where services say where they are?

What a new host process does not know any more, the control planes tell it.
"""

from __future__ import annotations

from infra.local.context import Context
from infra.local.edges import Edges
from infra.local.processes import ProcessId, alive
from infra.local.regional import Regional
from infra.local.state import Broker, BrokerSpec, Lease


class Registries(Regional):
    """The registries of one deployment."""

    kind = "registry"

    def __init__(self, context: Context, edges: Edges) -> None:
        super().__init__(context, edges, context.state.registries)

    async def put(self, name: str, spec: BrokerSpec) -> dict[str, object]:
        """Have this registry: returns once it answers."""
        async with self._context.lock("registry", name):
            if name not in self.held:
                self.held[name] = Broker(spec, self._context.ports.reserve(self._context.taken_ports()))
                self._context.save()
        await self.revive(name)
        return self.get(name)

    def get(self, name: str) -> dict[str, object]:
        held = self.named(name)
        return {
            "kind": "registry",
            "name": name,
            "state": self.state(name),
            "endpoint": f"http://127.0.0.1:{held.port}",
            "pid": held.host.pid if held.host and alive(held.host) else None,
        }

    async def delete(self, name: str) -> None:
        """Take the registry away; idempotent."""
        async with self._context.lock("registry", name):
            if name in self.held:
                await self._take_away(name)

    def holds(self, name: str, lease: Lease) -> bool:
        return lease.fault.meaning.holder == "registry host" and lease.fault.target == name

    async def start(self, name: str, held: Broker) -> ProcessId:
        module, args = "infra.local.registryhost", [str(held.port)]
        return await self._context.start_host(self._host(name), module, args, self._socket(name), {})
