"""How does a cluster come, go, and get lost? A cluster is the process group that its host leads."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from infra.local.clusterhost import UNTAGGED
from infra.local.context import Context
from infra.local.control import HostError, ask
from infra.local.errors import Conflict, NotFound, Unavailable
from infra.local.processes import NotOurs, ProcessId, alive, carries, gone, kill, stat_of, state_of, stop, tagged
from infra.local.state import Cluster, ClusterSpec
from infra.naming import TAG_CLUSTER

HOST_MODULE = "infra.local.clusterhost"

NURSERY = "nursery"

OF_ITS_OWN_S = 5.0
"""Longest way of a forked host to a group and a tag of its own. Its socket may answer before: that of a host which was
asked for earlier, while its nursery stood still."""


class Clusters:
    """The clusters of one deployment."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clusters = context.state.clusters

    async def put(self, name: str, spec: ClusterSpec) -> dict[str, object]:
        """Have this cluster: returns once its host has imported what it preloads."""
        known = self._clusters.get(name)
        if known is not None and known.spec != spec and self.services_in(name):
            raise Conflict(f"cluster {name} is in use by {', '.join(self.services_in(name))}; delete them first")
        if known is None or known.spec != spec:
            if known is not None:
                await self.delete(name)
            self._clusters[name] = Cluster(spec)
            self._context.save()
        await self.host(name)
        return self.get(name)

    async def prepare(self, preload: Sequence[str]) -> None:
        """Import for clusters that will be asked for, which takes longer than to ask."""
        await self._nursery(preload)

    def get(self, name: str) -> dict[str, object]:
        cluster = self._clusters.get(name)
        if cluster is None:
            raise NotFound(f"there is no cluster {name!r} in {self._context.state.name}")
        seen = state_of(cluster.host)
        return {
            "kind": "cluster",
            "name": name,
            "state": "exited" if seen is None else "paused" if seen == "T" else "running",
            "network": cluster.spec.network,
            "ports": self._context.state.ranges.get(name),
            "pid": cluster.host.pid if cluster.host and seen else None,
        }

    async def delete(self, name: str) -> None:
        """Take the cluster away; idempotent. Raise Conflict while services are in it."""
        cluster = self._clusters.get(name)
        if cluster is None:
            return
        if self.services_in(name):
            raise Conflict(f"cluster {name} still holds {', '.join(self.services_in(name))}; delete them first")
        async with self._context.lock("cluster", name):
            await stop(cluster.host, self._context.tags, grace_s=1.0)
            self._socket(name).unlink(missing_ok=True)
            self._clusters.pop(name, None)
            self._context.save()

    def services_in(self, name: str) -> list[str]:
        return [s for s, service in self._context.state.services.items() if service.spec.cluster == name]

    async def host(self, name: str) -> Path:
        """The control socket of the cluster's host, which is started if it does not live."""
        cluster = self._clusters.get(name)
        if cluster is None:
            raise Conflict(f"there is no cluster {name!r} in {self._context.state.name}")
        async with self._context.lock("cluster", name):
            if not alive(cluster.host):
                start = self._born if cluster.spec.nursery else self._start
                cluster.host = await start(name, cluster.spec.preload)
                self._context.save()
        return self._socket(name)

    async def _start(self, name: str, preload: Sequence[str]) -> ProcessId:
        """A host that imports for itself."""
        tags = {TAG_CLUSTER: name}
        return await self._context.start_host(f"cluster-{name}", HOST_MODULE, preload, self._socket(name), tags)

    async def _born(self, name: str, preload: Sequence[str]) -> ProcessId:
        """A host that the nursery forks; it is believed only once it carries its tag and leads its group."""
        nursery = await self._nursery(preload)

        async def fork(log: Path) -> ProcessId:
            question = {"name": name, "socket": str(self._socket(name)), "modules": list(preload), "log": str(log)}
            try:
                answer = await ask(nursery, {"cmd": "host", **question})
            except HostError as error:
                raise Unavailable(f"the nursery did not fork a host for {name}: {error}") from error
            return ProcessId(answer["pid"], answer["start"])

        host = await self._context.have_host(f"cluster-{name}", self._socket(name), fork)
        deadline = time.monotonic() + OF_ITS_OWN_S
        while not self._is_of_its_own(host, name):
            if time.monotonic() > deadline or not alive(host):
                await kill(host, self._context.tags)
                raise Unavailable(f"the host of {name} (process {host.pid}) has not become one of its own")
            await asyncio.sleep(0.02)
        return host

    def _is_of_its_own(self, host: ProcessId, name: str) -> bool:
        seen = stat_of(host.pid)
        return seen is not None and seen.group == host.pid and carries(host, {**self._context.tags, TAG_CLUSTER: name})

    async def _nursery(self, preload: Sequence[str]) -> Path:
        """Its control socket; it is started if it does not live."""
        state = self._context.state
        socket = self._context.home.control(state.name, NURSERY)
        async with self._context.lock("host", NURSERY):
            if not alive(state.nursery):
                tags = {TAG_CLUSTER: UNTAGGED}
                state.nursery = await self._context.start_host(NURSERY, HOST_MODULE, preload, socket, tags)
                self._context.save()
        return socket

    def members(self, name: str) -> list[ProcessId]:
        """Every live process of the cluster: its host, its services, also those of a host that died before."""
        return tagged({**self._context.tags, TAG_CLUSTER: name})

    async def strike(self, name: str) -> list[int]:
        """Lose the cluster at once: SIGKILL to its process groups. Returns the pids that are gone.

        Raise NotOurs, nothing sent, if a group holds a process that does not carry the cluster's tags.
        """
        members = self.members(name)
        groups = {seen.group for member in members if (seen := stat_of(member.pid))}
        self._prove(groups, name)
        for group in groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.gather(*(gone(member, 5) for member in members))
        return [member.pid for member in members if not alive(member)]

    def _prove(self, groups: set[int], name: str) -> None:
        mine = {**self._context.tags, TAG_CLUSTER: name}
        for process in _live_in(groups):
            if not carries(process, mine) and alive(process):
                raise NotOurs(f"not injecting: process {process.pid} is in the cluster's group, but not tagged as its")

    def _socket(self, name: str) -> Path:
        return self._context.home.control(self._context.state.name, f"cluster/{name}")


def _live_in(groups: set[int]) -> Sequence[ProcessId]:
    found = []
    for entry in os.listdir("/proc"):
        seen = stat_of(int(entry)) if entry.isdecimal() else None
        if seen is not None and seen.group in groups and seen.state not in "ZX":
            found.append(ProcessId(int(entry), seen.start))
    return found
