"""What is installed of Istio in a cluster, and with which values? Multi-primary on multiple networks, by Helm.

    base      definitions
    istiod    a control plane per cluster: it serves its own sidecars, and reads endpoints of those whom they call
    gateway   istio-eastwestgateway: in from other clusters on 15443, TLS passed through by server name
    gateway   istio-ingress: in from users, where the stage has an entry

The loss of a cluster takes its control plane and nobody else's. Values are pure functions of the stage: what differs
from the charts' own defaults is all here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import Namespace, Service
from pulumi_kubernetes.helm.v3 import Release

from infra.aws.versions import BASE, GATEWAY, ISTIOD, Chart
from infra.k8s.names import LABEL
from stages.model import Stage

SYSTEM = "istio-system"
EAST_WEST = "istio-eastwestgateway"
INGRESS = "istio-ingress"
"""Release of the gateway for users, and its namespace: apart from the control plane, since its address is public."""
NETWORK_LABEL = "topology.istio.io/network"
LOAD_BALANCER = "eks.amazonaws.com/nlb"
"""Class of Auto Mode's own network load balancers."""

CERTIFICATE_TTL = "24h"
"""Of a sidecar. The model's ten minutes let a run see certificates end; here half of the life is how long a control
plane may be away before calls fail."""

MESH_ID = "shop"
REPLICAS = (2, 5)
"""Fewest and most pods of istiod and of a gateway."""

NAMELESS = {"matchExpressions": [{"key": f"{LABEL}/name", "operator": "DoesNotExist"}]}
"""Selects pods that are not the shop's."""

_LIMITS = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


def network_of(cluster: str) -> str:
    """Istio's name for the network of a cluster.

    >>> network_of("commerce")
    'commerce-network'
    """
    return f"{cluster}-network"


def istiod_values(stage: Stage, cluster: str) -> dict[str, Any]:
    """Values of the control plane. Raise ValueError for a stage without a mesh."""
    if stage.mesh is None:
        raise ValueError(f"stage {stage.name!r} has no mesh")
    fewest, most = REPLICAS
    return {
        "global": {
            "meshID": MESH_ID,
            "multiCluster": {"clusterName": cluster},
            "network": network_of(cluster),
        },
        "meshConfig": {
            "trustDomain": stage.mesh.trust_domain,
            "enableAutoMtls": True,
            "pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"},
            "accessLogFile": "/dev/stdout",
            "accessLogEncoding": "JSON",
            "defaultConfig": {
                "holdApplicationUntilProxyStarts": True,
                "terminationDrainDuration": "20s",
                "proxyMetadata": {"SECRET_TTL": CERTIFICATE_TTL},
            },
        },
        "autoscaleMin": fewest,
        "autoscaleMax": most,
        "env": {
            "ENABLE_NATIVE_SIDECARS": "true",
            "AUTO_RELOAD_PLUGIN_CERTS": "true",
            "DEFAULT_WORKLOAD_CERT_TTL": CERTIFICATE_TTL,
            "MAX_WORKLOAD_CERT_TTL": CERTIFICATE_TTL,
        },
        # Pods of ours have a name. What has none, such as a pod of FIS, could not reach istiod and would wait for it.
        "sidecarInjectorWebhook": {"neverInjectSelector": [NAMELESS]},
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "topologySpreadConstraints": _spread({"app": "istiod"}),
    }


def gateway_values(cluster: str, security_group: Any) -> dict[str, Any]:
    """Values of the east-west gateway; `security_group` may be known later.

    The load balancer has no tags of ours: AWS's managed policies refuse them to Auto Mode.
    """
    return {
        **_pods(EAST_WEST),
        "networkGateway": network_of(cluster),
        "service": {
            "type": "LoadBalancer",
            "loadBalancerClass": LOAD_BALANCER,
            # `networkGateway` also makes listeners for 15012 and 15017; the security group lets nobody speak to them.
            "annotations": {
                "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
                "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip",
                "service.beta.kubernetes.io/aws-load-balancer-security-groups": security_group,
                "service.beta.kubernetes.io/aws-load-balancer-manage-backend-security-group-rules": "true",
                "service.beta.kubernetes.io/aws-load-balancer-healthcheck-port": "15021",
                "service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol": "http",
                "service.beta.kubernetes.io/aws-load-balancer-healthcheck-path": "/healthz/ready",
                "service.beta.kubernetes.io/aws-load-balancer-attributes": "load_balancing.cross_zone.enabled=true",
            },
        },
    }


