"""What does a cluster stand on, and what is made on that, whoever's it is? Network, keys, cluster, stores, roles.

    Vpc -> key `platform` -> Network -> Cluster -> key `data` -> Database.. -> Identity.., Telemetry

Stages sync and async have one for all systems (`infra.aws.one_cluster`), stage mesh one for each (`infra.aws.system`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws import database_job, in_cluster
from infra.aws.cluster import Cluster, control_plane_log_group
from infra.aws.database import (
    Database,
    database_log_groups,
    services_with_records,
    setup_statements,
    systems_with_records,
)
from infra.aws.identity import Identity, policy_of
from infra.aws.keys import Key, key_policy, platform_policy
from infra.aws.network import Network, StoreAt, Vpc, flow_log_group
from infra.aws.network_plan import INTRA, PUBLIC, interface_endpoints, network_plan
from infra.aws.permissions import Target, permissions, text
from infra.aws.sizing import SIZES
from infra.aws.telemetry import Telemetry, metrics_log_group
from infra.config import Options
from infra.k8s.environment import COLLECTOR, broker_variable
from infra.k8s.names import shared_namespace, system_namespace
from infra.k8s.site import BrokerAt, Site
from stages.messaging import talkers
from stages.model import Stage


def log_groups(options: Options, cluster: str) -> tuple[str, ...]:
    """Names of the log groups of a cluster and its network."""
    return (
        flow_log_group(options, cluster),
        control_plane_log_group(options, cluster),
        metrics_log_group(options, cluster),
    )


def store_log_groups(stage: Stage, options: Options, cluster: str) -> tuple[str, ...]:
    """Names of the log groups of the databases at a cluster."""
    return tuple(group for system in _keeping(stage, cluster) for group in database_log_groups(options, system))


def _keeping(stage: Stage, cluster: str) -> tuple[str, ...]:
    """Systems that need a server, of those in a cluster."""
    return tuple(name for name in systems_with_records(stage) if stage.system(name).cluster == cluster)


class Foundation:
    """One cluster and what it stands on; makes what is made on it."""

    databases: Mapping[str, Database]
    """System -> its server."""

    def __init__(
        self,
        stage: Stage,
        options: Options,
        cluster: str,
        *,
        logs: tuple[str, ...],
        messages: bool,
        system: str | None = None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        """`logs`: every log group that the key `platform` encrypts; `messages`: whether services speak to SQS and SNS;
        `system`: whose all of it is, None for what systems share."""
        self._stage, self._options, self._place, self._system, self._opts = stage, options, cluster, system, opts
        self.sizing = SIZES[options.size]
        cidr = next(c.network for c in stage.clusters if c.name == cluster)
        plan = network_plan(cidr, options.availability_zones, nat_per_zone=self.sizing.nat_per_zone)
        vpc = Vpc(cluster, plan, options, opts=opts)
        self.account = vpc.account
        self.platform = self.key("platform", lambda account: platform_policy(options.region, account, logs))
        self.network = Network(
            cluster,
            vpc,
            plan,
            options,
            self.sizing,
            endpoints=interface_endpoints(messages=messages, wanted=self.sizing.interface_endpoints),
            log_key=self.platform,
            opts=opts,
        )
        self.cluster = Cluster(cluster, self.network, options, self.sizing, key=self.platform, opts=opts)
        self.databases = self._stores()

    def key(self, purpose: str, policy: Callable[[str], str]) -> pulumi.Output[str]:
        """ARN of a key of its own. `policy`: account -> document."""
        document = pulumi.Output.from_input(self.account).apply(policy)
        return Key(purpose, self._options, self.sizing, document, system=self._system, opts=self._opts).arn

    def store_at(self, key: pulumi.Input[str]) -> StoreAt:
        """Where a store lives that the pods of the cluster reach. `key`: encrypts what it keeps."""
        return StoreAt(network=self.network, clients=self.cluster.security_group, key=key, log_key=self.platform)

    def site(self, env: Mapping[str, Mapping[str, Any]]) -> Site:
        """What services find. `env`: what only the cloud knows of a service's environment."""
        return in_cluster.site(
            self._options,
            self.sizing,
            self._place,
            env=env,
            public_cidrs=self.network.cidrs(PUBLIC),
            intra_cidrs=self.network.cidrs(INTRA),
            network=self.network.cidr,
        )

    def told_of(
        self, queues: Mapping[str, pulumi.Input[str]], topics: Mapping[str, pulumi.Input[str]]
    ) -> dict[str, dict[str, pulumi.Output[str]]]:
        """Of every service in the cluster that sends or receives, the variable that says where. URLs, and ARNs."""
        known = pulumi.Output.all(queues=dict(queues), topics=dict(topics))
        here = self._stage.services_in(self._place)
        return {
            service: {"SHOP_BROKER": known.apply(self._broker_of(service))}
            for service in talkers(self._stage)
            if service in here
        }

    def _broker_of(self, service: str) -> Callable[[Any], str]:
        at = BrokerAt(region=self._options.region)
        return lambda known: broker_variable(self._stage, service, at, known["queues"], known["topics"])["SHOP_BROKER"]

    def identities(self, site: Site, targets: Mapping[Target, pulumi.Input[str]]) -> list[pulumi.Resource]:
        """A role for each service that may do something, for each Job that makes databases, and for the collector.

        `targets`: ARN of whatever a service may be allowed besides its database.
        """
        arns = {**targets}
        for system, database in self.databases.items():
            for name in services_with_records(self._stage, system):
                arns[Target(kind="database user", name=name)] = database.user(name)
        found = [
            self._identity(site, name, self._stage.service(name).system, policy_of(granted, arns))
            for name in self._stage.services_in(self._place)
            if (granted := permissions(self._stage, name, self._options.broker))
        ]
        for system, database in self.databases.items():
            policy = pulumi.Output.all(database.secret, self._data_key).apply(
                lambda known: text(*setup_statements(known[0], known[1]))
            )
            found.append(self._identity(site, database_job.setup_name(system), system, policy))
        return [*found, self._telemetry(site)]

    def load_balancers(self, hosts: Mapping[str, pulumi.Output[str]]) -> dict[str, pulumi.Input[str]]:
        """What alarms call the load balancer of each entry service -> its name in CloudWatch. `hosts`: by service."""
        asked = pulumi.InvokeOutputOptions(parent=self._opts.parent, provider=self._opts.provider)
        found: dict[str, pulumi.Input[str]] = {}
        for entry, host in hosts.items():
            name = host.apply(in_cluster.load_balancer_name)
            found[f"load balancer:{entry}"] = aws.lb.get_load_balancer_output(name=name, opts=asked).arn_suffix
        return found

    def _stores(self) -> dict[str, Database]:
        systems = _keeping(self._stage, self._place)
        if not systems:
            return {}
        self._data_key = self.key("data", key_policy)
        at = self.store_at(self._data_key)
        return {system: Database(system, at, self._options, self.sizing, opts=self._opts) for system in systems}

    def _identity(self, site: Site, who: str, system: str, policy: pulumi.Input[str]) -> pulumi.Resource:
        identity = Identity(
            who,
            self._options,
            policy,
            cluster=self.cluster.name,
            namespace=system_namespace(self._stage, site, system),
            system=system,
            opts=self._opts,
        )
        association: pulumi.Resource = identity.association
        return association

    def _telemetry(self, site: Site) -> pulumi.Resource:
        system, stage = self._system, self._stage
        return Telemetry(
            self._place,
            self._options,
            self.sizing,
            who=f"{system}-{COLLECTOR}" if system else COLLECTOR,
            namespace=system_namespace(stage, site, system) if system else shared_namespace(stage, site),
            cluster_name=self.cluster.name,
            log_key=self.platform,
            system=system,
            opts=self._opts,
        ).association
