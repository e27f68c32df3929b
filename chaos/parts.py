"""What does a mesh add that can break? Processes beside the services, and paths between clusters. (pure)

A stage without a mesh has none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stages.blast_radius import USERS
from stages.mesh import between, control_of, gateway_of, link_of, sidecar_of
from stages.model import Stage

REGISTRY = "registry"
"""Name of the registry, and the callee of every wire to it."""

AUTHORITY = "authority"
"""Name of whoever issues the clusters' certificates."""

EVERYWHERE = "*"
"""All other clusters."""


def parts(stage: Stage) -> Mapping[str, str]:
    """The mesh's processes and the cluster of each: sidecars, gateways, control planes."""
    if stage.mesh is None:
        return {}
    beside = {sidecar_of(s.name): stage.cluster_of(s.name) for s in stage.services}
    return {**beside, **{name(c.name): c.name for c in stage.clusters for name in (gateway_of, control_of)}}


def sidecars(stage: Stage) -> Mapping[str, str]:
    """Sidecar -> the service that it belongs to."""
    return {sidecar_of(s.name): s.name for s in stage.services} if stage.mesh else {}


def controls(stage: Stage) -> tuple[str, ...]:
    """The control planes."""
    return tuple(control_of(c.name) for c in stage.clusters) if stage.mesh else ()


def registries(stage: Stage) -> tuple[str, ...]:
    """One where there is a mesh."""
    return (REGISTRY,) if stage.mesh else ()


def authorities(stage: Stage) -> tuple[str, ...]:
    """One where there is a mesh."""
    return (AUTHORITY,) if stage.mesh else ()


def registry_wires(stage: Stage) -> tuple[str, ...]:
    """Those over which control planes reach the registry, in the clusters' order."""
    return tuple(f"{c.name}-{REGISTRY}" for c in stage.clusters) if stage.mesh else ()


def links(stage: Stage) -> Mapping[str, tuple[str, str]]:
    """The paths from cluster to cluster that no channel uses: name -> (from, to)."""
    names = [c.name for c in stage.clusters] if stage.mesh else []
    return {link_of(a, b): (a, b) for a in names for b in names if a != b}


def partners(stage: Stage, a: str, b: str) -> tuple[str, ...]:
    """The clusters that `b` means to `a`: itself, or all others."""
    return tuple(c.name for c in stage.clusters if c.name != a) if b == EVERYWHERE else (b,)


def cut_between(stage: Stage, a: str, b: str) -> frozenset[str]:
    """Names of the calls between cluster `a` and `b` (or all others), in either direction."""
    return frozenset(c.name for other in partners(stage, a, b) for c in between(stage, a, other))


def links_between(stage: Stage, a: str, b: str) -> frozenset[str]:
    """Names of the links between cluster `a` and `b` (or all others), in either direction."""
    others = partners(stage, a, b)
    return frozenset(name for name, ends in links(stage).items() if a in ends and {*ends} & {*others})


def behind(stage: Stage, sidecar: str) -> frozenset[str]:
    """Names of the channels that end with a sidecar: all that its service sends, receives, calls and answers."""
    service = sidecars(stage)[sidecar]
    return frozenset(_channels_of(stage, service))


def _channels_of(stage: Stage, service: str) -> Iterator[str]:
    yield from (c.name for c in stage.channels if service in (c.caller, c.callee))
    if any(o.entry == service for o in stage.operations):
        yield f"{USERS}-{service}"
