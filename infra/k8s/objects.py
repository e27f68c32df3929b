"""Which Kubernetes objects does a stage consist of? Manifests in an order in which they may be applied. (pure)"""

from __future__ import annotations

from infra.k8s.site import Manifest, Site
from stages.model import Stage


def objects(stage: Stage, site: Site, cluster: str | None = None) -> tuple[Manifest, ...]:
    """Everything but the secrets, which are the caller's, and the mesh's rules (`infra.k8s.mesh_objects`).

    `cluster`: only what belongs into this cluster of the model; None: everything, in one Kubernetes cluster.
    """
    return ()
