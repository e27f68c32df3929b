"""What carries messages on AWS with `broker: kafka`? MSK with Express brokers in three zones, IAM, and its topics.

Express brokers replicate three times with two in sync, and grow their storage by themselves; the broker's type cannot
be changed in place. Topics are resources of the stack, nobody creates one by writing to it. What reads a topic of
events, filters by itself: Kafka has no filter policies. Where order matters, the key of a record is its subject.

What a service is told of it, `infra.kafka` says.
"""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import cloudwatch, msk

from infra.aws.naming import called, tags
from infra.aws.network import StoreAt, store_group
from infra.aws.network_plan import INTRA
from infra.aws.permissions import Target
from infra.aws.sizing import Sizing
from infra.config import Options
from stages.kafka import kafka_topics
from stages.messaging import messaging
from stages.model import Stage

VERSION = "3.9.x.kraft"
PORT = 9098
"""IAM over TLS, within the VPC."""
BROKERS = 3
PARTITIONS = 6
"""Of every topic: consumers of a service that work at once, at most; and subjects are spread over so many."""
REPLICATION = 3
RETENTION_MS = 4 * 86_400_000
"""As long as SQS keeps a message; dead letters stay for two weeks."""
DEAD_RETENTION_MS = 14 * 86_400_000

SERVER_PROPERTIES = "auto.create.topics.enable=false\n"


def topic_config(name: str) -> str:
    """A topic's own settings, as JSON."""
    retention = DEAD_RETENTION_MS if name.endswith("-dead-letters") else RETENTION_MS
    return json.dumps({"cleanup.policy": "delete", "retention.ms": str(retention)}, sort_keys=True)


def kafka_log_group(options: Options) -> str:
    return f"/stages/{called(options, 'kafka')}"


def inside(cluster: str, kind: str, name: str) -> str:
    """ARN of a topic or a consumer group of a cluster.

    >>> inside("arn:aws:kafka:us-east-1:123456789012:cluster/shop/uuid", "topic", "orders-events")
    'arn:aws:kafka:us-east-1:123456789012:topic/shop/uuid/orders-events'
    """
    return f"{cluster.replace(':cluster/', f':{kind}/', 1)}/{name}"


class Kafka(pulumi.ComponentResource):
    """The cluster and its topics."""

    bootstrap: pulumi.Output[str]
    """host:port,... of the brokers, for IAM."""

    def __init__(
        self,
        stage: Stage,
        at: StoreAt,
        options: Options,
        sizing: Sizing,
        *,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("stages:aws:Kafka", "kafka", None, opts)
        self._stage, self._options = stage, options
        self._below = pulumi.ResourceOptions(parent=self)
        group = store_group("kafka", at, PORT, "Kafka with IAM", options, opts=self._below)
        logs = cloudwatch.LogGroup(
            "kafka",
            name=kafka_log_group(options),
            retention_in_days=sizing.log_days,
            kms_key_id=at.log_key,
            tags=tags(options),
            opts=self._below,
        )
        settings = msk.Configuration(
            "kafka",
            name=called(options, "kafka"),
            kafka_versions=[VERSION],
            server_properties=SERVER_PROPERTIES,
            opts=self._below,
        )
        made = msk.Cluster(
            "kafka",
            cluster_name=called(options, "kafka"),
            kafka_version=VERSION,
            number_of_broker_nodes=BROKERS,
            broker_node_group_info={
                "instance_type": sizing.kafka_class,
                "client_subnets": at.network.ids(INTRA),
                "security_groups": [group],
                "connectivity_info": {"public_access": {"type": "DISABLED"}},
            },
            client_authentication={"sasl": {"iam": True}, "unauthenticated": False},
            encryption_info={
                "encryption_at_rest_kms_key_arn": at.key,
                "encryption_in_transit": {"client_broker": "TLS", "in_cluster": True},
            },
            configuration_info={"arn": settings.arn, "revision": settings.latest_revision},
            enhanced_monitoring="PER_TOPIC_PER_BROKER",
            logging_info={"broker_logs": {"cloudwatch_logs": {"enabled": True, "log_group": logs.name}}},
            tags=tags(options),
            opts=pulumi.ResourceOptions(parent=self, protect=sizing.protected),
        )
        self._arn, self.name = made.arn, made.cluster_name
        self.bootstrap = made.bootstrap_brokers_sasl_iam
        for name in kafka_topics(stage):
            msk.Topic(
                name,
                name=name,
                cluster_arn=made.arn,
                partition_count=PARTITIONS,
                replication_factor=REPLICATION,
                configs=topic_config(name),
                opts=self._below,
            )
        self.register_outputs({"bootstrap": self.bootstrap})

    def targets(self) -> dict[Target, pulumi.Input[str]]:
        """ARN of everything that a permission may be about."""
        groups = {queue.consumer for queue in messaging(self._stage).queues}
        return {
            Target(kind="kafka cluster", name="messages"): self._arn,
            **{Target(kind="kafka topic", name=n): self._inside("topic", n) for n in kafka_topics(self._stage)},
            **{Target(kind="kafka group", name=n): self._inside("group", n) for n in sorted(groups)},
        }

    def _inside(self, kind: str, name: str) -> pulumi.Output[str]:
        return pulumi.Output.from_input(self._arn).apply(lambda arn: inside(arn, kind, name))
