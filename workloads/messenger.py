"""What runs beside a service's requests where services speak through a broker? Its relay, its consumer, its clock.

start:  (database usable) -> relay, consumer, asking
drain:  consumer and asking stop; requests go on, and the relay publishes what they leave
stop:   the relay gets a moment to empty the outbox; what is left there is published by whoever starts next
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection

import structlog
from botocore.exceptions import BotoCoreError

from workloads.broker.adapter import adapter
from workloads.broker.attempt import Handle
from workloads.broker.consumer import Consumer
from workloads.broker.envelope import Envelope, unseal
from workloads.broker.post import Post
from workloads.broker.relay import Relay
from workloads.handlers.asking import Asking
from workloads.ports import Repository
from workloads.problems import ProblemError
from workloads.settings import Broker, Kafka, Settings
from workloads.telemetry import Telemetry

log = structlog.get_logger()

REST_S = 0.08
"""How long a consumer waits after a batch that was not full: calls to the broker are most of what a message costs, and
a completion that comes a quarter of a second later is still early."""
LINGER_S = 0.02
"""How long a message waits for others to share its call: a call costs far more than a message, and nobody waits for
either (15 orders/s: 3.0 calls per order instead of 3.5; an order has three such waits)."""
FLUSH_S = 0.5
"""How long the relay may go on after the last request."""
FLUSHED_EVERY_S = 0.02
OPEN_AGAIN_S = 0.5


class Messenger:
    """Everything of one service that sends and receives messages."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker | Kafka,
        repository: Repository,
        telemetry: Telemetry,
        *,
        publishes: bool,
        handle: Handle | None = None,
        accepts: Collection[type] = (),
        asking: Asking | None = None,
    ) -> None:
        """`publishes`: whether the repository's outbox is used; answers need none.

        `handle` acts on messages of the kinds in `accepts`; None for a service that only sends.
        """
        rng = random.Random()
        self._repository = repository
        self._broker = adapter(broker)
        post = Post(broker, run=settings.run_id, source=settings.service)
        self.publishes = publishes
        self._relay: Relay | None = None
        if publishes:
            self._relay = Relay(repository, self._broker, post=post, telemetry=telemetry, rng=rng, linger_s=LINGER_S)
        self._consumer: Consumer | None = None
        if handle is not None and broker.inbound is not None:

            def read(text: str) -> Envelope:
                return unseal(text, run=settings.run_id, accepts=accepts)

            self._consumer = Consumer(
                self._broker,
                broker.inbound,
                handle,
                read=read,
                post=post,
                telemetry=telemetry,
                rng=rng,
                disabled=settings.disabled,
                rest_s=REST_S,
            )
        self._asking = asking
        self._draining: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin in the running loop; returns once the broker's client could be made, which sends nothing yet."""
        while True:
            try:
                await self._broker.open()
                break
            except (BotoCoreError, ValueError) as error:
                log.error("broker-not-usable", error=str(error))
                await asyncio.sleep(OPEN_AGAIN_S)
        for part in (self._relay, self._consumer, self._asking):
            if part is not None:
                part.start()

    def drain(self) -> None:
        """Take on nothing new; returns at once."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._stop_taking())

    async def stop(self) -> None:
        """End within some seconds; nothing is lost by it."""
        self.drain()
        assert self._draining is not None
        await self._draining
        if self._relay is not None:
            await self._flush()
            await self._relay.stop()
        await self._broker.close()

    async def _stop_taking(self) -> None:
        for part in (self._asking, self._consumer):
            if part is not None:
                await part.stop()

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_S):
                while await self._repository.unpublished():  # noqa: ASYNC110  # the outbox does not say when it is empty
                    await asyncio.sleep(FLUSHED_EVERY_S)
        except (TimeoutError, ProblemError) as error:
            log.warning("left-in-outbox", error=str(error))