def ingress_values() -> dict[str, Any]:
    """Values of the gateway for users: the load balancer in front of it is an Ingress, so a ClusterIP will do."""
    return {
        **_pods(INGRESS),
        "service": {"type": "ClusterIP", "ports": [_port("http2", 80), _port("status-port", 15021)]},
    }


def enters(stage: Stage, cluster: str) -> bool:
    """Whether users come in here."""
    return any(stage.cluster_of(operation.entry) == cluster for operation in stage.operations)


def _pods(name: str) -> dict[str, Any]:
    fewest, most = REPLICAS
    return {
        "name": name,
        "autoscaling": {"enabled": True, "minReplicas": fewest, "maxReplicas": most},
        "podDisruptionBudget": {"minAvailable": 1},
        "resources": _LIMITS,
        "topologySpreadConstraints": _spread({"app": name}),
    }


def _port(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "port": number, "targetPort": number, "protocol": "TCP"}


def _spread(labels: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(labels)},
        }
    ]


def system_namespace(cluster: str, provider: pulumi.ProviderResource, parent: pulumi.Resource) -> Namespace:
    """istio-system, which says in which network all of it is; before anything that lives there."""
    return Namespace(
        f"{cluster}-{SYSTEM}",
        metadata={"name": SYSTEM, "labels": {NETWORK_LABEL: network_of(cluster)}},
        opts=pulumi.ResourceOptions(parent=parent, provider=provider),
    )


class Istio(pulumi.ComponentResource):
    """Control plane and gateways of one cluster."""

    gateway_host: pulumi.Output[str]
    """DNS name of the load balancer in front of the east-west gateway."""

    def __init__(
        self,
        cluster: str,
        stage: Stage,
        *,
        namespace: pulumi.Resource,
        trust: pulumi.Resource,
        gateway_group: pulumi.Input[str],
        provider: pulumi.ProviderResource,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`trust`: what makes the intermediate; no control plane starts before it."""
        super().__init__("stages:aws:Istio", f"{cluster}-istio", None, opts)
        self._cluster, self._inside = cluster, provider
        base = self._release("base", BASE, {"defaultRevision": "default"}, [namespace])
        self.istiod = self._release("istiod", ISTIOD, istiod_values(stage, cluster), [base, trust])
        gateway = self._release(EAST_WEST, GATEWAY, gateway_values(cluster, gateway_group), [self.istiod])
        self.parts: list[pulumi.Resource] = [self.istiod, gateway]
        if enters(stage, cluster):
            place = Namespace(
                f"{cluster}-{INGRESS}",
                metadata={"name": INGRESS, "labels": {"pod-security.kubernetes.io/enforce": "baseline"}},
                opts=pulumi.ResourceOptions(parent=self, provider=provider),
            )
            self.parts.append(self._release(INGRESS, GATEWAY, ingress_values(), [self.istiod, place], INGRESS))
        service = Service.get(
            f"{cluster}-{EAST_WEST}",
            gateway.status.apply(lambda _status: f"{SYSTEM}/{EAST_WEST}"),
            opts=pulumi.ResourceOptions(parent=self, provider=provider),
        )
        self.gateway_host = service.status.apply(_host)
        self.register_outputs({"gateway_host": self.gateway_host})

    def _release(
        self, name: str, chart: Chart, values: dict[str, Any], after: list[pulumi.Resource], namespace: str = SYSTEM
    ) -> Release:
        return Release(
            f"{self._cluster}-{name}",
            name=name,
            namespace=namespace,
            chart=chart.name,
            version=chart.version,
            repository_opts={"repo": chart.repository},
            values=values,
            atomic=True,  # a release that does not become ready is taken back: the next `up` begins from what worked
            timeout=600,
            opts=pulumi.ResourceOptions(parent=self, provider=self._inside, depends_on=after),
        )


def _host(status: Any) -> str:
    """The address that the cloud gave to a Service of type LoadBalancer; '' as long as it has none."""
    balancer = status.load_balancer if status is not None else None
    return str(balancer.ingress[0].hostname or "") if balancer is not None and balancer.ingress else ""
