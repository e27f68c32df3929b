"""What was a resource asked to be? The body that a PUT would repeat, from the daemon's state. (pure)

Whoever keeps a record of their own (Pulumi) compares it with this, and sees what somebody else has changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from infra.local.state import DeploymentState


def asked(state: DeploymentState, kind: str, name: str) -> dict[str, Any]:
    """Plain JSON values. Raise KeyError for what does not exist; databases and registries have no inputs."""
    specs: Mapping[str, Mapping[str, Any]] = {
        "cluster": state.clusters,
        "broker": state.brokers,
        "queue": state.queues,
        "topic": state.topics,
        "subscription": state.subscriptions,
        "wire": state.wires,
        "service": state.services,
    }
    if kind in specs:
        return asdict(specs[kind][name].spec)
    if kind == "authority" and state.authority is not None:
        return asdict(state.authority)
    if kind == "port":
        return {"names": list(state.ports[name])}
    if kind == "canary":
        return asdict(state.canaries[name])
    return {}
