"""The consumer, against the broker in memory and in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from workloads import problems
from workloads.broker.attempt import TRANSIENT
from workloads.broker.consumer import STOP_WITHIN_S
from workloads.broker.envelope import Envelope, seal
from workloads.broker.memory import MemoryBroker, MemoryCloud
from workloads.broker.ports import BrokerUnavailable, Delivery, Parcel
from workloads.broker.testing import consumer_of
from workloads.broker.virtual import run_virtual
from workloads.messages import CapturePayment, OrderConfirmed, StepDone, Travelling
from workloads.problems import ProblemError
from workloads.settings import Inbound

VISIBILITY_S = 5
MAX_RECEIVES = 3


def command(order: str, run: str = "test") -> Parcel:
    message = CapturePayment(order_id=order, key=f"k-{order}", amount_cents=5)
    envelope = Envelope(id=f"e-{order}", run=run, source="orders", sent_ns=0, traceparent="", message=message)
    return Parcel(id=f"e-{order}", type="CapturePayment", group=order, body=seal(envelope))


def raw(body: str, name: str) -> Parcel:
    return Parcel(id=name, type="CapturePayment", group=name, body=body)


@dataclass
class Desk:
    """A service with a queue, and what it did."""

    fifo: bool = False
    disabled: frozenset[str] = frozenset()
    seen: list[tuple[str, float]] = field(default_factory=list)
    """Order ids in the order they were handled, and when."""
    does: Callable[[str], Awaitable[None]] | None = None
    """What the handler does besides; may raise."""
    cloud: MemoryCloud = field(default_factory=MemoryCloud)

    def __post_init__(self) -> None:
        end = ".fifo" if self.fifo else ""
        self.url, self.dead = self.cloud.add_queue(f"commands{end}"), self.cloud.add_queue(f"commands-dlq{end}")
        self.cloud.queues[self.url].dead_letters = self.dead
        self.cloud.queues[self.url].max_receives = MAX_RECEIVES
        self.cloud.add_queue("replies")
        self.inbound = Inbound(
            url=self.url,
            dead_letters_url=self.dead,
            visibility_timeout_s=VISIBILITY_S,
            max_receives=MAX_RECEIVES,
            fifo=self.fifo,
        )
        self.broker = MemoryBroker(self.cloud, self.inbound)
        self.consumer = consumer_of(self.broker, self.inbound, self.handle, disabled=self.disabled)

    async def handle(self, message: Travelling) -> Travelling | None:
        assert isinstance(message, CapturePayment)
        self.seen.append((message.order_id, asyncio.get_running_loop().time()))
        if self.does is not None:
            await self.does(message.order_id)
        return StepDone(order_id=message.order_id, key=message.key, step="CapturePayment")

    @property
    def orders(self) -> list[str]:
        return [order for order, _ in self.seen]

    def queue(self, url: str) -> list[str]:
        return [message.body for message in self.cloud.queues[url].messages]

    def replies(self) -> int:
        return len(self.queue("replies"))

    def reasons(self) -> list[str]:
        return [message.attributes.get("reason", "") for message in self.cloud.queues[self.dead].messages]

    async def until(self, done: Callable[[], bool], within_s: float = 60.0) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while not done():
            assert loop.time() < end, f"after {within_s} s: handled {self.seen}, dead {self.reasons()}"
            await asyncio.sleep(0.01)

    def idle(self) -> bool:
        return not self.cloud.queues[self.url].messages


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(test())

    run.__name__ = test.__name__
    return run


@in_virtual_time
async def test_each_message_is_handled_answered_and_deleted() -> None:
    desk = Desk()
    await desk.broker.send(desk.url, [command(f"o-{n}") for n in range(25)])
    desk.consumer.start()
    await desk.until(desk.idle)
    await desk.consumer.stop()
    assert desk.orders == [f"o-{n}" for n in range(25)]
    assert desk.replies() == 25
    assert desk.cloud.calls["send"] <= 1 + 3, "the replies of a batch go in one call"
    assert desk.cloud.calls["delete"] <= 3, "deletes are collected"


@in_virtual_time
async def test_a_reply_is_sent_before_its_message_is_deleted() -> None:
    desk = Desk()
    broken = asyncio.Event()

    class Deaf(MemoryBroker):
        async def send(self, destination: str, parcels: Any) -> set[str]:
            if destination == "replies" and not broken.is_set():
                raise BrokerUnavailable("replies only")
            return await super().send(destination, parcels)

    deaf = Deaf(desk.cloud, desk.inbound)
    consumer = consumer_of(deaf, desk.inbound, desk.handle)
    await desk.broker.send(desk.url, [command("o-1")])
    consumer.start()
    await asyncio.sleep(3 * VISIBILITY_S)
    assert len(desk.queue(desk.url)) == 1, "not answered, it must not be deleted"
    assert desk.orders == ["o-1"], "and it stays hidden meanwhile"
    broken.set()
    await desk.until(desk.idle)
    await consumer.stop()
    assert desk.replies() == 1


@in_virtual_time
async def test_what_cannot_be_read_is_dead_at_once_and_nobody_waits() -> None:
    desk = Desk()
    good = [command(f"o-{n}") for n in range(4)]
    bad = [
        raw(good[0].body[:40], "cut"),
        raw(good[0].body.replace('"v":1', '"v":9'), "version"),
        command("o-x", run="another"),
        raw(good[0].body + " " * 70_000, "long"),
        raw(good[0].body.replace("CapturePayment", "MintMoney"), "type"),
    ]
    await desk.broker.send(desk.url, [p for pair in zip(bad, [*good, good[0]], strict=True) for p in pair][:-1])
    desk.consumer.start()
    await desk.until(desk.idle)
    await desk.consumer.stop()
    assert sorted(desk.reasons()) == ["foreign", "malformed", "oversized", "unknown-type", "unknown-version"]
    assert desk.orders == ["o-0", "o-1", "o-2", "o-3"]
    assert max(at for _, at in desk.seen) < 0.1
    assert sorted(desk.queue(desk.dead)) == sorted(parcel.body for parcel in bad), "letters keep the original body"


@in_virtual_time
async def test_a_failing_message_comes_again_later_and_then_is_dead_with_the_reason() -> None:
    desk = Desk()

    async def fail(order: str) -> None:
        if order == "o-bad":
            raise RuntimeError("no such thing")

    desk.does = fail
    await desk.broker.send(desk.url, [command("o-bad"), command("o-1")])
    desk.consumer.start()
    await desk.until(desk.idle)
    await desk.consumer.stop()
    tries = [at for order, at in desk.seen if order == "o-bad"]
    assert len(tries) == MAX_RECEIVES
    assert tries[1] - tries[0] >= 1
    assert tries[2] - tries[1] >= 2
    (letter,) = desk.cloud.queues[desk.dead].messages
    assert letter.attributes["reason"] == "failed"
    assert letter.attributes["detail"] == "RuntimeError at delivery 3: no such thing"
    assert desk.orders.count("o-1") == 1


@in_virtual_time
async def test_without_a_database_messages_are_held_and_burn_no_delivery() -> None:
    desk = Desk()
    away = True

    async def database(_: str) -> None:
        if away:
            raise ProblemError(problems.DATABASE_UNAVAILABLE, "locked")

    desk.does = database
    await desk.broker.send(desk.url, [command("o-1"), command("o-2")])
    desk.consumer.start()
    await asyncio.sleep(12 * VISIBILITY_S)
    await desk.broker.send(desk.url, [command("o-3")])
    await asyncio.sleep(1)
    assert [message.receives for message in desk.cloud.queues[desk.url].messages] == [1, 1, 0], (
        "nothing new is received"
    )
    assert set(desk.orders) == {"o-1"}, "what follows waits its turn"
    away = False
    desk.seen.clear()
    begun = asyncio.get_running_loop().time()
    await desk.until(desk.idle)
    await desk.consumer.stop()
    assert desk.orders == ["o-1", "o-2", "o-3"]
    assert desk.seen[-1][1] - begun < 1.5, "it goes on by itself, soon"
    assert desk.reasons() == []


@in_virtual_time
async def test_long_work_stays_hidden() -> None:
    desk = Desk()
    desk.does = lambda _: asyncio.sleep(4 * VISIBILITY_S)
    await desk.broker.send(desk.url, [command("o-1"), command("o-2")])
    desk.consumer.start()
    await desk.until(desk.idle, 100)
    await desk.consumer.stop()
    assert desk.orders == ["o-1", "o-2"]


@in_virtual_time
async def test_without_extension_long_work_is_delivered_twice() -> None:
    desk = Desk(disabled=frozenset({"visibility"}))
    desk.does = lambda _: asyncio.sleep(VISIBILITY_S + 1)
    await desk.broker.send(desk.url, [command("o-1")])
    desk.consumer.start()
    await desk.until(lambda: len(desk.seen) > 1)
    await desk.consumer.stop()
    assert desk.orders[:2] == ["o-1", "o-1"]


@pytest.mark.parametrize("body", ["{", None])
def test_without_dead_letters_a_bad_message_blocks_its_queue(body: str | None) -> None:
    async def play() -> None:
        desk = Desk(disabled=frozenset({"dead-letters"}))

        async def fail(order: str) -> None:
            if order == "o-bad":
                raise RuntimeError("no such thing")

        desk.does = fail
        await desk.broker.send(desk.url, [command("o-bad") if body is None else raw(body, "bad"), command("o-1")])
        desk.consumer.start()
        await asyncio.sleep(60)
        await desk.broker.send(desk.url, [command("o-2")])
        await asyncio.sleep(60)
        assert "o-1" not in desk.orders
        assert "o-2" not in desk.orders
        assert desk.reasons() == []
        await desk.consumer.stop()

    run_virtual(play())


@in_virtual_time
async def test_a_failure_in_a_fifo_queue_holds_its_own_group_and_keeps_its_order() -> None:
    desk = Desk(fifo=True)
    failures = iter([True, True, False])
    done: list[str] = []

    async def handle(message: Travelling) -> None:
        assert isinstance(message, CapturePayment)
        if message.key == "k-a1" and next(failures):
            raise RuntimeError("not yet")
        done.append(message.key.removeprefix("k-"))

    consumer = consumer_of(desk.broker, desk.inbound, handle)
    parcels = []
    for name, group in (("a1", "A"), ("b1", "B"), ("a2", "A"), ("b2", "B")):
        message = CapturePayment(order_id=group, key=f"k-{name}", amount_cents=1)
        body = seal(Envelope(id=name, run="test", source="orders", sent_ns=0, traceparent="", message=message))
        parcels.append(Parcel(id=name, type="CapturePayment", group=group, body=body))
    await desk.broker.send(desk.url, parcels)
    consumer.start()
    await desk.until(desk.idle)
    await consumer.stop()
    assert done == ["b1", "b2", "a1", "a2"]
    assert desk.reasons() == []


@in_virtual_time
async def test_who_follows_a_dead_message_in_its_group_is_still_handled() -> None:
    desk = Desk(fifo=True)

    async def handle(message: Travelling) -> None:
        assert isinstance(message, CapturePayment)
        if message.key == "k-1":
            raise RuntimeError("never")
        desk.seen.append((message.key, 0))

    consumer = consumer_of(desk.broker, desk.inbound, handle)
    parcels = []
    for n in (1, 2, 3):
        message = CapturePayment(order_id="A", key=f"k-{n}", amount_cents=1)
        body = seal(Envelope(id=str(n), run="test", source="orders", sent_ns=0, traceparent="", message=message))
        parcels.append(Parcel(id=str(n), type="CapturePayment", group="A", body=body))
    await desk.broker.send(desk.url, parcels)
    consumer.start()
    await desk.until(desk.idle)
    await consumer.stop()
    assert desk.orders == ["k-2", "k-3"]
    assert desk.reasons() == ["failed"]


@in_virtual_time
async def test_stopping_finishes_what_is_begun_and_hands_back_the_rest() -> None:
    desk = Desk()
    desk.does = lambda _: asyncio.sleep(0.4)
    await desk.broker.send(desk.url, [command(f"o-{n}") for n in range(5)])
    desk.consumer.start()
    await asyncio.sleep(0.6)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await desk.consumer.stop()
    assert loop.time() - begun <= 2 * STOP_WITHIN_S
    assert desk.orders == ["o-0", "o-1"]
    assert desk.replies() == 2
    left = desk.cloud.queues[desk.url].messages
    assert [message.visible_at <= loop.time() for message in left] == [True, True, True], "handed back at once"


@in_virtual_time
async def test_stopping_while_held_hands_everything_back() -> None:
    desk = Desk()

    async def database(_: str) -> None:
        raise ProblemError(problems.DATABASE_UNAVAILABLE, "locked")

    desk.does = database
    await desk.broker.send(desk.url, [command("o-1"), command("o-2")])
    desk.consumer.start()
    await asyncio.sleep(10)
    await desk.consumer.stop()
    now = asyncio.get_running_loop().time()
    assert now < 13
    assert [m.visible_at <= now for m in desk.cloud.queues[desk.url].messages] == [True, True]


@in_virtual_time
async def test_a_broker_that_was_away_is_found_again() -> None:
    desk = Desk()
    desk.cloud.away = True
    desk.consumer.start()
    await asyncio.sleep(30)
    calls = desk.cloud.calls["receive"]
    assert 20 <= calls <= 80, "about one try a second"
    desk.cloud.away = False
    begun = asyncio.get_running_loop().time()
    await desk.broker.send(desk.url, [command("o-1")])
    await desk.until(lambda: bool(desk.seen), 5)
    assert desk.seen[0][1] - begun <= 1.1
    await desk.until(desk.idle)
    await desk.consumer.stop()


@in_virtual_time
async def test_neither_a_defect_nor_a_cancellation_that_nobody_asked_for_ends_a_consumer() -> None:
    flaws: list[BaseException] = [RuntimeError("a defect"), asyncio.CancelledError()]
    desk = Desk()
    receive = desk.broker.receive

    async def flawed() -> list[Delivery]:
        if flaws:
            raise flaws.pop()
        return await receive()

    desk.broker.receive = flawed  # type: ignore[method-assign]
    await desk.broker.send(desk.url, [command("o-1")])
    desk.consumer.start()
    await desk.until(desk.idle, 3)
    assert (desk.orders, flaws) == (["o-1"], [])
    await desk.consumer.stop()


@in_virtual_time
async def test_a_slow_broker_is_asked_by_several_receivers_while_the_queue_is_deep() -> None:
    desk = Desk()

    class Slow(MemoryBroker):
        async def receive(self) -> Any:
            found = await super().receive()
            await asyncio.sleep(2)
            return found

    consumer = consumer_of(Slow(desk.cloud, desk.inbound), desk.inbound, desk.handle)
    await desk.broker.send(desk.url, [command(f"o-{n}") for n in range(200)])
    consumer.start()
    await desk.until(lambda: len(desk.seen) == 200, 20)
    await asyncio.sleep(20)
    calls = desk.cloud.calls["receive"]
    await asyncio.sleep(20)
    assert desk.cloud.calls["receive"] - calls <= 6, "one receiver is left once it is empty"
    await consumer.stop()


@pytest.mark.parametrize("seed", range(8))
def test_under_any_failures_nothing_is_lost(seed: int) -> None:
    rng = random.Random(seed)

    async def play() -> None:
        desk = Desk()

        class Flaky(MemoryBroker):
            async def send(self, destination: str, parcels: Any) -> set[str]:
                failed = await super().send(destination, parcels)
                await self._mood()
                return failed

            async def receive(self) -> Any:
                found = await super().receive()
                await self._mood()
                return found

            async def delete(self, deliveries: Any) -> Any:
                await self._mood()
                return await super().delete(deliveries)

            async def extend(self, deliveries: Any, seconds: int) -> None:
                await self._mood()
                await super().extend(deliveries, seconds)

            async def _mood(self) -> None:
                if rng.random() < 0.3:
                    raise BrokerUnavailable("a whim")

        async def whims(_: str) -> None:
            if rng.random() < 0.2:
                raise ProblemError(problems.DATABASE_UNAVAILABLE, "a whim")

        desk.does = whims
        desk.cloud.queues[desk.url].max_receives = 0
        consumer = consumer_of(Flaky(desk.cloud, desk.inbound), desk.inbound, desk.handle)
        wanted = {f"o-{n}" for n in range(40)}
        await desk.broker.send(desk.url, [command(order) for order in sorted(wanted)])
        consumer.start()
        await desk.until(desk.idle, 300)
        await consumer.stop()
        answered = {str(body) for body in desk.queue("replies")}
        missing = {order for order in wanted if not any(f'"{order}"' in body for body in answered)}
        assert not missing, f"seed {seed}: no reply for {missing}"

    run_virtual(play())


def test_only_known_kinds_of_refusal_are_about_the_situation() -> None:
    assert all(kind.status in {503, 504} or kind is problems.IN_PROGRESS for kind in TRANSIENT)
    assert problems.INTERNAL not in TRANSIENT


def test_events_are_not_answered() -> None:
    async def play() -> None:
        desk = Desk()

        async def handle(message: Travelling) -> None:
            assert isinstance(message, OrderConfirmed)
            desk.seen.append((message.order_id, 0))

        message = OrderConfirmed(order_id="o-1", key="k", product="p", quantity=1, amount_cents=1, email="a@b")
        body = seal(Envelope(id="e", run="test", source="orders", sent_ns=0, traceparent="", message=message))
        await desk.broker.send(desk.url, [Parcel(id="e", type="OrderConfirmed", group="o-1", body=body)])
        consumer = consumer_of(desk.broker, desk.inbound, handle)
        consumer.start()
        await desk.until(desk.idle)
        await consumer.stop()
        assert (desk.orders, desk.replies()) == (["o-1"], 0)

    run_virtual(play())
