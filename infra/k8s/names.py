"""What are things called on Kubernetes, and whose are they? Namespaces, hosts, labels. (pure)"""

from __future__ import annotations

from typing import Any

from infra.k8s.site import SecretRef, Site
from stages.mesh import STABLE
from stages.model import Stage

PORT = 8080
"""What every service listens on, and its Service too: sidecars and people see one number."""
LABEL = "app.kubernetes.io"
SHARED = "shared"
"""Ending of the namespace for what belongs to no system, in stage mesh."""
DNS = "svc.cluster.local"


def namespace_of(stage: Stage, site: Site, service: str) -> str:
    """Where a service lives: in a namespace per system once systems are separated."""
    return system_namespace(stage, site, stage.service(service).system)


def system_namespace(stage: Stage, site: Site, system: str) -> str:
    """Of a system's services; the one of all of them before stage mesh."""
    return f"{base_namespace(site)}-{system}" if stage.mesh else base_namespace(site)


def shared_namespace(stage: Stage, site: Site) -> str:
    """Of what no system owns."""
    return f"{base_namespace(site)}-{SHARED}" if stage.mesh else base_namespace(site)


def base_namespace(site: Site) -> str:
    return site.namespace or site.deployment


def host_of(stage: Stage, site: Site, service: str) -> str:
    """The full DNS name of a service: what a mesh's rules name it by, the same in every cluster."""
    return f"{service}.{namespace_of(stage, site, service)}.{DNS}"


def database_secret(service: str) -> SecretRef:
    """Where a service finds the URL of its database.

    >>> database_secret("orders")
    SecretRef(name='orders-database', key='url')
    """
    return SecretRef(name=f"{service}-database", key="url")


def owner_of(stage: Stage, site: Site, system: str) -> str:
    return stage.system(system).owner or site.owner


def labels(
    stage: Stage, site: Site, name: str, component: str, system: str | None, version: str | None = None
) -> dict[str, str]:
    """Labels of an object: the recommended ones, and whose it is."""
    owner = owner_of(stage, site, system) if system else site.owner
    return {
        **selector(site, name),
        f"{LABEL}/component": component,
        f"{LABEL}/part-of": "shop",
        f"{LABEL}/managed-by": "pulumi",
        **({f"{LABEL}/version": version} if version else {}),
        "stage": stage.name,
        "system": system or SHARED,
        "owner": label_value(owner),
    }


def service_labels(stage: Stage, site: Site, service: str, version: str = STABLE) -> dict[str, str]:
    """Labels of everything that is one service's."""
    return labels(stage, site, service, "service", stage.service(service).system, version)


def selector(site: Site, name: str, version: str | None = None) -> dict[str, str]:
    """What picks the pods of one part; it never changes, for selectors are immutable."""
    return {
        f"{LABEL}/name": name,
        f"{LABEL}/instance": site.deployment,
        **({"version": version} if version else {}),
    }


def label_value(text: str) -> str:
    """A text as labels can hold it: 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit.

    >>> label_value("Team Storefront <s@example.com>")
    'Team-Storefront-s-example.com'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in text)
    while "--" in kept:
        kept = kept.replace("--", "-")
    return kept[:63].strip("-_.")


def metadata(name: str, namespace: str | None, its_labels: dict[str, str], **more: Any) -> dict[str, Any]:
    """The `metadata` of a manifest."""
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "labels": its_labels, **more}
