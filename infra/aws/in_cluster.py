"""What is AWS's in the stage's Kubernetes? Objects that EKS Auto Mode reads, and the site that a stage finds. (pure)

IngressClass "alb" -> IngressClassParams     TLS by a certificate of ACM, open to the internet
ConfigMap "amazon-vpc-cni"                   network policies are enforced; without it they are ignored
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.aws.database import PORT as DATABASE_PORT
from infra.aws.kafka import PORT as KAFKA_PORT
from infra.aws.sizing import Sizing
from infra.aws.telemetry import collector
from infra.config import Options
from infra.k8s.names import LABEL
from infra.k8s.site import BrokerAt, IngressAt, Manifest, Reach, Site

INGRESS_CLASS = "alb"
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
"""TLS 1.2 with forward secrecy, and 1.3."""

POD_IDENTITY_AGENT = Reach(cidrs=("169.254.170.23/32",), ports=(80,))
"""Where the SDK gets the credentials of its role (EKS User Guide, 'Pod Identity agent')."""

ANNOTATIONS = {
    "alb.ingress.kubernetes.io/target-type": "ip",
    "alb.ingress.kubernetes.io/healthcheck-path": "/ready",
    "alb.ingress.kubernetes.io/healthcheck-interval-seconds": "5",
    "alb.ingress.kubernetes.io/healthy-threshold-count": "2",
    "alb.ingress.kubernetes.io/target-group-attributes": "deregistration_delay.timeout_seconds=10",
    "alb.ingress.kubernetes.io/listen-ports": '[{"HTTP": 80}, {"HTTPS": 443}]',
    "alb.ingress.kubernetes.io/ssl-redirect": "443",
}
"""Port 80 answers with a redirect, nothing else."""


def site(
    options: Options,
    sizing: Sizing,
    cluster: str,
    *,
    env: Mapping[str, Mapping[str, Any]],
    public_cidrs: tuple[str, ...],
    intra_cidrs: tuple[str, ...],
    network: str,
) -> Site:
    """What a stage finds on AWS: users come from load balancers in public subnets, records lie in those without a way
    out."""
    assert options.image is not None, "infra.config asks for it on AWS"
    apis = Reach(cidrs=(network,)) if sizing.interface_endpoints else Reach()
    broker = apis if options.broker == "sqs" else Reach(cidrs=intra_cidrs, ports=(KAFKA_PORT,))
    host = options.domain
    return Site(
        deployment=options.name,
        image=options.image,
        owner=options.owner,
        env=env,
        broker=BrokerAt(region=options.region, prefix=f"{options.name}-", reach=broker),
        database=Reach(cidrs=intra_cidrs, ports=(DATABASE_PORT,)),
        ingress=IngressAt(host=host, class_name=INGRESS_CLASS, annotations=ANNOTATIONS, from_cidrs=public_cidrs)
        if host
        else None,
        collector=collector(options, cluster, POD_IDENTITY_AGENT),
        egress=(POD_IDENTITY_AGENT,),
        replicas=sizing.replicas,
    )


def ingress_class(certificate: Any, subnets: Sequence[Any]) -> tuple[Manifest, ...]:
    """How load balancers are made. `certificate`: an ARN or an Output of it; `subnets`: ids of the public ones.

    Without tags of ours: AWS's managed policies refuse them to Auto Mode, and the policy that would allow them is a
    wide one. Whose a load balancer is, is told by AWS's own tag 'eks:eks-cluster-name'.
    """
    meta = {"name": INGRESS_CLASS, "labels": {f"{LABEL}/managed-by": "pulumi"}}
    return (
        {
            "apiVersion": "eks.amazonaws.com/v1",
            "kind": "IngressClassParams",
            "metadata": meta,
            "spec": {
                "scheme": "internet-facing",
                "ipAddressType": "ipv4",
                "certificateARNs": [certificate],
                "sslPolicy": TLS_POLICY,
                "subnets": {"ids": list(subnets)},
                "loadBalancerAttributes": [
                    {"key": "routing.http.drop_invalid_header_fields.enabled", "value": "true"},
                    {"key": "routing.http.desync_mitigation_mode", "value": "defensive"},
                ],
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": meta,
            "spec": {
                "controller": "eks.amazonaws.com/alb",
                "parameters": {
                    "apiGroup": "eks.amazonaws.com",
                    "kind": "IngressClassParams",
                    "name": INGRESS_CLASS,
                    "scope": "Cluster",
                },
            },
        },
    )


def network_policies_on() -> Manifest:
    """The switch of Auto Mode's controller (EKS User Guide, 'Use Network Policies with EKS Auto Mode')."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "amazon-vpc-cni",
            "namespace": "kube-system",
            "labels": {f"{LABEL}/managed-by": "pulumi"},
        },
        "data": {"enable-network-policy-controller": "true"},
    }


def load_balancer_name(host: str) -> str:
    """The name in a load balancer's address, behind which AWS puts a number.

    >>> load_balancer_name("k8s-shop-storefro-1f2e3d4c5b-1234567890.us-east-1.elb.amazonaws.com")
    'k8s-shop-storefro-1f2e3d4c5b'
    """
    return host.partition(".")[0].removeprefix("internal-").rpartition("-")[0]
