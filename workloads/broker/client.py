"""How is a client of the AWS SDK made so that it starts and calls cheaply? Models before the fork, calls trimmed.

Reading and parsing the SDK's service models is nearly all of what a client costs to make; `preload` does it
once in the process that services are forked from. For an endpoint of one's own over plain HTTP (an emulator,
a wire to it) a call is trimmed of what it needs only on AWS itself: choosing an endpoint, proxies, and
telling AWS about the caller. AWS itself is called by the SDK as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import UNSIGNED, handlers
from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader

from workloads.settings import Broker

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 6.0
"""Above a receive's wait of 2 s on a broker that is 2 s slow; what a silent one costs."""
ATTEMPTS = 1
"""Consumer and relay repeat what failed, with a backoff of theirs; the SDK's own waits up to a second and would hold up
everything behind a throttled call (30 % throttled: 45 of 68 orders took over 3 s with one repetition, none without)."""
KEEP_ALIVE_S = 4.0
"""Shorter than any server keeps an idle connection, so that no call meets one that is being closed."""
CONNECTIONS = 32
RULES = "endpoint-rule-set-1"


class _WithoutRules(Loader):  # type: ignore[misc]  # the SDK has no types
    """The models without the rules that choose an endpoint: there is only one."""

    def __init__(self, models: Loader) -> None:
        super().__init__()
        self._models = models

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        if type_name == RULES:
            raise UnknownServiceError(service_name=service_name, known_service_names="")
        return self._models.load_service_model(service_name, type_name, api_version)

    def load_data(self, name: str) -> Any:
        return self._models.load_data(name)

    def load_data_with_path(self, name: str) -> Any:
        return self._models.load_data_with_path(name)


@cache
def preload() -> Loader:
    """Read the SDK's models of SQS and SNS into memory, once per process and its forks."""
    loader = Loader()
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    loader.load_data_with_path("endpoints")  # cached apart from the above, 7 MB for each client that reads it anew
    for service in ("sqs", "sns"):
        for part in ("service-2", RULES):
            loader.load_service_model(service, part)
    return loader


@asynccontextmanager
async def client(service: str, settings: Broker) -> AsyncIterator[Any]:
    """A client of 'sqs' or 'sns'; it connects with its first call. Raise the SDK's BotoCoreError if that cannot be."""
    session = AioSession()
    options: dict[str, Any] = {
        "connector_args": {"keepalive_timeout": KEEP_ALIVE_S},
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": CONNECTIONS,
        "parameter_validation": False,
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
    }
    trimmed = (settings.endpoint or "").startswith("http://")
    session.register_component("data_loader", _WithoutRules(preload()) if trimmed else preload())
    if trimmed:
        options["user_agent"] = "shop"
    if not settings.signed:
        options["signature_version"] = UNSIGNED
    async with session.create_client(
        service, region_name=settings.region, endpoint_url=settings.endpoint, config=AioConfig(**options)
    ) as made:
        if trimmed:
            _trim(made)
        yield made


def _trim(made: Any) -> None:
    events = made.meta.events
    events.unregister("request-created", handlers.add_retry_headers)
    events.unregister("before-call", handlers.add_recursion_detection_header)
