"""How do we ask a broker the way a service does, and read what it says of a queue?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
"""Attributes of a queue from which `counts` reads."""


def client(service: str, url: str | None, region: str, **credentials: str) -> Any:
    """A client of the AWS SDK, which is imported only here (0.3 s); `url` None is AWS itself.

    Without credentials it finds the environment's.
    """
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 4, "mode": "standard"})
    return boto3.client(service, endpoint_url=url, region_name=region, config=config, **credentials)


def counts(attributes: Mapping[str, str]) -> dict[str, int]:
    """How many messages a queue holds, from its attributes."""
    visible, in_flight, delayed = (int(attributes.get(name, 0)) for name in COUNTS)
    return {"visible": visible, "in_flight": in_flight, "delayed": delayed}
