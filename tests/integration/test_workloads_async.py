"""The asynchronous shop as nine real processes and a broker: accepted at once, completed whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from stages.catalogue import ASYNC
from stages.messaging import VISIBILITY_TIMEOUT_S, Queue, messaging
from workloads.broker.testing import broker_process
from workloads.client import OPERATIONS, Answer, Request, Result, Shopper
from workloads.settings import SERVICES, Broker, Inbound
from workloads.testing_processes import CREDENTIALS, DONE, ORDER, UNDONE, ProcessShop, Reply, free_ports, patience

pytestmark = pytest.mark.slow

ACCOUNT = {"name": "Ann", "email": "ann@shop.example"}
COMPLETES_WITHIN_S = 20.0
"""On a busy machine; two seconds of it are what a killed consumer's last receive holds back."""
REDELIVERED = 'shop_messages_total{result="redelivered"}'
_keys = count()


class Amazon:
    """The queues and topics of the stage on a broker of this machine."""

    def __init__(self, endpoint: str) -> None:
        options: dict[str, Any] = {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            "config": Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5),
        }
        self.endpoint = endpoint
        self.sqs = boto3.client("sqs", **options)
        self._sns = boto3.client("sns", **options)
        self.parts = messaging(ASYNC)
        self.urls: dict[str, str] = {}
        self.topics: dict[str, str] = {}

    def create(self) -> None:
        """Everything that `stages.messaging` names."""
        with patience(20, "the broker does not answer") as ticks:
            for _ in ticks:
                if self._answers():
                    break
        for topic in self.parts.topics:
            made = self._sns.create_topic(Name=topic.name, Attributes=_fifo(topic.fifo))
            self.topics[topic.name] = made["TopicArn"]
        for queue in self.parts.queues:
            self._create(queue)
        for subscription in self.parts.subscriptions:
            self._sns.subscribe(
                TopicArn=self.topics[subscription.topic],
                Protocol="sqs",
                Endpoint=self._arn(subscription.queue),
                Attributes={
                    "RawMessageDelivery": "true",
                    "FilterPolicy": json.dumps({"type": subscription.messages}),
                },
            )

    def _answers(self) -> bool:
        try:
            self.sqs.list_queues()
        except BotoCoreError:
            return False
        return True

    def _create(self, queue: Queue) -> None:
        dead = self.sqs.create_queue(QueueName=queue.dead_letters, Attributes=_fifo(queue.fifo))
        self.urls[queue.dead_letters] = dead["QueueUrl"]
        policy = json.dumps(
            {"deadLetterTargetArn": self._arn(queue.dead_letters), "maxReceiveCount": queue.max_receives}
        )
        attributes = {
            "VisibilityTimeout": str(queue.visibility_timeout_s),
            "RedrivePolicy": policy,
            **_fifo(queue.fifo),
        }
        self.urls[queue.name] = self.sqs.create_queue(QueueName=queue.name, Attributes=attributes)["QueueUrl"]

    def _arn(self, queue: str) -> str:
        found = self.sqs.get_queue_attributes(QueueUrl=self.urls[queue], AttributeNames=["QueueArn"])
        return str(found["Attributes"]["QueueArn"])

    def settings(self, service: str) -> Broker | None:
        """What a service is told, None for one that does not speak with the broker."""
        queue, topic = self.parts.queue_of(service), self.parts.topic_of(service)
        if queue is None and topic is None:
            return None
        commands = [q for q in self.parts.queues if q.name.endswith("-commands")]
        inbound = None
        queues: dict[str, str] = {}
        if queue is not None:
            inbound = Inbound(
                url=self.urls[queue.name],
                dead_letters_url=self.urls[queue.dead_letters],
                visibility_timeout_s=queue.visibility_timeout_s,
                max_receives=queue.max_receives,
                fifo=queue.fifo,
            )
            if queue in commands:
                queues = {"orders": self.urls["orders-replies"]}
        if service == "orders":
            queues = {q.consumer: self.urls[q.name] for q in commands}
        return Broker(
            endpoint=self.endpoint,
            signed=False,
            inbound=inbound,
            queues=queues,
            topic=self.topics[topic.name] if topic is not None else None,
        )

    def dead(self) -> dict[str, int]:
        """How many letters lie in each dead-letter queue that is not empty."""
        found = {queue.dead_letters: self.messages(queue.dead_letters) for queue in self.parts.queues}
        return {name: number for name, number in found.items() if number}

    def messages(self, queue: str) -> int:
        """How many messages a queue has, hidden ones included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.urls[queue], AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


def _fifo(fifo: bool) -> dict[str, str]:
    return {"FifoQueue": "true"} if fifo else {}


class Shop(ProcessShop):
    """The processes, and their broker."""

    def __init__(self, folder: Path, amazon: Amazon, broker_pid: int) -> None:
        talking = {name: amazon.settings(name) for name in SERVICES}
        super().__init__(folder, brokers={name: found for name, found in talking.items() if found is not None})
        self.amazon = amazon
        self._broker_pid = broker_pid

    @contextmanager
    def broker_paused(self) -> Iterator[None]:
        """The broker's process does not run inside the block."""
        os.kill(self._broker_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._broker_pid, signal.SIGCONT)

    def apart(self, service: str) -> Broker:
        """A service's queues at an address where no broker is."""
        found = self.amazon.settings(service)
        assert found is not None
        return replace(found, endpoint=f"http://127.0.0.1:{free_ports(1)[0]}")

    def backlog(self, service: str) -> dict[str, int]:
        return dict(self.ask(service, "GET", "/backlog").json())

    def order_states(self) -> list[str]:
        return sorted(r["state"] for r in self.audit("orders") if r["kind"] == "order")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with broker_process(free_ports(1)[0]) as broker:
        amazon = Amazon(broker.endpoint)
        amazon.create()
        with Shop(tmp_path_factory.mktemp("shop"), amazon, broker.process.pid) as shop:
            shop.start()
            yield shop


