"""How does the daemon run the wires of a deployment: their host process, their ports, their endpoints?

The wire host is started again when it dies, on the same ports and with no fault: a fault must not
outlive its holder, and callers must find the address they know.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from infra.local.context import Context, log
from infra.local.control import HostError, Message, ask
from infra.local.errors import NotFound, Unavailable
from infra.local.processes import alive, gone, stop
from infra.local.state import Wire, WireSpec

HOST = "wires"


class Edges:
    """The wires of one deployment."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._state = context.state

    async def put(self, name: str, spec: WireSpec) -> dict[str, object]:
        """Have this wire: returns once its port is bound. It refuses until its callee runs."""
        async with self._context.lock("wire", name):
            known = self._state.wires.get(name)
            if known is None:
                port = self._context.reserve(spec.to or spec.callee)
                known = self._state.wires[name] = Wire(spec, port)
            try:
                known.spec = spec
                self._context.save()
                await self._tell(name)
            finally:
                self._context.ports.release(known.port)
        return await self.get(name)

    async def get(self, name: str) -> dict[str, object]:
        wire = self._state.wires.get(name)
        if wire is None:
            raise NotFound(f"there is no wire {name!r} in {self._state.name}")
        stats = await self.stats()
        seen = stats["wires"].get(name, {})
        return {
            "kind": "wire",
            "name": name,
            "state": "listening" if seen.get("listening") else "refusing",
            "caller": wire.spec.caller,
            "callee": wire.spec.callee,
            "listen": f"127.0.0.1:{wire.port}",
            "counters": {key: value for key, value in seen.items() if key not in ("endpoint", "listening")},
        }

    async def delete(self, name: str) -> None:
        """Take the wire away and reset what is open; idempotent."""
        async with self._context.lock("wire", name):
            if name in self._state.wires:
                await self.ask({"cmd": "delete", "name": name})
                del self._state.wires[name]
                self._context.save()

    async def point(self, callee: str) -> None:
        """Let every wire to a service, broker or registry follow its instance, or refuse while it has none."""
        mine = [n for n, wire in self._state.wires.items() if (wire.spec.to or wire.spec.callee) == callee]
        await asyncio.gather(*(self._tell(name) for name in mine))

    async def quiet(self, address: str, timeout_s: float) -> bool:
        """Wait until no request is under way to an instance; False if some still are after the timeout."""
        deadline = time.monotonic() + timeout_s
        while (await self.ask({"cmd": "busy", "endpoint": address}))["busy"]:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    async def stats(self) -> Message:
        """Counters per wire, and what each fault lease did."""
        return await self.ask({"cmd": "stats"})

    async def ask(self, message: Message) -> Message:
        """Ask the wire host; a dead one is started again first. Raise Unavailable."""
        try:
            if not alive(self._state.wire_host):
                await self.revive()
            return await ask(self._socket, message)
        except HostError as error:
            if not alive(self._state.wire_host) and not self._context.closing:
                await self.revive()
                return await ask(self._socket, message)
            raise Unavailable(f"wires of {self._state.name}: {error}; log: {self._context.log_of(HOST)}") from error

    async def revive(self) -> None:
        """Start the wire host if it does not live, with every wire on its old port and no fault."""
        async with self._context.lock("host", HOST):
            if alive(self._state.wire_host) or self._context.closing:
                return
            lost = [lease for lease in self._state.leases.values() if lease.fault.meaning.holder == "wire host"]
            for lease in lost:
                if lease.holds:
                    lease.state, lease.reason = "failed", "the wire host died, and the fault with it"
            self._state.wire_host = await self._context.start_host(HOST, "infra.local.wirehost", (), self._socket, {})
            self._context.save()
            for name in list(self._state.wires):  # more may be put meanwhile: they tell the host themselves
                if name in self._state.wires:
                    await ask(self._socket, self._question(name))
        self.watch()

    def watch(self) -> None:
        """Have the wire host started again whenever it ends."""
        process = self._state.wire_host
        if process is None:
            return

        async def until_gone() -> None:
            await gone(process)
            if not self._context.closing and self._state.wire_host == process:
                log.warning("%s: the wire host (process %d) died, starting another", self._state.name, process.pid)
                await self.revive()

        self._context.background(until_gone(), "watching the wire host")

    async def stop(self) -> None:
        await stop(self._state.wire_host, self._context.tags, grace_s=0.5)
        self._socket.unlink(missing_ok=True)

    async def _tell(self, name: str) -> None:
        """Let the host know where a wire leads now, again if that has changed meanwhile.

        Two may tell at once, and be heard in either order: whoever is heard last has looked last, or looks again.
        """
        told: Message | None = None
        while name in self._state.wires and told != (now := self._question(name)):
            await self.ask(now)
            told = now

    def _question(self, name: str) -> Message:
        wire = self._state.wires[name]
        return {"cmd": "put", "name": name, "port": wire.port, "endpoint": self._endpoint(wire.spec)}

    def _endpoint(self, spec: WireSpec) -> str | None:
        hosted = self._state.hosted(spec.callee)
        if hosted is not None:
            return hosted.address if hosted.spec.url or alive(hosted.host) else None
        service = self._state.services.get(spec.to or spec.callee)
        instance = service.instance if service else None
        if instance is None or not alive(instance.process):
            return None
        if spec.to is None or spec.port is None:
            return instance.address
        port = self._state.ports.get(spec.to, {}).get(spec.port)
        return f"127.0.0.1:{port}" if port else None

    @property
    def _socket(self) -> Path:
        return self._context.home.control(self._state.name, HOST)
