"""Which adapter speaks with the broker of a service? The one for what its settings describe."""

from __future__ import annotations

from typing import Protocol

from workloads.broker.ports import Broker
from workloads.broker.sqs import SqsBroker
from workloads.settings import Broker as Queues
from workloads.settings import Kafka


class Adapter(Broker, Protocol):
    """The port, and its beginning and end."""

    async def open(self) -> None:
        """In the loop that uses it. Raise ValueError, or the AWS SDK's BotoCoreError, if something is lacking."""
        ...

    async def close(self) -> None:
        """Calls under way fail."""
        ...


def adapter(settings: Queues | Kafka) -> Adapter:
    """An adapter that is not open yet. Raise ImportError where Kafka's client is not installed (extra 'kafka')."""
    if isinstance(settings, Kafka):
        from workloads.broker.kafka import KafkaBroker  # brings librdkafka along: only where Kafka is used

        return KafkaBroker(settings)
    return SqsBroker(settings)