@pytest.fixture
def shop(running: Shop) -> Iterator[Shop]:
    """The running shop; what a test killed or changed is put back, and what it placed has come to an end."""
    before = dict(running.pids)
    yield running
    for name in SERVICES:
        if running.pids.get(name) != before[name]:
            running.restart(name)
    until(lambda: running.backlog("orders") == {"outbox": 0, "unfinished": 0}, "orders are left unfinished")


def until(met: Callable[[], bool], otherwise: Any, seconds: float = COMPLETES_WITHIN_S) -> None:
    with patience(seconds, otherwise) as ticks:
        for _ in ticks:
            if met():
                return


def until_states(shop: Shop, subject: str, expected: Mapping[str, str], seconds: float = COMPLETES_WITHIN_S) -> None:
    until(lambda: shop.states(subject) == expected, lambda: f"{subject}: {shop.states(subject)}", seconds)


def key() -> str:
    return f"test-{next(_keys)}"


def place(shop: Shop, order_key: str | None = None, **changes: object) -> Reply:
    return shop.ask("storefront", "POST", "/orders", {**ORDER, **changes}, key=order_key or key())


def cancel(shop: Shop, order_id: str) -> Reply:
    return shop.ask("storefront", "PUT", f"/orders/{order_id}/cancellation", {})


def on_hand(shop: Shop) -> int:
    return sum(r["quantity"] for r in shop.audit("inventory") if r["kind"] == "stock")


def send(shop: Shop, shopper: Shopper, request: Request) -> Result:
    reply = shop.ask("storefront", request.method, request.path, request.body, headers=request.headers)
    return shopper.take(request, Answer(status=reply.status, headers=reply.headers, body=reply.body))


