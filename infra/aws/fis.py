"""Which faults can AWS inject, by which action, at what? Templates of the Fault Injection Service, as plans. (pure)

    kill         pods of a service or gateway      aws:eks:pod-delete
    latency      a caller's pods, to a network     aws:eks:pod-network-latency, if `network_faults`
    blackhole    a caller's pods, to a network     aws:eks:pod-network-packet-loss, all of it, if `network_faults`
    partition    a cluster's subnets, to networks  aws:network:disrupt-connectivity, prefix list
    outage       a cluster's subnets               aws:network:disrupt-connectivity, all
    zone outage  one zone's subnets of a cluster   aws:network:disrupt-connectivity, all

A fault that AWS cannot take is refused with the reason: an experiment that does something else under the same name
would be believed. Faults are told as the local cloud is told of them, so that one name means one fault everywhere. Each
belongs to one system, whose stack holds its template and whose role may do that and no more; every template has alarms
that stop it.

Latency and loss are made by a container that FIS adds to the pod, as root and beside a root file system that can be
written to; it takes both from the pod's security context (FIS User Guide, 'Use the AWS FIS aws:eks:pod actions',
limitations). The shop's pods give neither, unless the configuration says `network_faults`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from infra.aws.istio import EAST_WEST
from infra.aws.peering import others
from stages.mesh import calls, cluster_pairs, crosses, gateway_of
from stages.model import Channel, Stage

HOLD = "PT2M"
"""ISO 8601; the shortest that both the alarms (a period of a minute) and a recovery can be seen in is two minutes."""

POD, SUBNET = "aws:eks:pod", "aws:ec2:subnet"
DELETE, LATENCY = "aws:eks:pod-delete", "aws:eks:pod-network-latency"
LOSS, DISRUPT = "aws:eks:pod-network-packet-loss", "aws:network:disrupt-connectivity"

NETWORK_FAULTS = (LATENCY, LOSS)
"""What needs a container beside the victim's."""

UNLESS_TOLD = "needs root and a root file system to write to beside the caller's container: set `network_faults`"

_FROZEN = "no action freezes a process; its callers would see a reset instead of silence"
_STORE = "RDS can be rebooted or failed over, not locked"
_BROKER = "SQS and SNS are AWS's own, and no action makes them fail for one account"
_PLANE = "no action speaks to Istio's control plane"

REFUSED: Mapping[str, str] = {
    "pause": _FROZEN,
    "cluster-freeze": "a lost cluster is silence on AWS already: its cluster-outage shows the same",
    "cpu-starve": "an ephemeral container has no limit: the stress would starve the node, not one service",
    "bandwidth": "no action narrows a path",
    "reset": "packets can be dropped, connections not be reset",
    "refuse": "packets can be dropped, connections not be refused",
    "database-locked": _STORE,
    "database-slow": _STORE,
    "broker-outage": _BROKER,
    "broker-slow": _BROKER,
    "broker-throttle": _BROKER,
    "broker-duplicate": _BROKER,
    "broker-poison": "no action changes a message on its way",
    "kill-in-flight": "pods cannot be killed between two steps of a message",
    "registry-outage": "Cloud Map is AWS's own, and neither sidecars nor control planes ask it",
    "garbage-discovery": "Cloud Map is AWS's own, and neither sidecars nor control planes ask it",
    "garbage-config": _PLANE,
    "certificate-expired": _PLANE,
    "root-rotation": "cert-manager renews intermediates by itself; a new root is a change of the backbone, not a fault",
    "canary": "a release is no fault of the infrastructure: Flagger or a VirtualService does it",
}
"""Kind of fault -> why AWS does not take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A fault that has no template."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """An experiment template: one action at one kind of target."""

    name: str
    """Of the fault, as in the catalogue; or '<cluster>-zone-outage', which only AWS has."""
    cluster: str
    """Whose stack holds it, and whose resources alone it touches."""
    summary: str
    action: str
    target: str
    """`POD` or `SUBNET`."""
    service: str | None = None
    """Pods with this label `app`; None where subnets are meant."""
    namespace_of: str | None = None
    """'service': where its pods are; 'istio': istio-system."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Of the action, ascending."""
    from_clusters: tuple[str, ...] = ()
    """Whose networks the prefix list holds."""
    zone: int | None = None
    """Only the subnets of this zone, counted from 0."""
    hits: tuple[str, ...] = field(default=())
    """Channels that it changes, sorted; () where it is everything of the target."""


