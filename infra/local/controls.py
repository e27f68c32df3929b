"""What do the control planes of a deployment say of themselves and of their clusters?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from infra.local.context import Context
from infra.local.errors import Unavailable
from infra.local.home import read_json
from infra.local.processes import alive
from stages.mesh import control_of

FOLLOWS_S = 10.0
"""Longest time until a control plane and its Envoys have done what was asked for; they look every 0.1 s."""

POLL_S = 0.05


class ControlPlanes:
    """What the control planes of one deployment say."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def status(self, cluster: str) -> Mapping[str, Any]:
        return read_json(self._context.directory / "mesh" / cluster / "status.json") or {}

    def running(self, cluster: str) -> bool:
        service = self._context.state.services.get(control_of(cluster))
        return service is not None and service.instance is not None and alive(service.instance.process)

    async def until(self, clusters: Iterable[str], condition: Callable[[Mapping[str, Any]], bool], what: str) -> None:
        """Wait until the status of all these meets a condition. Raise Unavailable, naming those that do not."""
        deadline = time.monotonic() + FOLLOWS_S
        while late := [cluster for cluster in clusters if not condition(self.status(cluster))]:
            if time.monotonic() > deadline:
                logs = ", ".join(str(self._context.log_of(control_of(cluster))) for cluster in late)
                raise Unavailable(f"not within {FOLLOWS_S:g} s in {', '.join(late)}: {what}; logs: {logs}")
            await asyncio.sleep(POLL_S)
