"""How are the faults of a mesh put on, seen, and taken off? Partitions, bad certificates or files, new roots, canaries.

What a control plane is to do wrong stands in its view (infra.local.views); what it did, in its status.json.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

from infra.local.canaries import Canaries, canary_of
from infra.local.context import Context
from infra.local.controls import FOLLOWS_S, POLL_S, ControlPlanes
from infra.local.edges import Edges
from infra.local.errors import Conflict, Unavailable
from infra.local.faultspec import EVERY
from infra.local.inject_messages import HostInjector
from infra.local.probe import http_text
from infra.local.processes import alive
from infra.local.registries import Registries
from infra.local.render_mesh import AUTHORITY
from infra.local.state import Canary, DeploymentState, Lease, Service, Wire
from stages.mesh import control_of, sidecar_of

SETTLED_S = 1.0
"""Envoys follow their files at once; a greeting that was under way meanwhile is over after this."""


def wires_between(state: DeploymentState, cluster: str, other: str) -> list[str]:
    """Wires and links from one of two clusters to the other, either way; `other` may be all others. (pure)"""
    found = []
    for name, wire in state.wires.items():
        ends = {_cluster_of(state, wire.spec.caller), _cluster_of(state, wire.spec.callee)}
        if cluster in ends and len(ends) == 2 and None not in ends and (other == EVERY or other in ends):
            found.append(name)
    return found


def _cluster_of(state: DeploymentState, end: str) -> str | None:
    service = state.services.get(end)
    return service.spec.cluster if service else end if end in state.clusters else None


class PartitionInjector:
    """Black holes on every wire and link between two clusters; the wire host holds them and ends them by itself."""

    def __init__(self, context: Context, edges: Edges) -> None:
        self._context = context
        self._edges = edges

    def check(self, lease: Lease) -> None:
        state = self._context.state
        for name in (lease.fault.target, lease.fault.second or ""):
            if name not in state.clusters and name != EVERY:
                raise Conflict(f"there is no cluster {name!r} in {state.name}")
        if not self._wires(lease):
            raise Conflict(f"no wire leads from {lease.fault.target} to {lease.fault.second}, or back")

    async def on(self, name: str, lease: Lease) -> None:
        wires = self._wires(lease)
        lease.evidence = {"wires": wires}
        self._context.save()
        ttl_s = max(0.0, lease.expires_s - time.monotonic())
        for wire in wires:
            fault = {"kind": "blackhole", "wire": wire}
            await self._edges.ask(
                {"cmd": "fault", "lease": _part(name, wire), "wire": wire, "fault": fault, "ttl_s": ttl_s}
            )
        held = self._context.state.wires
        await asyncio.gather(*(_knock(held[wire]) for wire in wires))

    async def renew(self, name: str, lease: Lease) -> None:
        ttl_s = lease.expires_s - time.monotonic()
        for wire in lease.evidence["wires"]:
            await self._edges.ask({"cmd": "renew", "lease": _part(name, wire), "ttl_s": ttl_s})

    async def off(self, name: str, lease: Lease) -> None:
        for wire in lease.evidence.get("wires", []):
            await self._edges.ask({"cmd": "undo", "lease": _part(name, wire)})

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        known = (await self._edges.stats())["leases"]
        parts = {wire: known.get(_part(name, wire)) for wire in lease.evidence.get("wires", [])}
        on = {wire: seen["since"] for wire, seen in parts.items() if seen is not None and seen["state"] == "on"}
        swallowed = sum(since["bytes_swallowed"] for since in on.values())
        accepted = sum(since["accepted"] for since in on.values())
        seen = f"{swallowed} bytes swallowed, {accepted} connections led nowhere, on {len(on)} wires"
        return {"wires": sorted(on), "since": on, "seen": seen if swallowed or accepted else None}

    def held(self, lease: Lease) -> bool:
        return alive(self._context.state.wire_host)

    def _wires(self, lease: Lease) -> list[str]:
        return wires_between(self._context.state, lease.fault.target, lease.fault.second or "")


def _part(lease: str, wire: str) -> str:
    return f"{lease}/{wire}"


async def _knock(wire: Wire) -> None:
    """Say something to a wire, so that it has something to swallow."""
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            writer.write(b"\0")
            await writer.drain()
            writer.close()
    except (OSError, TimeoutError):
        return  # nothing listens: then there is nothing to be swallowed


class AfflictionInjector:
    """A control plane that does something wrong, because its view tells it to."""

    def __init__(self, context: Context, controls: ControlPlanes) -> None:
        self._context = context
        self._controls = controls

    def check(self, lease: Lease) -> None:
        service = self._service(lease)
        beside = self._sidecar(lease)
        if lease.fault.kind == "garbage-config" and service.spec.role != "sidecar":
            raise Conflict(f"{lease.fault.target} reads no files of a control plane; name a sidecar")
        if beside not in self._context.state.services:
            raise Conflict(f"{lease.fault.target} has no sidecar")
        if not self._controls.running(service.spec.cluster):
            raise Conflict(f"{control_of(service.spec.cluster)} does not run: nobody would do it")

    async def on(self, name: str, lease: Lease) -> None:
        cluster = self._service(lease).spec.cluster
        lease.evidence = {"before": await self._count(lease)}
        self._context.state.afflictions[name] = {"kind": lease.fault.kind, "service": lease.fault.target}
        self._context.save()
        await self._controls.until([cluster], lambda s: name in s.get("afflictions", {}), "it follows its view")
        if lease.fault.kind == "garbage-config":
            deadline = time.monotonic() + FOLLOWS_S
            while not await self._more(lease):
                if time.monotonic() > deadline:
                    raise Unavailable(f"{lease.fault.target} has not refused anything within {FOLLOWS_S:g} s")
                await asyncio.sleep(POLL_S)

    async def renew(self, name: str, lease: Lease) -> None:
        """The daemon's own timer is all there is."""

    async def off(self, name: str, lease: Lease) -> None:
        if self._context.state.afflictions.pop(name, None) is None:
            return
        self._context.save()
        service = self._context.state.services.get(lease.fault.target)
        if service is not None and self._controls.running(service.spec.cluster):
            gone = [service.spec.cluster]
            await self._controls.until(gone, lambda s: name not in s.get("afflictions", {}), "it follows its view")

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        service = self._context.state.services.get(lease.fault.target)
        done = self._controls.status(service.spec.cluster).get("afflictions", {}).get(name) if service else None
        more = await self._more(lease)
        if lease.fault.kind == "certificate-expired":
            failed = f"; {more} greetings failed since" if more else ""
            return {"done": done, "failed_greetings": more, "seen": f"{done}{failed}" if done else None}
        seen = f"{lease.fault.target} refused {more} updates of its files" if done and more else None
        return {"done": done, "refused": more, "seen": seen}

    def held(self, lease: Lease) -> bool:
        return True

    def _service(self, lease: Lease) -> Service:
        service = self._context.state.services.get(lease.fault.target)
        if service is None:
            raise Conflict(f"there is no service {lease.fault.target!r} in {self._context.state.name}")
        return service

    def _sidecar(self, lease: Lease) -> str:
        expired = lease.fault.kind == "certificate-expired"
        return sidecar_of(lease.fault.target) if expired else lease.fault.target

    async def _more(self, lease: Lease) -> int:
        return max(0, await self._count(lease) - int(lease.evidence.get("before", 0)))

    async def _count(self, lease: Lease) -> int:
        """Updates that the sidecar refused, or greetings that failed at it."""
        words = ("ssl.connection_error", "ssl.fail_") if lease.fault.kind == "certificate-expired" else _REFUSALS
        service = self._context.state.services.get(self._sidecar(lease))
        if service is None or service.instance is None:
            return 0
        stats = await envoy_stats(service.instance.port)
        return sum(value for key, value in stats.items() if any(word in key for word in words))


