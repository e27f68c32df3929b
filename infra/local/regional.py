"""How does the daemon run what serves all clusters of a deployment: a host process, its port, what it is asked?

The host is started again when it dies, on the same port, without its memory and its faults: a fault must not
outlive its holder, and callers must find the address they know.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from infra.local.context import Context, log
from infra.local.control import HostError, Message, ask
from infra.local.edges import Edges
from infra.local.errors import Conflict, NotFound, Unavailable
from infra.local.processes import ProcessId, alive, gone, state_of, stop
from infra.local.state import Broker, Lease

ANSWER_S = 5.0
"""Longest answer of a host on this machine."""


class Regional:
    """The brokers, or the registries, of one deployment."""

    kind: str
    """What they are called."""

    def __init__(self, context: Context, edges: Edges, held: dict[str, Broker]) -> None:
        self._context = context
        self._edges = edges
        self.held = held

    def state(self, name: str) -> str:
        """running, paused or exited; of the host process, if the broker is the user's own."""
        seen = state_of(self.named(name).host)
        return "exited" if seen is None else "paused" if seen == "T" else "running"

    async def ask(self, name: str, message: Message) -> Message:
        """Ask a host; a dead one is started again first. Raise Conflict if it is stopped, Unavailable."""
        held = self.named(name)
        if state_of(held.host) == "T":
            raise Conflict(f"{self.kind} {name} of {self._context.state.name} is stopped; undo that fault first")
        timeout_s = self.answer_s(held)
        try:
            if not alive(held.host):
                await self.revive(name)
            return await ask(self._socket(name), message, timeout_s)
        except HostError as error:
            if not alive(held.host) and not self._context.closing:
                await self.revive(name)
                return await ask(self._socket(name), message, timeout_s)
            log_path = self._context.log_of(self._host(name))
            raise Unavailable(f"{self.kind} {name}: {error}; log: {log_path}") from error

    async def revive(self, name: str) -> None:
        """Start the host if it does not live, with everything it has to have but its memory and faults."""
        async with self._context.lock("host", self._host(name)):
            held = self.named(name)
            if alive(held.host) or (self._context.closing and held.spec.url is None):
                return  # at the end, only a user's own broker has something to be told
            for lease in self._context.state.leases.values():
                if lease.holds and self.holds(name, lease):
                    lease.state, lease.reason = "failed", f"the {self.kind} died, and the fault with it"
            if held.port:
                self._context.ports.hold(held.port)
            try:
                held.host = await self.start(name, held)
            finally:
                self._context.ports.release(held.port)
            self._context.save()
            await self._edges.point(name)
            self.watch(name)
        if not self._context.closing:
            await self.furnished(name)

    def watch(self, name: str) -> None:
        """Have the host started again whenever it ends."""
        process = self.named(name).host
        if process is None:
            return

        async def until_gone() -> None:
            await gone(process)
            held = self.held.get(name)
            if not self._context.closing and held is not None and held.host == process:
                deployment = self._context.state.name
                log.warning("%s: %s %s (process %d) died, starting another", deployment, self.kind, name, process.pid)
                await self.revive(name)

        self._context.background(until_gone(), f"watching {self.kind} {name}")

    def process(self, name: str) -> ProcessId:
        """The process that faults may be put on. Raise Conflict if there is none."""
        held = self.held.get(name)
        if held is None:
            raise Conflict(f"there is no {self.kind} {name!r} in {self._context.state.name}")
        if held.host is None or not alive(held.host):
            raise Conflict(f"{self.kind} {name} of {self._context.state.name} is {self.state(name)}, not running")
        return held.host

    async def until_ready(self, name: str) -> None:
        """Wait until one that was stopped answers again."""
        if name in self.held:
            await self.ask(name, {"cmd": "ping"})

    async def stop(self) -> None:
        """End every host; what a user's own broker holds is for `Queues.clear` to take away before."""
        await asyncio.gather(*(self._stop(name) for name in self.held))

    def named(self, name: str) -> Broker:
        held = self.held.get(name)
        if held is None:
            raise NotFound(f"there is no {self.kind} {name!r} in {self._context.state.name}")
        return held

    # what each kind decides for itself

    async def start(self, name: str, held: Broker) -> ProcessId:
        """Start the host process."""
        raise NotImplementedError

    async def furnished(self, name: str) -> None:
        """Let a host that has just started have what it needs."""

    def holds(self, name: str, lease: Lease) -> bool:
        """Whether the fault ends with the host."""
        return False

    def answer_s(self, held: Broker) -> float:
        return ANSWER_S

    # how

    async def _take_away(self, name: str) -> None:
        await self._stop(name)
        del self.held[name]
        self._context.save()
        await self._edges.point(name)

    async def _stop(self, name: str) -> None:
        held = self.named(name)
        process, held.host = held.host, None  # its end is meant: nobody starts it again
        await stop(process, self._context.tags, grace_s=0.5)
        self._context.ports.release(held.port)
        self._socket(name).unlink(missing_ok=True)

    def _host(self, name: str) -> str:
        return f"{self.kind}-{name}"

    def _socket(self, name: str) -> Path:
        return self._context.home.control(self._context.state.name, self._host(name))
