"""What does one service consist of? ServiceAccount, Deployment, Service, autoscaler, disruption budget. (pure)

    pod    pre-stop pause -> SIGTERM -> /ready is 503, answers close their connections -> listener closed -> exit
           PRE_STOP_S                   DRAIN_S                                           LAST_REQUESTS_S

so that a rolling update, a scale-in or an emptied node loses no request: by the time the listener closes, nobody is
sent here any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from infra.k8s import pods
from infra.k8s.environment import DRAIN_S, environment
from infra.k8s.names import PORT, metadata, namespace_of, selector, service_labels
from infra.k8s.site import Manifest, Site
from stages.mesh import CANARY, STABLE
from stages.model import Stage

MODULE = "workloads.services"
PRE_STOP_S = 15
"""Until everybody who sends has heard that the pod is going: nodes take a second or two, a load balancer outside of the
cluster some ten."""
LAST_REQUESTS_S = 5
"""What `workloads.server` leaves requests under way after its listener has closed."""
MARGIN_S = 5
"""For messages in hand, spans, and a busy node."""
GRACE_S = PRE_STOP_S + math.ceil(DRAIN_S) + LAST_REQUESTS_S + MARGIN_S

PROBE_TIMEOUT_S = 2
STARTUP_FAILURES = 30
"""Times 2 s, until the process answers at all; for its database it waits as long as it takes, alive but not ready."""
CPU_TARGET_PERCENT = 70
SCALE_IN_WAIT_S = 300


def service_objects(stage: Stage, site: Site, service: str) -> Iterator[Manifest]:
    """All objects of one service but its network policies."""
    yield _account(stage, site, service)
    yield _deployment(stage, site, service, STABLE, site.image)
    if canary := site.canaries.get(service):
        yield _deployment(stage, site, service, CANARY, canary.image)
    yield service_object(stage, site, service)
    yield _autoscaler(stage, site, service)
    yield pods.disruption_budget(_meta(stage, site, service), selector(site, service))


def service_object(stage: Stage, site: Site, service: str, *, elsewhere: bool = False) -> Manifest:
    """The Service. `elsewhere`: its pods run in another cluster; this one is here for its name."""
    # nothing to wait for: pods of this cluster will never answer to it
    more = {"annotations": {"pulumi.com/skipAwait": "true"}} if elsewhere else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(stage, site, service, **more),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(site, service),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}],
        },
    }


def deployment_name(service: str, version: str) -> str:
    """
    >>> deployment_name("orders", "v1"), deployment_name("orders", "v2")
    ('orders', 'orders-v2')
    """
    return service if version == STABLE else f"{service}-{version}"


def _meta(stage: Stage, site: Site, service: str, **more: Any) -> dict[str, Any]:
    return metadata(service, namespace_of(stage, site, service), service_labels(stage, site, service), **more)


def _account(stage: Stage, site: Site, service: str) -> Manifest:
    annotations = dict(site.service_accounts.get(service, {}))
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _meta(stage, site, service, **({"annotations": annotations} if annotations else {})),
        "automountServiceAccountToken": False,
    }


def _deployment(stage: Stage, site: Site, service: str, version: str, image: str) -> Manifest:
    """`replicas` is the autoscaler's business, so it is left out for the first version; a canary has one pod."""
    picked = selector(site, service, version)
    its_labels = service_labels(stage, site, service, version)
    name = deployment_name(service, version)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, namespace_of(stage, site, service), its_labels),
        "spec": {
            **({} if version == STABLE else {"replicas": 1}),
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": picked},
            "template": {
                "metadata": {
                    "labels": {**its_labels, "version": version},
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(PORT),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": {
                    "serviceAccountName": service,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": GRACE_S,
                    "securityContext": pods.open_pod_security() if service in site.let_in else pods.pod_security(),
                    "topologySpreadConstraints": pods.spread(picked),
                    # full names are asked for as they are, not first with each of the search domains
                    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
                    "containers": [_container(stage, site, service, version, image)],
                    "volumes": [pods.tmp()],
                },
            },
        },
    }


def _container(stage: Stage, site: Site, service: str, version: str, image: str) -> dict[str, Any]:
    return {
        "name": service,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", MODULE],
        "args": [service],
        "env": environment(stage, site, service, version),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # /ready is 503 until the database can be used; /live never looks at it, so a lost database restarts nobody
        "startupProbe": _probe("/live", 2, STARTUP_FAILURES),
        "readinessProbe": _probe("/ready", 2, 2),
        "livenessProbe": _probe("/live", 5, 3),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
        "resources": pods.resources("100m", "160Mi", "320Mi"),
        "securityContext": pods.open_container_security() if service in site.let_in else pods.container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _probe(path: str, period_s: int, failures: int) -> dict[str, Any]:
    return {
        **pods.http_get(path),
        "periodSeconds": period_s,
        "timeoutSeconds": PROBE_TIMEOUT_S,
        "failureThreshold": failures,
    }


def _autoscaler(stage: Stage, site: Site, service: str) -> Manifest:
    least, most = site.replicas
    utilization = {"type": "Utilization", "averageUtilization": CPU_TARGET_PERCENT}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(stage, site, service),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": SCALE_IN_WAIT_S}},
        },
    }
