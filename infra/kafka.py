"""What is a service told where Kafka carries its messages? (pure)

Where order matters is the same as on SQS: FIFO queues become ordered topics, and in all others a message that is tried
again holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from stages.kafka import dead_letters, kafka_types, partners, topic_name
from stages.messaging import messaging, talkers
from stages.model import Stage
from workloads.settings import Kafka, KafkaInbound, broker_text


def kafka_settings(stage: Stage, service: str, *, bootstrap: str, auth: str = "", region: str = "us-east-1") -> Kafka:
    """The broker of a service that speaks with one. `bootstrap`, `auth`, `region`: see workloads.settings.Kafka."""
    needed = messaging(stage)
    mine = [queue for queue in needed.queues if queue.consumer == service]
    read_by = {to: needed.queue_of(to) for to in partners(stage, service)}
    published = needed.topic_of(service)
    return Kafka(
        bootstrap=bootstrap,
        auth=auth,
        region=region,
        inbound=KafkaInbound(
            group=service,
            topics=kafka_types(stage, service),
            dead_letters=dead_letters(service),
            ordered=any(queue.fifo for queue in mine),
            visibility_timeout_s=mine[0].visibility_timeout_s,
            max_receives=mine[0].max_receives,
        )
        if mine
        else None,
        queues={to: topic_name(queue.name) for to, queue in read_by.items() if queue},
        topic=topic_name(published.name) if published else None,
    )


def kafka_variables(stage: Stage, *, auth: str, region: str) -> Mapping[str, Callable[[str], str]]:
    """Service -> what makes its SHOP_BROKER of the addresses of brokers, which a cloud tells later."""
    return {name: partial(_text, stage, name, auth, region) for name in talkers(stage)}


def _text(stage: Stage, service: str, auth: str, region: str, bootstrap: str) -> str:
    return broker_text(kafka_settings(stage, service, bootstrap=bootstrap, auth=auth, region=region))