def test_an_order_is_accepted_with_a_way_to_follow_and_to_cancel_it_and_completes(shop: Shop) -> None:
    reply = place(shop)
    document = reply.json()
    assert (reply.status, document["state"]) == (202, "pending")
    assert reply.headers["location"] == document["_links"]["self"]["href"] == f"/orders/{document['id']}"
    assert document["_templates"]["cancel"]["method"] == "PUT"
    until_states(shop, document["id"], DONE)
    found = shop.ask("storefront", "GET", reply.headers["location"]).json()
    assert (found["state"], "cancel" in found["_templates"]) == ("confirmed", True)
    (order,) = (r for r in shop.audit("orders") if r["id"] == document["id"])
    assert int(order["detail"]["completed_ns"]) > order["at_ns"]
    assert "due_ns" not in order


def test_a_repeated_key_gets_the_same_answer_and_makes_no_second_order(shop: Shop) -> None:
    mine = key()
    first = place(shop, mine)
    until_states(shop, first.json()["id"], DONE)
    again = place(shop, mine)
    assert (again.status, again.body) == (first.status, first.body)
    assert place(shop, mine, quantity=3).problem == "idempotency-key-reused"
    assert sum(r["key"] == mine for r in shop.audit("payments")) == 1


def test_a_registration_is_answered_at_once_and_everybody_hears_of_it(shop: Shop) -> None:
    reply = shop.ask("storefront", "POST", "/accounts", ACCOUNT, key=key())
    assert (reply.status, reply.json()["state"]) == (201, "active")
    until_states(
        shop, reply.json()["id"], {"user": "active", "mail": "welcome", "event": "present", "entry": "present"}
    )


def test_a_confirmed_order_is_cancelled_step_by_step(shop: Shop) -> None:
    before = on_hand(shop)
    order_id = place(shop).json()["id"]
    until_states(shop, order_id, DONE)
    reply = cancel(shop, order_id)
    assert (reply.status, reply.json()["state"]) == (202, "cancelling")
    assert "_templates" not in reply.json()
    until_states(shop, order_id, {**DONE, "order": "cancelled", **UNDONE})
    again = cancel(shop, order_id)
    assert (again.status, again.json()["state"]) == (200, "cancelled")
    assert on_hand(shop) == before
    until(
        lambda: shop.ask("cache", "GET", f"/entries/{order_id}").json().get("cancelled") is True,
        "the read model does not say that the order is cancelled",
    )


def test_a_pending_order_is_cancelled_and_nobody_hears_that_it_ever_was(shop: Shop) -> None:
    shop.kill("payments")
    order_id = place(shop).json()["id"]
    assert cancel(shop, order_id).status == 202
    shop.start("payments")
    until_states(shop, order_id, {"order": "cancelled", **UNDONE, "capture": "refunded"}, 30)


def test_a_refused_step_undoes_the_others(shop: Shop) -> None:
    before = on_hand(shop)
    with sqlite3.connect(shop.folder / "inventory.db") as database:
        database.execute("update records set quantity = 0 where kind = 'stock' and id = 'p-02'")
    try:
        order_id = place(shop, product="p-02").json()["id"]
        until_states(shop, order_id, {"order": "rejected", **UNDONE})
    finally:
        with sqlite3.connect(shop.folder / "inventory.db") as database:
            database.execute("update records set quantity = initial where kind = 'stock' and id = 'p-02'")
    assert on_hand(shop) == before
    assert cancel(shop, order_id).problem == "order-not-cancellable"
    (order,) = (r for r in shop.audit("orders") if r["id"] == order_id)
    assert order["detail"]["problem"] == "out-of-stock"


def test_orders_are_accepted_while_payments_is_dead_and_complete_once_it_is_back(shop: Shop) -> None:
    shop.kill("payments")
    accepted = [place(shop) for _ in range(5)]
    assert {reply.status for reply in accepted} == {202}
    assert shop.backlog("orders")["unfinished"] == 5
    shop.start("payments")
    for reply in accepted:
        until_states(shop, reply.json()["id"], DONE)


