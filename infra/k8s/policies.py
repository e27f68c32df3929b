"""Who may speak to whom, as the network enforces it? Everything is denied but the edges of the model. (pure)

    users' way in -> storefront -> inventory ..     edges of the model, on the port of services
    service -> its database, broker, collector      as far as it has one
    everybody -> DNS

In stage mesh the sidecars enforce the same edges by identity; the network is the second lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infra.k8s.environment import BROKER, BROKER_PORT, COLLECTOR, OTLP_PORT, broker_of
from infra.k8s.names import (
    LABEL,
    PORT,
    labels,
    metadata,
    namespace_of,
    selector,
    service_labels,
    shared_namespace,
)
from infra.k8s.site import Manifest, Reach, Site
from stages.messaging import talkers
from stages.model import Channel, Kind, Stage

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
DATABASE, DATABASE_PORT = "postgres", 5432
ISTIO_NAMESPACE = "istio-system"
"""Of the control plane and the east-west gateway."""
EAST_WEST_PORT = 15443
DISCOVERY_PORT = 15012
MERGED_METRICS_PORT = 15020
"""A sidecar's: its own metrics and those of its service, without TLS."""
ANY_API_PORTS = (443, 6443)
"""Where the Kubernetes API answers; its address is the cluster's business."""

Rule = dict[str, Any]


def default_deny(stage: Stage, site: Site, namespace: str, system: str | None) -> Manifest:
    """Nobody comes in, nobody goes out: every other policy of the namespace is an exception."""
    its_labels = labels(stage, site, "default-deny", "policy", system)
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return _policy("default-deny", namespace, its_labels, spec)


def allow_dns(stage: Stage, site: Site, namespace: str, system: str | None) -> Manifest:
    """To any address: DNS is not a pod everywhere (a cache on the node, EKS Auto Mode's own)."""
    its_labels = labels(stage, site, "allow-dns", "policy", system)
    rule = {"ports": [{"protocol": p, "port": 53} for p in ("UDP", "TCP")]}
    return _policy("allow-dns", namespace, its_labels, {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]})


def service_policy(stage: Stage, site: Site, service: str, cluster: str | None) -> Manifest:
    """The edges of one service, to and fro. `cluster`: the one it is in, if there are several."""
    spec = {
        "podSelector": {"matchLabels": selector(site, service)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": list(_ingress(stage, site, service, cluster)),
        "egress": list(_egress(stage, site, service, cluster)),
    }
    return _policy(service, namespace_of(stage, site, service), service_labels(stage, site, service), spec)


def part_policy(
    name: str,
    namespace: str,
    its_labels: Mapping[str, str],
    site: Site,
    ingress: Iterable[Rule],
    egress: Iterable[Rule],
) -> Manifest:
    """The policy of a part that is no service."""
    spec = {
        "podSelector": {"matchLabels": selector(site, name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": list(ingress),
        "egress": list(egress),
    }
    return _policy(name, namespace, its_labels, spec)


def to(peers: list[dict[str, Any]], *ports: int) -> Rule:
    """A rule of `egress`."""
    return {"to": peers, "ports": _ports(ports)}


def of(peers: list[dict[str, Any]], *ports: int) -> Rule:
    """A rule of `ingress`."""
    return {"from": peers, "ports": _ports(ports)}


def pods_of(namespace: str, matching: Mapping[str, str]) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: namespace}},
        "podSelector": {"matchLabels": dict(matching)},
    }


def all_services(site: Site) -> dict[str, str]:
    """Labels of every service's pods."""
    return {f"{LABEL}/instance": site.deployment, f"{LABEL}/component": "service"}


def reach(where: Reach) -> Rule:
    addresses = [{"ipBlock": {"cidr": cidr}} for cidr in where.cidrs]
    return to([*addresses, *(_namespace(name) for name in where.namespaces)], *where.ports)


def _ingress(stage: Stage, site: Site, service: str, cluster: str | None) -> Iterator[Rule]:
    callers = [c.caller for c in _calls(stage) if c.callee == service]
    here = [name for name in callers if cluster is None or stage.cluster_of(name) == cluster]
    peers = [pods_of(namespace_of(stage, site, name), selector(site, name)) for name in here]
    if len(here) < len(callers):
        peers.append(_namespace(ISTIO_NAMESPACE))  # its east-west gateway passes on what other clusters send
    if any(o.entry == service for o in stage.operations):
        peers += _users(stage, site)
    if peers:
        yield of(peers, PORT)
    scraped = MERGED_METRICS_PORT if stage.mesh else PORT
    yield of([pods_of(namespace_of(stage, site, service), selector(site, COLLECTOR))], scraped)


def _egress(stage: Stage, site: Site, service: str, cluster: str | None) -> Iterator[Rule]:
    namespace = namespace_of(stage, site, service)
    calls = [c for c in _calls(stage) if c.caller == service]
    here = [c.callee for c in calls if cluster is None or stage.cluster_of(c.callee) == cluster]
    if here:
        yield to([pods_of(namespace_of(stage, site, name), selector(site, name)) for name in here], PORT)
    there = dict.fromkeys(stage.cluster_of(c.callee) for c in calls if c.callee not in here)
    if there:
        networks = {c.name: c.network for c in stage.clusters}
        yield to([{"ipBlock": {"cidr": networks[name]}} for name in there], EAST_WEST_PORT)
    yield to([pods_of(namespace, selector(site, COLLECTOR))], OTLP_PORT)
    if stage.mesh:
        yield to([_namespace(ISTIO_NAMESPACE)], DISCOVERY_PORT)
    if stage.service(service).database:
        yield (
            reach(site.database) if site.database else to([pods_of(namespace, selector(site, DATABASE))], DATABASE_PORT)
        )
    if service in talkers(stage):
        yield _to_broker(stage, site)
    for more in site.egress:
        yield reach(more)


def _to_broker(stage: Stage, site: Site) -> Rule:
    if site.broker is None:
        return to([pods_of(shared_namespace(stage, site), selector(site, BROKER))], BROKER_PORT)
    return reach(broker_of(stage, site).reach)


def _users(stage: Stage, site: Site) -> list[dict[str, Any]]:
    if site.ingress is None:
        return []
    if stage.mesh:
        return [_namespace(site.ingress.gateway_namespace)]
    return [
        *(_namespace(name) for name in site.ingress.from_namespaces),
        *({"ipBlock": {"cidr": cidr}} for cidr in site.ingress.from_cidrs),
    ]


def _calls(stage: Stage) -> tuple[Channel, ...]:
    return tuple(c for c in stage.channels if c.kind is Kind.CALL)


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: name}}}


def _ports(ports: Iterable[int]) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _policy(name: str, namespace: str, its_labels: Mapping[str, str], spec: Mapping[str, Any]) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, namespace, dict(its_labels)),
        "spec": dict(spec),
    }
