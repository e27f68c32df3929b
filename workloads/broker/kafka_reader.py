"""How does a consumer of Kafka live beside an event loop? On a thread of its own, which alone touches it.

    loop:  poll --> into the backlog --> pause what is full, resume what is not --> commit what is done with

The backlog is shared with the event loop under a lock; whoever waits for news of it is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event, Lock, Thread
from typing import Any, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from workloads.broker.kafka_backlog import Backlog, Partition, Record
from workloads.broker.ports import TYPE
from workloads.settings import KafkaInbound

log = structlog.get_logger()

ID = "id"
"""Header with the parcel's id; readers see only the others."""
POLL_S = 0.1
"""How long a commit waits for a poll under way, at most."""
READ_MAX = 100
AGAIN_S = 1.0
"""Between commits that nobody waits for, and between looks whether a broker is back."""
LOOK_WITHIN_S = 0.5


class Reader:
    """Reads topics into its backlog and commits the positions, from `start` until `end`."""

    def __init__(self, config: Mapping[str, Any], inbound: KafkaInbound, stirred: Callable[[], None]) -> None:
        """`stirred` is called on the thread when there is news. Raise KafkaException."""
        self._topics = inbound.topics
        self.backlog = Backlog(
            visibility_timeout_s=inbound.visibility_timeout_s,
            max_receives=inbound.max_receives,
            ordered=inbound.ordered,
        )
        """Only with the lock."""
        self.lock = Lock()
        self._stirred = stirred
        self._consumer = Consumer({**config, "error_cb": self._on_error, "on_commit": self._on_commit})
        self._subscribe()
        self._trouble = ""
        self.refused = ""
        """Why a commit failed last. It is repeated; while partitions move, that is the rule."""
        self._away = False
        self._looked_at = 0.0
        self._paused: frozenset[Partition] = frozenset()
        self._committed_at = 0.0
        self._urgent = Event()
        self._ending = Event()
        self.thread = Thread(target=self._run, name="kafka-reader", daemon=True)

    def start(self) -> None:
        """Join the group."""
        self.thread.start()

    def end(self) -> None:
        """Leave the group, soon; `thread` ends then."""
        self._ending.set()

    def commit_soon(self) -> None:
        """Somebody waits for a commit."""
        self._urgent.set()

    def trouble(self) -> str:
        """What went wrong since this was asked last, '' if nothing did."""
        found, self._trouble = self._trouble, ""
        return found

    # --- on the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._read()
                self._hold_back()
                self._commit()
                self._look()
            except Exception as error:
                # the border of a thread: a defect must not end it, or nothing would be received any more
                log.exception("reader-crashed")
                self._tell(str(error))
                self._ending.wait(AGAIN_S)
                self._begin_again()
        self._leave()

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def _begin_again(self) -> None:
        """From what is committed: a poll that raised may have taken messages along with it."""
        self._consumer.unsubscribe()
        with self.lock:
            self.backlog.revoked(self.backlog.partitions())
        self._subscribe()

    def _read(self) -> None:
        """Wait for one, then take what else is there."""
        timeout_s = POLL_S
        for _ in range(READ_MAX):
            message = self._consumer.poll(timeout_s)
            if message is None:
                break
            self._take(message)
            timeout_s = 0
        if not timeout_s:
            self._stirred()

    def _take(self, message: Message) -> None:
        if (error := message.error()) is not None:
            self._tell(error.str())
            return
        partition, record = _record(message)
        types = self._topics.get(partition[0], ())
        with self.lock:
            self.backlog.add(partition, record, wanted=not types or record.attributes.get(TYPE) in types)

    def _hold_back(self) -> None:
        with self.lock:
            full = self.backlog.full()
        mine = {_key(each) for each in self._consumer.assignment()} if full != self._paused else frozenset[Partition]()
        if more := full - self._paused:
            self._consumer.pause(_places(dict.fromkeys(more & mine, 0)))
        if fewer := self._paused - full:
            self._consumer.resume(_places(dict.fromkeys(fewer & mine, 0)))
        self._paused = full

    def _commit(self) -> None:
        now = time.monotonic()
        if not self._urgent.is_set() and now - self._committed_at < AGAIN_S:
            return
        self._urgent.clear()
        with self.lock:
            behind = self.backlog.behind()
        if behind:
            self._committed_at = now
            self._consumer.commit(offsets=_places(behind), asynchronous=True)

    def _leave(self) -> None:
        with self.lock:
            behind = self.backlog.behind()
        try:
            if behind:
                self._consumer.commit(offsets=_places(behind), asynchronous=False)
            self._consumer.close()
        except KafkaException as error:  # then who comes next receives again what was done with
            log.warning("left-uncommitted", error=str(error))

    def _look(self) -> None:
        """Say each time that no broker answers, until one does: without traffic nobody else would notice either."""
        now = time.monotonic()
        if not self._away or now - self._looked_at < AGAIN_S:
            return
        self._looked_at = now
        try:
            self._consumer.list_topics(next(iter(self._topics)), timeout=LOOK_WITHIN_S)
            self._away = False
        except KafkaException as error:
            self._tell(error.args[0].str())

    def _tell(self, why: str) -> None:
        self._trouble = why
        self._stirred()

    # --- what the library calls, within a poll --------------------------------------------------

    def _on_assign(self, _: Consumer, places: list[TopicPartition]) -> None:
        with self.lock:
            self.backlog.assigned([_key(place) for place in places])

    def _on_revoke(self, _: Consumer, places: list[TopicPartition]) -> None:
        gone = frozenset(_key(place) for place in places)
        with self.lock:
            self.backlog.revoked(gone)
        self._paused -= gone
        self._stirred()

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        done = [place for place in places if error is None and place.error is None]
        with self.lock:
            for place in done:
                self.backlog.committed(_key(place), place.offset)
        if len(done) < len(places):
            failed = next((place.error for place in places if place.error is not None), error)
            self.refused = failed.str() if failed is not None else "not committed"
        self._stirred()

    def _on_error(self, error: KafkaError) -> None:
        self._away = self._away or error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)
        self._tell(error.str())


def _record(message: Message) -> tuple[Partition, Record]:
    """Whatever is in a record: another producer may have left out anything, or written what is no text."""
    topic, number, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None, "only errors come from nowhere"
    assert number is not None
    assert offset is not None
    found = cast("list[tuple[str, bytes | None]]", message.headers() or [])  # what is received is never a mapping
    headers = {name: _text(value) for name, value in found}
    identity = headers.pop(ID, "")
    return (topic, number), Record(
        offset=offset,
        id=identity,
        at_ms=message.timestamp()[1],
        key=_text(message.key()),
        body=_text(message.value()),
        attributes=headers,
    )


def _text(raw: bytes | str | None) -> str:
    """Bytes that are no text stay what they are, so that a dead letter is sent on unchanged."""
    if raw is None or isinstance(raw, str):
        return raw or ""
    return raw.decode(errors="surrogateescape")


def _key(place: TopicPartition) -> Partition:
    return place.topic, place.partition


def _places(positions: Mapping[Partition, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number, position) for (topic, number), position in positions.items()]
