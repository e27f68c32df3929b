"""For how long is a fault on, and what makes sure that it ends?

    PUT -> intent on disk -> act -> on --renew--> on
                                     |-- DELETE          -> undone
                                     |-- time runs out   -> expired
                                     |-- its holder dies -> failed (and undone)

An intent whose daemon died is undone by the next daemon. Undoing may be repeated.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from infra.local.brokers import Brokers
from infra.local.canaries import Canaries
from infra.local.clusters import Clusters
from infra.local.context import Context, log
from infra.local.controls import ControlPlanes
from infra.local.edges import Edges
from infra.local.errors import CloudError, Conflict, NotFound
from infra.local.faultspec import Fault
from infra.local.inject import DeathInjector, HolderInjector, Injector, WireInjector
from infra.local.inject_mesh import (
    AfflictionInjector,
    CanaryInjector,
    PartitionInjector,
    RegistryInjector,
    RotationInjector,
    wires_between,
)
from infra.local.inject_messages import BrokerInjector, InFlightInjector
from infra.local.processes import NotOurs
from infra.local.registries import Registries
from infra.local.services import Services
from infra.local.state import Lease

LOOK_S = 0.1
"""How often the daemon looks whether a lease has run out or lost its holder."""

TOGETHER = ("wire host", "broker host")
"""Holders whose faults add up on one target."""

REMEMBERED = 200
"""Leases that are over are kept as evidence, the oldest are dropped."""


class Leases:
    """The fault leases of one deployment."""

    def __init__(
        self,
        context: Context,
        clusters: Clusters,
        edges: Edges,
        services: Services,
        brokers: Brokers,
        registries: Registries,
        canaries: Canaries,
    ) -> None:
        self._context = context
        self._leases = context.state.leases
        self._clusters = clusters
        controls = ControlPlanes(context)
        death = DeathInjector(context, clusters, edges, services)
        self._injectors: dict[str, Injector] = {
            "daemon": death,
            "daemon and wire host": InFlightInjector(context, death, edges),
            "wire host": WireInjector(context, edges),
            "broker host": BrokerInjector(context, brokers),
            "registry host": RegistryInjector(context, registries, controls),
            "holder": HolderInjector(context, clusters, services, {"broker": brokers, "registry": registries}),
        }
        self._special: dict[str, Injector] = {
            "partition": PartitionInjector(context, edges),
            "certificate-expired": AfflictionInjector(context, controls),
            "garbage-config": AfflictionInjector(context, controls),
            "root-rotation": RotationInjector(context, controls),
            "canary": CanaryInjector(context, canaries),
        }
        """By kind, where the holder does not tell."""

    async def put(self, name: str, fault: Fault, ttl_s: float) -> dict[str, Any]:
        """Have this fault on for `ttl_s` seconds from now. Raise Conflict, nothing done, if it cannot be.

        After any other error the fault has been undone.
        """
        async with self._context.lock("lease", name):
            known = self._leases.get(name)
            if known is not None and known.holds:
                if known.fault != fault:
                    raise Conflict(f"lease {name!r} holds another fault: {known.fault.to_json()}")
                await self._prolong(name, known, ttl_s)
            else:
                await self._begin(name, Lease(fault, ttl_s, time.monotonic() + ttl_s))
        return await self.get(name)

    async def renew(self, name: str, ttl_s: float) -> dict[str, Any]:
        """Let the fault live `ttl_s` seconds from now. Raise Conflict if it is over."""
        async with self._context.lock("lease", name):
            lease = self._named(name)
            if not lease.holds:
                raise Conflict(f"lease {name!r} is over: {lease.state}{f' ({lease.reason})' if lease.reason else ''}")
            await self._prolong(name, lease, ttl_s)
        return await self.get(name)

    async def get(self, name: str) -> dict[str, Any]:
        """The lease with what can be seen of its fault."""
        lease = self._named(name)
        evidence = await self._evidence(name, lease) if lease.holds else lease.evidence.get("final", {})
        left = max(0.0, lease.expires_s - time.monotonic()) if lease.holds else 0.0
        return {
            "lease": name,
            "fault": lease.fault.to_json(),
            "state": lease.state,
            "ttl_s": lease.ttl_s,
            "left_s": round(left, 3),
            "reason": lease.reason,
            "undo": lease.fault.meaning.undo,
            "evidence": evidence,
        }

    async def delete(self, name: str) -> dict[str, Any]:
        """Undo the fault and wait until its target is up again; idempotent. Raise CloudError if it does not come up."""
        if name in self._leases:
            await self._end(name, "undone")
        return {"lease": name, "state": self._leases[name].state if name in self._leases else "undone"}

    async def heal(self) -> tuple[list[str], list[str]]:
        """Undo every fault: the names of leases that ended, and of those that could not be ended."""
        names = [name for name, lease in self._leases.items() if lease.holds]
        results = await asyncio.gather(*(self._end(name, "undone") for name in names), return_exceptions=True)
        left = [n for n, result in zip(names, results, strict=True) if isinstance(result, BaseException)]
        for name, result in zip(names, results, strict=True):
            if isinstance(result, BaseException):
                log.error("%s: lease %s could not be undone: %s", self._context.state.name, name, result)
        return [n for n in names if n not in left], left

    def adopt(self) -> None:
        """Take over what another daemon left: an intent is undone, the rest runs on until its time is over."""
        for name, lease in self._leases.items():
            if lease.state in ("intent", "undoing"):
                lease.state, lease.expires_s = "on", 0.0
            if lease.holds:
                self._watch(name, lease)

    def others_on(self, lease: Lease) -> list[str]:
        """Leases in the way of this one: a target takes one fault of a process or a database at a time.

        What a wire host or a broker host holds can be combined; but a stopped broker takes nothing more.
        """
        mine = self._reach(lease)
        apart = lease.fault.meaning.holder in TOGETHER
        others = {n: other for n, other in self._leases.items() if other.holds and self._reach(other) & mine}
        return [n for n, other in others.items() if not (apart and other.fault.meaning.holder in TOGETHER)]

    def _reach(self, lease: Lease) -> set[tuple[str, str]]:
        kind, name = lease.fault.meaning.target, lease.fault.target
        if lease.fault.kind == "partition":
            return {("wire", wire) for wire in wires_between(self._context.state, name, lease.fault.second or "")}
        if kind == "cluster":
            return {(kind, name)} | {("service", s) for s in self._clusters.services_in(name)}
        if kind == "queue":
            queue = self._context.state.queues.get(name)
            return {("broker", queue.spec.broker)} if queue else set()
        return {(kind, name)}

    async def _begin(self, name: str, lease: Lease) -> None:
        self._injector(lease).check(lease)
        if others := self.others_on(lease):
            raise Conflict(f"{lease.fault.target} is under the fault {', '.join(others)} already; undo it first")
        self._leases[name] = lease
        self._forget_oldest()
        self._context.save()
        try:
            await self._injector(lease).on(name, lease)
        except BaseException as error:
            await self._abandon(name, lease, error)
            if isinstance(error, NotOurs):
                raise Conflict(f"not injecting: {error}") from error
            raise
        lease.state = "on"
        self._context.save()
        self._watch(name, lease)

    async def _abandon(self, name: str, lease: Lease, error: BaseException) -> None:
        lease.state, lease.reason = "failed", f"not injected: {error}"
        try:
            await self._injector(lease).off(name, lease)
        except CloudError as also:
            lease.reason += f"; and not undone: {also}"
        self._context.save()

    async def _prolong(self, name: str, lease: Lease, ttl_s: float) -> None:
        lease.ttl_s, lease.expires_s = ttl_s, time.monotonic() + ttl_s
        self._context.save()
        await self._injector(lease).renew(name, lease)

    async def _end(self, name: str, state: str, reason: str | None = None) -> None:
        async with self._context.lock("lease", name):
            lease = self._leases[name]
            if not lease.holds:
                return
            injector = self._injector(lease)
            final = await self._evidence(name, lease)
            lease.state = "undoing"  # from here on its target may live again
            try:
                await injector.off(name, lease)
                lease.state, lease.reason = state, reason
            except Exception as error:
                lease.state, lease.reason = "failed", str(error)
                raise
            finally:
                lease.evidence["final"] = final
                self._context.save()

    async def _evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        try:
            return await self._injector(lease).evidence(name, lease)
        except CloudError as error:
            return {"seen": None, "error": str(error)}

    def _watch(self, name: str, lease: Lease) -> None:
        self._context.background(self._until_over(name, lease), f"lease {name}")

    async def _until_over(self, name: str, lease: Lease) -> None:
        injector = self._injector(lease)
        while lease.holds:
            if time.monotonic() >= lease.expires_s:
                await self._end(name, "expired")
                return
            if not injector.held(lease):
                await self._end(name, "failed", "its holder died; undone")
                return
            await asyncio.sleep(LOOK_S)

    def _injector(self, lease: Lease) -> Injector:
        return self._special.get(lease.fault.kind) or self._injectors[lease.fault.meaning.holder]

    def _forget_oldest(self) -> None:
        over = [name for name, lease in self._leases.items() if not lease.holds]
        for name in over[: max(0, len(self._leases) - REMEMBERED)]:
            del self._leases[name]

    def _named(self, name: str) -> Lease:
        lease = self._leases.get(name)
        if lease is None:
            raise NotFound(f"there is no fault lease {name!r} in {self._context.state.name}")
        return lease
