"""What are Istio's objects for a stage with a mesh? The same rules as the local target's Envoys have. (pure)

    per namespace   PeerAuthentication STRICT, AuthorizationPolicy deny-all, ServiceEntry of a given broker
    per callee      AuthorizationPolicy: its callers
    per caller      Sidecar: whom it knows; DestinationRule per edge; VirtualService per callee
    per cluster     east-west Gateway, and STRICT for everything, where systems have Kubernetes clusters of their own
    for users       Gateway and VirtualService

Istio itself is not made here. It is expected with its control plane and east-west gateway in `istio-system`, and with
its ingress gateway where the site says, as Helm releases 'istio-eastwestgateway' and 'istio-ingress'.
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.k8s.ingress import entries
from infra.k8s.mesh_policy import authorizations, deny_all, strict
from infra.k8s.mesh_traffic import (
    NETWORKING,
    broker_entry,
    destination_rules,
    sidecar,
    versions_of,
    virtual_services,
)
from infra.k8s.names import PORT, host_of, labels, metadata, namespace_of, service_labels
from infra.k8s.objects import namespaces
from infra.k8s.policies import EAST_WEST_PORT, ISTIO_NAMESPACE
from infra.k8s.site import IngressAt, Manifest, Site
from stages.mesh import calls, crosses
from stages.messaging import talkers
from stages.model import Stage

EAST_WEST = "eastwestgateway"
"""What the chart makes of the release 'istio-eastwestgateway' for the label `istio`."""
INGRESS = "ingress"
"""The same for the release 'istio-ingress'."""


def door_of(site: Site) -> str:
    """Name of the Gateway through which users come in, among those of other deployments."""
    return f"{site.deployment}-users"


def mesh_objects(stage: Stage, cluster: str | None, site: Site) -> tuple[Manifest, ...]:
    """Istio's objects for one cluster of the model; None: for all systems in one Kubernetes cluster.

    Raise ValueError for a stage without a mesh.
    """
    if stage.mesh is None:
        raise ValueError(f"stage {stage.name!r} has no mesh")
    here = [s.name for s in stage.services if cluster is None or stage.cluster_of(s.name) == cluster]
    return (
        *(() if cluster is None else _cluster_wide(stage, site)),
        *(
            manifest
            for name, system in namespaces(stage, site, here).items()
            for manifest in _namespaced(stage, site, here, name, system)
        ),
        *(manifest for service in here for manifest in _of_service(stage, site, service, cluster)),
        *_users(stage, site, here),
    )


def _cluster_wide(stage: Stage, site: Site) -> Iterator[Manifest]:
    """Through the gateway come calls from other clusters: it reads the server name, and leaves the TLS alone."""
    yield strict(stage, site, ISTIO_NAMESPACE, None)
    yield {
        "apiVersion": NETWORKING,
        "kind": "Gateway",
        "metadata": metadata("cross-network-gateway", ISTIO_NAMESPACE, labels(stage, site, EAST_WEST, "gateway", None)),
        "spec": {
            "selector": {"istio": EAST_WEST},
            "servers": [
                {
                    "port": {"number": EAST_WEST_PORT, "name": "tls", "protocol": "TLS"},
                    "tls": {"mode": "AUTO_PASSTHROUGH"},
                    "hosts": ["*.local"],
                }
            ],
        },
    }


def _namespaced(stage: Stage, site: Site, here: list[str], namespace: str, system: str | None) -> Iterator[Manifest]:
    yield strict(stage, site, namespace, system)
    yield deny_all(stage, site, namespace, system)
    mine = [name for name in here if namespace_of(stage, site, name) == namespace]
    if set(mine) & set(talkers(stage)):
        yield from broker_entry(stage, site, namespace, labels(stage, site, "broker", "broker", system))
    yield from virtual_services(stage, site, mine)


def _of_service(stage: Stage, site: Site, service: str, cluster: str | None) -> Iterator[Manifest]:
    yield from authorizations(stage, site, service)
    yield sidecar(stage, site, service)
    yield from destination_rules(stage, site, service)
    if cluster is not None and any(c.callee == service and crosses(stage, c) for c in calls(stage)):
        yield versions_of(stage, site, service)


def _users(stage: Stage, site: Site, here: list[str]) -> Iterator[Manifest]:
    mine = [name for name in entries(stage) if name in here]
    if site.ingress is None or not mine:
        return
    yield _front_door(stage, site, site.ingress)
    for entry in mine:
        destination = {"host": host_of(stage, site, entry), "port": {"number": PORT}}
        yield {
            "apiVersion": NETWORKING,
            "kind": "VirtualService",
            "metadata": metadata(door_of(site), namespace_of(stage, site, entry), service_labels(stage, site, entry)),
            "spec": {
                "hosts": [site.ingress.host],
                "gateways": [f"{site.ingress.gateway_namespace}/{door_of(site)}"],
                # a user's request is never repeated on the user's behalf
                "http": [{"route": [{"destination": destination}], "retries": {"attempts": 0}}],
            },
        }


def _front_door(stage: Stage, site: Site, at: IngressAt) -> Manifest:
    """With a certificate in a Secret of the gateway's namespace; without one, TLS has ended at the load balancer."""
    plain = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [at.host]}
    servers = [plain]
    if at.tls_secret:
        tls = {"mode": "SIMPLE", "credentialName": at.tls_secret, "minProtocolVersion": "TLSV1_2"}
        servers = [
            {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": tls, "hosts": [at.host]},
            {**plain, "tls": {"httpsRedirect": True}},
        ]
    return {
        "apiVersion": NETWORKING,
        "kind": "Gateway",
        "metadata": metadata(door_of(site), at.gateway_namespace, labels(stage, site, INGRESS, "gateway", None)),
        "spec": {"selector": {"istio": INGRESS}, "servers": servers},
    }
