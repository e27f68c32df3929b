"""What a consumer of Kafka has in hand, hides, gives again, and may commit; how clients are configured."""

from __future__ import annotations

import subprocess
import sys
import time
from base64 import urlsafe_b64decode
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, Producer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.kafka import kafka_settings, kafka_variables
from stages.catalogue import ASYNC
from stages.kafka import kafka_reads, kafka_topics, kafka_writes
from stages.messaging import talkers
from workloads.broker import kafka_backlog, kafka_config
from workloads.broker.adapter import adapter
from workloads.broker.kafka_backlog import (
    REPETITION_MS,
    WINDOW_BYTES_MAX,
    WINDOW_MAX,
    Backlog,
    Partition,
    Record,
)
from workloads.broker.ports import BATCH_MAX, BrokerUnavailable, Delivery, Parcel
from workloads.settings import KAFKA_AUTHS, Kafka, KafkaInbound, Settings

P: Partition = ("t", 0)
Q: Partition = ("t", 1)


def backlog(*partitions: Partition, ordered: bool = True, max_receives: int = 3) -> Backlog:
    made = Backlog(visibility_timeout_s=5, max_receives=max_receives, ordered=ordered)
    made.assigned(partitions or (P,))
    return made


def record(offset: int, key: str = "k", *, name: str = "", body: str = "b", at_ms: int = 0) -> Record:
    return Record(offset=offset, id=name, at_ms=at_ms, key=key, body=body, attributes={"type": "T"})


def offsets(deliveries: list[Delivery]) -> list[int]:
    return [int(each.id.rpartition("/")[2]) for each in deliveries]


def taken(made: Backlog, now: float) -> list[int]:
    return offsets(made.take(now)[0])


def test_only_what_has_nothing_in_hand_before_it_is_committed() -> None:
    made = backlog(ordered=False)
    for n in range(10, 15):
        made.add(P, record(n))
    found, _ = made.take(0)
    assert made.behind() == {}
    assert made.delete(each.receipt for each in found[1:3]) == {P: 10}
    assert made.behind() == {}
    assert made.delete([found[0].receipt]) == {P: 13}
    assert made.behind() == {P: 13}
    made.committed(P, 13)
    assert made.behind() == {}
    assert made.delete(each.receipt for each in found) == {P: 15}


def test_what_nobody_wants_is_committed_without_being_given_out() -> None:
    made = backlog()
    made.add(P, record(0))
    made.add(P, record(1), wanted=False)
    made.add(P, record(2), wanted=False)
    (found,), _ = made.take(0)
    assert made.delete([found.receipt]) == {P: 3}


def test_while_one_of_a_key_is_hidden_no_other_of_it_is_given_out() -> None:
    made = backlog()
    for offset, key in enumerate("aab"):
        made.add(P, record(offset, key))
    found, _ = made.take(0)
    assert offsets(found) == [0, 1, 2]
    made.add(P, record(3, "a"))
    made.add(P, record(4, "c"))
    made.add(P, record(5, ""))
    made.add(P, record(6, ""))
    assert taken(made, 1) == [4, 5, 6]
    made.hide([found[0].receipt, found[1].receipt], 2)
    assert taken(made, 2) == [0, 1, 3]


def test_where_order_does_not_count_nothing_is_held_up_and_there_are_no_groups() -> None:
    made = backlog(ordered=False)
    made.add(P, record(0))
    assert made.take(0)[0][0].group == ""
    made.add(P, record(1))
    assert taken(made, 1) == [1]


def test_a_message_comes_again_when_its_time_is_up_and_its_old_receipt_is_worth_nothing() -> None:
    made = backlog()
    made.add(P, record(0))
    (first,), _ = made.take(0)
    assert made.next_visible(0) == 5
    assert taken(made, 4.9) == []
    (again,), _ = made.take(5)
    assert (again.id, again.receives) == (first.id, 2)
    assert made.delete([first.receipt]) == {}
    made.hide([first.receipt], 99)
    assert taken(made, 10) == [0]


def test_what_was_received_too_often_is_spent_and_holds_up_its_key_until_it_is_gone() -> None:
    made = backlog(max_receives=2)
    made.add(P, record(0, "a"))
    for now in (0, 5):
        assert taken(made, now) == [0]
    made.add(P, record(1, "a"))
    made.add(P, record(2, "b"))
    found, (spent,) = made.take(10)
    assert (offsets(found), offsets([spent]), spent.receives) == ([2], [0], 2)
    made.delete(each.receipt for each in found)
    assert made.take(10**6) == ([], [])
    made.hide([spent.receipt], 20)
    _, (spent,) = made.take(20)
    made.delete([spent.receipt])
    assert taken(made, 21) == [1]


