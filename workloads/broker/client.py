"""How is a client of the AWS SDK made so that it starts and calls cheaply? Its models are read before the fork.

Reading and parsing the SDK's service models is nearly all of what a client costs to make; `preload` does it
once in the process that services are forked from.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, ClientCreatorContext
from botocore.loaders import Loader

from workloads.settings import Broker

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 6.0
"""Above a receive's wait of 2 s on a broker that is 2 s slow each way; what a silent one costs."""
ATTEMPTS = 2
"""The SDK repeats a throttled or broken call once; consumer and relay go on from there."""
KEEP_ALIVE_S = 4.0
"""Shorter than the broker's 5 s, so that no call meets a connection that is being closed."""
CONNECTIONS = 32


@cache
def preload() -> Loader:
    """Read the SDK's models of SQS and SNS into memory, once per process and its forks."""
    loader = Loader()
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    for service in ("sqs", "sns"):
        for part in ("service-2", "endpoint-rule-set-1"):
            loader.load_service_model(service, part)
    return loader


def new_session() -> AioSession:
    """A session on the preloaded models."""
    session = AioSession()
    session.register_component("data_loader", preload())
    return session


def client(service: str, settings: Broker, session: AioSession | None = None) -> ClientCreatorContext:
    """A client of 'sqs' or 'sns' as an async context manager; it connects with its first call."""
    options: dict[str, Any] = {"region_name": settings.region, "endpoint_url": settings.endpoint}
    return (session or new_session()).create_client(
        service,
        config=AioConfig(
            connector_args={"keepalive_timeout": KEEP_ALIVE_S},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=CONNECTIONS,
            parameter_validation=False,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            user_agent="shop",
        ),
        **options,
    )
