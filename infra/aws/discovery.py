"""Under which name does a system answer to callers that are not in the mesh? Cloud Map, as the boundary of a system.

    fulfilment.shop.internal   ->  CNAME of the load balancer of fulfilment's east-west gateway

The namespace is the backbone's; each system registers itself. Inside a cluster Kubernetes' own DNS answers, and
between clusters istiod, which reads endpoints from the other cluster's API server: neither asks Cloud Map. What is
registered is the gateway's name, not pods: it stays as long as the system does, whatever becomes of its load balancer.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi_aws import ec2, route53, servicediscovery

ANCHOR = "10.255.255.0/28"
"""A private namespace belongs to a VPC from the first day, and the backbone has no cluster: it has a VPC with nothing
in it, no subnet, no way in or out. It costs nothing and is never routed."""

TTL_S = 30
"""How long a caller may go on with an old answer, seconds."""


def namespace_of(deployment: str) -> str:
    """Domain of a deployment's namespace.

    >>> namespace_of("shop")
    'shop.internal'
    """
    return f"{deployment}.internal"


class Namespace(pulumi.ComponentResource):
    """The private namespace of a deployment."""

    id: pulumi.Output[str]
    zone_id: pulumi.Output[str]
    account: pulumi.Output[str]
    """Whose all this is: what a VPC says of its owner."""

    def __init__(self, deployment: str, tags: Mapping[str, str], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("stages:aws:Namespace", "discovery", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        anchor = ec2.Vpc(
            "anchor",
            cidr_block=ANCHOR,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={**tags, "Name": f"{deployment}-anchor"},
            opts=below,
        )
        ec2.DefaultSecurityGroup(
            "anchor",
            vpc_id=anchor.id,
            ingress=[],
            egress=[],
            tags={**tags, "Name": f"{deployment}-anchor"},
            opts=below,
        )
        made = servicediscovery.PrivateDnsNamespace(
            "discovery",
            name=namespace_of(deployment),
            description=f"Systems of {deployment}, for callers outside the mesh",
            vpc=anchor.id,
            tags=dict(tags),
            opts=below,
        )
        self.id, self.zone_id, self.account = made.id, made.hosted_zone, anchor.owner_id
        self.register_outputs({"id": made.id, "zone_id": made.hosted_zone})


class Registration(pulumi.ComponentResource):
    """One system's name, and its network's view of everybody's."""

    def __init__(
        self,
        cluster: str,
        *,
        namespace_id: pulumi.Input[str],
        zone_id: pulumi.Input[str],
        vpc_id: pulumi.Input[str],
        host: pulumi.Input[str],
        tags: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`host`: DNS name of the gateway's load balancer."""
        super().__init__("stages:aws:Registration", f"{cluster}-registration", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        route53.ZoneAssociation(f"{cluster}-discovery", zone_id=zone_id, vpc_id=vpc_id, opts=below)
        service = servicediscovery.Service(
            cluster,
            name=cluster,
            namespace_id=namespace_id,
            description=f"East-west gateway of {cluster}",
            dns_config={
                "namespace_id": namespace_id,
                "routing_policy": "WEIGHTED",
                "dns_records": [{"type": "CNAME", "ttl": TTL_S}],
            },
            tags=dict(tags),
            opts=below,
        )
        servicediscovery.Instance(
            cluster,
            instance_id="gateway",
            service_id=service.id,
            attributes={"AWS_INSTANCE_CNAME": host, "port": "15443"},
            opts=below,
        )
        self.register_outputs({})
