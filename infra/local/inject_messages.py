"""How are the faults of messaging put on, seen, and taken off? The broker's own, and death in mid-request."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from infra.local.context import Context
from infra.local.control import Message
from infra.local.edges import Edges
from infra.local.errors import Conflict
from infra.local.evidence import seen_at_broker
from infra.local.inject import DeathInjector
from infra.local.processes import alive
from infra.local.regional import Regional
from infra.local.state import Lease

DELAYS = 3
"""How many times the wire's delay is waited for before the kill: requests and answers are then under way for sure."""


class HostInjector:
    """Faults that the process of a regional service holds and ends by itself."""

    def __init__(self, context: Context, regional: Regional) -> None:
        self._context = context
        self._regional = regional

    def check(self, lease: Lease) -> None:
        self._regional.process(self.host(lease))

    async def on(self, name: str, lease: Lease) -> None:
        await self._ask(lease, {"cmd": "fault", "lease": name, "fault": lease.fault.to_json(), "ttl_s": _left_s(lease)})

    async def renew(self, name: str, lease: Lease) -> None:
        await self._ask(lease, {"cmd": "renew", "lease": name, "ttl_s": _left_s(lease)})

    async def off(self, name: str, lease: Lease) -> None:
        await self._ask(lease, {"cmd": "undo", "lease": name})

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        known = (await self._ask(lease, {"cmd": "look"}))["leases"].get(name)
        if known is None:
            return {"state": f"unknown to the {self._regional.kind}", "seen": None}
        return {**known, "seen": self.seen(lease, known["count"])}

    def held(self, lease: Lease) -> bool:
        host = self._regional.held.get(self.host(lease))
        return host is not None and alive(host.host)

    async def _ask(self, lease: Lease, message: Message) -> Message:
        return await self._regional.ask(self.host(lease), message)

    # what each kind decides for itself

    def host(self, lease: Lease) -> str:
        """Name of the regional service. Raise Conflict if there is none for this fault."""
        return lease.fault.target

    def seen(self, lease: Lease, count: int) -> str | None:
        """What shows that the fault bites, given how often the host says that it was done."""
        raise NotImplementedError


class BrokerInjector(HostInjector):
    """Faults of a broker, or of a queue that it keeps."""

    def host(self, lease: Lease) -> str:
        if lease.fault.meaning.target == "broker":
            return lease.fault.target
        queue = self._context.state.queues.get(lease.fault.target)
        if queue is None:
            raise Conflict(f"there is no queue {lease.fault.target!r} in {self._context.state.name}")
        return queue.spec.broker

    def seen(self, lease: Lease, count: int) -> str | None:
        return seen_at_broker(lease.fault.kind, count)


class InFlightInjector:
    """Kills a service while what it says to a wire is under way there, and lets that be lost with it.

    latency on the wire -> wait -> SIGKILL -> connections of the wire reset, with what they hold -> latency off
    """

    def __init__(self, context: Context, death: DeathInjector, edges: Edges) -> None:
        self._context = context
        self._death = death
        self._edges = edges

    def check(self, lease: Lease) -> None:
        self._death.check(lease)
        wire = self._context.state.wires.get(lease.fault.second or "")
        if wire is None:
            raise Conflict(f"there is no wire {lease.fault.second!r} in {self._context.state.name}")
        if wire.spec.caller != lease.fault.target:
            raise Conflict(f"wire {lease.fault.second} is of {wire.spec.caller}, not of {lease.fault.target}")

    async def on(self, name: str, lease: Lease) -> None:
        delay_ms = lease.fault.numbers["delay_ms"]
        await self._put_on_wire(name, lease, {"kind": "latency", "delay_ms": delay_ms})
        await asyncio.sleep(DELAYS * delay_ms / 1000)
        await self._death.on(name, lease)
        await self._put_on_wire(f"{name}/reset", lease, {"kind": "reset"})
        lease.evidence["lost_bytes"] = (await self._on_wire(name))["bytes_swallowed"]
        await self._clear_wire(name)

    async def renew(self, name: str, lease: Lease) -> None:
        """The daemon's own timer is all there is."""

    async def off(self, name: str, lease: Lease) -> None:
        await self._clear_wire(name)
        await self._death.off(name, lease)

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        found = await self._death.evidence(name, lease)
        lost = lease.evidence.get("lost_bytes", 0)
        seen = f"{found['seen']}, with {lost:.0f} bytes that its wire held" if found["seen"] else None
        return {**found, "lost_bytes": lost, "seen": seen}

    def held(self, lease: Lease) -> bool:
        return True

    async def _put_on_wire(self, lease_name: str, lease: Lease, fault: Message) -> None:
        wire = lease.fault.second
        question = {"cmd": "fault", "lease": lease_name, "wire": wire, "fault": {**fault, "wire": wire}}
        await self._edges.ask({**question, "ttl_s": _left_s(lease)})

    async def _clear_wire(self, name: str) -> None:
        await self._edges.ask({"cmd": "undo", "lease": name})
        await self._edges.ask({"cmd": "undo", "lease": f"{name}/reset"})

    async def _on_wire(self, name: str) -> dict[str, float]:
        since: dict[str, float] = (await self._edges.stats())["leases"][name]["since"]
        return since


def _left_s(lease: Lease) -> float:
    return max(0.0, lease.expires_s - time.monotonic())
