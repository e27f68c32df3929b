"""How long may a call take, may it be tried again, when is a callee left alone, which version answers? (pure)

Per edge, in the caller's namespace and for the caller's pods only: the limits are the caller's, as in the model. They
say what `infra.local.mesh.envoyconf` says, but for what Istio has no word for: the longest ejection, and the most that
a pause between attempts may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from infra.k8s.environment import BROKER, COLLECTOR, broker_of
from infra.k8s.names import (
    DNS,
    LABEL,
    PORT,
    host_of,
    metadata,
    namespace_of,
    selector,
    service_labels,
    shared_namespace,
)
from infra.k8s.policies import DATABASE, ISTIO_NAMESPACE
from infra.k8s.site import Manifest, Site
from stages.mesh import CANARY, STABLE, Edge, cluster_plan
from stages.messaging import talkers
from stages.model import BACKOFF_MS_MAX, Mesh, Stage

NETWORKING = "networking.istio.io/v1"
CONNECT_SHARE = 0.75
"""Of an attempt's time, for connecting."""
EJECTION_INTERVAL_MS = 500
CALLEE_DEAD = (502, 504)
"""Answers that count against a callee, as silence and refusals do: its own 503 says that it lives. Needs Istio 1.31."""
RETRY_ON = "connect-failure,refused-stream,reset,gateway-error"
IDEMPOTENT = "GET|HEAD|PUT|DELETE"


def edges_of(stage: Stage, service: str) -> tuple[Edge, ...]:
    """Whom a service calls."""
    plan = cluster_plan(stage, stage.cluster_of(service))
    return next(member.edges for member in plan.members if member.service == service)


def destination_rules(stage: Stage, site: Site, service: str) -> Iterator[Manifest]:
    """How a service treats each of its callees."""
    assert stage.mesh is not None
    for edge in edges_of(stage, service):
        yield {
            "apiVersion": NETWORKING,
            "kind": "DestinationRule",
            "metadata": metadata(
                edge.channel, namespace_of(stage, site, service), service_labels(stage, site, service)
            ),
            "spec": {
                "host": host_of(stage, site, edge.callee),
                "exportTo": ["."],
                "workloadSelector": {"matchLabels": selector(site, service)},
                "trafficPolicy": _treatment(stage.mesh, edge),
                "subsets": _subsets(),
            },
        }


def versions_of(stage: Stage, site: Site, service: str) -> Manifest:
    """The versions of a callee, for its own cluster's gateway: it can only pass on to those it knows of."""
    return {
        "apiVersion": NETWORKING,
        "kind": "DestinationRule",
        "metadata": metadata(service, namespace_of(stage, site, service), service_labels(stage, site, service)),
        "spec": {
            "host": host_of(stage, site, service),
            "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
            "subsets": _subsets(),
        },
    }


def virtual_services(stage: Stage, site: Site, callers: Sequence[str]) -> Iterator[Manifest]:
    """Routes of the callers of one namespace, one object per callee: two for one host would not be joined."""
    found: dict[str, list[tuple[str, Edge]]] = {}
    for caller in callers:
        for edge in edges_of(stage, caller):
            found.setdefault(edge.callee, []).append((caller, edge))
    for callee, edges in found.items():
        caller = edges[0][0]
        yield {
            "apiVersion": NETWORKING,
            "kind": "VirtualService",
            "metadata": metadata(callee, namespace_of(stage, site, caller), service_labels(stage, site, caller)),
            "spec": {
                "hosts": [host_of(stage, site, callee)],
                "exportTo": ["."],
                "http": [route for name, edge in edges for route in _routes(stage, site, name, edge)],
            },
        }


def sidecar(stage: Stage, site: Site, service: str) -> Manifest:
    """What a service's sidecar knows of: whom the service calls, and what it keeps its records and messages in."""
    namespace = namespace_of(stage, site, service)
    hosts = [f"./{COLLECTOR}.{namespace}.{DNS}", f"{ISTIO_NAMESPACE}/*"]
    hosts += [
        f"{namespace_of(stage, site, e.callee)}/{host_of(stage, site, e.callee)}" for e in edges_of(stage, service)
    ]
    if stage.service(service).database and site.database is None:
        hosts.append(f"./{DATABASE}.{namespace}.{DNS}")
    if service in talkers(stage):
        shared = shared_namespace(stage, site)
        hosts += [f"./{h}" for h in broker_hosts(site)] if site.broker else [f"{shared}/{BROKER}.{shared}.{DNS}"]
    return {
        "apiVersion": NETWORKING,
        "kind": "Sidecar",
        "metadata": metadata(service, namespace, service_labels(stage, site, service)),
        "spec": {
            "workloadSelector": {"labels": selector(site, service)},
            "egress": [{"hosts": sorted(hosts)}],
        },
    }