def drill_of(stage: Stage, name: str, spec: Mapping[str, Any], *, network_faults: bool) -> Drill | Refusal:
    """The template of a fault, told by its name and the object that the local cloud would be given.

    `network_faults`: whether callers' pods let FIS work beside them. Raise KeyError for a kind that this file has not
    heard of: somebody has to decide.
    """
    kind = str(spec["kind"])
    if kind in REFUSED:
        return Refusal(name=name, reason=REFUSED[kind])
    found = _MADE[kind](stage, name, spec)
    if isinstance(found, Drill) and found.action in NETWORK_FAULTS and not network_faults:
        return Refusal(name=name, reason=UNLESS_TOLD)
    return found


def let_in(stage: Stage) -> frozenset[str]:
    """Services whose pods have to let FIS work beside them, if network faults are wanted: those that call others
    across clusters, and no more."""
    return frozenset(
        d.service for d in drills(stage, network_faults=True) if d.action in NETWORK_FAULTS and d.service is not None
    )


def drills(stage: Stage, *, network_faults: bool) -> tuple[Drill, ...]:
    """Every template of a stage with a mesh, in the order of its systems; names are the catalogue's."""
    found = [drill_of(stage, name, spec, network_faults=network_faults) for name, spec in _specs(stage)]
    zones = [_zone_outage(c.name) for c in stage.clusters]
    every = [d for d in (*found, *zones) if isinstance(d, Drill)]
    order = [c.name for c in stage.clusters]
    return tuple(sorted(every, key=lambda d: order.index(d.cluster)))


def _specs(stage: Stage) -> Iterator[tuple[str, dict[str, Any]]]:
    """Faults of every kind that AWS takes, for whatever the stage has."""
    for service in stage.services:
        yield f"{service.name}-killed", {"kind": "kill", "service": service.name}
    for cluster in stage.clusters:
        gateway = gateway_of(cluster.name)
        yield f"{gateway}-killed", {"kind": "kill", "service": gateway}
        yield f"{cluster.name}-cluster-outage", {"kind": "cluster-outage", "cluster": cluster.name}
        yield f"{cluster.name}-partitioned", {"kind": "partition", "cluster": cluster.name, "from": "*"}
    for a, b in cluster_pairs(stage):
        yield f"{a}-{b}-partitioned", {"kind": "partition", "cluster": a, "from": b}
    for channel in calls(stage):
        if crosses(stage, channel):
            yield f"{channel.name}-blackhole", {"kind": "blackhole", "wire": channel.name}
            yield f"{channel.name}-latency", {"kind": "latency", "wire": channel.name, "delay_ms": 10, "jitter_ms": 4}


def _kill(stage: Stage, name: str, spec: Mapping[str, Any]) -> Drill | Refusal:
    victim = str(spec["service"])
    for cluster in stage.clusters:
        if victim == gateway_of(cluster.name):
            return Drill(
                name=name,
                cluster=cluster.name,
                summary=f"every pod of the east-west gateway of {cluster.name} is deleted",
                action=DELETE,
                target=POD,
                service=EAST_WEST,
                namespace_of="istio",
                parameters=(("gracePeriodSeconds", "0"),),
            )
    if victim not in {s.name for s in stage.services}:
        return Refusal(name=name, reason="a sidecar or control plane has no pods of its own to delete by a label")
    return Drill(
        name=name,
        cluster=stage.cluster_of(victim),
        summary=f"every pod of {victim} is deleted without grace; its Deployment starts others",
        action=DELETE,
        target=POD,
        service=victim,
        namespace_of="service",
        parameters=(("gracePeriodSeconds", "0"),),
    )


