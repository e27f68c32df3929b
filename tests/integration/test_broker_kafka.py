"""The adapter on a real Kafka: the port's suite, order, and kills of consumers and of the broker; nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from workloads.broker import kafka as kafka_adapter
from workloads.broker import kafka_backlog, kafka_config
from workloads.broker.conformance import check_broker
from workloads.broker.envelope import Envelope, seal
from workloads.broker.kafka import KafkaBroker
from workloads.broker.kafka_reader import READ_MAX
from workloads.broker.ports import BrokerUnavailable, Delivery, Parcel
from workloads.broker.testing import consumer_of
from workloads.broker.testing_kafka import KafkaProcess, NoKafka, kafka_lab, kafka_process, opened_kafka
from workloads.messages import CapturePayment, Travelling
from workloads.settings import KafkaInbound

pytestmark = pytest.mark.slow

SESSION_S = 2
"""Instead of the six seconds that a broker allows by itself."""
WITHIN_S = 1.0
"""How long a send or a commit may take where a broker is away on purpose."""

POM = Path(__file__).parents[1] / "kafka/pom.xml"
VICTIM = """
import asyncio, json, sys
from workloads.broker import kafka_config
from workloads.broker.testing_kafka import opened_kafka
from workloads.settings import KafkaInbound

async def main(bootstrap, session_s, fields):
    kafka_config.SESSION_S = int(session_s)
    async with opened_kafka(bootstrap, KafkaInbound(**fields)) as broker:
        while not (found := await broker.receive()):
            pass
        print(json.dumps([each.body for each in found]), flush=True)
        await asyncio.sleep(600)

asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
"""
"""Has effects of what it receives, and dies before anything is deleted."""
_number = count()


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaProcess]:
    try:
        with kafka_process(POM) as process:
            yield process
    except NoKafka as error:
        pytest.skip(f"no Kafka can be run here: {error}")


def topics(kafka: KafkaProcess, *, partitions: int = 3, ordered: bool = True, visibility_s: int = 5) -> KafkaInbound:
    """A topic and one for its dead letters, of their own for a test, and how they are read."""
    name = f"t-{next(_number)}"
    kafka.create(name, f"{name}-dead-letters", partitions=partitions)
    return KafkaInbound(
        group=name,
        topics={name: ()},
        dead_letters=f"{name}-dead-letters",
        ordered=ordered,
        visibility_timeout_s=visibility_s,
    )


def topic(inbound: KafkaInbound) -> str:
    return next(iter(inbound.topics))


def dead(inbound: KafkaInbound) -> KafkaInbound:
    return KafkaInbound(group="undertaker", topics={inbound.dead_letters: ()}, dead_letters=inbound.dead_letters)


def command(order: str, number: int) -> Parcel:
    message = CapturePayment(order_id=order, key=f"{number}", amount_cents=number)
    envelope = Envelope(
        id=f"e-{order}-{number}", run="test", source="orders", sent_ns=0, traceparent="", message=message
    )
    return Parcel(id=envelope.id, type="CapturePayment", group=order, body=seal(envelope))


async def until(done: Callable[[], bool], why: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end, f"not within {within_s} s: {why()}"
        await asyncio.sleep(0.02)


async def received(broker: KafkaBroker) -> list[Delivery]:
    """The first batch. Raise BrokerUnavailable."""
    async with asyncio.timeout(20):
        while not (found := await broker.receive()):
            pass
    return found


async def caught_up(kafka: KafkaProcess, inbound: KafkaInbound, partitions: int = 3) -> None:
    """Everything is committed, soon."""
    places = {topic(inbound): partitions}
    end, left = time.monotonic() + 30, "not known"
    while left != "0":
        assert time.monotonic() < end, f"not committed: {left}"
        try:
            left = str(await asyncio.to_thread(kafka.lag, inbound.group, places))
        except KafkaException as error:  # a broker that has stood still takes a while to lead again
            left = str(error)


async def test_the_broker_suite_over_kafka(kafka: KafkaProcess) -> None:
    await check_broker(lambda: kafka_lab(kafka))


async def test_messages_of_a_key_are_worked_on_in_order_although_some_fail_at_first(kafka: KafkaProcess) -> None:
    inbound, orders, each = topics(kafka), [f"o-{n}" for n in range(5)], 12
    seen: dict[str, list[int]] = {order: [] for order in orders}
    failed: set[tuple[str, int]] = set()

    async def handle(message: Travelling) -> None:
        assert isinstance(message, CapturePayment)
        this = (message.order_id, message.amount_cents)
        if message.amount_cents % 5 == 2 and this not in failed:
            failed.add(this)
            raise RuntimeError("not now")
        seen[message.order_id].append(message.amount_cents)

    async with opened_kafka(kafka.bootstrap, inbound) as broker:
        for n in range(each):
            assert await broker.send(topic(inbound), [command(order, n) for order in orders]) == set()
        consumer = consumer_of(broker, inbound, handle)
        consumer.start()
        await until(lambda: all(len(done) >= each for done in seen.values()), lambda: seen)
        await consumer.stop()
    assert len(failed) == 2 * len(orders)
    assert seen == {order: list(range(each)) for order in orders}


async def test_what_a_killed_consumer_had_in_hand_comes_to_another_of_its_group(kafka: KafkaProcess) -> None:
    inbound = topics(kafka, ordered=False)
    bodies = [f"body {n}" for n in range(6)]
    fields = {"group": inbound.group, "topics": {topic(inbound): []}, "dead_letters": inbound.dead_letters}
    async with opened_kafka(kafka.bootstrap) as sender:
        parcels = [Parcel(id=body, type="T", group=body, body=body) for body in bodies]
        assert await sender.send(topic(inbound), parcels) == set()
    words = (sys.executable, "-c", VICTIM, kafka.bootstrap, str(SESSION_S), json.dumps(fields))
    victim = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    try:
        assert victim.stdout is not None
        assert json.loads(await victim.stdout.readline())
        async with opened_kafka(kafka.bootstrap, inbound) as heir:
            victim.kill()
            found: list[Delivery] = []
            while len(found) < len(bodies):
                found += await heir.receive()
            assert await heir.delete(found) == []
    finally:
        if victim.returncode is None:
            victim.kill()
        await victim.wait()
    assert sorted(each.body for each in found) == bodies
    await caught_up(kafka, inbound)


async def test_partitions_move_to_who_joins_and_nothing_is_lost_or_left(kafka: KafkaProcess) -> None:
    inbound, total = topics(kafka, partitions=4), 120
    seen: dict[int, set[str]] = {0: set(), 1: set()}

    async def work(number: int) -> None:
        async with opened_kafka(kafka.bootstrap, inbound) as broker:
            while len(seen[0] | seen[1]) < total or not seen[1]:
                found = await broker.receive()
                await asyncio.sleep(0.05)  # in hand for a while, also while partitions move
                seen[number].update(each.body for each in found)
                await broker.delete(found)

    async with opened_kafka(kafka.bootstrap) as sender, asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(work(0))
        await until(lambda: not seen[0], lambda: seen)
        group.create_task(work(1))
        for n in range(total):
            await sender.send(topic(inbound), [Parcel(id=f"p-{n}", type="T", group=f"g-{n}", body=f"body {n}")])
            await asyncio.sleep(0.03)
    assert seen[0] | seen[1] == {f"body {n}" for n in range(total)}
    await caught_up(kafka, inbound, 4)


async def test_a_frozen_broker_is_unavailable_in_time_and_what_is_asked_of_it_twice_is_sent_once(
    kafka: KafkaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbound = topics(kafka)
    async with opened_kafka(kafka.bootstrap, inbound) as broker:
        assert await broker.send(topic(inbound), [command("o-1", 1)]) == set()
        (found,) = await received(broker)
        monkeypatch.setattr(kafka_adapter, "SEND_WITHIN_S", WITHIN_S)
        monkeypatch.setattr(kafka_adapter, "COMMIT_WITHIN_S", WITHIN_S)
        kafka.send(signal.SIGSTOP)
        try:
            calls = (broker.send(topic(inbound), [command("o-1", 2)]), broker.delete([found]))
            async with asyncio.timeout(3 * WITHIN_S):
                answers = await asyncio.gather(*calls, return_exceptions=True)
            monkeypatch.undo()
            again = asyncio.ensure_future(broker.send(topic(inbound), [command("o-1", 2)]))
            await asyncio.sleep(0)  # it has begun
        finally:
            kafka.send(signal.SIGCONT)
        assert [type(answer) for answer in answers] == [BrokerUnavailable, BrokerUnavailable]
        assert await again == set()
        assert await broker.delete([found]) == []
        second = await received(broker)
        with suppress(BrokerUnavailable):  # not within five seconds, but later
            await broker.delete(second)
        await caught_up(kafka, inbound)
    assert kafka.lag("nobody", {topic(inbound): 3}) == 2


async def test_a_topic_that_is_missing_is_an_unavailable_broker(
    kafka: KafkaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_adapter, "SEND_WITHIN_S", WITHIN_S)
    inbound = KafkaInbound(group="nobody", topics={"no-such-topic": ()}, dead_letters="none")
    async with opened_kafka(kafka.bootstrap, inbound) as broker:
        with pytest.raises(BrokerUnavailable, match=r"(?i)unknown topic"):
            await received(broker)
        with pytest.raises(BrokerUnavailable):
            await broker.send("no-such-topic", [command("o-1", 1)])


async def test_what_is_no_text_is_buried_as_the_bytes_it_was(kafka: KafkaProcess) -> None:
    inbound, raw = topics(kafka), b"\xff\x00 no text"
    foreign = Producer({"bootstrap.servers": kafka.bootstrap})
    foreign.produce(topic(inbound), value=raw)
    foreign.produce(topic(inbound), value=None, key=b"\xfe", headers={"type": None})
    assert foreign.flush(10) == 0

    async def handle(message: Travelling) -> None:
        raise AssertionError(f"nobody can read {message}")

    letters: list[Delivery] = []
    async with opened_kafka(kafka.bootstrap, inbound) as broker:
        consumer = consumer_of(broker, inbound, handle)
        consumer.start()
        async with opened_kafka(kafka.bootstrap, dead(inbound)) as undertaker:
            while len(letters) < 2:
                letters += await undertaker.receive()
        await consumer.stop()
    assert sorted(each.body.encode(errors="surrogateescape") for each in letters) == [b"", raw]
    assert {each.attributes["reason"] for each in letters} == {"malformed"}


async def test_a_partition_of_which_too_much_is_in_hand_is_not_read_on(
    kafka: KafkaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_backlog, "WINDOW_MAX", 20)
    inbound, total = topics(kafka, partitions=1, ordered=False), 200
    parcels = [Parcel(id=f"p-{n}", type="T", group=f"g-{n}", body=f"body {n}") for n in range(total)]
    async with opened_kafka(kafka.bootstrap, inbound) as broker:
        assert await broker.send(topic(inbound), parcels) == set()
        seen: list[str] = []

        async def work_off(found: list[Delivery]) -> None:
            while found:
                seen.extend(each.body for each in found)
                await broker.delete(found)
                found = await broker.receive()

        first, *others = await received(broker)
        await broker.extend([first], 60)
        await work_off(others)
        assert len(seen) <= 20 + READ_MAX, "it was read on although the first was never deleted"
        await work_off([first])
    assert sorted(seen) == sorted(each.body for each in parcels)


async def test_a_killed_broker_loses_nothing_and_the_consumer_goes_on(
    kafka: KafkaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_config, "SESSION_S", SESSION_S)
    inbound, total = topics(kafka), 60
    seen: set[int] = set()

    async def handle(message: Travelling) -> None:
        assert isinstance(message, CapturePayment)
        seen.add(message.amount_cents)

    async def send(n: int) -> None:
        while True:
            try:
                assert await sender.send(topic(inbound), [command(f"o-{n % 7}", n)]) == set()
                return
            except BrokerUnavailable:
                continue

    async with opened_kafka(kafka.bootstrap, inbound) as broker, opened_kafka(kafka.bootstrap) as sender:
        consumer = consumer_of(broker, inbound, handle)
        consumer.start()
        async with asyncio.TaskGroup() as sending:
            for n in range(total):
                sending.create_task(send(n))
                if n == total // 2:
                    await until(lambda: len(seen) > 5, lambda: seen)
                    kafka.kill()
                    kafka.launch()
                    starting = sending.create_task(asyncio.to_thread(kafka.wait_ready))
                await asyncio.sleep(0.02)
        await starting
        await until(lambda: len(seen) == total, lambda: sorted(set(range(total)) - seen))
        await caught_up(kafka, inbound)
        await consumer.stop()