_REFUSALS = ("update_rejected", "update_failure")


async def envoy_stats(admin_port: int) -> dict[str, int]:
    """Every counter and gauge of an Envoy by name; empty while it does not answer."""
    found = {}
    for line in (await http_text(admin_port, "/stats")).splitlines():
        key, _, value = line.partition(": ")
        if value.isdecimal():
            found[key] = int(value)
    return found


class RegistryInjector(HostInjector):
    """A registry that answers nonsense: seen as soon as the control planes have refused to believe it."""

    def __init__(self, context: Context, registries: Registries, controls: ControlPlanes) -> None:
        super().__init__(context, registries)
        self._controls = controls

    async def on(self, name: str, lease: Lease) -> None:
        lease.evidence = {"before": self._refused()}
        self._context.save()
        await super().on(name, lease)

    def seen(self, lease: Lease, count: int) -> str | None:
        more = self._refused() - int(lease.evidence.get("before", 0))
        if not count or more <= 0:
            return None
        return f"{count} answers were nonsense, control planes have refused {more} answers since"

    def _refused(self) -> int:
        """Answers that were not believed so far, by all control planes."""
        known = self._context.state.authority
        return sum(
            int(self._controls.status(cluster).get("rejected", 0)) for cluster in (known.clusters if known else ())
        )