def test_what_orders_committed_before_it_was_killed_is_published_by_the_next_one(shop: Shop) -> None:
    shop.restart("orders", broker=shop.apart("orders"))
    reply = place(shop)
    assert reply.status == 202
    assert shop.backlog("orders") == {"outbox": 2, "unfinished": 1}
    assert [(r["state"], r["quantity"]) for r in shop.audit("orders") if r["kind"] == "outbox"] == [("pending", 2)]
    shop.kill("orders")
    shop.start("orders")
    until_states(shop, reply.json()["id"], DONE)  # everybody has heard; that they were sent may still be to be noted
    until(
        lambda: [r["state"] for r in shop.audit("orders") if r["kind"] == "outbox"] == ["drained"],
        lambda: f"the outbox keeps what was published: {shop.audit('orders')}",
    )


def test_without_the_outbox_a_kill_loses_what_was_not_published(shop: Shop) -> None:
    shop.restart("accounts", broker=shop.apart("accounts"), disabled=frozenset({"outbox"}))
    account_id = shop.ask("storefront", "POST", "/accounts", ACCOUNT, key=key()).json()["id"]
    assert shop.backlog("accounts")["outbox"] == 1
    shop.restart("accounts")
    assert shop.backlog("accounts")["outbox"] == 0
    control = shop.ask("storefront", "POST", "/accounts", ACCOUNT, key=key()).json()["id"]
    until_states(shop, control, {"user": "active", "mail": "welcome", "event": "present", "entry": "present"})
    assert shop.states(account_id) == {"user": "active"}


def test_a_broker_that_is_away_delays_orders_and_refuses_none(shop: Shop) -> None:
    with shop.broker_paused():
        accepted = [place(shop) for _ in range(3)]
        assert {reply.status for reply in accepted} == {202}
        assert shop.ask("storefront", "GET", accepted[0].headers["location"]).json()["state"] == "pending"
    for reply in accepted:
        until_states(shop, reply.json()["id"], DONE, 30)


def test_a_locked_database_holds_its_messages_and_burns_no_delivery(shop: Shop) -> None:
    until(lambda: shop.amazon.messages("payments-commands") == 0, "a killed payments' messages do not come back")
    before = shop.metric("payments", REDELIVERED) or 0
    lock = sqlite3.connect(shop.folder / "payments.db", isolation_level=None)
    lock.execute("begin exclusive")
    try:
        accepted = [place(shop) for _ in range(3)]
        until(lambda: bool(shop.metric("payments", 'shop_messages_total{result="held"}')), "payments holds nothing")
        held_until_s = monotonic() + 1.3 * VISIBILITY_TIMEOUT_S  # longer than the broker hides them by itself
        until(lambda: monotonic() > held_until_s, "the clock stands still")
    finally:
        lock.execute("rollback")
        lock.close()
    for reply in accepted:
        until_states(shop, reply.json()["id"], DONE)
    assert (shop.metric("payments", REDELIVERED) or 0) == before
    assert shop.amazon.dead() == {}


def test_a_service_that_is_replaced_loses_no_message(shop: Shop) -> None:
    accepted = []
    for service in ("payments", "orders"):
        for _ in range(4):
            accepted.append(place(shop))
        assert shop.kill(service, signal.SIGTERM) == 0
        shop.start(service)
    for reply in accepted:
        until_states(shop, reply.json()["id"], DONE)


def test_a_shopper_uses_the_asynchronous_shop_as_any_other(shop: Shop) -> None:
    seed = 7
    shopper = Shopper(random.Random(seed), f"shopper-{seed}")
    while requests := shopper.start():
        for request in requests:
            send(shop, shopper, request)
    rng = random.Random(seed)
    results: list[Result] = []
    for operation in [*["place-order"] * 5, *(rng.choice(OPERATIONS) for _ in range(25))]:
        request = shopper.next(operation)
        if isinstance(request, Request):
            results.append(send(shop, shopper, request))
    assert {result.outcome for result in results} == {"ok"}, (seed, results)
    until(lambda: not {"pending", "compensating"} & set(shop.order_states()), lambda: f"{shop.order_states()}")
    assert set(shop.order_states()) <= {"confirmed", "cancelled", "rejected"}
