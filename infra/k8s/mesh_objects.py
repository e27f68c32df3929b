"""What are Istio's objects for a stage with a mesh? The same rules as the local target's Envoys have. (pure)"""

from __future__ import annotations

from infra.k8s.site import Manifest, Site
from stages.model import Stage


def mesh_objects(stage: Stage, cluster: str | None, site: Site) -> tuple[Manifest, ...]:
    """Istio's objects for one cluster of the model; None: for all systems in one Kubernetes cluster.

    Raise ValueError for a stage without a mesh.
    """
    if stage.mesh is None:
        raise ValueError(f"stage {stage.name!r} has no mesh")
    return ()
