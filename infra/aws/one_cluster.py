"""What does a stage consist of whose services share a cluster? The graph of stages sync and async.

    Vpc -> keys -> Network, Cluster -> Database.. -> Messages | Kafka -> Identity.. -> Workloads -> Alarms
                    Registry

async adds what carries messages, and changes of what was there only what services are told, what their roles and
network policies allow, what the dashboard shows, and the tag `stage`: nothing is replaced.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws import database_job, in_cluster
from infra.aws.alarm_plan import alarms
from infra.aws.alarms import Alarms
from infra.aws.certificate import certificate
from infra.aws.cluster import Cluster, control_plane_log_group
from infra.aws.database import (
    Database,
    database_log_groups,
    services_with_records,
    setup_statements,
    systems_with_records,
)
from infra.aws.identity import Identity, policy_of
from infra.aws.kafka import Kafka, kafka_log_group
from infra.aws.keys import Key, key_policy, platform_policy, publisher_statement
from infra.aws.messaging import Messages
from infra.aws.network import Network, Vpc, flow_log_group
from infra.aws.network_plan import INTRA, PUBLIC, interface_endpoints, network_plan
from infra.aws.permissions import Target, permissions, text
from infra.aws.registry import Registry
from infra.aws.sizing import Sizing
from infra.aws.telemetry import Telemetry, metrics_log_group
from infra.aws.workloads import Workloads
from infra.config import Options
from infra.k8s.environment import COLLECTOR, broker_variable
from infra.k8s.names import shared_namespace, system_namespace
from infra.k8s.site import BrokerAt, Site
from stages.messaging import messaging, talkers
from stages.model import Stage


def log_groups(options: Options, stage: Stage, cluster: str, broker: str) -> tuple[str, ...]:
    """Every log group that the key `platform` encrypts."""
    return (
        flow_log_group(options, cluster),
        control_plane_log_group(options, cluster),
        metrics_log_group(options, cluster),
        *(group for system in systems_with_records(stage) for group in database_log_groups(options, system)),
        *((kafka_log_group(options),) if broker == "kafka" and talkers(stage) else ()),
    )


class OneCluster:
    """The graph of a stage whose services share a cluster."""

    def __init__(self, options: Options, stage: Stage, sizing: Sizing) -> None:
        self._options, self._stage, self._sizing = options, stage, sizing
        (self._place,) = stage.clusters
        self._opts = pulumi.ResourceOptions(provider=aws.Provider("aws", region=options.region))
        self._messages: Messages | None = None
        self._kafka: Kafka | None = None
        self._grounds()
        self._stores()
        self._carriers()
        self._identities()
        self._certificate = certificate(options, self._opts)
        self._workloads = self._inside()
        self._watch()

    def outputs(self) -> dict[str, pulumi.Input[object]]:
        """What people and other programs ask a stack for."""
        found: dict[str, Any] = {
            "stage": self._stage.name,
            "cluster": self._cluster.name,
            "cluster_endpoint": self._cluster.endpoint,
            "kubeconfig": self._cluster.kubeconfig,
            "endpoints": {"users": f"https://{self._options.domain}"},
            "load_balancer": self._workloads.hosts,
            "repository": self._registry.url,
            "databases": {system: database.address for system, database in self._databases.items()},
            "dashboard": self._alarms.dashboard,
            "alarms": self._alarms.topic,
        }
        if self._certificate.proof is not None:
            found["certificate_proof"] = self._certificate.proof
        if self._messages:
            found["queues"] = {name: queue.url for name, queue in self._messages.queues.items()}
            found["topics"] = {name: topic.arn for name, topic in self._messages.topics.items()}
        if self._kafka:
            found["kafka"] = self._kafka.bootstrap
        return found

    def _grounds(self) -> None:
        """Network, keys, cluster, image repository."""
        options, sizing, name = self._options, self._sizing, self._place.name
        plan = network_plan(self._place.network, options.availability_zones, nat_per_zone=sizing.nat_per_zone)
        vpc = Vpc(name, plan, options, opts=self._opts)
        self._account = vpc.account
        groups = log_groups(options, self._stage, name, options.broker)
        self._platform = self._key(
            "platform",
            lambda account: platform_policy(options.region, account, groups),
        )
        sqs = bool(messaging(self._stage).queues) and options.broker == "sqs"
        self._network = Network(
            name,
            vpc,
            plan,
            options,
            sizing,
            endpoints=interface_endpoints(messages=sqs, wanted=sizing.interface_endpoints),
            log_key=self._platform.arn,
            opts=self._opts,
        )
        self._cluster = Cluster(name, self._network, options, sizing, key=self._platform.arn, opts=self._opts)
        self._registry = Registry(options, sizing, key=self._platform.arn, opts=self._opts)

    def _stores(self) -> None:
        """A server per system."""
        key = self._key("data", key_policy)
        self._data_key = key.arn
        self._databases = {
            system: Database(
                system,
                self._network,
                self._options,
                self._sizing,
                clients=self._cluster.security_group,
                key=key.arn,
                log_key=self._platform.arn,
                opts=self._opts,
            )
            for system in systems_with_records(self._stage)
        }

    def _carriers(self) -> None:
        """What carries messages, in a stage that has some."""
        if not talkers(self._stage):
            return
        key = self._key(
            "messages",
            lambda account: key_policy(account, publisher_statement("Topics", "sns.amazonaws.com", account)),
        )
        if self._options.broker == "sqs":
            self._messages = Messages(self._stage, self._options, key=key.arn, opts=self._opts)
            return
        self._kafka = Kafka(
            self._stage,
            self._network,
            self._options,
            self._sizing,
            clients=self._cluster.security_group,
            key=key.arn,
            log_key=self._platform.arn,
            opts=self._opts,
        )

    def _identities(self) -> None:
        """A role for each service that may do something, one for each Job that makes databases."""
        arns: dict[Target, pulumi.Input[str]] = {}
        for system, database in self._databases.items():
            for name in services_with_records(self._stage, system):
                arns[Target(kind="database user", name=name)] = database.user(name)
        for carrier in (self._messages, self._kafka):
            arns |= carrier.targets() if carrier else {}
        self._site = self._site_of()
        self._identified = [
            self._identity(service.name, service.system, policy_of(granted, arns))
            for service in self._stage.services
            if (granted := permissions(self._stage, service.name, self._options.broker))
        ]
        for system, database in self._databases.items():
            policy = pulumi.Output.all(database.secret, self._data_key).apply(
                lambda known: text(*setup_statements(known[0], known[1]))
            )
            self._identified.append(self._identity(database_job.setup_name(system), system, policy))
        telemetry = Telemetry(
            self._place.name,
            self._options,
            self._sizing,
            who=COLLECTOR,
            namespace=shared_namespace(self._stage, self._site),
            cluster_name=self._cluster.name,
            log_key=self._platform.arn,
            opts=self._opts,
        )
        self._identified.append(telemetry.association)

    def _identity(self, who: str, system: str, policy: pulumi.Input[str]) -> pulumi.Resource:
        identity = Identity(
            who,
            self._options,
            policy,
            cluster=self._cluster.name,
            namespace=system_namespace(self._stage, self._site, system),
            system=system,
            opts=self._opts,
        )
        association: pulumi.Resource = identity.association
        return association

    def _site_of(self) -> Site:
        return in_cluster.site(
            self._options,
            self._sizing,
            self._place.name,
            env=self._env(),
            public_cidrs=self._network.cidrs(PUBLIC),
            intra_cidrs=self._network.cidrs(INTRA),
            network=self._network.cidr,
        )

    def _env(self) -> dict[str, dict[str, Any]]:
        """What only the cloud knows of a service's environment."""
        if self._kafka:
            told = {"SHOP_BROKER": "", "KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap}
            return {service: dict(told) for service in talkers(self._stage)}
        if self._messages is None:
            return {}
        known = pulumi.Output.all(
            queues={name: queue.url for name, queue in self._messages.queues.items()},
            topics={name: topic.arn for name, topic in self._messages.topics.items()},
        )
        return {service: {"SHOP_BROKER": known.apply(self._broker_of(service))} for service in talkers(self._stage)}

    def _broker_of(self, service: str) -> Any:
        at = BrokerAt(region=self._options.region)
        return lambda known: broker_variable(self._stage, service, at, known["queues"], known["topics"])["SHOP_BROKER"]

    def _inside(self) -> Workloads:
        # an event that is published before its subscription stands is lost
        carriers = [carrier for carrier in (self._messages, self._kafka) if carrier is not None]
        return Workloads(
            self._stage,
            self._site,
            self._options,
            self._cluster,
            self._network,
            self._databases,
            certificate=self._certificate.arn,
            after=[*self._identified, *carriers],
        )

    def _watch(self) -> None:
        things: dict[str, pulumi.Input[str]] = {}
        for entry, host in self._workloads.hosts.items():
            balancer = aws.lb.get_load_balancer_output(
                name=host.apply(in_cluster.load_balancer_name),
                opts=pulumi.InvokeOutputOptions(provider=self._opts.provider),
            )
            things[f"load balancer:{entry}"] = balancer.arn_suffix
        if self._messages:
            things |= {f"queue:{name}": queue.name for name, queue in self._messages.queues.items()}
        if self._kafka:
            things["kafka cluster"] = self._kafka.name
        planned = alarms(self._stage, self._options.broker)
        self._alarms = Alarms(planned, things, self._options, key=self._platform.arn, opts=self._opts)

    def _key(self, purpose: str, policy: Any) -> Key:
        document = pulumi.Output.from_input(self._account).apply(policy)
        return Key(purpose, self._options, self._sizing, document, opts=self._opts)
