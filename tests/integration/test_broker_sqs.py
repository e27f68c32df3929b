"""Consumer and relay on the embedded broker: frozen, killed, fed with rubbish, and timed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from workloads.broker.envelope import Envelope, seal
from workloads.broker.ports import BrokerUnavailable, Parcel
from workloads.broker.post import Post
from workloads.broker.relay import Relay
from workloads.broker.testing import (
    CREDENTIALS,
    BrokerProcess,
    Queues,
    broker_process,
    consumer_of,
    opened,
    queues_at,
)
from workloads.messages import CapturePayment, ReserveStock, StepDone, Travelling
from workloads.ports import Outgoing
from workloads.settings import Broker, Inbound, Settings
from workloads.telemetry import Telemetry
from workloads.testing_processes import free_ports

pytestmark = pytest.mark.slow


@asynccontextmanager
async def embedded() -> AsyncIterator[tuple[BrokerProcess, Queues]]:
    with broker_process(free_ports(1)[0]) as process:
        async with queues_at(process.endpoint) as queues:
            yield process, queues


async def until(done: Callable[[], bool], why: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end, f"not within {within_s} s: {why()}"
        await asyncio.sleep(0.02)


def command(order: str, run: str = "test") -> Parcel:
    message = CapturePayment(order_id=order, key=f"k-{order}", amount_cents=5)
    envelope = Envelope(id=f"e-{order}", run=run, source="orders", sent_ns=0, traceparent="", message=message)
    return Parcel(id=f"e-{order}", type="CapturePayment", group=order, body=seal(envelope))


async def test_calls_go_to_the_endpoint_of_the_settings_whatever_the_queue_url_says() -> None:
    async with embedded() as (process, queues):
        url = (await queues.add("named")).replace(process.endpoint, "http://127.0.0.1:9")
        async with opened(process.endpoint) as broker:
            assert await broker.send(url, [command("o-1")]) == set()
        assert url.startswith("http://127.0.0.1:9/"), url
        assert await queues.left(url) == 1


async def test_what_cannot_be_read_goes_to_the_dead_letters_while_the_others_are_served() -> None:
    async with embedded() as (process, queues):
        dead = await queues.add("c-dlq")
        inbound = Inbound(url=await queues.add("c"), dead_letters_url=dead)
        replies = await queues.add("replies")
        good = [command(f"o-{n}") for n in range(5)]
        bodies = {
            "malformed": good[0].body[:50],
            "unknown-version": good[0].body.replace('"v":1', '"v":2'),
            "oversized": good[0].body + " " * 70_000,
            "foreign": command("o-9", run="another").body,
            "unknown-type": good[0].body.replace("CapturePayment", "MintMoney"),
        }
        seen: list[str] = []

        async def handle(message: Travelling) -> Travelling:
            assert isinstance(message, CapturePayment)
            seen.append(message.order_id)
            return StepDone(order_id=message.order_id, key=message.key, step="CapturePayment")

        async with opened(process.endpoint, inbound) as broker:
            for parcel, (name, body) in zip(good, bodies.items(), strict=True):
                bad = Parcel(id=name, type="CapturePayment", group="g", body=body)
                assert await broker.send(inbound.url, [bad, parcel]) == set()
            consumer = consumer_of(broker, inbound, handle, replies=replies)
            consumer.start()
            await until(lambda: len(seen) == 5, lambda: seen)
            letters: dict[str, str] = {}
            async with opened(process.endpoint, Inbound(url=dead, dead_letters_url=dead)) as undertaker:
                while len(letters) < 5:
                    letters |= {letter.attributes["reason"]: letter.body for letter in await undertaker.receive()}
            await consumer.stop()
        assert letters == bodies
        assert sorted(seen) == [f"o-{n}" for n in range(5)]
        assert (await queues.left(inbound.url), await queues.left(replies)) == (0, 5)


class Outbox:
    """As much of a repository as a relay uses."""

    def __init__(self) -> None:
        self.rows: list[Outgoing] = []
        self.on_enqueued: Callable[[], None] = lambda: None
        self.count = 0

    def add(self) -> str:
        self.count += 1
        order = f"o-{self.count}"
        message = ReserveStock(order_id=order, key=f"k-{order}", product="p", quantity=1)
        self.rows.append(
            Outgoing(seq=self.count, id=f"e-{order}", subject=order, message=message, at_ns=0, traceparent="")
        )
        self.on_enqueued()
        return order

    async def waiting(self, limit: int, after: int = 0) -> list[Outgoing]:
        return [row for row in self.rows if row.seq > after][:limit]

    async def published(self, seqs: Any) -> None:
        self.rows = [row for row in self.rows if row.seq not in seqs]


async def test_a_broker_frozen_for_three_seconds_loses_nothing() -> None:
    async with embedded() as (process, queues):
        inbound = Inbound(url=await queues.add("c", visibility_s=2), dead_letters_url=await queues.add("c-dlq"))
        inbound = Inbound(url=inbound.url, dead_letters_url=inbound.dead_letters_url, visibility_timeout_s=2)
        seen: set[str] = set()

        async def handle(message: Travelling) -> None:
            assert isinstance(message, ReserveStock)
            seen.add(message.order_id)

        outbox = Outbox()
        async with opened(process.endpoint, inbound) as receiving, opened(process.endpoint) as sending:
            consumer = consumer_of(receiving, inbound, handle)
            relay = Relay(
                outbox,  # type: ignore[arg-type]  # as much of a repository as it uses
                sending,
                post=Post(Broker(queues={"inventory": inbound.url}), run="test", source="orders"),
                telemetry=Telemetry(Settings(service="orders", run_id="test")),
                rng=random.Random(1),
            )
            consumer.start()
            relay.start()
            wanted = set()
            frozen = False
            begun = time.monotonic()
            while (elapsed := time.monotonic() - begun) < 5:
                wanted.add(outbox.add())
                if not frozen and elapsed > 1:
                    process.process.send_signal(signal.SIGSTOP)
                    frozen = True
                if elapsed > 4:
                    process.process.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.02)
            await until(lambda: seen == wanted, lambda: f"{len(wanted - seen)} missing", 20)
            await until(lambda: not outbox.rows, lambda: f"{len(outbox.rows)} in the outbox")
            await relay.stop()
            await consumer.stop()
            assert await queues.left(inbound.dead_letters_url) == 0


PAYER = """
import asyncio, json, os, signal, sqlite3, sys
from workloads.broker.testing import consumer_of, opened
from workloads.settings import Inbound
endpoint, url, dead, path, die = sys.argv[1:]
inbound = Inbound(url=url, dead_letters_url=dead, visibility_timeout_s=2)
database = sqlite3.connect(path, isolation_level=None)
database.execute("create table if not exists captured (id text primary key)")
database.execute("create table if not exists delivered (id text)")
async def handle(message):
    database.execute("insert into delivered values (?)", [message.order_id])
    database.execute("insert or ignore into captured values (?)", [message.order_id])
    if die == "die" and message.order_id == "o-5":
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    async with opened(endpoint, inbound) as broker:
        consumer_of(broker, inbound, handle).start()
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_consumer_killed_between_effect_and_delete_applies_each_message_once(tmp_path: Path) -> None:
    path = tmp_path / "payments.db"

    def rows(table: str) -> list[str]:
        if not path.exists():
            return []
        with sqlite3.connect(path) as database:
            try:
                return [row[0] for row in database.execute(f"select id from {table} order by id")]
            except sqlite3.OperationalError:
                return []

    async with embedded() as (process, queues):
        url, dead = await queues.add("c", visibility_s=2), await queues.add("c-dlq")
        wanted = [f"o-{n}" for n in range(10)]
        async with opened(process.endpoint) as broker:
            await broker.send(url, [command(order) for order in wanted])
        arguments = [sys.executable, "-c", PAYER, process.endpoint, url, dead, str(path)]
        environment = {**os.environ, **CREDENTIALS}
        killed = await asyncio.to_thread(subprocess.run, [*arguments, "die"], env=environment, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert "o-5" in rows("captured"), "it had its effect"
        successor = await asyncio.to_thread(subprocess.Popen, [*arguments, "live"], env=environment)
        try:
            end = time.monotonic() + 30
            while await queues.left(url):
                assert time.monotonic() < end, f"captured {rows('captured')}"
                await asyncio.sleep(0.1)
        finally:
            successor.kill()
            successor.wait()
        assert rows("captured") == wanted
        assert rows("delivered").count("o-5") == 2, "it was delivered again"
        assert await queues.left(dead) == 0


async def test_a_blackhole_does_not_hold_a_call_for_ever() -> None:
    async def swallow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    os.environ.update(CREDENTIALS)
    begun = time.monotonic()
    async with opened(f"http://127.0.0.1:{port}") as broker:
        with pytest.raises(BrokerUnavailable):
            await broker.send("http://broker/000000000000/q", [command("o-1")])
    assert time.monotonic() - begun < 16
    server.close()
