"""How does an event loop send to Kafka? A producer whose acknowledgements come on a thread and are handed over.

Nothing that the library has is ever taken back: with timeouts of messages an idempotent producer may tell of a message
that it is written although it is not (librdkafka #4134). Who stops waiting and asks again, waits for the same send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from workloads.broker.ports import BrokerUnavailable

log = structlog.get_logger()

POLL_S = 0.1
FINAL = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})
"""What no other attempt changes."""


class Refused(Exception):
    """The broker will never take this record."""


class Writer:
    """Sends records; each send is a future."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Connects at once: the first acknowledgement of a new producer takes half a second. Raise KafkaException."""
        self._loop = asyncio.get_running_loop()
        self._config = {**config, "error_cb": self._on_error}
        self.trouble = ""
        """What the library complained of last."""
        self._producer = Producer(self._config)
        self._waiting: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._ending = Event()
        self._thread = Thread(target=self._poll, name="kafka-writer", daemon=True)
        self._thread.start()

    def send(self, topic: str, unique: str, key: str, body: str, headers: Mapping[str, str]) -> asyncio.Future[None]:
        """Done when all replicas in sync have it; raises Refused or BrokerUnavailable. Not to be cancelled.

        `unique`: as long as a send to the topic with the same one is under way, that is what is returned.
        """
        if (under_way := self._waiting.get((topic, unique))) is not None:
            return under_way
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting[topic, unique] = done

        def settled(future: asyncio.Future[None]) -> None:
            del self._waiting[topic, unique]
            future.exception()  # seen, also where nobody waits any more

        done.add_done_callback(settled)

        def acknowledged(error: KafkaError | None, _: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._settle, done, error)

        try:
            self._producer.produce(
                topic,
                value=_bytes(body),
                key=_bytes(key) or None,
                headers=[(name, _bytes(value)) for name, value in headers.items()],
                on_delivery=acknowledged,
            )
        except UnicodeEncodeError as error:
            done.set_exception(Refused(str(error)))
        except KafkaException as error:
            self._settle(done, error.args[0])
        except BufferError as error:  # its queue is full
            done.set_exception(BrokerUnavailable(str(error)))
        return done

    def close(self) -> None:
        """Sends under way fail."""
        self._ending.set()
        self._fail("closed")

    def _fail(self, why: str) -> None:
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(BrokerUnavailable(why))

    def _settle(self, done: asyncio.Future[None], error: KafkaError | None) -> None:
        if error is not None and error.fatal() and not self._ending.is_set():
            log.error("producer-replaced", error=error.str())
            self._fail(error.str())
            self._producer = Producer(self._config)
        if done.done():
            return
        if error is None:
            done.set_result(None)
        elif error.code() in FINAL:
            done.set_exception(Refused(error.str()))
        else:
            done.set_exception(BrokerUnavailable(error.str()))

    def _poll(self) -> None:
        while not self._ending.is_set():
            self._producer.poll(POLL_S)

    def _on_error(self, error: KafkaError) -> None:
        self.trouble = error.str()


def _bytes(text: str) -> bytes:
    """What came as bytes that are no text goes out as the same bytes. Raise UnicodeEncodeError."""
    return text.encode(errors="surrogateescape")
