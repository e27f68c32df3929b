"""Where do spans and metrics of a namespace go? To a collector, which services send to and which asks them. (pure)

service -- OTLP/HTTP spans --> collector <-- /metrics, now and then -- service's pods
                               collector --> exporters of the site (its own log, unless others are given)

Nothing may be named that is not there: the collector refuses to start with a pipeline of unknown parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from infra.k8s import pods
from infra.k8s.environment import COLLECTOR, OTLP_PORT
from infra.k8s.names import LABEL, PORT, labels, metadata, selector
from infra.k8s.policies import ANY_API_PORTS, MERGED_METRICS_PORT, all_services, of, part_policy, pods_of, reach, to
from infra.k8s.site import ANYWHERE, Manifest, Site
from stages.model import Stage

HEALTH_PORT = 13133
LABEL_PREFIX = "__meta_kubernetes_pod_label_"


def collector_objects(stage: Stage, site: Site, namespace: str, system: str | None) -> Iterator[Manifest]:
    """Everything of one namespace's collector."""
    its_labels = labels(stage, site, COLLECTOR, "telemetry", system)
    meta = metadata(COLLECTOR, namespace, its_labels)
    configuration = collector_configuration(stage, site)
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False}
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": meta,
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
    }
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": COLLECTOR},
        "subjects": [{"kind": "ServiceAccount", "name": COLLECTOR, "namespace": namespace}],
    }
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"config.yaml": configuration}}
    yield _deployment(site, meta, its_labels, configuration)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "type": "ClusterIP",
            "selector": selector(site, COLLECTOR),
            "ports": [{"name": "http-otlp", "port": OTLP_PORT, "targetPort": "otlp", "protocol": "TCP"}],
        },
    }
    yield pods.disruption_budget(meta, selector(site, COLLECTOR))
    services = [pods_of(namespace, all_services(site))]
    egress = [to(services, _metrics_port(stage)), to([{"ipBlock": {"cidr": ANYWHERE}}], *ANY_API_PORTS)]
    egress += [reach(where) for where in site.collector.reach]
    yield part_policy(COLLECTOR, namespace, its_labels, site, [of(services, OTLP_PORT)], egress)


def collector_configuration(stage: Stage, site: Site) -> str:
    """config.yaml, as JSON: every JSON text is YAML too."""
    to = site.collector
    processors = ["memory_limiter", "batch"]
    return json.dumps(
        {
            "receivers": {
                "otlp": {"protocols": {"http": {"endpoint": f"0.0.0.0:{OTLP_PORT}"}}},
                "prometheus": {"config": {"scrape_configs": [_scraping(stage, site)]}},
            },
            "processors": {
                "memory_limiter": {"check_interval": "1s", "limit_percentage": 80, "spike_limit_percentage": 20},
                "batch": {},
            },
            "exporters": {**to.traces, **to.metrics},
            "extensions": {"health_check": {"endpoint": f"0.0.0.0:{HEALTH_PORT}"}},
            "service": {
                "extensions": ["health_check"],
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "processors": processors, "exporters": list(to.traces)},
                    "metrics": {"receivers": ["prometheus"], "processors": processors, "exporters": list(to.metrics)},
                },
            },
        },
        indent=2,
    )


def _scraping(stage: Stage, site: Site) -> dict[str, Any]:
    """Every pod of a service, by its address: a Service would answer for one of them."""

    def pod_label(name: str) -> str:
        return LABEL_PREFIX + name.replace(".", "_").replace("/", "_")

    return {
        "job_name": "services",
        "scrape_interval": site.collector.scrape_interval,
        "metrics_path": "/stats/prometheus" if stage.mesh else "/metrics",
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"own_namespace": True}}],
        "relabel_configs": [
            {"source_labels": [pod_label(f"{LABEL}/instance")], "regex": site.deployment, "action": "keep"},
            {"source_labels": [pod_label(f"{LABEL}/component")], "regex": "service", "action": "keep"},
            {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "http", "action": "keep"},
            {
                "source_labels": ["__meta_kubernetes_pod_ip"],
                "target_label": "__address__",
                "replacement": f"$$1:{_metrics_port(stage)}",  # a single $ would be an environment variable
            },
            {"source_labels": [pod_label(f"{LABEL}/name")], "target_label": "service"},
            {"source_labels": [pod_label("version")], "target_label": "version"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
        "metric_relabel_configs": [
            {"source_labels": ["__name__"], "regex": site.collector.metric_names, "action": "keep"}
        ],
    }


def _metrics_port(stage: Stage) -> int:
    return MERGED_METRICS_PORT if stage.mesh else PORT


def _deployment(site: Site, meta: dict[str, Any], its_labels: dict[str, str], configuration: str) -> Manifest:
    picked = selector(site, COLLECTOR)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": picked},
            "template": {
                "metadata": {
                    # no sidecar: it asks the metrics ports, which are no part of the mesh
                    "labels": {**its_labels, "sidecar.istio.io/inject": "false"},
                    "annotations": {"checksum/config": sha256(configuration.encode()).hexdigest()[:16]},
                },
                "spec": {
                    "serviceAccountName": COLLECTOR,
                    "automountServiceAccountToken": True,
                    "enableServiceLinks": False,
                    "securityContext": pods.pod_security(),
                    "topologySpreadConstraints": pods.spread(picked),
                    "containers": [_container(site)],
                    "volumes": [{"name": "config", "configMap": {"name": COLLECTOR}}],
                },
            },
        },
    }


def _container(site: Site) -> dict[str, Any]:
    probe = {**pods.http_get("/", "health"), "periodSeconds": 5, "timeoutSeconds": 2}
    return {
        "name": "collector",
        "image": site.collector.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--config=/etc/otelcol/config.yaml"],
        "ports": [
            {"name": "otlp", "containerPort": OTLP_PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": probe,
        "livenessProbe": {**probe, "failureThreshold": 6},
        "resources": pods.resources("50m", "128Mi", "256Mi"),
        "securityContext": pods.container_security(),
        "volumeMounts": [{"name": "config", "mountPath": "/etc/otelcol", "readOnly": True}],
    }
