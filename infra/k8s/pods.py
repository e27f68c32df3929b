"""What does every pod of ours have in common? The least privilege it can run with, and where it may be put. (pure)"""

from __future__ import annotations

from typing import Any

USER = 10001
"""Nobody in particular: no image of ours knows this user, none needs to."""
TMP_SIZE = "64Mi"


def pod_security(user: int = USER) -> dict[str, Any]:
    """Pod Security Standard 'restricted', and the files of volumes belong to the user."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


_WHO = ("runAsNonRoot", "runAsUser", "runAsGroup")


def open_pod_security() -> dict[str, Any]:
    """Of a pod that says nothing of who its containers are: one that is added later may be root."""
    return {key: value for key, value in pod_security().items() if key not in _WHO}


def open_container_security() -> dict[str, Any]:
    """Of a container in such a pod: nobody in particular and without privilege as before, but its root file system can
    be written to, as far as its user may."""
    own = {key: value for key, value in pod_security().items() if key in _WHO}
    return {**own, **container_security(), "readOnlyRootFilesystem": False}


def resources(cpu: str, memory: str, memory_limit: str) -> dict[str, Any]:
    """Requests, and a limit of memory only: a limit of processor time throttles a pod on an idle node."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory_limit}}


def http_get(path: str, port: str | int = "http") -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": port}}


def tmp(name: str = "tmp") -> dict[str, Any]:
    """The only place that may be written to, beside volumes."""
    return {"name": name, "emptyDir": {"sizeLimit": TMP_SIZE}}


def spread(matching: dict[str, str]) -> list[dict[str, Any]]:
    """Over zones, then nodes.

    As far as it goes: a cluster whose nodes name no zone, and a zone that is lost, shall not leave pods pending.
    """
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": matching},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def disruption_budget(meta: dict[str, Any], matching: dict[str, str]) -> dict[str, Any]:
    """Nodes are emptied one pod at a time; pods that are broken anyway do not stop them."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta,
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": matching},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
