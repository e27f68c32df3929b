"""How do users come in, before there is a mesh? One Ingress for the entry services, never without TLS. (pure)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.k8s.names import metadata, namespace_of, service_labels
from infra.k8s.site import Manifest, Site
from stages.model import Stage


def ingress_objects(stage: Stage, site: Site) -> Iterator[Manifest]:
    """Nothing without a host, and in stage mesh, where users come in through the mesh's own gateway."""
    if site.ingress is None or stage.mesh:
        return
    at = site.ingress
    for entry in entries(stage):
        backend = {"service": {"name": entry, "port": {"name": "http"}}}
        tls: dict[str, Any] = {"hosts": [at.host], **({"secretName": at.tls_secret} if at.tls_secret else {})}
        annotations = {"annotations": dict(at.annotations)} if at.annotations else {}
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata(
                entry, namespace_of(stage, site, entry), service_labels(stage, site, entry), **annotations
            ),
            "spec": {
                **({"ingressClassName": at.class_name} if at.class_name else {}),
                "tls": [tls],
                "rules": [
                    {"host": at.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
                ],
            },
        }


def entries(stage: Stage) -> tuple[str, ...]:
    """Services that users speak to, by name."""
    return tuple(sorted({operation.entry for operation in stage.operations}))
