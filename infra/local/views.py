"""What does the control plane of a cluster have to know of the deployment, besides its stage? (pure)

One JSON object per cluster, written beside the state whenever it changes: `views`, and `Views` which writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.local.home import write_atomically
from infra.local.processes import alive
from infra.local.state import SERVICE, DeploymentState, Service, Wire
from stages.catalogue import VARIANTS
from stages.mesh import CANARY

FORMAT = 1

PARTS = ("sidecar", "gateway")
"""Roles of what a control plane writes files for."""


def views(state: DeploymentState) -> dict[str, dict[str, Any]]:
    """By cluster; empty for a deployment without identities."""
    return {name: _view(state, name) for name in state.authority.clusters} if state.authority else {}


def splits(state: DeploymentState) -> dict[str, dict[str, int]]:
    """Percent of the calls per version that is not the first, by service."""
    return {service: {CANARY: canary.share_percent} for service, canary in state.canaries.items()}


def _view(state: DeploymentState, cluster: str) -> dict[str, Any]:
    mine = {name: service for name, service in state.services.items() if service.spec.cluster == cluster}
    apps = {name: service for name, service in mine.items() if service.spec.role == SERVICE}
    registry = next((w for w in state.wires.values() if w.spec.callee in state.registries and _of(w, mine)), None)
    return {
        "format": FORMAT,
        "instances": _instances(apps),
        "sidecars": _sidecars(state, mine),
        "parts": {name: _part(state, name, s) for name, s in mine.items() if s.spec.role in PARTS},
        "routes": _routes(state, apps),
        "broker_routes": {
            w.spec.caller: _address(w) for w in state.wires.values() if w.spec.callee in state.brokers and _of(w, apps)
        },
        "registry": f"http://{_address(registry)}" if registry else None,
        "splits": splits(state),
        "variant": [VARIANTS[state.variant].disables] if state.variant in VARIANTS else [],
        "afflictions": {lease: what for lease, what in state.afflictions.items() if what.get("service") in mine},
    }


def _instances(apps: dict[str, Service]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, app in apps.items():
        if app.instance is not None and alive(app.instance.process):
            found.setdefault(app.spec.of or name, {})[app.spec.version] = app.instance.address
    return found


def _sidecars(state: DeploymentState, mine: dict[str, Service]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, service in mine.items():
        if service.spec.role == "sidecar" and service.spec.of:
            inbound = f"127.0.0.1:{state.ports[name]['inbound']}"
            found.setdefault(service.spec.of, {})[service.spec.version] = inbound
    return found


def _part(state: DeploymentState, name: str, service: Service) -> dict[str, Any]:
    instance = service.next or service.instance
    ports = ({"admin": instance.port} if instance else {}) | state.ports.get(name, {})
    spec = service.spec
    of = {"of": spec.of, "version": spec.version} if spec.of else {}
    return {"role": spec.role, **of, "ports": ports}


def _routes(state: DeploymentState, apps: dict[str, Service]) -> dict[str, dict[str, str]]:
    """The gateway tells versions apart by server name: another cluster's are reached by the same wire."""
    found: dict[str, dict[str, str]] = {}
    for wire in state.wires.values():
        to = state.services.get(wire.spec.to or "")
        if wire.spec.caller not in apps or to is None:
            continue
        channel = f"{wire.spec.caller}-{wire.spec.callee}"
        versions = [to.spec.version]
        if to.spec.role == "gateway" and wire.spec.callee in state.canaries:
            versions.append(CANARY)
        found.setdefault(channel, {}).update(dict.fromkeys(versions, _address(wire)))
    return found


def _of(wire: Wire, services: dict[str, Service]) -> bool:
    return wire.spec.caller in services


def _address(wire: Wire) -> str:
    return f"127.0.0.1:{wire.port}"


class Views:
    """Writes what has changed, and nothing else."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written: dict[str, str] = {}

    def write(self, state: DeploymentState) -> None:
        for cluster, view in views(state).items():
            text = json.dumps(view, sort_keys=True)
            path = self._directory / "mesh" / cluster / "view.json"
            if self._written.get(cluster) != text and path.parent.is_dir():
                write_atomically(path, text)
                path.chmod(0o600)
                self._written[cluster] = text
