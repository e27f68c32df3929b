"""How does an instance of a service come to life, and how is it told that it did not, or how it ended?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.local.clusters import Clusters
from infra.local.context import Context, size_of
from infra.local.control import HostError, ask
from infra.local.errors import CloudError, Unavailable
from infra.local.home import tail
from infra.local.probe import http_status
from infra.local.processes import ProcessId, alive, kill
from infra.local.state import Instance, Service, ServiceSpec
from infra.local.views import PARTS as ENVOYS

READY_S = 40.0
"""Longest start of an instance: nine at once on two busy cores have taken 5 s."""

BOOTSTRAP = "bootstrap.json"
"""In the directory of an Envoy; its control plane writes it."""

POLL_S = 0.03
"""Between two looks at an instance that starts or ends."""

STATUS_LOOKS = 5
"""How often is asked how a process ended; its parent may be just dying, too."""


class Launcher:
    """Starts instances in the clusters of one deployment."""

    def __init__(self, context: Context, clusters: Clusters) -> None:
        self._context = context
        self._clusters = clusters

    async def launch(self, name: str, service: Service, spec: ServiceSpec, preferred: int | None) -> Instance:
        """Start an instance, on the preferred port if it can be had, and wait until it is ready.

        It is `service.next` meanwhile. Raise Died or Unavailable; then it is gone again.
        """
        ports = self._context.ports
        path = self._context.log_of(name)
        old = preferred is not None and ports.hold(preferred)
        port = preferred if preferred is not None and old else self._context.reserve(name)
        if spec.role in ENVOYS and (service.instance is None or service.instance.port != port):
            (Path(spec.args[0]) / BOOTSTRAP).unlink(missing_ok=True)  # it names another port: wait for a new one
        instance = Instance(port, size_of(path))
        service.next = instance
        self._context.save()
        try:
            await self._fork(name, spec, instance)
            await self._until_first_ready(name, spec, instance)
        except BaseException:
            if instance.process is not None:
                await kill(instance.process, self._context.tags)
            service.next = None
            self._context.save()
            raise
        finally:
            ports.release(instance.port)
        return instance

    async def _fork(self, name: str, spec: ServiceSpec, instance: Instance) -> None:
        filled = _filler(instance.port, self._context.state.ports.get(name, {}))
        question = {
            "cmd": "spawn",
            "name": name,
            "module": spec.module,
            "args": [filled(argument) for argument in spec.args],
            "env": {key: filled(value) for key, value in spec.env.items()},
            "log": str(self._context.log_of(name)),
        }
        try:
            answer = await ask(await self._clusters.host(spec.cluster), question, timeout_s=10.0)
        except HostError as error:
            raise Unavailable(f"cluster {spec.cluster} did not start {name}: {error}") from error
        instance.process = ProcessId(answer["pid"], answer["start"])
        self._context.save()

    async def _until_first_ready(self, name: str, spec: ServiceSpec, instance: Instance) -> None:
        assert instance.process is not None
        began = time.monotonic()
        while not await self.is_ready(spec, instance):
            passed = time.monotonic() - began
            if not alive(instance.process):
                status = await self.status(spec.cluster, instance.process)
                raise self._context.died(name, instance.process, status, passed, instance.log_offset, "ready")
            if passed > READY_S:
                path = self._context.log_of(name)
                said = "\n".join(tail(path, 30, instance.log_offset))
                raise Unavailable(
                    f"{name} does not answer 200 on {spec.ready_path} after {READY_S:g} s; last lines:\n{said}\n"
                    f"full log: {path}"
                )
            await asyncio.sleep(POLL_S)

    async def is_ready(self, spec: ServiceSpec, instance: Instance) -> bool:
        """Whether it answers 200 on its ready path now."""
        return await http_status("127.0.0.1", instance.port, spec.ready_path, timeout_s=1.0) == 200

    async def status(self, cluster: str, process: ProcessId) -> int | None:
        """How a process ended: its host knows, or we do if it was orphaned; None if nobody could see it."""
        known = self._context.state.clusters.get(cluster)
        for _ in range(STATUS_LOOKS):
            status = self._context.reaper.status(process.pid)
            if status is None and known is not None and alive(known.host):
                status = await self._status_by_host(cluster, process)
            if status is not None:
                return status
            await asyncio.sleep(POLL_S)  # its parent, dying too, is yet to collect it or to leave it to us
        return None

    async def _status_by_host(self, cluster: str, process: ProcessId) -> int | None:
        try:
            answer = await ask(await self._clusters.host(cluster), {"cmd": "status", "pid": process.pid}, 1.0)
        except (HostError, CloudError):
            return None
        return None if answer["status"] is None else int(answer["status"])


def _filler(port: int, named: Mapping[str, int]) -> Callable[[str], str]:
    """Puts ports where a text names them."""
    values = {"{port}": str(port)} | {f"{{port:{name}}}": str(number) for name, number in named.items()}

    def filled(text: str) -> str:
        for token, value in values.items():
            text = text.replace(token, value)
        return text

    return filled
