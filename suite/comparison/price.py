"""What does a stage cost while it runs, and of how many parts does it consist?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.messaging import messaging
from stages.model import Kind, Stage


def price(document: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """Figures of one stage; None where nothing was measured."""
    return {
        "up_s": document.get("up_s"),
        "processes": document.get("processes"),
        "memory_mb": document.get("memory_mb"),
        "cpu_cores": document.get("cpu_cores"),
        "cpu_ms_per_order": document.get("cpu_ms_per_order"),
        "parts": parts(stage),
    }


def parts(stage: Stage) -> dict[str, Any]:
    """How many things there are to run, to watch and to understand, by kind; shared parts and gaps by name."""
    needed = messaging(stage)
    kinds = {f"{kind.value}s": sum(c.kind is kind for c in stage.channels) for kind in Kind}
    return {
        "services": len(stage.services),
        **kinds,
        "queues": len(needed.queues),
        "topics": len(needed.topics),
        "dead_letter_queues": len(needed.queues),
        "clusters": len(stage.clusters),
        **_mesh(stage),
        "shared": [part.name for part in stage.shared],
        "gaps": [gap.name for gap in stage.gaps],
    }


def _mesh(stage: Stage) -> dict[str, int]:
    """What stands beside the services: a sidecar each, a gateway and a control plane per cluster."""
    services, clusters = (len(stage.services), len(stage.clusters)) if stage.mesh is not None else (0, 0)
    return {"sidecars": services, "gateways": clusters, "control_planes": clusters}