def _wire(stage: Stage, name: str, spec: Mapping[str, Any]) -> Drill | Refusal:
    channel = next((c for c in calls(stage) if c.name == spec["wire"]), None)
    if channel is None or not crosses(stage, channel):
        return Refusal(
            name=name, reason="FIS tells paths apart by network, and this one does not lead from one cluster to another"
        )
    there = stage.cluster_of(channel.callee)
    network = next(c.network for c in stage.clusters if c.name == there)
    hit = _hits(stage, channel)
    latency = spec["kind"] == "latency"
    own = (
        {"delayMilliseconds": str(spec["delay_ms"]), "jitterMilliseconds": str(spec.get("jitter_ms", 0))}
        if latency
        else {"lossPercent": "100"}
    )
    what = f"packets from {channel.caller} to {there} {'are delayed' if latency else 'are lost'}"
    return Drill(
        name=name,
        cluster=stage.cluster_of(channel.caller),
        summary=what if len(hit) == 1 else f"{what}: {' and '.join(hit)} at once, FIS cannot tell them apart",
        action=LATENCY if latency else LOSS,
        target=POD,
        service=channel.caller,
        namespace_of="service",
        parameters=tuple(sorted({**own, "duration": HOLD, "interface": "DEFAULT", "sources": network}.items())),
        hits=hit,
    )


def _hits(stage: Stage, channel: Channel) -> tuple[str, ...]:
    """Channels of the same caller to the same cluster."""
    there = stage.cluster_of(channel.callee)
    return tuple(
        sorted(c.name for c in calls(stage) if c.caller == channel.caller and stage.cluster_of(c.callee) == there)
    )


def _partition(stage: Stage, name: str, spec: Mapping[str, Any]) -> Drill | Refusal:
    cluster, other = str(spec["cluster"]), str(spec["from"])
    parted = tuple(c.name for c in others(stage, cluster) if other in ("*", c.name))
    what = f"nothing passes between {cluster} and {', '.join(parted)}; AWS's own services are reached as before"
    return replace(_disrupted(name, cluster, "prefix-list", what), from_clusters=parted)


def _outage(stage: Stage, name: str, spec: Mapping[str, Any]) -> Drill | Refusal:
    cluster = str(spec["cluster"])
    what = f"nothing enters or leaves a subnet of {cluster}: to all others it is lost, its processes live"
    return _disrupted(name, cluster, "all", what)


def _zone_outage(cluster: str) -> Drill:
    what = f"nothing enters or leaves the first zone's subnets of {cluster}: replicas elsewhere have to do"
    return replace(_disrupted(f"{cluster}-zone-outage", cluster, "all", what), zone=0)


def _disrupted(name: str, cluster: str, scope: str, summary: str) -> Drill:
    """Subnets of a cluster are cut off. `scope`: from what, in FIS's words."""
    return Drill(
        name=name,
        cluster=cluster,
        summary=summary,
        action=DISRUPT,
        target=SUBNET,
        parameters=(("duration", HOLD), ("scope", scope)),
    )


_MADE = {
    "kill": _kill,
    "latency": _wire,
    "blackhole": _wire,
    "partition": _partition,
    "cluster-outage": _outage,
}


def table(stage: Stage, faults: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row per fault of the catalogue, then those that only AWS has."""
    rows = []
    for name, spec in faults.items():
        found = drill_of(stage, name, spec, network_faults=True)
        if isinstance(found, Drill):
            rows.append((f"`{name}`", _shown(found), found.summary))
        else:
            rows.append((f"`{name}`", "refused", found.reason))
    only = [d for d in drills(stage, network_faults=True) if d.name not in faults]
    rows += [(f"`{d.name}`", _shown(d), f"{d.summary} (AWS only)") for d in only]
    lines = [("fault", "FIS action", "what happens, or why not"), ("---", "---", "---"), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(drill: Drill) -> str:
    """Its action, and the key without which there is none."""
    return f"`{drill.action}`{', with `network_faults`' if drill.action in NETWORK_FAULTS else ''}"