def test_a_repetition_within_five_minutes_is_dropped_where_order_counts() -> None:
    made = backlog()
    made.add(P, record(0, name="x", at_ms=1000))
    made.add(P, record(1, name="x", at_ms=999 + REPETITION_MS))
    made.add(P, record(2, name="y", at_ms=1000))
    made.add(P, record(3, name="", at_ms=1000))
    made.add(P, record(4, name="", at_ms=1000))
    made.add(P, record(5, name="x", at_ms=1000 + REPETITION_MS))
    found, _ = made.take(0)
    assert offsets(found) == [0, 2, 3, 4, 5]
    assert made.delete(each.receipt for each in found) == {P: 6}
    other = backlog(ordered=False)
    for n in range(2):
        other.add(P, record(n, name="x"))
    assert taken(other, 0) == [0, 1]


def test_ids_are_forgotten_beyond_a_number_and_with_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_backlog, "REPETITIONS_MAX", 2)
    made = backlog()
    for n, name in enumerate(("first", "second", "third", "second", "first")):
        made.add(P, record(n, name=name))
    assert taken(made, 0) == [0, 1, 2, 4]
    made.assigned([P])
    made.add(P, record(7, name="third"))
    made.add(P, record(8, name="third"))
    assert taken(made, 0) == [7]


def test_a_partition_that_is_read_again_from_further_back_gives_all_of_it_in_its_order() -> None:
    made = backlog()
    made.add(P, record(5, name="five"))
    for n in (2, 3, 4, 5):
        made.add(P, record(n, name="five" if n == 5 else f"{n}"))
    assert taken(made, 0) == [2, 3, 4, 5]
    assert made.behind() == {}


def test_what_is_revoked_is_forgotten_and_begins_anew_where_it_is_read_from() -> None:
    made = backlog(P, Q)
    made.add(P, record(0))
    made.add(Q, record(0))
    found, _ = made.take(0)
    made.revoked([P])
    (of_p,) = (each for each in found if each.id.startswith("t/0/"))
    assert not made.holds(of_p.receipt)
    assert made.delete(each.receipt for each in found) == {Q: 1}
    made.add(P, record(1))
    assert made.take(99) == ([], [])
    assert made.reached({P: 1})
    made.assigned([P])
    made.add(P, record(0))
    assert made.take(0)[0][0].receives == 1


def test_a_partition_is_full_by_number_or_by_bytes_until_half_is_done() -> None:
    made = backlog(P, Q, ordered=False)
    for n in range(WINDOW_MAX):
        assert made.full() == frozenset()
        made.add(P, record(n))
    made.add(Q, record(0, body="x" * WINDOW_BYTES_MAX))
    assert made.full() == {P, Q}
    left = WINDOW_MAX
    while P in made.full():
        found, _ = made.take(0)
        left -= made.delete(each.receipt for each in found).get(P, 0) and sum(e.id.startswith("t/0/") for e in found)
    assert WINDOW_MAX / 2 - BATCH_MAX <= left < WINDOW_MAX / 2
    assert made.full() == frozenset()


def test_a_deep_partition_keeps_no_other_waiting() -> None:
    made = backlog(P, Q, ordered=False)
    for n in range(100):
        made.add(P, record(n))
    made.add(Q, record(0))
    seen = [each.id for _ in range(2) for each in made.take(0)[0]]
    assert "t/1/0" in seen


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc")),
        st.tuples(st.just("take"), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("back"), st.integers(0, 9)),
    ),
    max_size=60,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_nothing_is_committed_that_is_not_deleted_and_no_key_is_overtaken(doing: list[tuple[str, int | str]]) -> None:
    made, now, end = backlog(max_receives=10**6), 0.0, 0
    keys: dict[int, str] = {}
    hands: dict[int, Delivery] = {}
    deleted: set[int] = set()
    for what, how in doing:
        now += 1
        if what == "add":
            keys[end] = str(how)
            made.add(P, record(end, str(how)))
            end += 1
        elif what == "take":
            now += 2 * int(how)
            found, _ = made.take(now)
            for each in found:
                (offset,) = offsets([each])
                before = [n for n in range(offset) if keys[n] == keys[offset] and n not in deleted]
                assert all(n in offsets(found) for n in before), "a key was overtaken"
                hands[offset] = each
        elif hands:
            offset = sorted(hands)[int(how) % len(hands)]
            each = hands.pop(offset)
            if what == "back":
                made.hide([each.receipt], now)
            elif made.holds(each.receipt):
                made.delete([each.receipt])
                deleted.add(offset)
        committed = made.behind().get(P, 0)
        assert set(range(committed)) <= deleted
    position = next((n for n in range(end) if n not in deleted), end)
    assert made.behind().get(P, 0) == position


