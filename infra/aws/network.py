"""What is a cluster's network made of? The resources of `infra.aws.network_plan`: a VPC by hand, nothing hidden.

internet --- gateway --- public ---- NAT ---- private --- intra
                         (ALB)                (pods)      (RDS, MSK, endpoints)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import cloudwatch, ec2, iam

from infra.aws import permissions
from infra.aws.naming import called, tags
from infra.aws.network_plan import GATEWAY_ENDPOINTS, INTRA, PRIVATE, PUBLIC, NetworkPlan
from infra.aws.sizing import Sizing
from infra.config import Options


def flow_log_group(options: Options, cluster: str) -> str:
    """Name of the log group that says who spoke with whom."""
    return f"/stages/{called(options, cluster)}/flow"


class Vpc(pulumi.ComponentResource):
    """The VPC alone: it comes first, for the account's number that keys need is read from it."""

    vpc: ec2.Vpc
    account: pulumi.Output[str]

    def __init__(
        self, cluster: str, plan: NetworkPlan, options: Options, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("stages:aws:Vpc", f"{cluster}-vpc", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        name = called(options, cluster)
        self.vpc = ec2.Vpc(
            cluster,
            cidr_block=plan.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=tags(options, name=name),
            opts=below,
        )
        # Whoever forgets to name a security group gets this one, which lets nothing through.
        ec2.DefaultSecurityGroup(
            cluster, vpc_id=self.vpc.id, ingress=[], egress=[], tags=tags(options, name=f"{name}-default"), opts=below
        )
        self.account = self.vpc.owner_id
        self.register_outputs({"id": self.vpc.id})


class Network(pulumi.ComponentResource):
    """Subnets, ways between them, endpoints and flow logs."""

    subnets: Mapping[str, ec2.Subnet]
    """By the plan's names."""

    def __init__(
        self,
        cluster: str,
        vpc: Vpc,
        plan: NetworkPlan,
        options: Options,
        sizing: Sizing,
        *,
        endpoints: tuple[str, ...],
        log_key: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("stages:aws:Network", f"{cluster}-network", None, opts)
        self._cluster, self._vpc, self._plan, self._options = cluster, vpc.vpc, plan, options
        self._below = pulumi.ResourceOptions(parent=self)
        self.vpc_id = vpc.vpc.id
        self.cidr = plan.cidr
        self.subnets = {subnet.name: self._subnet(subnet.name) for subnet in plan.subnets}
        self.route_tables = self._ways()
        self._endpoints(endpoints)
        self._flow_logs(sizing, log_key)
        self.register_outputs({"vpc": self.vpc_id, "private": self.ids(PRIVATE)})

    def ids(self, tier: str) -> list[pulumi.Output[str]]:
        """Of the subnets of a tier, in the zones' order."""
        return [self.subnets[subnet.name].id for subnet in self._plan.tier(tier)]

    def cidrs(self, tier: str) -> tuple[str, ...]:
        return tuple(subnet.cidr for subnet in self._plan.tier(tier))

    def _tags(self, name: str) -> dict[str, str]:
        return tags(self._options, name=called(self._options, self._cluster, name))

    def _subnet(self, name: str) -> ec2.Subnet:
        planned = next(subnet for subnet in self._plan.subnets if subnet.name == name)
        return ec2.Subnet(
            f"{self._cluster}-{name}",
            vpc_id=self.vpc_id,
            cidr_block=planned.cidr,
            availability_zone=planned.zone,
            map_public_ip_on_launch=planned.public,
            tags=self._tags(name) | dict(planned.tags),
            opts=self._below,
        )

    def _ways(self) -> dict[str, ec2.RouteTable]:
        """One table for all public subnets, one for each private one, one that leads nowhere."""
        internet = ec2.InternetGateway(self._cluster, vpc_id=self.vpc_id, tags=self._tags("internet"), opts=self._below)
        tables = {PUBLIC: self._table(PUBLIC), INTRA: self._table(INTRA)}
        self._route(PUBLIC, tables[PUBLIC], gateway_id=internet.id)
        gateways = {name: self._gateway(name, internet) for name in self._plan.gateways}
        for private, public in self._plan.nat:
            tables[private] = self._table(private)
            self._route(private, tables[private], nat_gateway_id=gateways[public].id)
        for subnet in self._plan.subnets:
            ec2.RouteTableAssociation(
                f"{self._cluster}-{subnet.name}",
                subnet_id=self.subnets[subnet.name].id,
                route_table_id=tables.get(subnet.name, tables.get(subnet.tier, tables[INTRA])).id,
                opts=self._below,
            )
        return tables

    def _table(self, name: str) -> ec2.RouteTable:
        return ec2.RouteTable(f"{self._cluster}-{name}", vpc_id=self.vpc_id, tags=self._tags(name), opts=self._below)

    def _route(self, name: str, table: ec2.RouteTable, **way: pulumi.Input[str]) -> None:
        ec2.Route(
            f"{self._cluster}-{name}",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            opts=self._below,
            **way,
        )

    def _gateway(self, public: str, internet: ec2.InternetGateway) -> ec2.NatGateway:
        address = ec2.Eip(f"{self._cluster}-{public}", domain="vpc", tags=self._tags(f"nat-{public}"), opts=self._below)
        return ec2.NatGateway(
            f"{self._cluster}-{public}",
            allocation_id=address.id,
            subnet_id=self.subnets[public].id,
            tags=self._tags(f"nat-{public}"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[internet]),
        )

    def _endpoints(self, interfaces: tuple[str, ...]) -> None:
        region = self._options.region
        for service in GATEWAY_ENDPOINTS:
            ec2.VpcEndpoint(
                f"{self._cluster}-{service}",
                vpc_id=self.vpc_id,
                service_name=f"com.amazonaws.{region}.{service}",
                vpc_endpoint_type="Gateway",
                route_table_ids=[table.id for table in self.route_tables.values()],
                tags=self._tags(service),
                opts=self._below,
            )
        if not interfaces:
            return
        group = ec2.SecurityGroup(
            f"{self._cluster}-endpoints",
            name=called(self._options, self._cluster, "endpoints"),
            description="HTTPS from the VPC to the endpoints of AWS APIs",
            vpc_id=self.vpc_id,
            ingress=[
                {
                    "description": "HTTPS from the VPC",
                    "protocol": "tcp",
                    "from_port": 443,
                    "to_port": 443,
                    "cidr_blocks": [self.cidr],
                }
            ],
            egress=[],
            tags=self._tags("endpoints"),
            opts=self._below,
        )
        for service in interfaces:
            ec2.VpcEndpoint(
                f"{self._cluster}-{service.replace('.', '-')}",
                vpc_id=self.vpc_id,
                service_name=f"com.amazonaws.{region}.{service}",
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=self.ids(INTRA),
                security_group_ids=[group.id],
                tags=self._tags(service),
                opts=self._below,
            )

    def _flow_logs(self, sizing: Sizing, key: pulumi.Input[str]) -> None:
        options, name = self._options, f"{self._cluster}-flow"
        group = cloudwatch.LogGroup(
            name,
            name=flow_log_group(options, self._cluster),
            retention_in_days=sizing.log_days,
            kms_key_id=key,
            tags=tags(options),
            opts=self._below,
        )
        role = iam.Role(
            name,
            name=called(options, name),
            assume_role_policy=permissions.trust("vpc-flow-logs.amazonaws.com"),
            tags=tags(options),
            opts=self._below,
        )
        iam.RolePolicy(
            name,
            role=role.name,
            policy=group.arn.apply(lambda arn: permissions.text(flow_statement(arn))),
            opts=self._below,
        )
        ec2.FlowLog(
            self._cluster,
            vpc_id=self.vpc_id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=60,
            tags=self._tags("flow"),
            opts=self._below,
        )


def flow_statement(group: str) -> permissions.Statement:
    """Writing to one log group and its streams."""
    return permissions.Statement(
        sid="Write",
        actions=("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"),
        resources=(group, f"{group}:*"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAt:
    """Where a store lives, and who may reach it."""

    network: Network
    clients: pulumi.Input[str]
    """The security group that may connect."""
    key: pulumi.Input[str]
    """ARN of what encrypts the store, ..."""
    log_key: pulumi.Input[str]
    """... and of what encrypts its logs."""


def store_group(
    name: str,
    at: StoreAt,
    port: int,
    speaking: str,
    options: Options,
    system: str | None = None,
    opts: pulumi.ResourceOptions | None = None,
) -> pulumi.Output[str]:
    """Id of the security group of a store: it hears the cluster on one port and says nothing itself."""
    group = ec2.SecurityGroup(
        name,
        name=called(options, name),
        description=f"{speaking} from the pods of the cluster",
        vpc_id=at.network.vpc_id,
        ingress=[
            {
                "description": f"{speaking} from the cluster",
                "protocol": "tcp",
                "from_port": port,
                "to_port": port,
                "security_groups": [at.clients],
            }
        ],
        egress=[],
        tags=tags(options, system, called(options, name)),
        opts=opts,
    )
    its_id: pulumi.Output[str] = group.id
    return its_id
