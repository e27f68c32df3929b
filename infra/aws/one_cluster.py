"""What does a stage consist of whose services share a cluster? The graph of stages sync and async.

    Foundation (network, keys, cluster, databases) -> Messages | Kafka -> Identity.. -> Workloads -> Alarms
                                                   Registry

async adds what carries messages, and changes of what was there only what services are told, what their roles and
network policies allow, what the dashboard shows, and the tag `stage`: nothing is replaced.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.alarm_plan import alarms
from infra.aws.alarms import Alarms
from infra.aws.certificate import certificate
from infra.aws.foundation import Foundation, log_groups, store_log_groups
from infra.aws.kafka import Kafka, kafka_log_group
from infra.aws.keys import key_policy, publisher_statement
from infra.aws.messaging import Messages
from infra.aws.registry import Registry
from infra.aws.workloads import Workloads
from infra.config import Options
from infra.kafka import kafka_variables
from stages.messaging import messaging, talkers
from stages.model import Stage


class OneCluster:
    """The graph of a stage whose services share a cluster."""

    def __init__(self, options: Options, stage: Stage) -> None:
        self._options, self._stage = options, stage
        self._opts = pulumi.ResourceOptions(provider=aws.Provider("aws", region=options.region))
        self._messages: Messages | None = None
        self._kafka: Kafka | None = None
        self._foundation = self._founded()
        self._registry = Registry(options, self._foundation.sizing, key=self._foundation.platform, opts=self._opts)
        self._carriers()
        self._certificate = certificate(options, self._opts)
        self._workloads = self._inside()
        self._watch()

    def outputs(self) -> dict[str, pulumi.Input[object]]:
        """What people and other programs ask a stack for."""
        found: dict[str, Any] = {
            "stage": self._stage.name,
            "cluster": self._foundation.cluster.name,
            "cluster_endpoint": self._foundation.cluster.endpoint,
            "kubeconfig": self._foundation.cluster.kubeconfig,
            "endpoints": {"users": f"https://{self._options.domain}"},
            "load_balancer": self._workloads.hosts,
            "repository": self._registry.url,
            "databases": {system: database.address for system, database in self._foundation.databases.items()},
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

    def _founded(self) -> Foundation:
        options, stage = self._options, self._stage
        (place,) = stage.clusters
        kafka = options.broker == "kafka" and bool(talkers(stage))
        return Foundation(
            stage,
            options,
            place.name,
            logs=(
                *log_groups(options, place.name),
                *store_log_groups(stage, options, place.name),
                *((kafka_log_group(options),) if kafka else ()),
            ),
            messages=bool(messaging(stage).queues) and options.broker == "sqs",
            opts=self._opts,
        )

    def _carriers(self) -> None:
        """What carries messages, in a stage that has some."""
        if not talkers(self._stage):
            return
        key = self._foundation.key(
            "messages",
            lambda account: key_policy(account, publisher_statement("Topics", "sns.amazonaws.com", account)),
        )
        if self._options.broker == "sqs":
            self._messages = Messages(self._stage, self._options, key=key, opts=self._opts)
            return
        at = self._foundation.store_at(key)
        self._kafka = Kafka(self._stage, at, self._options, self._foundation.sizing, opts=self._opts)

    def _env(self) -> dict[str, dict[str, Any]]:
        """What only the cloud knows of a service's environment."""
        if self._kafka:
            told = kafka_variables(self._stage, auth="iam", region=self._options.region)
            return {name: {"SHOP_BROKER": self._kafka.bootstrap.apply(text)} for name, text in told.items()}
        if self._messages is None:
            return {}
        queues = {name: queue.url for name, queue in self._messages.queues.items()}
        return self._foundation.told_of(queues, {name: topic.arn for name, topic in self._messages.topics.items()})

    def _inside(self) -> Workloads:
        # an event that is published before its subscription stands is lost
        carriers = [carrier for carrier in (self._messages, self._kafka) if carrier is not None]
        site = self._foundation.site(self._env())
        identified = self._foundation.identities(
            site, {target: arn for carrier in carriers for target, arn in carrier.targets().items()}
        )
        return Workloads(
            self._stage,
            site,
            self._options,
            self._foundation.cluster,
            self._foundation.network,
            self._foundation.databases,
            certificate=self._certificate.arn,
            after=[*identified, *carriers],
        )

    def _watch(self) -> None:
        things = self._foundation.load_balancers(self._workloads.hosts)
        if self._messages:
            things |= {f"queue:{name}": queue.name for name, queue in self._messages.queues.items()}
        if self._kafka:
            things["kafka cluster"] = self._kafka.name
        planned = alarms(self._stage, self._options.broker)
        self._alarms = Alarms(planned, things, self._options, key=self._foundation.platform, opts=self._opts)
