"""How does the daemon run the broker of a deployment: what is it, what must it have, may it be broken?

The embedded broker loses its messages with its process, and gets its queues and topics again. For a user's own
broker, the host is the one process that speaks with it as an administrator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from infra.local.context import Context
from infra.local.control import HostError, Message, ask
from infra.local.edges import Edges
from infra.local.errors import Conflict
from infra.local.processes import ProcessId, alive
from infra.local.regional import Regional
from infra.local.state import Broker, BrokerSpec, Lease

REMOTE_S = 30.0
"""Longest answer of a host that has to ask a user's own broker."""


class Brokers(Regional):
    """The brokers of one deployment."""

    kind = "broker"

    def __init__(self, context: Context, edges: Edges) -> None:
        super().__init__(context, edges, context.state.brokers)
        self.furnish: Callable[[str], Awaitable[None]]
        """Has every queue and topic of a broker; set by who knows them."""

    async def put(self, name: str, spec: BrokerSpec) -> dict[str, object]:
        """Have this broker: returns once it answers. Raise Conflict if it is another one and holds queues."""
        async with self._context.lock("broker", name):
            known = self.held.get(name)
            if known is not None and known.spec != spec:
                self._refuse_while_used(name)
                await self._take_away(name)
                known = None
            if known is None:
                port = 0 if spec.url else self._context.ports.reserve(self._context.taken_ports())
                self.held[name] = Broker(spec, port)
                self._context.save()
        await self.revive(name)
        return self.get(name)

    def get(self, name: str) -> dict[str, object]:
        broker = self.named(name)
        return {
            "kind": "broker",
            "name": name,
            "state": self.state(name),
            "endpoint": self.endpoint(name),
            "region": broker.spec.region,
            "embedded": broker.spec.url is None,
            "pid": broker.host.pid if broker.host and alive(broker.host) else None,
        }

    def endpoint(self, name: str) -> str | None:
        """Its own address, past every wire; None for AWS itself."""
        broker = self.named(name)
        if broker.spec.url is None:
            return f"http://127.0.0.1:{broker.port}"
        return None if broker.spec.url == "aws" else broker.spec.url

    async def delete(self, name: str) -> None:
        """Take the broker away; idempotent. Raise Conflict while it holds queues or topics."""
        async with self._context.lock("broker", name):
            if name in self.held:
                self._refuse_while_used(name)
                await self._take_away(name)

    async def look(self, name: str) -> Message | None:
        """What the broker holds now, None while it cannot say."""
        if self.state(name) != "running":
            return None
        timeout_s = REMOTE_S if self.named(name).spec.url else 2.0
        try:
            return await ask(self._socket(name), {"cmd": "look"}, timeout_s)
        except HostError:
            return None

    def process(self, name: str) -> ProcessId:
        """The process of a broker that faults may be put on. Raise Conflict if there is none."""
        broker = self.held.get(name)
        if broker is not None and broker.spec.url is not None:
            raise Conflict(f"broker {name} is your own ({broker.spec.url}): only the embedded one can be broken")
        return super().process(name)

    async def start(self, name: str, held: Broker) -> ProcessId:
        spec, module, args = held.spec, "infra.local.brokerhost", [str(held.port)]
        if spec.url is not None:
            module, args = "infra.local.remotehost", [spec.url, spec.region, self._context.state.name]
        return await self._context.start_host(self._host(name), module, args, self._socket(name), spec.env)

    async def furnished(self, name: str) -> None:
        await self.furnish(name)

    def holds(self, name: str, lease: Lease) -> bool:
        queues = self._context.state.queues
        of_queue = lease.fault.meaning.target == "queue" and lease.fault.target in queues
        target = queues[lease.fault.target].spec.broker if of_queue else lease.fault.target
        return lease.fault.meaning.holder == "broker host" and target == name

    def answer_s(self, held: Broker) -> float:
        return REMOTE_S if held.spec.url else super().answer_s(held)

    def _refuse_while_used(self, name: str) -> None:
        state = self._context.state
        found = [queue for queue, held in state.queues.items() if held.spec.broker == name]
        found += [topic for topic, held in state.topics.items() if held.spec.broker == name]
        if found:
            raise Conflict(f"broker {name} still holds {', '.join(found)}; delete them first")
