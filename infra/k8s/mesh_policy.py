"""Who may call whom, by identity? Istio's security objects: mutual TLS always, denied unless an edge allows. (pure)

An identity is what Istio makes of a pod's namespace and ServiceAccount: 'spiffe://shop/ns/shop-commerce/sa/orders' is
'spiffe://shop/commerce/orders' of the model. The edges are the model's (`stages.mesh.allowed`).
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.k8s.ingress import entries
from infra.k8s.names import PORT, labels, metadata, namespace_of, selector, service_labels
from infra.k8s.site import Manifest, Site
from stages.mesh import allowed
from stages.model import Stage

SECURITY = "security.istio.io/v1"
INGRESS_GATEWAY = "istio-ingress"
"""Helm release, and so ServiceAccount, of the gateway through which users come in."""


def principal(stage: Stage, site: Site, service: str) -> str:
    """What rules call a service."""
    return _principal(stage, site, namespace_of(stage, site, service), service)


def strict(stage: Stage, site: Site, namespace: str, system: str | None) -> Manifest:
    """Sidecars take nothing but mutual TLS."""
    its_labels = labels(stage, site, "default", "policy", system)
    return {
        "apiVersion": SECURITY,
        "kind": "PeerAuthentication",
        "metadata": metadata("default", namespace, its_labels),
        "spec": {"mtls": {"mode": "STRICT"}},
    }


def deny_all(stage: Stage, site: Site, namespace: str, system: str | None) -> Manifest:
    """A policy without rules allows nothing: what no other policy allows is denied."""
    its_labels = labels(stage, site, "deny-all", "policy", system)
    return {
        "apiVersion": SECURITY,
        "kind": "AuthorizationPolicy",
        "metadata": metadata("deny-all", namespace, its_labels),
        "spec": {},
    }


def authorizations(stage: Stage, site: Site, service: str) -> Iterator[Manifest]:
    """The callers of a service, and users where they enter; nothing for a service that nobody calls."""
    callers = sorted(principal(stage, site, caller) for caller, callee in allowed(stage) if callee == service)
    if callers:
        yield _allow(stage, site, service, service, callers)
    if service in entries(stage) and site.ingress is not None:
        gateway = _principal(stage, site, site.ingress.gateway_namespace, INGRESS_GATEWAY)
        yield _allow(stage, site, service, f"{service}-users", [gateway])


def _allow(stage: Stage, site: Site, service: str, name: str, principals: list[str]) -> Manifest:
    return {
        "apiVersion": SECURITY,
        "kind": "AuthorizationPolicy",
        "metadata": metadata(name, namespace_of(stage, site, service), service_labels(stage, site, service)),
        "spec": {
            "selector": {"matchLabels": selector(site, service)},
            "action": "ALLOW",
            "rules": [
                {
                    "from": [{"source": {"principals": principals}}],
                    "to": [{"operation": {"ports": [str(PORT)]}}],
                }
            ],
        },
    }


def _principal(stage: Stage, site: Site, namespace: str, account: str) -> str:
    assert stage.mesh is not None
    return f"{site.trust_domain or stage.mesh.trust_domain}/ns/{namespace}/sa/{account}"
