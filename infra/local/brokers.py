"""How does the daemon run the broker of a deployment: its host process, its port, what it is asked?

The embedded broker is started again when it dies, on the same port, with its queues and topics, and without its
messages and faults: a fault must not outlive its holder, and callers must find the address they know. For a
user's own broker, the host is the one process that speaks with it as an administrator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from infra.local.context import Context, log
from infra.local.control import HostError, Message, ask
from infra.local.edges import Edges
from infra.local.errors import Conflict, NotFound, Unavailable
from infra.local.processes import ProcessId, alive, gone, state_of, stop
from infra.local.state import Broker, BrokerSpec

REMOTE_S = 30.0
"""Longest answer of a host that has to ask a user's own broker."""


class Brokers:
    """The brokers of one deployment."""

    def __init__(self, context: Context, edges: Edges) -> None:
        self._context = context
        self._edges = edges
        self._brokers = context.state.brokers
        self.furnish: Callable[[str], Awaitable[None]]
        """Has every queue and topic of a broker; set by who knows them."""

    async def put(self, name: str, spec: BrokerSpec) -> dict[str, object]:
        """Have this broker: returns once it answers. Raise Conflict if it is another one and holds queues."""
        async with self._context.lock("broker", name):
            known = self._brokers.get(name)
            if known is not None and known.spec != spec:
                self._refuse_while_used(name)
                await self._take_away(name)
                known = None
            if known is None:
                port = 0 if spec.url else self._context.ports.reserve(self._context.taken_ports())
                self._brokers[name] = Broker(spec, port)
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

    def state(self, name: str) -> str:
        """running, paused or exited; of the host process, if the broker is the user's own."""
        seen = state_of(self.named(name).host)
        return "exited" if seen is None else "paused" if seen == "T" else "running"

    def endpoint(self, name: str) -> str | None:
        """Its own address, past every wire; None for AWS itself."""
        broker = self.named(name)
        if broker.spec.url is None:
            return f"http://127.0.0.1:{broker.port}"
        return None if broker.spec.url == "aws" else broker.spec.url

    async def delete(self, name: str) -> None:
        """Take the broker away; idempotent. Raise Conflict while it holds queues or topics."""
        async with self._context.lock("broker", name):
            if name in self._brokers:
                self._refuse_while_used(name)
                await self._take_away(name)

    async def ask(self, name: str, message: Message) -> Message:
        """Ask the host of a broker; a dead one is started again first. Raise Conflict if it is stopped, Unavailable."""
        broker = self.named(name)
        if state_of(broker.host) == "T":
            raise Conflict(f"broker {name} of {self._context.state.name} is stopped; undo that fault first")
        timeout_s = REMOTE_S if broker.spec.url else 5.0
        try:
            if not alive(broker.host):
                await self.revive(name)
            return await ask(self._socket(name), message, timeout_s)
        except HostError as error:
            if not alive(broker.host) and not self._context.closing:
                await self.revive(name)
                return await ask(self._socket(name), message, timeout_s)
            raise Unavailable(f"broker {name}: {error}; log: {self._context.log_of(_host(name))}") from error

    async def look(self, name: str) -> Message | None:
        """What the broker holds now, None while it cannot say."""
        if self.state(name) != "running":
            return None
        timeout_s = REMOTE_S if self.named(name).spec.url else 2.0
        try:
            return await ask(self._socket(name), {"cmd": "look"}, timeout_s)
        except HostError:
            return None

    async def revive(self, name: str) -> None:
        """Start the host if it does not live, with everything the broker has to have but its messages and faults."""
        async with self._context.lock("host", _host(name)):
            broker = self.named(name)
            if alive(broker.host) or (self._context.closing and broker.spec.url is None):
                return  # at the end, only a user's own broker has something to be told
            self._give_up_faults(name)
            if broker.port:
                self._context.ports.hold(broker.port)
            try:
                broker.host = await self._start(name, broker)
            finally:
                self._context.ports.release(broker.port)
            self._context.save()
            await self._edges.point(name)
            self.watch(name)
        if not self._context.closing:
            await self.furnish(name)

    def watch(self, name: str) -> None:
        """Have the host started again whenever it ends."""
        process = self.named(name).host
        if process is None:
            return

        async def until_gone() -> None:
            await gone(process)
            broker = self._brokers.get(name)
            if not self._context.closing and broker is not None and broker.host == process:
                deployment = self._context.state.name
                log.warning("%s: broker %s (process %d) died, starting another", deployment, name, process.pid)
                await self.revive(name)

        self._context.background(until_gone(), f"watching broker {name}")

    def embedded(self, name: str) -> ProcessId:
        """The process of a broker that faults may be put on. Raise Conflict if there is none."""
        broker = self._brokers.get(name)
        if broker is None:
            raise Conflict(f"there is no broker {name!r} in {self._context.state.name}")
        if broker.spec.url is not None:
            raise Conflict(f"broker {name} is your own ({broker.spec.url}): only the embedded one can be broken")
        if broker.host is None or not alive(broker.host):
            raise Conflict(f"broker {name} of {self._context.state.name} is {self.state(name)}, not running")
        return broker.host

    async def until_ready(self, name: str) -> None:
        """Wait until a broker that was stopped answers again."""
        if name in self._brokers:
            await self.ask(name, {"cmd": "ping"})

    async def stop(self) -> None:
        """End every host; what a user's own broker holds is for `Queues.clear` to take away before."""
        await asyncio.gather(*(self._stop(name) for name in self._brokers))

    def named(self, name: str) -> Broker:
        broker = self._brokers.get(name)
        if broker is None:
            raise NotFound(f"there is no broker {name!r} in {self._context.state.name}")
        return broker

    async def _start(self, name: str, broker: Broker) -> ProcessId:
        spec, module, args = broker.spec, "infra.local.brokerhost", [str(broker.port)]
        if spec.url is not None:
            module, args = "infra.local.remotehost", [spec.url, spec.region, self._context.state.name]
        return await self._context.start_host(_host(name), module, args, self._socket(name), spec.env)

    async def _take_away(self, name: str) -> None:
        await self._stop(name)
        del self._brokers[name]
        self._context.save()
        await self._edges.point(name)

    async def _stop(self, name: str) -> None:
        broker = self.named(name)
        process, broker.host = broker.host, None  # its end is meant: nobody starts it again
        await stop(process, self._context.tags, grace_s=0.5)
        self._context.ports.release(broker.port)
        self._socket(name).unlink(missing_ok=True)

    def _refuse_while_used(self, name: str) -> None:
        state = self._context.state
        found = [queue for queue, held in state.queues.items() if held.spec.broker == name]
        found += [topic for topic, held in state.topics.items() if held.spec.broker == name]
        if found:
            raise Conflict(f"broker {name} still holds {', '.join(found)}; delete them first")

    def _give_up_faults(self, name: str) -> None:
        state = self._context.state
        for lease in state.leases.values():
            of_queue = lease.fault.meaning.target == "queue" and lease.fault.target in state.queues
            target = state.queues[lease.fault.target].spec.broker if of_queue else lease.fault.target
            if lease.holds and lease.fault.meaning.holder == "broker host" and target == name:
                lease.state, lease.reason = "failed", "the broker died, and the fault with it"

    def _socket(self, name: str) -> Path:
        return self._context.home.control(self._context.state.name, _host(name))


def _host(name: str) -> str:
    return f"broker-{name}"
