"""How does a second version of a service become the only one, without a request lost?

    all calls to the canary -> the first one's process is replaced by the new version -> all calls back -> canary gone

The new version stays until somebody deploys the stage again: `up` has every service as the stage has it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from infra.local.client import LocalCloud
from infra.local.driver import apply
from infra.local.errors import NotFound, Unavailable
from infra.local.render import render
from infra.local.render_messages import own_broker
from infra.naming import plural
from stages.catalogue import STAGES
from stages.deployment import Deployment
from stages.mesh import CANARY, STABLE

SETTLES_S = 1.5
"""After this all calls go where a new share sends them."""

HEALTHY_S = 15.0
"""Longest wait until the control plane has seen the new instance answer."""


class Target(Protocol):
    """What of the local target this needs; `infra.local.target.LocalTarget` has it."""

    cloud: LocalCloud

    def get(self, name: str) -> Deployment: ...

    def canary(
        self, name: str, service: str, share_percent: int | None, defect: str = "none"
    ) -> Mapping[str, Any] | None: ...

    def mesh_status(self, name: str) -> Mapping[str, Mapping[str, Any]]: ...


def promote(target: Target, name: str, service: str) -> None:
    """Make the version of a canary that runs the service's own, and take the canary away.

    Raise NotFound without a canary, Unavailable if the new version does not come up; the canary then serves on.
    """
    target.canary(name, service, 100)
    time.sleep(SETTLES_S)
    have_version(target, name, service, CANARY)
    time.sleep(SETTLES_S)  # the control plane still speaks of the instance before
    _until_healthy(target, name, service)
    target.canary(name, service, None)


def have_version(target: Target, name: str, service: str, version: str) -> None:
    """Replace a service's process by one of another version; nothing else of it changes."""
    deployment = target.get(name)
    stage = STAGES[deployment.stage]
    resources = render(stage, run_id=deployment.run_id, variant=deployment.variant, broker=own_broker(os.environ))
    wanted = next((r for r in resources if r.kind == "service" and r.name == service), None)
    if wanted is None:
        raise NotFound(f"stage {stage.name} has no service {service!r}")
    outputs: dict[tuple[str, str], Mapping[str, object]] = {
        (kind, each): target.cloud.get(f"/deployments/{name}/{plural(kind)}/{each}") for kind, each in wanted.needs
    }
    outputs["deployment", ""] = {"directory": deployment.directory}
    changed = replace(wanted, env={**wanted.env, "SHOP_VERSION": version})
    apply(target.cloud, name, [changed], outputs, lambda _: None)


def _until_healthy(target: Target, name: str, service: str) -> None:
    cluster = target.get(name).services[service].cluster
    deadline = time.monotonic() + HEALTHY_S
    while True:
        seen = target.mesh_status(name).get(cluster, {}).get("health", {}).get(service, {}).get(STABLE)
        if seen == "HEALTHY":
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"the new version of {service} is {seen} {HEALTHY_S:g} s after it was started")
        time.sleep(0.1)
