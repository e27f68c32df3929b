"""What do the parts of one deployment share: its state, its tags, its locks, and how its hosts are started."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.local.control import HostError, ask
from infra.local.errors import Died, Unavailable
from infra.local.home import Home, tail, write_atomically
from infra.local.ports import Ports
from infra.local.processes import ProcessId, Reaper, alive, describe_status, kill, spawn
from infra.local.record import record
from infra.local.state import DeploymentState
from infra.local.views import Views
from infra.naming import TAG_CLOUD, TAG_DEPLOYMENT, TAG_RUN

log = logging.getLogger("stages.cloud")

HOST_START_S = 60.0
"""Longest start of a host process: a cluster host imports the workloads, 4 s of processor time on a slow core."""

LAST_LINES = 30


class Context:
    """One deployment, as seen by everything that works on it."""

    def __init__(self, home: Home, state: DeploymentState, ports: Ports, reaper: Reaper) -> None:
        self.home = home
        self.state = state
        self.ports = ports
        self.reaper = reaper
        self.directory = home.deployment(state.name)
        self._views = Views(self.directory)
        self.closing = False
        """Set when the deployment is torn down: whatever ends from now on is meant to."""
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._background: set[asyncio.Task[None]] = set()
        for claimed in self._ranges():
            ports.claim(claimed)

    @property
    def tags(self) -> dict[str, str]:
        """What every process of the deployment carries in its environment."""
        return {TAG_CLOUD: str(self.home.path), TAG_DEPLOYMENT: self.state.name, TAG_RUN: self.state.run_id}

    def lock(self, kind: str, name: str) -> asyncio.Lock:
        """One change at a time per resource; different resources change at once."""
        return self._locks[kind, name]

    def save(self) -> None:
        """Put the state on disk, the record that others read, and what control planes have to know."""
        self.state.write(self.directory)
        self._views.write(self.state)
        write_atomically(self.directory / "deployment.json", record(self.state, self.home).to_json())

    def log_of(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def reserve(self, name: str) -> int:
        """A port of, or into, a service or a part of a mesh: of its cluster's range, if it is in a cluster.

        Raise Unavailable if there is none left.
        """
        cluster = self.state.cluster_of(name)
        if cluster is not None and cluster not in self.state.ranges and (claimed := self.ports.claim()):
            self.state.ranges[cluster] = (claimed[0], claimed[-1])
        mine = self.state.ranges.get(cluster or "")
        return self.ports.reserve(self.taken_ports(), range(mine[0], mine[1] + 1) if mine else None)

    def give_back_ranges(self) -> None:
        """Let others have them: nothing of the deployment listens any more."""
        for claimed in self._ranges():
            self.ports.give_back(claimed)

    def _ranges(self) -> list[range]:
        return [range(first, last + 1) for first, last in self.state.ranges.values()]

    def taken_ports(self) -> set[int]:
        """Ports promised to something of this deployment, in use or not."""
        services = self.state.services.values()
        instances = [i for s in services for i in (s.instance, s.next, s.old) if i]
        hosted = (*self.state.brokers.values(), *self.state.registries.values())
        ports = {w.port for w in self.state.wires.values()} | {h.port for h in hosted}
        named = {port for ports in self.state.ports.values() for port in ports.values()}
        return ports | named | {i.port for i in instances}

    def background(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Run something for as long as the deployment lives; a failure is logged."""
        task = asyncio.get_running_loop().create_task(self._guarded(work, what))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def end_background(self) -> None:
        """Cancel what runs in the background and wait for it."""
        mine = [t for t in self._background if t is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def _guarded(self, work: Coroutine[Any, Any, None], what: str) -> None:
        try:
            await work
        except Exception:  # a border: nobody awaits the task
            log.exception("%s: %s failed", self.state.name, what)

    async def start_host(
        self, name: str, module: str, args: Sequence[str], socket: Path, tags: Mapping[str, str]
    ) -> ProcessId:
        """Start a host process and wait until it answers. Raise Died or Unavailable, nothing left running."""

        async def start(log: Path) -> ProcessId:
            return spawn(["-m", module, str(socket), *args], {**self.tags, **tags}, log)

        return await self.have_host(name, socket, start)

    async def have_host(self, name: str, socket: Path, start: Callable[[Path], Awaitable[ProcessId]]) -> ProcessId:
        """As `start_host`, for a process that `start` makes, given its log."""
        path = self.log_of(name)
        offset = size_of(path)
        socket.unlink(missing_ok=True)
        began = time.monotonic()
        process = await start(path)
        try:
            while not await self._answers(socket):
                if not alive(process):
                    raise self.died(name, process, self.reaper.status(process.pid), time.monotonic() - began, offset)
                if time.monotonic() - began > HOST_START_S:
                    raise Unavailable(f"{name} does not answer after {HOST_START_S:g} s; log: {path}")
                await asyncio.sleep(0.02)
        except BaseException:
            await kill(process, self.tags)
            raise
        return process

    async def _answers(self, socket: Path) -> bool:
        if not socket.exists():
            return False
        try:
            await ask(socket, {"cmd": "ping"}, timeout_s=2.0)
        except HostError:
            return False
        return True

    def died(
        self, name: str, process: ProcessId, status: int | None, after_s: float, offset: int, phase: str = "started"
    ) -> Died:
        """The error for a process that ended before it should: status, last lines, path of the log."""
        path = self.log_of(name)
        lines = tail(path, LAST_LINES, offset)
        said = "last lines:\n" + "\n".join(f"    {line}" for line in lines) if lines else "it wrote nothing"
        return Died(
            f"{name} (process {process.pid}) {describe_status(status)} after {after_s:.1f} s, before it was {phase}; "
            f"{said}\nfull log: {path}",
            lines,
        )


def size_of(path: Path) -> int:
    """Bytes in a file, 0 if it is missing."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
