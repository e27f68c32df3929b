"""The process that carries every wire of one deployment, and holds the wires' faults.

    python -m infra.local.wirehost SOCKET

A fault ends when it is undone or when its lease runs out, also if the daemon is dead by then.
Questions, one JSON line each (infra.local.control): ping, put, delete, fault, renew, undo,
stats, busy.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from infra.local.control import Message, serve
from infra.local.faultspec import Fault
from infra.local.wires import Counters, Wire


@dataclass(slots=True)
class Lease:
    """One fault on one wire."""

    wire: str
    fault: Fault
    before: Counters
    """The wire's counters when the fault began."""
    expiry: asyncio.TimerHandle | None = None
    state: str = "on"
    """on, undone or expired."""
    final: dict[str, float] | None = None
    """What it did, once it is over."""


class WireHost:
    """Answers the daemon; one question at a time changes something."""

    def __init__(self) -> None:
        self._wires: dict[str, Wire] = {}
        self._leases: dict[str, Lease] = {}
        self._one_at_a_time = asyncio.Lock()
        self._expiring: set[asyncio.Task[None]] = set()

    async def handle(self, message: Message) -> Message:
        async with self._one_at_a_time:
            match message["cmd"]:
                case "ping":
                    return {}
                case "put":
                    return await self._put(message["name"], int(message["port"]), message["endpoint"])
                case "delete":
                    return await self._delete(message["name"])
                case "fault":
                    return await self._fault(message)
                case "renew":
                    self._schedule(message["lease"], float(message["ttl_s"]))
                    return {}
                case "undo":
                    await self._end(message["lease"], "undone")
                    return {}
                case "stats":
                    return self._stats()
                case "busy":
                    endpoint = _address(message["endpoint"])
                    return {"busy": sum(w.busy(endpoint) for w in self._wires.values()) if endpoint else 0}
                case other:
                    return {"error": f"unknown command {other!r}"}

    async def _put(self, name: str, port: int, endpoint: str | None) -> Message:
        wire = self._wires.get(name)
        if wire is not None and wire.port != port:
            await self._delete(name)
            wire = None
        if wire is None:
            wire = self._wires[name] = Wire(name, port)
        await wire.point(_address(endpoint))
        return {"listening": wire.listening}

    async def _delete(self, name: str) -> Message:
        wire = self._wires.pop(name, None)
        for lease in [key for key, held in self._leases.items() if held.wire == name]:
            self._forget(lease)
        if wire is not None:
            await wire.close()
        return {}

    async def _fault(self, message: Message) -> Message:
        wire = self._wires[message["wire"]]
        lease = message["lease"]
        held = self._leases.get(lease)
        if held is None or held.state != "on":
            self._leases[lease] = Lease(wire.name, Fault.from_json(message["fault"]), wire.counters.copy())
            await self._apply(wire)
        self._schedule(lease, float(message["ttl_s"]))
        return {"listening": wire.listening}

    async def _end(self, lease: str, state: str) -> None:
        held = self._leases.get(lease)
        if held is None or held.state != "on":
            return
        wire = self._wires[held.wire]
        held.state = state
        held.final = wire.counters.since(held.before)
        if held.expiry is not None:
            held.expiry.cancel()
        await self._apply(wire)

    async def _apply(self, wire: Wire) -> None:
        await wire.put_on([x.fault for x in self._leases.values() if x.wire == wire.name and x.state == "on"])

    def _schedule(self, lease: str, ttl_s: float) -> None:
        held = self._leases[lease]
        if held.expiry is not None:
            held.expiry.cancel()
        if held.state == "on":
            held.expiry = asyncio.get_running_loop().call_later(ttl_s, self._expire, lease)

    def _expire(self, lease: str) -> None:
        async def expire() -> None:
            async with self._one_at_a_time:
                await self._end(lease, "expired")

        task = asyncio.get_running_loop().create_task(expire())
        self._expiring.add(task)
        task.add_done_callback(self._expiring.discard)

    def _forget(self, lease: str) -> None:
        held = self._leases.pop(lease)
        if held.expiry is not None:
            held.expiry.cancel()

    def _stats(self) -> Message:
        wires = {
            name: {
                **asdict(wire.counters),
                "open": len(wire.links),
                "listening": wire.listening,
                "endpoint": "{}:{}".format(*wire.endpoint) if wire.endpoint else None,
            }
            for name, wire in self._wires.items()
        }
        leases = {
            key: {
                "wire": held.wire,
                "state": held.state,
                "since": held.final or self._wires[held.wire].counters.since(held.before),
            }
            for key, held in self._leases.items()
        }
        return {"wires": wires, "leases": leases}


def _address(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    return host, int(port)


async def run(path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two descriptors per connection
    gc.freeze()
    server = await serve(path, WireHost().handle)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(run(Path(sys.argv[1])))
