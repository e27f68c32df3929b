"""Which resources does a stage with a mesh need besides those of any stage, and how do services reach each other?

    Authority, Registry, Port "<service>-sidecar".., Wire.., Service "<cluster>-control", "<service>-sidecar",
    "<cluster>-gateway"

Ports are resources of their own: services are told of them and start together with their sidecars. (pure)
"""

from __future__ import annotations

from collections.abc import Iterable

from infra.local.mesh.envoyconf import GATEWAY_PORT, egress_port, port_names
from infra.local.render_messages import BROKER
from infra.local.resource import Ref, Resource, value_of
from infra.naming import USERS, edge_wire
from stages.mesh import (
    ClusterPlan,
    Member,
    calls,
    cluster_pairs,
    cluster_plan,
    control_of,
    crosses,
    gateway_of,
    link_of,
    sidecar_of,
)
from stages.messaging import talkers
from stages.model import Channel, Stage
from workloads.settings import Peer

AUTHORITY, REGISTRY = "authority", "registry"

SLACK_MS = 100
"""What a service waits for its sidecar beyond the sidecar's own longest reaction."""

PRELOAD = ("infra.local.mesh.controlplane", "infra.local.mesh.registry")
"""What control planes import, besides what services do: done once per nursery."""


def mesh_resources(stage: Stage) -> tuple[Resource, ...]:
    """Everything that is neither a service, nor a wire of one. Raise ValueError for a stage without a mesh."""
    assert stage.mesh is not None
    names = [cluster.name for cluster in stage.clusters]
    plans = [cluster_plan(stage, name) for name in names]
    inputs = {"trust_domain": stage.mesh.trust_domain, "clusters": names}
    return (
        Resource(kind="authority", name=AUTHORITY, inputs=inputs),
        Resource(kind="registry", name=REGISTRY, inputs={}, after=_once_the_broker_is_up(stage)),
        *(_ports(sidecar_of(m.service), port_names(m)) for plan in plans for m in plan.members),
        *(_ports(gateway_of(name), (GATEWAY_PORT,)) for name in names),
        *(_wire(_registry_wire(name), control_of(name), REGISTRY) for name in names),
        *(_link(a, b) for pair in cluster_pairs(stage) for a, b in (pair, pair[::-1])),
        *(part for plan in plans for part in _parts(plan)),
    )


def mesh_wires(stage: Stage) -> tuple[Resource, ...]:
    """From users to sidecars, from sidecars to those of other services or to their gateways."""
    entries = sorted({operation.entry for operation in stage.operations})
    return (
        *(_wire(edge_wire(e), USERS, e, to=sidecar_of(e), port="ingress") for e in entries),
        *(_call(stage, channel) for channel in calls(stage)),
    )


def mesh_peer(channel: Channel, fallback: str | None) -> Peer:
    """Attempts, timeouts and breaker are the sidecar's; the service waits a little longer than it."""
    return Peer(
        url=f"http://{_listen(channel.caller, egress_port(channel.callee))}",
        timeout_ms=channel.reaction_ms + SLACK_MS,
        attempts=1,
        breaker=False,
        fallback=fallback,
    )


def mesh_broker_endpoint(service: str) -> str:
    """Where a service finds the broker: at its sidecar."""
    return f"http://{_listen(service, BROKER)}"


def _once_the_broker_is_up(stage: Stage) -> frozenset[tuple[str, str]]:
    """Both have seconds until they are needed; what everything else waits for shall have a processor for itself."""
    return frozenset({("broker", BROKER)} if talkers(stage) else ())


def _listen(service: str, port: str) -> str:
    return Ref("port", sidecar_of(service), f"listen_{port}").token


def _call(stage: Stage, channel: Channel) -> Resource:
    if crosses(stage, channel):
        to, port = gateway_of(stage.cluster_of(channel.callee)), GATEWAY_PORT
    else:
        to, port = sidecar_of(channel.callee), "inbound"
    return _wire(channel.name, channel.caller, channel.callee, to=to, port=port)


def _link(caller: str, callee: str) -> Resource:
    return _wire(link_of(caller, callee), caller, callee, to=gateway_of(callee), port=GATEWAY_PORT)


def _registry_wire(cluster: str) -> str:
    return f"{cluster}-{REGISTRY}"


def _wire(name: str, caller: str, callee: str, **to: str) -> Resource:
    return Resource(kind="wire", name=name, inputs={"caller": caller, "callee": callee, **to})


def _ports(service: str, names: Iterable[str]) -> Resource:
    return Resource(kind="port", name=service, inputs={"names": list(names)})


def _parts(plan: ClusterPlan) -> tuple[Resource, ...]:
    return (
        _control(plan),
        *(_sidecar(plan.cluster, member) for member in plan.members),
        _envoy(plan.cluster, gateway_of(plan.cluster), {"role": "gateway", "ports": [GATEWAY_PORT]}),
    )


def _control(plan: ClusterPlan) -> Resource:
    return Resource(
        kind="service",
        name=control_of(plan.cluster),
        inputs={
            "cluster": plan.cluster,
            "module": "infra.local.mesh.control",
            "ready_path": "/ready",
            "role": "control",
        },
        args=(value_of(_home(plan.cluster)), "{port}"),
        env={"STAGES_MESH_PLAN": plan.to_json()},
        after=frozenset({("authority", AUTHORITY), ("wire", _registry_wire(plan.cluster))}),
    )


def _sidecar(cluster: str, member: Member) -> Resource:
    name = sidecar_of(member.service)
    return _envoy(cluster, name, {"role": "sidecar", "of": member.service, "ports": list(port_names(member))})


def _envoy(cluster: str, name: str, inputs: dict[str, object]) -> Resource:
    return Resource(
        kind="service",
        name=name,
        inputs={"cluster": cluster, "module": "infra.local.mesh.envoy", "ready_path": "/ready", **inputs},
        args=(value_of(f"{_home(cluster)}/envoy/{name}"),),
        after=frozenset({("port", name), ("authority", AUTHORITY)}),
    )


def _home(cluster: str) -> str:
    return f"{Ref('deployment', '', 'directory').token}/mesh/{cluster}"
