"""How do users come into a mesh? By TLS to a load balancer, and from there to the mesh's gateway for users.

users -- 443 --> ALB (certificate of ACM) --> Ingress --> gateway == mTLS ==> services
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from infra.aws import in_cluster
from infra.aws.certificate import Certificate, certificate
from infra.aws.istio import INGRESS
from infra.aws.workloads import host_of, with_status
from infra.config import Options
from infra.k8s.names import LABEL
from infra.k8s.pulumi import register
from infra.k8s.site import Manifest


class Entry:
    """The way in to one cluster."""

    certificate: Certificate
    host: pulumi.Output[str]
    """Of the load balancer."""

    def __init__(
        self,
        cluster: str,
        options: Options,
        its_tags: Mapping[str, str],
        *,
        subnet_ids: Sequence[pulumi.Input[str]],
        provider: pulumi.ProviderResource,
        after: Sequence[pulumi.Resource],
        parent: pulumi.Resource,
    ) -> None:
        """`subnet_ids`: public ones; `after`: the gateway."""
        self.certificate = certificate(options, pulumi.ResourceOptions(parent=parent))
        prefix = f"{cluster}/"
        classes = register(
            in_cluster.ingress_class(self.certificate.arn, subnet_ids),
            provider,
            parent,
            prefix=prefix,
            depends_on=after,
        )
        made = register(
            [with_status(door(options, its_tags))], provider, parent, prefix=prefix, depends_on=list(classes.values())
        )
        (ingress,) = made.values()
        self.host = host_of(ingress)


def door(options: Options, its_tags: Mapping[str, str]) -> Manifest:
    """The Ingress before the mesh's gateway for users: TLS ends at the load balancer, mTLS begins at the gateway."""
    backend = {"service": {"name": INGRESS, "port": {"number": 80}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": INGRESS,
            "namespace": INGRESS,
            "labels": {f"{LABEL}/managed-by": "pulumi", "stage": options.stage, "system": its_tags["system"]},
            "annotations": {
                **in_cluster.ANNOTATIONS,
                "alb.ingress.kubernetes.io/healthcheck-port": "15021",
                "alb.ingress.kubernetes.io/healthcheck-path": "/healthz/ready",
            },
        },
        "spec": {
            "ingressClassName": in_cluster.INGRESS_CLASS,
            "tls": [{"hosts": [options.domain]}],
            "rules": [
                {
                    "host": options.domain,
                    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                }
            ],
        },
    }