class RotationInjector:
    """A new root in place of the old one, in steps between which nobody distrusts anybody. There is no way back."""

    def __init__(self, context: Context, controls: ControlPlanes) -> None:
        self._context = context
        self._controls = controls

    def check(self, lease: Lease) -> None:
        if self._context.state.authority is None or lease.fault.target != AUTHORITY:
            raise Conflict(f"there is no authority {lease.fault.target!r} in {self._context.state.name}")
        if dead := [name for name in self._clusters() if not self._controls.running(name)]:
            raise Conflict(f"the control planes of {', '.join(dead)} do not run: they would be left behind")

    async def on(self, name: str, lease: Lease) -> None:
        lease.evidence = {"before": sorted(self._roots())}
        self._context.save()
        await self._rotate()

    async def renew(self, name: str, lease: Lease) -> None:
        """Nothing has to be kept up."""

    async def off(self, name: str, lease: Lease) -> None:
        """What was begun is done to its end."""
        from infra.local.mesh import authority

        if (self._context.directory / "mesh" / authority.ROOT / f"{authority.NEXT}.pem").exists():
            await self._rotate()

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        before, now = set(lease.evidence.get("before", [])), self._roots()
        leaves = sum(len(self._controls.status(cluster).get("certificates", {})) for cluster in self._clusters())
        seen = None
        if now and not now & before:
            seen = f"{leaves} certificates lead back to root {_short(now)}, before to {_short(before)}"
        return {"before": sorted(before), "now": sorted(now), "seen": seen}

    def held(self, lease: Lease) -> bool:
        return True

    async def _rotate(self) -> None:
        from infra.local.mesh import authority  # cryptography, which only a deployment with identities needs

        state, directory, clusters = self._context.state, self._context.directory / "mesh", self._clusters()
        assert state.authority is not None
        new = await asyncio.to_thread(authority.begin, directory, state.authority.trust_domain, clusters)
        await self._controls.until(clusters, lambda s: new in s.get("trusted", []), "the new root is trusted")
        await asyncio.sleep(SETTLED_S)
        await asyncio.to_thread(authority.issue, directory, clusters)
        await self._controls.until(clusters, lambda s: _roots_of(s) == {new}, "certificates come from the new root")
        await asyncio.sleep(SETTLED_S)
        await asyncio.to_thread(authority.finish, directory, clusters)
        await self._controls.until(clusters, lambda s: s.get("trusted") == [new], "the old root is not trusted")

    def _clusters(self) -> tuple[str, ...]:
        known = self._context.state.authority
        return known.clusters if known else ()

    def _roots(self) -> set[str]:
        return {root for cluster in self._clusters() for root in _roots_of(self._controls.status(cluster))}


def _roots_of(status: Mapping[str, Any]) -> set[str]:
    return {certificate["root"] for certificate in status.get("certificates", {}).values()}


def _short(roots: Iterable[str]) -> str:
    return ", ".join(root[:12] for root in sorted(roots))


class CanaryInjector:
    """A second version of a service that takes a share of its calls, and may be bad."""

    def __init__(self, context: Context, canaries: Canaries) -> None:
        self._context = context
        self._canaries = canaries

    def check(self, lease: Lease) -> None:
        self._canaries.check(lease.fault.target)
        if lease.fault.target in self._context.state.canaries:
            raise Conflict(f"{lease.fault.target} has a canary already")

    async def on(self, name: str, lease: Lease) -> None:
        share = int(lease.fault.numbers["share_percent"])
        await self._canaries.put(lease.fault.target, Canary(share, lease.fault.words["defect"]))

    async def renew(self, name: str, lease: Lease) -> None:
        """The daemon's own timer is all there is."""

    async def off(self, name: str, lease: Lease) -> None:
        await self._canaries.delete(lease.fault.target)

    async def evidence(self, name: str, lease: Lease) -> dict[str, Any]:
        beside = self._context.state.services.get(sidecar_of(canary_of(lease.fault.target)))
        if beside is None or beside.instance is None:
            return {"seen": None}
        stats = await envoy_stats(beside.instance.port)
        answered = stats.get("http.inbound.downstream_rq_total", 0)
        bad = stats.get("http.inbound.downstream_rq_5xx", 0)
        seen = f"{canary_of(lease.fault.target)} got {answered} calls and answered {bad} of them with 5xx"
        return {"calls": answered, "failed": bad, "seen": seen if answered else None}

    def held(self, lease: Lease) -> bool:
        return True