def broker_hosts(site: Site) -> tuple[str, ...]:
    """DNS names of a given broker; () for one that is given by number."""
    if site.broker is None:
        return ()
    if site.broker.endpoint is None:
        return tuple(f"{name}.{site.broker.region}.amazonaws.com" for name in ("sqs", "sns"))
    host = _endpoint(site.broker.endpoint)[1]
    return () if host.replace(".", "").isdecimal() else (host,)


def broker_entry(stage: Stage, site: Site, namespace: str, its_labels: dict[str, str]) -> Iterator[Manifest]:
    """The broker as sidecars of a namespace see it; nothing for the one in the cluster, which has a Service."""
    hosts = broker_hosts(site)
    if not hosts:
        return
    scheme, _, port = _endpoint(broker_of(stage, site).endpoint or "https://aws")
    protocol = "TLS" if scheme == "https" else "HTTP"
    yield {
        "apiVersion": NETWORKING,
        "kind": "ServiceEntry",
        "metadata": metadata(BROKER, namespace, its_labels),
        "spec": {
            "hosts": list(hosts),
            "exportTo": ["."],
            "location": "MESH_EXTERNAL",
            "resolution": "DNS",
            "ports": [{"name": protocol.lower(), "number": port, "protocol": protocol}],
        },
    }


def seconds(milliseconds: int) -> str:
    """
    >>> seconds(400), seconds(3000)
    ('0.4s', '3s')
    """
    return f"{milliseconds / 1000:g}s"


def _endpoint(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a base URL."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition("/")[0].partition(":")
    return scheme, host, int(port or (443 if scheme == "https" else 80))


def _treatment(mesh: Mesh, edge: Edge) -> dict[str, Any]:
    return {
        "tls": {"mode": "ISTIO_MUTUAL"},
        "connectionPool": {
            "tcp": {
                "connectTimeout": seconds(int(edge.timeout_ms * CONNECT_SHARE)),
                "maxConnectionDuration": seconds(mesh.connection_age_ms),
            },
            "http": {
                "h2UpgradePolicy": "UPGRADE",
                "http1MaxPendingRequests": mesh.requests_max,
                "http2MaxRequests": mesh.requests_max,
            },
        },
        "retryBudget": {"percent": mesh.retry_budget_percent, "minRetryConcurrency": mesh.retries_min},
        "outlierDetection": {
            "consecutive5xxErrors": mesh.ejected_after,
            "consecutiveGatewayErrors": 0,  # its events would only repeat the other ones
            "outlierDetectionHttpErrorCodes": list(CALLEE_DEAD),
            "interval": seconds(EJECTION_INTERVAL_MS),
            "baseEjectionTime": seconds(mesh.ejection_ms),
            "maxEjectionPercent": 100,
            "minHealthPercent": 0,
        },
    }


def _subsets() -> list[dict[str, Any]]:
    return [{"name": version, "labels": {"version": version}} for version in (STABLE, CANARY)]


def _routes(stage: Stage, site: Site, caller: str, edge: Edge) -> Iterator[dict[str, Any]]:
    """What may be repeated is told by its method, or by the key that its receiver knows it again by."""
    from_caller = {"sourceLabels": {f"{LABEL}/name": caller}}
    target = _target(stage, site, edge.callee)
    if edge.attempts > 1:
        yield {
            "name": f"{edge.channel}-again",
            "match": [
                {**from_caller, "method": {"regex": IDEMPOTENT}},
                {**from_caller, "headers": {"idempotency-key": {}}},  # it is there, whatever it says
            ],
            "route": target,
            "timeout": seconds(edge.reaction_ms),
            "retries": {
                "attempts": edge.attempts - 1,
                "perTryTimeout": seconds(edge.timeout_ms),
                "retryOn": RETRY_ON,
                "backoff": seconds(BACKOFF_MS_MAX // 2),
            },
        }
    yield {
        "name": edge.channel,
        "match": [from_caller],
        "route": target,
        "timeout": seconds(edge.timeout_ms),
        "retries": {"attempts": 0},  # left out, there would be two
    }


def _target(stage: Stage, site: Site, callee: str) -> list[dict[str, Any]]:
    canary = site.canaries.get(callee)
    shares = {STABLE: 100 - canary.percent, CANARY: canary.percent} if canary else {STABLE: 100}
    if not all(0 <= share <= 100 for share in shares.values()):
        raise ValueError(f"{callee}: a canary of {shares[CANARY]} percent; must be 0 to 100")
    host = host_of(stage, site, callee)
    return [
        {"destination": {"host": host, "subset": version, "port": {"number": PORT}}, "weight": share}
        for version, share in shares.items()
    ]
