"""How is the broker reached where it is Kafka? The port's queues made of logs, by librdkafka on threads of its own.

A message goes out with its group as key, its type and id as headers; a destination is a topic. What is received,
hidden, handed back and counted is so in this process only (`kafka_backlog`): delivery is at least once, but a consumer
that takes a partition over begins at its committed position with counts of its own. A deleted message does not come
again once everything before it in its partition is deleted too. In ordered topics repetitions are dropped as far as one
consumer has seen both. Types that a subscription does not want are passed over by the reader.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from confluent_kafka import KafkaException

from workloads.broker.kafka_config import reading, writing
from workloads.broker.kafka_reader import ID, Reader
from workloads.broker.kafka_writer import Refused, Writer
from workloads.broker.ports import TYPE, BrokerUnavailable, Delivery, Parcel, letter
from workloads.resilience import monotonic_ns
from workloads.settings import Kafka, KafkaInbound

log = structlog.get_logger()

WAIT_S = 2.0
"""How long a receive waits for a first message, as on SQS."""
SEND_WITHIN_S = 5.0
COMMIT_WITHIN_S = 5.0
"""What is not acknowledged by then has failed, and may happen yet."""
CLOSED = "not open, or closed already"
CLOSE_WITHIN_S = 2.0
"""How long leaving the group may take; a broker that is away finds out by itself."""


class KafkaBroker:
    """The Broker port. `open` in the loop that uses it, `close` at the end."""

    def __init__(self, settings: Kafka) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self._stirred = asyncio.Event()
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._burials: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start producer and consumer; neither waits for a broker. Raise ValueError if the settings are refused."""
        loop = asyncio.get_running_loop()

        def stirred() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(self._stirred.set)

        inbound = self._settings.inbound
        try:
            self._writer = Writer(writing(self._settings))
            if inbound is not None:
                self._reader = Reader(reading(self._settings, inbound), inbound, stirred)
                self._reader.start()
        except KafkaException as error:
            await self.close()
            raise ValueError(str(error)) from error

    async def close(self) -> None:
        """Leave the group; calls under way fail."""
        for burial in self._burials:
            burial.cancel()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reader is not None:
            self._reader.end()
            await asyncio.to_thread(self._reader.thread.join, CLOSE_WITHIN_S)
            self._reader = None

    async def send(self, destination: str, parcels: Sequence[Parcel]) -> set[str]:
        """See ports.Broker. What fails may yet be sent; asked for again meanwhile, it is still sent once."""
        sends = {p.id: self._send(destination, p.id, p.group, p.body, {TYPE: p.type}) for p in parcels}
        failures = {unique: error for unique, error in (await self._answers(sends)).items() if error is not None}
        away = [error for error in failures.values() if isinstance(error, BrokerUnavailable)]
        if away and len(failures) == len(sends):
            raise away[0]
        return set(failures)

    async def receive(self) -> list[Delivery]:
        """See ports.Broker. Without inbound topics in the settings there is nothing to receive: a defect."""
        reader, until = self._reading, time.monotonic() + WAIT_S
        while True:
            self._stirred.clear()
            now = time.monotonic()
            with reader.lock:
                found, spent = reader.backlog.take(now)
                visible_at = reader.backlog.next_visible(now)
            for delivery in spent:
                burial = asyncio.ensure_future(self._give_up(delivery))
                self._burials.add(burial)
                burial.add_done_callback(self._burials.discard)
            if found:
                return found
            if why := reader.trouble():
                raise BrokerUnavailable(why)
            if now >= until:
                return []
            await self._stir(min(until, visible_at) - now)

    async def delete(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See ports.Broker. It lasts when everything before it is deleted too; that is waited for as far as it goes."""
        reader, until = self._reading, time.monotonic() + COMMIT_WITHIN_S
        with reader.lock:
            goals = reader.backlog.delete([each.receipt for each in deliveries])
        reader.commit_soon()
        self._stirred.set()  # what was behind one of these may be given out
        while True:
            self._stirred.clear()
            with reader.lock:
                if reader.backlog.reached(goals):
                    return []
            if (left_s := until - time.monotonic()) <= 0:
                refused = f"; {reader.refused}" if reader.refused else ""
                raise BrokerUnavailable(f"{goals} not committed within {COMMIT_WITHIN_S:.0f} s{refused}")
            await self._stir(left_s)

    async def extend(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        """See ports.Broker."""
        reader = self._reading
        with reader.lock:
            reader.backlog.hide([each.receipt for each in deliveries], time.monotonic() + seconds)
        self._stirred.set()

    async def bury(self, delivery: Delivery, reason: str, detail: str) -> None:
        """See ports.Broker. What is no longer in hand is left to who has it."""
        reader = self._reading
        with reader.lock:
            if not reader.backlog.holds(delivery.receipt):
                return
        attributes = letter(
            delivery,
            reason,
            detail,
            queue=delivery.id.partition("/")[0],
            died_ns=monotonic_ns(),
            died_utc=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        await self._bury(delivery, attributes)

    async def _give_up(self, delivery: Delivery) -> None:
        """Nobody said why it was not deleted; where that fails, it is tried again like a delivery."""
        try:
            await self._bury(delivery, delivery.attributes)
        except BrokerUnavailable as error:
            log.warning("dead-letter-not-sent", id=delivery.id, error=str(error))
            await self.extend([delivery], self._inbound.visibility_timeout_s)

    async def _bury(self, delivery: Delivery, attributes: Mapping[str, str]) -> None:
        topic, key = self._inbound.dead_letters, delivery.group or delivery.id
        send = self._send(topic, delivery.id, key, delivery.body, attributes)
        if (error := (await self._answers({delivery.id: send}))[delivery.id]) is not None:
            raise BrokerUnavailable(f"the dead letter is not written: {error}") from error
        await self.delete([delivery])

    async def _answers(
        self, sends: Mapping[str, asyncio.Future[None]]
    ) -> dict[str, BrokerUnavailable | Refused | None]:
        """What came of each within SEND_WITHIN_S."""
        if sends:
            await asyncio.wait(set(sends.values()), timeout=SEND_WITHIN_S)
        return {unique: self._answer(send) for unique, send in sends.items()}

    def _answer(self, send: asyncio.Future[None]) -> BrokerUnavailable | Refused | None:
        if not send.done():
            trouble = f"; {self._writer.trouble}" if self._writer is not None and self._writer.trouble else ""
            return BrokerUnavailable(f"not acknowledged within {SEND_WITHIN_S:.0f} s{trouble}")
        error = send.exception()
        assert error is None or isinstance(error, BrokerUnavailable | Refused), "a writer's futures raise nothing else"
        return error

    def _send(
        self, topic: str, unique: str, key: str, body: str, attributes: Mapping[str, str]
    ) -> asyncio.Future[None]:
        if self._writer is None:
            raise BrokerUnavailable(CLOSED)
        return self._writer.send(topic, unique, key, body, {**attributes, ID: unique})

    async def _stir(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()

    @property
    def _inbound(self) -> KafkaInbound:
        assert self._settings.inbound is not None, "a service without topics of its own cannot receive"
        return self._settings.inbound

    @property
    def _reading(self) -> Reader:
        assert self._settings.inbound is not None, "a service without topics of its own cannot receive"
        if self._reader is None:
            raise BrokerUnavailable(CLOSED)
        return self._reader
