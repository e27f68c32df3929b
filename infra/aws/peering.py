"""Who may reach whom between clusters, over which port, and by which way?

    commerce's VPC --attachment--> (transit gateway) <--attachment-- fulfilment's VPC
        10.1.0.0/16                                       10.2.0.0/16

A transit gateway rather than peerings: every system's stack holds its own attachment and routes, and nothing of anybody
else's. A peering belongs to two VPCs, so six of them would tie four states together; a fifth system would need four
more. The price is an hourly fee per attachment and a fee per gigabyte.

Routes lead to every other network. What may pass is said by security groups, and follows from the model's edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2, ec2transitgateway, vpc

from stages.mesh import calls
from stages.model import Cluster, Stage

GATEWAY_PORT = 15443
"""mTLS between clusters, passed through by server name. The east-west gateway's other two, 15012 and 15017, serve
clusters that have no control plane of their own; here each has one, so both stay closed."""

HEALTH_PORT = 15021
"""Where a gateway's pod says that it is ready."""

API_PORT = 443
"""A control plane reads the endpoints of those whom its services call from their cluster's API server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A port that a network may reach."""

    cluster: str
    """Whose network it is."""
    cidr: str
    port: int
    why: str


def others(stage: Stage, cluster: str) -> tuple[Cluster, ...]:
    """All clusters but one, in the stage's order."""
    return tuple(c for c in stage.clusters if c.name != cluster)


def callers(stage: Stage, cluster: str) -> tuple[Cluster, ...]:
    """Other clusters whose services call services here."""
    return tuple(c for c in others(stage, cluster) if _calls(stage, c.name, cluster))


def callees(stage: Stage, cluster: str) -> tuple[Cluster, ...]:
    """Other clusters whose services are called from here."""
    return tuple(c for c in others(stage, cluster) if _calls(stage, cluster, c.name))


def gateway_openings(stage: Stage, cluster: str) -> tuple[Opening, ...]:
    """What the east-west gateway of a cluster takes."""
    return tuple(
        Opening(cluster=c.name, cidr=c.network, port=GATEWAY_PORT, why=f"calls from {c.name}")
        for c in callers(stage, cluster)
    )


def api_openings(stage: Stage, cluster: str) -> tuple[Opening, ...]:
    """What the API server of a cluster takes from other clusters."""
    return tuple(
        Opening(
            cluster=c.name, cidr=c.network, port=API_PORT, why=f"endpoint discovery by the control plane of {c.name}"
        )
        for c in callers(stage, cluster)
    )


def _calls(stage: Stage, caller: str, callee: str) -> bool:
    return any(stage.cluster_of(c.caller) == caller and stage.cluster_of(c.callee) == callee for c in calls(stage))


class Hub(pulumi.ComponentResource):
    """The transit gateway between all networks of a deployment."""

    gateway_id: pulumi.Output[str]

    def __init__(self, name: str, tags: Mapping[str, str], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("stages:aws:Hub", name, None, opts)
        gateway = ec2transitgateway.TransitGateway(
            name,
            description=f"{name}: between the networks of the systems",
            auto_accept_shared_attachments="disable",
            default_route_table_association="enable",
            default_route_table_propagation="enable",
            dns_support="enable",
            tags={**tags, "Name": name},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.gateway_id = gateway.id
        self.register_outputs({"gateway_id": gateway.id})


class Spoke(pulumi.ComponentResource):
    """One cluster's network on the hub: its attachment, its routes, and the security group of its gateway."""

    gateway_group_id: pulumi.Output[str]
    """Security group that the east-west gateway's load balancer bears."""

    def __init__(
        self,
        name: str,
        *,
        stage: Stage,
        cluster: str,
        gateway_id: pulumi.Input[str],
        vpc_id: pulumi.Input[str],
        subnet_ids: Sequence[pulumi.Input[str]],
        route_table_ids: Sequence[pulumi.Input[str]],
        api_group_id: pulumi.Input[str],
        tags: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`subnet_ids` one private subnet per zone; `api_group_id` the security group of the cluster's API server."""
        super().__init__("stages:aws:Spoke", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        attachment = ec2transitgateway.VpcAttachment(
            name,
            transit_gateway_id=gateway_id,
            vpc_id=vpc_id,
            subnet_ids=list(subnet_ids),
            dns_support="enable",
            tags={**tags, "Name": name},
            opts=child,
        )
        for number, table in enumerate(route_table_ids):
            for other in others(stage, cluster):
                ec2.Route(
                    f"{name}-{number}-to-{other.name}",
                    route_table_id=table,
                    destination_cidr_block=other.network,
                    transit_gateway_id=gateway_id,
                    opts=pulumi.ResourceOptions(parent=self, depends_on=[attachment]),
                )
        group = ec2.SecurityGroup(
            f"{name}-gateway",
            vpc_id=vpc_id,
            description="What the east-west gateway takes from other clusters",
            tags={**tags, "Name": f"{name}-gateway"},
            opts=child,
        )
        self._open(name, "gateway", gateway_openings(stage, cluster), group.id, tags)
        self._open(name, "api", api_openings(stage, cluster), api_group_id, tags)
        own = next(c.network for c in stage.clusters if c.name == cluster)
        for port, why in (
            (GATEWAY_PORT, "to the gateway's pods"),
            (HEALTH_PORT, "health checks of the gateway's pods"),
        ):
            vpc.SecurityGroupEgressRule(
                f"{name}-gateway-to-pods-{port}",
                security_group_id=group.id,
                cidr_ipv4=own,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                description=why,
                tags=dict(tags),
                opts=child,
            )
        self.gateway_group_id = group.id
        self.register_outputs({"gateway_group_id": group.id})

    def _open(
        self,
        name: str,
        what: str,
        openings: Sequence[Opening],
        group_id: pulumi.Input[str],
        tags: Mapping[str, str],
    ) -> None:
        for opening in openings:
            vpc.SecurityGroupIngressRule(
                f"{name}-{what}-from-{opening.cluster}",
                security_group_id=group_id,
                cidr_ipv4=opening.cidr,
                ip_protocol="tcp",
                from_port=opening.port,
                to_port=opening.port,
                description=opening.why,
                tags=dict(tags),
                opts=pulumi.ResourceOptions(parent=self),
            )
