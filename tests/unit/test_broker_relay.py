"""The relay, against a small outbox and the broker in memory, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from workloads import problems
from workloads.broker.memory import MemoryBroker, MemoryCloud
from workloads.broker.ports import BrokerUnavailable, Parcel
from workloads.broker.post import Post
from workloads.broker.relay import Relay
from workloads.broker.virtual import run_virtual
from workloads.messages import AccountRegistered, CapturePayment, OrderConfirmed, ReserveStock, StepDone
from workloads.ports import Outgoing, Repository
from workloads.problems import ProblemError
from workloads.settings import Broker, Settings
from workloads.telemetry import Telemetry

TOPIC = "arn:events.fifo"
SETTINGS = Broker(queues={"inventory": "inventory", "payments": "payments", "orders": "replies"}, topic=TOPIC)


@dataclass
class Outbox:
    """As much of a repository as a relay uses."""

    rows: list[Outgoing] = field(default_factory=list)
    locked: bool = False
    on_enqueued: Callable[[], None] = lambda: None
    reads: int = 0
    _seq: int = 0

    def add(self, message: Any, subject: str, *, announced: bool = True) -> None:
        self._seq += 1
        row = Outgoing(seq=self._seq, id=f"e-{self._seq}", subject=subject, message=message, at_ns=0, traceparent="")
        self.rows.append(row)
        if announced:
            self.on_enqueued()

    async def waiting(self, limit: int, after: int = 0) -> list[Outgoing]:
        self.reads += 1
        self._open()
        return [row for row in self.rows if row.seq > after][:limit]

    async def published(self, seqs: Sequence[int]) -> None:
        self._open()
        self.rows = [row for row in self.rows if row.seq not in seqs]

    def _open(self) -> None:
        if self.locked:
            raise ProblemError(problems.DATABASE_UNAVAILABLE, "locked")


class Counting(MemoryBroker):
    """Remembers what was sent where, in the order in which it was acknowledged; has whims."""

    def __init__(self, rng: random.Random, whims: float = 0.0, takes_s: float = 0.0) -> None:
        cloud = MemoryCloud()
        for name in ("inventory", "payments", "replies", "cache.fifo"):
            cloud.add_queue(name)
        cloud.topics[TOPIC] = [("cache.fifo", frozenset({"OrderConfirmed", "AccountRegistered"}))]
        super().__init__(cloud)
        self._rng = rng
        self.whims = whims
        self._takes_s = takes_s
        self.batches: list[tuple[str, list[str]]] = []
        self.under_way: dict[str, int] = defaultdict(int)

    async def send(self, destination: str, parcels: Sequence[Parcel]) -> set[str]:
        for parcel in parcels:
            self.under_way[parcel.group] += 1
            assert self.under_way[parcel.group] == 1, f"{parcel.group} has two unacknowledged messages"
        try:
            await asyncio.sleep(self._takes_s * self._rng.uniform(0.5, 1.5))
            failed = {parcel.id for parcel in parcels if self._rng.random() < self.whims}
            await super().send(destination, [parcel for parcel in parcels if parcel.id not in failed])
            self.batches.append((destination, [parcel.id for parcel in parcels if parcel.id not in failed]))
            if self._rng.random() < self.whims:
                raise BrokerUnavailable("sent, but who knows")
            return failed
        finally:
            for parcel in parcels:
                self.under_way[parcel.group] -= 1

    def bodies(self, queue: str) -> list[Any]:
        return [json.loads(message.body) for message in self.cloud.queues[queue].messages]


def relay_of(outbox: Outbox, broker: MemoryBroker, **more: Any) -> Relay:
    repository: Repository = outbox  # type: ignore[assignment]  # as much of it as is used
    telemetry = Telemetry(Settings(service="orders", run_id="test"))
    post = Post(SETTINGS, run="test", source="orders", clock_ns=lambda: 9)
    return Relay(repository, broker, post=post, telemetry=telemetry, rng=random.Random(1), **more)


async def until(done: Callable[[], bool], within_s: float = 60.0, why: Callable[[], object] = lambda: "") -> None:
    end = asyncio.get_running_loop().time() + within_s
    while not done():
        assert asyncio.get_running_loop().time() < end, f"not within {within_s} s: {why()}"
        await asyncio.sleep(0.005)


def reserve(n: int) -> ReserveStock:
    return ReserveStock(order_id=f"o-{n}", key=f"k-{n}", product="p", quantity=1)


def capture(n: int) -> CapturePayment:
    return CapturePayment(order_id=f"o-{n}", key=f"k-{n}", amount_cents=1)


def test_each_type_goes_to_its_address_in_an_envelope() -> None:
    async def play() -> None:
        outbox, broker = Outbox(), Counting(random.Random(1))
        relay = relay_of(outbox, broker)
        relay.start()
        outbox.add(reserve(1), "o-1")
        outbox.add(capture(1), "o-1-money")
        outbox.add(StepDone(order_id="o-2", key="k", step="ReserveStock"), "o-2")
        outbox.add(OrderConfirmed(order_id="o-3", key="k", product="p", quantity=1, amount_cents=1, email="a@b"), "o-3")
        outbox.add(AccountRegistered(account_id="a-1", key="k", name="n", email="a@b"), "a-1")
        await until(lambda: not outbox.rows)
        await relay.stop()
        assert {queue: [body["type"] for body in broker.bodies(queue)] for queue in broker.cloud.queues} == {
            "inventory": ["ReserveStock"],
            "payments": ["CapturePayment"],
            "replies": ["StepDone"],
            "cache.fifo": ["OrderConfirmed", "AccountRegistered"],
        }
        assert broker.bodies("inventory") == [
            {
                "v": 1,
                "id": "e-1",
                "type": "ReserveStock",
                "run": "test",
                "source": "orders",
                "sent_ns": 9,
                "traceparent": "",
                "body": {"order_id": "o-1", "key": "k-1", "product": "p", "quantity": 1},
            }
        ]
        assert [m.group for m in broker.cloud.queues["cache.fifo"].messages] == ["o-3", "a-1"]

    run_virtual(play())


def test_news_are_published_at_once_and_together() -> None:
    async def play() -> None:
        outbox, broker = Outbox(), Counting(random.Random(1))
        relay = relay_of(outbox, broker)
        relay.start()
        await asyncio.sleep(0.1)
        for n in range(10):
            outbox.add(reserve(n), f"o-{n}")
        begun = asyncio.get_running_loop().time()
        await until(lambda: bool(broker.batches))
        assert asyncio.get_running_loop().time() - begun < 0.02
        assert broker.batches == [("inventory", [f"e-{n}" for n in range(1, 11)])]
        await until(lambda: not outbox.rows)
        await relay.stop()

    run_virtual(play())


def test_what_nobody_announced_is_found_within_a_second() -> None:
    async def play() -> None:
        outbox, broker = Outbox(), Counting(random.Random(1))
        outbox.add(reserve(1), "o-1", announced=False)
        relay = relay_of(outbox, broker)
        relay.start()
        await until(lambda: not outbox.rows, 1)
        outbox.add(reserve(2), "o-2", announced=False)
        await until(lambda: not outbox.rows, 1)
        reads = outbox.reads
        await asyncio.sleep(10)
        assert outbox.reads - reads <= 21, "twice a second is enough"
        await relay.stop()

    run_virtual(play())


@pytest.mark.parametrize("seed", range(6))
def test_under_any_failures_everything_is_published_in_order_per_subject(seed: int) -> None:
    async def play() -> None:
        rng = random.Random(seed)
        outbox, broker = Outbox(), Counting(rng, whims=0.3, takes_s=0.2)
        relay = relay_of(outbox, broker)
        relay.start()
        for _ in range(300):
            subject = rng.randrange(20)
            outbox.add(reserve(subject), f"o-{subject}", announced=rng.random() < 0.9)
            outbox.locked = rng.random() < 0.1
            await asyncio.sleep(rng.expovariate(50))
        outbox.locked = False
        await until(lambda: not outbox.rows, 300, lambda: f"seed {seed}: {len(outbox.rows)} left")
        await relay.stop()
        first: dict[str, int] = {}
        order: dict[str, list[int]] = defaultdict(list)
        for at, body in enumerate(broker.bodies("inventory")):
            if first.setdefault(body["id"], at) == at:
                order[body["body"]["order_id"]].append(int(body["id"].removeprefix("e-")))
        assert len(first) == 300, f"seed {seed}"
        assert all(ids == sorted(ids) for ids in order.values()), f"seed {seed}: {order}"

    run_virtual(play())


def test_nothing_is_forgotten_before_it_is_acknowledged() -> None:
    async def play() -> None:
        outbox, broker = Outbox(), Counting(random.Random(1), takes_s=2.0)
        for n in range(5):
            outbox.add(reserve(n), f"o-{n}")
        killed = relay_of(outbox, broker)
        killed.start()
        await asyncio.sleep(0.5)
        assert len(outbox.rows) == 5
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # as SIGKILL does: no stop
        successor = relay_of(outbox, broker)
        successor.start()
        await until(lambda: not outbox.rows)
        await successor.stop()
        assert {body["id"] for body in broker.bodies("inventory")} == {f"e-{n}" for n in range(1, 6)}

    run_virtual(play())


def test_an_outage_is_borne_and_the_backlog_is_published_soon_after() -> None:
    async def play() -> None:
        outbox, broker = Outbox(), Counting(random.Random(1))
        relay = relay_of(outbox, broker)
        relay.start()
        broker.cloud.away = True
        for n in range(2500):
            outbox.add(reserve(n), f"o-{n}")
        await asyncio.sleep(30)
        assert broker.cloud.calls["send"] < 80, "about one call a second"
        assert len(outbox.rows) == 2500
        broker.cloud.away = False
        await until(lambda: not outbox.rows, 20, lambda: f"{len(outbox.rows)} left")
        await relay.stop()
        assert len(broker.bodies("inventory")) == 2500

    run_virtual(play())


def test_a_destination_that_is_away_holds_up_no_other() -> None:
    async def play() -> None:
        class Half(Counting):
            async def send(self, destination: str, parcels: Sequence[Parcel]) -> set[str]:
                if destination == "payments":
                    raise BrokerUnavailable("no such queue")
                return await super().send(destination, parcels)

        outbox, broker = Outbox(), Half(random.Random(1))
        relay = relay_of(outbox, broker)
        relay.start()
        for n in range(20):
            outbox.add(capture(n), f"o-{n}")
            outbox.add(reserve(n), f"o-{n}")
        await until(lambda: len(broker.bodies("inventory")) == 20, 1)
        await until(lambda: len(outbox.rows) == 20, 1)
        await relay.stop()

    run_virtual(play())


def test_a_message_without_an_address_stays_and_holds_up_nobody() -> None:
    async def play() -> None:
        outbox, broker = Outbox(), Counting(random.Random(1))
        relay = relay_of(outbox, broker)
        relay.start()
        outbox.add(object(), "o-1")
        outbox.add(reserve(1), "o-1")
        await until(lambda: [row.id for row in outbox.rows] == ["e-1"], 1)
        await relay.stop()

    run_virtual(play())


def test_stopping_forgets_what_was_acknowledged() -> None:
    async def play() -> None:
        outbox, broker = Outbox(), Counting(random.Random(1), takes_s=0.3)
        relay = relay_of(outbox, broker)
        relay.start()
        outbox.add(reserve(1), "o-1")
        await asyncio.sleep(0.05)
        await relay.stop()
        assert outbox.rows == []
        assert len(broker.bodies("inventory")) == 1

    run_virtual(play())


def test_neither_a_defect_nor_a_cancellation_that_nobody_asked_for_ends_a_relay() -> None:
    class Flawed(Outbox):
        async def waiting(self, limit: int, after: int = 0) -> list[Outgoing]:
            if flaws:
                raise flaws.pop()
            return await super().waiting(limit, after)

    flaws: list[BaseException] = [RuntimeError("a defect"), asyncio.CancelledError()]

    async def play() -> None:
        outbox, broker = Flawed(), Counting(random.Random(1))
        relay = relay_of(outbox, broker)
        relay.start()
        outbox.add(reserve(1), "o-1")
        await until(lambda: not outbox.rows, 2)
        await relay.stop()
        assert (broker.batches, flaws) == ([("inventory", ["e-1"])], [])

    run_virtual(play())
