"""How do librdkafka's clients connect, read and write? Settings -> their configuration.

Names and meanings: librdkafka, CONFIGURATION.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workloads.settings import Kafka, KafkaInbound

SESSION_S = 6
"""After so long without a sign of life another consumer gets the partitions; brokers allow no less by default."""


def reading(settings: Kafka, inbound: KafkaInbound) -> dict[str, Any]:
    """Of a consumer that commits what it is told to, and nothing by itself."""
    return {
        **_common(settings),
        "client.id": inbound.group,
        "group.id": inbound.group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        # who stays keeps what it has in hand when others come and go
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_S * 1000,
        "heartbeat.interval.ms": 1500,
        # a seek waits for the fetch under way
        "fetch.wait.max.ms": 100,
        # per partition, beside what the backlog holds
        "queued.min.messages": 1000,
        "queued.max.messages.kbytes": 2048,
    }


def writing(settings: Kafka) -> dict[str, Any]:
    """Of a producer whose records are acknowledged by all replicas in sync, each once and in order."""
    return {
        **_common(settings),
        "client.id": settings.inbound.group if settings.inbound else "shop",
        "enable.idempotence": True,
        "acks": "all",
        # With more, acknowledged records were lost: a broker that starts may refuse the first batch of a producer, take
        # the second, and then answer the first as a repetition (KAFKA-15591).
        "max.in.flight.requests.per.connection": 1,
        "linger.ms": 0,
        "message.timeout.ms": 0,  # none, see kafka_writer
        "partitioner": "murmur2_random",  # the Java client's: who else writes with a key hits the same partition
    }


def _common(settings: Kafka) -> dict[str, Any]:
    found: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        # with the default a broker that dies at the wrong moment hangs some calls for ever (librdkafka #5456, #5511)
        "metadata.recovery.strategy": "none",
        "allow.auto.create.topics": False,
        "socket.timeout.ms": 10_000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "log_level": 0,  # it would print every refused connection; errors come by callback
    }
    return found | (_iam(settings.region) if settings.auth == "iam" else {})


def _iam(region: str) -> dict[str, Any]:
    from botocore.httpsession import get_cert_path

    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "OAUTHBEARER",
        "oauth_cb": iam_token(region),
        # what the AWS SDK trusts: the library's own OpenSSL looks where the image may have nothing
        "ssl.ca.location": get_cert_path(True),
    }


def iam_token(region: str) -> Callable[[str], tuple[str, float]]:
    """A callback that signs a token with the process' credentials: (token, end in seconds since 1970)."""
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

    def token(_: str) -> tuple[str, float]:
        signed, expiry_ms = MSKAuthTokenProvider.generate_auth_token(region)
        return signed, expiry_ms / 1000

    return token
