"""The asynchronous shop as nine real processes and a real Kafka, told of it as on AWS: completed, undone, caught up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from infra.kafka import kafka_settings
from stages.catalogue import ASYNC
from stages.kafka import kafka_reads, kafka_topics
from stages.messaging import messaging, talkers
from workloads.broker.testing_kafka import PARTITIONS, KafkaProcess, NoKafka, kafka_process
from workloads.testing_processes import DONE, ORDER, UNDONE, ProcessShop, Reply, patience

pytestmark = pytest.mark.slow

POM = Path(__file__).parents[1] / "kafka/pom.xml"
COMPLETES_WITHIN_S = 40.0
"""A killed consumer's partitions are its own for six seconds more."""
_keys = count()


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaProcess]:
    try:
        with kafka_process(POM) as process:
            process.create(*kafka_topics(ASYNC))
            yield process
    except NoKafka as error:
        pytest.skip(f"no Kafka can be run here: {error}")


@pytest.fixture(scope="module")
def shop(kafka: KafkaProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessShop]:
    told = {name: kafka_settings(ASYNC, name, bootstrap=kafka.bootstrap) for name in talkers(ASYNC)}
    with ProcessShop(tmp_path_factory.mktemp("shop"), brokers=told) as made:
        made.start()
        yield made


def place(shop: ProcessShop, **changes: Any) -> Reply:
    return shop.ask("storefront", "POST", "/orders", {**ORDER, **changes}, key=f"test-{next(_keys)}")


def until_states(shop: ProcessShop, subject: str, expected: Mapping[str, str]) -> None:
    with patience(COMPLETES_WITHIN_S, lambda: f"{subject}: {shop.states(subject)}") as ticks:
        for _ in ticks:
            if shop.states(subject) == expected:
                return


def test_an_order_is_accepted_completed_and_cancelled_step_by_step(shop: ProcessShop) -> None:
    reply = place(shop)
    assert (reply.status, reply.json()["state"]) == (202, "pending")
    order_id = reply.json()["id"]
    until_states(shop, order_id, DONE)
    assert shop.ask("storefront", "PUT", f"/orders/{order_id}/cancellation", {}).status == 202
    until_states(shop, order_id, {**DONE, "order": "cancelled", **UNDONE})
    with patience(COMPLETES_WITHIN_S, "the read model does not say that the order is cancelled") as ticks:
        for _ in ticks:
            if shop.ask("cache", "GET", f"/entries/{order_id}").json().get("cancelled") is True:
                return


def test_a_refused_step_undoes_the_others(shop: ProcessShop) -> None:
    with sqlite3.connect(shop.folder / "inventory.db") as database:
        database.execute("update records set quantity = 0 where kind = 'stock' and id = 'p-02'")
    order_id = place(shop, product="p-02").json()["id"]
    until_states(shop, order_id, {"order": "rejected", **UNDONE})


def test_orders_complete_that_were_accepted_while_payments_was_dead(shop: ProcessShop) -> None:
    shop.kill("payments")
    accepted = [place(shop) for _ in range(3)]
    assert {reply.status for reply in accepted} == {202}
    shop.start("payments")
    for reply in accepted:
        until_states(shop, reply.json()["id"], DONE)


def test_in_the_end_all_is_committed_and_nothing_is_dead(shop: ProcessShop, kafka: KafkaProcess) -> None:
    consumers = {queue.consumer for queue in messaging(ASYNC).queues}

    def left() -> dict[str, int]:
        lags = {n: kafka.lag(n, dict.fromkeys(kafka_reads(ASYNC, n), PARTITIONS)) for n in consumers}
        return {name: lag for name, lag in lags.items() if lag}

    order_id = place(shop).json()["id"]
    until_states(shop, order_id, DONE)
    with patience(COMPLETES_WITHIN_S, lambda: f"not committed: {left()}") as ticks:
        for _ in ticks:
            if not left():
                break
    letters = {f"{name}-dead-letters": PARTITIONS for name in consumers}
    assert kafka.lag("undertaker", letters) == 0
