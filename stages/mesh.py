"""What does a mesh need to know of a stage? Who is who, who may call whom, and what each cluster has to run. (pure)

    storefront -> its sidecar -- mTLS --> [gateway of the callee's cluster] --> inventory's sidecar -> inventory

Every service has a sidecar, every cluster a gateway for what comes from other clusters (it passes TLS through, by
server name) and a control plane, which hands out certificates, endpoints and rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stages.messaging import talkers
from stages.model import Channel, Kind, Mesh, Stage

STABLE, CANARY = "v1", "v2"
"""Versions of a service that may run side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A channel as the caller's sidecar treats it."""

    channel: str
    callee: str
    callee_cluster: str
    identity: str
    """What the callee's certificate must say."""
    timeout_ms: int
    """Of one attempt."""
    attempts: int
    """Including the first; more than one only where the callee is idempotent."""
    reaction_ms: int
    """All attempts and the pauses between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A service as its sidecar sees it."""

    service: str
    identity: str
    callers: tuple[str, ...]
    """Identities that may call it, sorted; nobody else may."""
    edges: tuple[Edge, ...]
    """Whom it calls."""
    ingress: bool
    """Whether users enter here, without any identity."""
    broker: bool
    """Whether it speaks with the broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """Everything that the control plane of a cluster has to know of the stage."""

    cluster: str
    mesh: Mesh
    members: tuple[Member, ...]

    def to_json(self) -> str:
        """One JSON object, keys sorted; `from_json` reads it back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ClusterPlan:
        """Raise ValueError or TypeError for anything that `to_json` did not write."""
        raw: dict[str, Any] = json.loads(text)
        members = tuple(_member(m) for m in raw["members"])
        return cls(cluster=raw["cluster"], mesh=Mesh(**raw["mesh"]), members=members)

    @property
    def callees(self) -> tuple[str, ...]:
        """Services that somebody here calls, sorted: what has to be discovered."""
        return tuple(sorted({edge.callee for member in self.members for edge in member.edges}))


def sidecar_of(service: str) -> str:
    """Name of the process beside a service.

    >>> sidecar_of("orders")
    'orders-sidecar'
    """
    return f"{service}-sidecar"


def gateway_of(cluster: str) -> str:
    """Name of the process through which calls from other clusters come in."""
    return f"{cluster}-gateway"


def control_of(cluster: str) -> str:
    """Name of the control plane of a cluster."""
    return f"{cluster}-control"


def link_of(caller_cluster: str, callee_cluster: str) -> str:
    """Name of the network path from one cluster to another's gateway that no channel uses."""
    return f"{caller_cluster}-{callee_cluster}-link"


def identity(stage: Stage, service: str) -> str:
    """SPIFFE ID of a service: 'spiffe://shop/commerce/orders'."""
    domain = stage.mesh.trust_domain if stage.mesh else Mesh().trust_domain
    return f"spiffe://{domain}/{stage.service(service).system}/{service}"


def server_name(service: str, version: str, cluster: str) -> str:
    """What a caller asks for in its TLS greeting, and what gateways route by.

    >>> server_name("inventory", "v1", "fulfilment")
    'v1.inventory.fulfilment.shop'
    """
    return f"{version}.{service}.{cluster}.shop"


def calls(stage: Stage) -> tuple[Channel, ...]:
    """The channels that go through sidecars on both ends."""
    return tuple(c for c in stage.channels if c.kind is Kind.CALL)


def crosses(stage: Stage, channel: Channel) -> bool:
    """Whether a channel leaves its caller's cluster."""
    return stage.cluster_of(channel.caller) != stage.cluster_of(channel.callee)


def cluster_pairs(stage: Stage) -> tuple[tuple[str, str], ...]:
    """Every two clusters, in the stage's order."""
    names = [c.name for c in stage.clusters]
    return tuple((a, b) for n, a in enumerate(names) for b in names[n + 1 :])


def between(stage: Stage, a: str, b: str) -> tuple[Channel, ...]:
    """The calls that go from one of two clusters to the other, in either direction."""
    return tuple(c for c in calls(stage) if {stage.cluster_of(c.caller), stage.cluster_of(c.callee)} == {a, b})


def allowed(stage: Stage) -> frozenset[tuple[str, str]]:
    """(caller, callee) of every call that policy lets through; everything else is denied."""
    return frozenset((c.caller, c.callee) for c in calls(stage))


def cluster_plan(stage: Stage, cluster: str) -> ClusterPlan:
    """What a cluster's control plane is told. Raise ValueError for a stage without a mesh."""
    if stage.mesh is None:
        raise ValueError(f"stage {stage.name!r} has no mesh")
    return ClusterPlan(
        cluster=cluster, mesh=stage.mesh, members=tuple(_member_of(stage, s) for s in stage.services_in(cluster))
    )


def _member_of(stage: Stage, service: str) -> Member:
    callers = sorted({identity(stage, c.caller) for c in calls(stage) if c.callee == service})
    return Member(
        service=service,
        identity=identity(stage, service),
        callers=tuple(callers),
        edges=tuple(_edges(stage, service)),
        ingress=any(o.entry == service for o in stage.operations),
        broker=service in talkers(stage),
    )


def _edges(stage: Stage, caller: str) -> Iterator[Edge]:
    for c in calls(stage):
        if c.caller == caller:
            assert c.timeout_ms is not None, "a rule of stages"
            yield Edge(
                channel=c.name,
                callee=c.callee,
                callee_cluster=stage.cluster_of(c.callee),
                identity=identity(stage, c.callee),
                timeout_ms=c.timeout_ms,
                attempts=c.attempts,
                reaction_ms=c.reaction_ms,
            )


def _member(raw: Mapping[str, Any]) -> Member:
    edges = tuple(Edge(**e) for e in raw["edges"])
    return Member(**{**raw, "callers": tuple(raw["callers"]), "edges": edges})