# --- settings -----------------------------------------------------------------------------------


def test_what_a_service_is_told_fits_the_topics_that_there_are() -> None:
    for service in talkers(ASYNC):
        told = kafka_settings(ASYNC, service, bootstrap="b:9098")
        reads = told.inbound.topics if told.inbound else {}
        dead = [told.inbound.dead_letters] if told.inbound else []
        writes = [*told.queues.values(), *([told.topic] if told.topic else []), *dead]
        assert tuple(reads) == kafka_reads(ASYNC, service)
        assert sorted(writes) == sorted(kafka_writes(ASYNC, service))
        assert {*reads, *writes} <= set(kafka_topics(ASYNC))


def test_only_the_read_model_waits_for_order_and_hears_of_cancellations() -> None:
    told = {name: kafka_settings(ASYNC, name, bootstrap="b:1").inbound for name in talkers(ASYNC)}
    assert [name for name, inbound in told.items() if inbound and inbound.ordered] == ["cache"]
    cache, email = told["cache"], told["email"]
    assert cache is not None
    assert email is not None
    assert cache.topics["orders-events"] == ("OrderConfirmed", "OrderCancelled")
    assert email.topics["orders-events"] == ("OrderConfirmed",)


def test_the_variable_says_what_the_settings_say() -> None:
    for name, text in kafka_variables(ASYNC, auth="iam", region="eu-west-1").items():
        env = {"SHOP_SERVICE": name, "SHOP_DATABASE_URL": "sqlite://", "SHOP_BROKER": text("b-1:9098,b-2:9098")}
        wanted = kafka_settings(ASYNC, name, bootstrap="b-1:9098,b-2:9098", auth="iam", region="eu-west-1")
        assert Settings.from_env(env).broker == wanted


def test_iam_signs_tokens_over_tls_and_nothing_else_connects_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    told = kafka_settings(ASYNC, "orders", bootstrap="b:9098", auth="iam", region="eu-west-1")
    assert told.inbound is not None
    for config in (kafka_config.reading(told, told.inbound), kafka_config.writing(told)):
        assert (config["security.protocol"], config["sasl.mechanisms"]) == ("SASL_SSL", "OAUTHBEARER")
        token, until_s = config["oauth_cb"]("")
        assert "kafka.eu-west-1.amazonaws.com" in urlsafe_b64decode(token + "==").decode()
        assert 0 < until_s - time.time() <= 900
    plain = replace(told, auth="")
    assert "security.protocol" not in kafka_config.writing(plain)


@pytest.mark.parametrize("auth", KAFKA_AUTHS)
def test_the_library_takes_the_configuration(auth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    told = kafka_settings(ASYNC, "orders", bootstrap="127.0.0.1:9", auth=auth)
    assert told.inbound is not None
    Consumer(kafka_config.reading(told, told.inbound)).close()
    Producer(kafka_config.writing(told))


def test_no_batch_can_overtake_another_and_no_timeout_takes_one_back() -> None:
    config = kafka_config.writing(kafka_settings(ASYNC, "orders", bootstrap="b:1"))
    assert config["acks"] == "all"
    assert config["enable.idempotence"] is True
    assert config["max.in.flight.requests.per.connection"] == 1
    assert config["message.timeout.ms"] == 0


@pytest.mark.slow
def test_whoever_uses_sqs_does_not_load_kafka() -> None:
    code = (
        "import sys, workloads.services\n"
        "from workloads.broker.adapter import adapter\n"
        "from workloads.settings import Broker\n"
        "assert type(adapter(Broker())).__name__ == 'SqsBroker'\n"
        "print([m for m in sys.modules if 'kafka' in m or 'msk' in m])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


async def test_settings_that_the_library_refuses_are_a_value_error() -> None:
    broker = adapter(Kafka(bootstrap="127.0.0.1:9", inbound=KafkaInbound(group="g", topics={}, dead_letters="d")))
    with pytest.raises(ValueError, match="subscription"):
        await broker.open()


async def test_a_closed_adapter_is_an_unavailable_broker() -> None:
    broker = adapter(
        Kafka(bootstrap="127.0.0.1:9", inbound=KafkaInbound(group="g", topics={"t": ()}, dead_letters="d"))
    )
    await broker.open()
    await broker.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        await broker.receive()
    with pytest.raises(BrokerUnavailable, match="closed"):
        await broker.send("t", [Parcel(id="p", type="T", group="g", body="b")])
