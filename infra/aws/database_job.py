"""Who makes the databases and users of a system's server? A Job in the cluster: nobody else can reach it. (pure)

ServiceAccount, ConfigMap (the script and what to make), NetworkPolicy, Job: the image is that of the workloads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from infra.aws import database_setup
from infra.aws.database import PORT
from infra.k8s import pods
from infra.k8s.names import labels, metadata, system_namespace
from infra.k8s.policies import part_policy, reach
from infra.k8s.site import Manifest, Reach, Site
from stages.model import Stage

SCRIPT = "database_setup.py"
APIS = Reach(ports=(443,))
"""Secrets Manager has no address that is known beforehand."""


def setup_name(system: str) -> str:
    """Of the Job's service account, and of the role it has.

    >>> setup_name("commerce")
    'commerce-database-setup'
    """
    return f"{system}-database-setup"


def setup_plan(region: str, address: str, secret: str, services: tuple[str, ...]) -> dict[str, Any]:
    """What `infra.aws.database_setup` reads."""
    return {"region": region, "host": address, "port": PORT, "secret": secret, "services": list(services)}


def job_objects(stage: Stage, site: Site, system: str, services: tuple[str, ...], plan: Any) -> tuple[Manifest, ...]:
    """Everything of one system's Job. `plan`: `setup_plan` as JSON, or an Output of it.

    A Job cannot be changed, so its name says for whom it works; a new address or secret are those of a new server, and
    Pulumi replaces the Job then.
    """
    name = setup_name(system)
    namespace = system_namespace(stage, site, system)
    script = Path(database_setup.__file__).read_text(encoding="utf-8")
    its_labels = labels(stage, site, name, "database", system)
    meta = metadata(name, namespace, its_labels)
    assert site.database is not None, "on AWS databases are given"
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {SCRIPT: script, "plan.json": plan}},
        part_policy(name, namespace, its_labels, site, [], [reach(r) for r in (site.database, APIS, *site.egress)]),
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata(_job_name(name, script, services, site), namespace, its_labels),
            "spec": {
                "backoffLimit": 6,
                "template": {
                    "metadata": {"labels": {**its_labels, "sidecar.istio.io/inject": "false"}},
                    "spec": _pod(name, site),
                },
            },
        },
    )


def _job_name(name: str, script: str, services: tuple[str, ...], site: Site) -> str:
    what = json.dumps([script, services, site.image])
    return f"{name}-{sha256(what.encode()).hexdigest()[:8]}"


def _pod(name: str, site: Site) -> Mapping[str, Any]:
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "OnFailure",
        "securityContext": pods.pod_security(),
        "containers": [
            {
                "name": "setup",
                "image": site.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", f"/setup/{SCRIPT}", "/setup/plan.json"],
                "resources": pods.resources("10m", "64Mi", "192Mi"),
                "securityContext": pods.container_security(),
                "volumeMounts": [
                    {"name": "setup", "mountPath": "/setup", "readOnly": True},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }
        ],
        "volumes": [{"name": "setup", "configMap": {"name": name}}, pods.tmp()],
    }
