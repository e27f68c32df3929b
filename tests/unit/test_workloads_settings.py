"""The environment of a service, both ways."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.settings import (
    DEFECTS,
    DISABLED_WORDS,
    KAFKA_AUTHS,
    SERVICES,
    Broker,
    Inbound,
    Kafka,
    KafkaInbound,
    Peer,
    Settings,
    SettingsError,
)

peers = st.builds(
    Peer,
    url=st.integers(1, 65535).map(lambda port: f"http://127.0.0.1:{port}"),
    timeout_ms=st.none() | st.integers(1, 10**6),
    attempts=st.integers(1, 9),
    breaker=st.booleans(),
)
names = st.from_regex(r"\A[A-Za-z0-9._-]{1,30}\Z")
destinations = {
    "queues": st.dictionaries(st.sampled_from(SERVICES), names),
    "topic": st.none() | names,
    "region": st.text(),
}
redelivery = {"visibility_timeout_s": st.integers(1, 10**6), "max_receives": st.integers(1, 100)}
queues = st.builds(
    Broker,
    inbound=st.none() | st.builds(Inbound, url=st.text(), dead_letters_url=st.text(), fifo=st.booleans(), **redelivery),
    signed=st.booleans(),
    **destinations,
)
kafkas = st.builds(
    Kafka,
    bootstrap=st.lists(st.integers(1, 65535).map(lambda port: f"b-{port}:{port}"), min_size=1).map(",".join),
    auth=st.sampled_from(KAFKA_AUTHS),
    inbound=st.none()
    | st.builds(
        KafkaInbound,
        group=st.text(min_size=1),
        topics=st.dictionaries(names, st.lists(st.text()).map(tuple), min_size=1),
        dead_letters=names,
        ordered=st.booleans(),
        **redelivery,
    ),
    **destinations,
)


def with_fallbacks(found: dict[str, Peer]) -> dict[str, Peer]:
    """Each peer falls back on the one before it, the first on none."""
    names = [None, *found]
    return {name: replace(peer, fallback=names[n]) for n, (name, peer) in enumerate(found.items())}


settings = st.builds(
    Settings,
    service=st.sampled_from(SERVICES),
    stage=st.text(min_size=1),
    run_id=st.text(min_size=1),
    listen=st.integers(1, 65535).map(lambda port: f"127.0.0.1:{port}"),
    database_url=st.just("sqlite:////tmp/x.db"),
    version=st.from_regex(r"\Av[0-9]{1,3}\Z"),
    defect=st.sampled_from(DEFECTS),
    peers=st.dictionaries(st.sampled_from(SERVICES), peers).map(with_fallbacks),
    broker=st.none() | queues | kafkas,
    disabled=st.frozensets(st.sampled_from(sorted(DISABLED_WORDS))),
    traces=st.text(),
    traces_share=st.floats(0, 1),
    max_in_flight=st.integers(1, 10**6),
    drain_s=st.floats(0, 1e6),
)


@given(settings)
def test_settings_survive_the_way_through_the_environment(value: Settings) -> None:
    assert Settings.from_env(value.to_env()) == value


def test_all_problems_are_named_at_once() -> None:
    env = {
        "SHOP_SERVICE": "shopfront",
        "SHOP_LISTEN": "4101",
        "SHOP_DISABLED": "timeout,brakes",
        "SHOP_MAX_IN_FLIGHT": "many",
        "SHOP_DRAIN_S": "-1",
        "SHOP_VERSION": "v 2",
        "SHOP_DEFECT": "dull",
        "SHOP_PEERS": '{"payments": {"url": "ftp://x", "attempts": 0, "timeout_ms": 0}, "moon": {"url": "http://x",'
        '"fallback": "mars"}}',
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(env)
    said = str(caught.value)
    words = ("shopfront", "4101", "brakes", "many", "-1", "v 2", "dull", "ftp://x", "attempts is 0", "timeout_ms is 0")
    for word in (*words, "moon", "mars"):
        assert word in said


def test_all_problems_of_a_kafka_are_named_at_once() -> None:
    inbound = {"group": "", "topics": {}, "dead_letters": "a/b", "visibility_timeout_s": 0, "max_receives": 0}
    broker = {
        "kind": "kafka",
        "bootstrap": "b-1:9098,b-2",
        "auth": "kerberos",
        "inbound": inbound,
        "queues": {"moon": "craters", "orders": "no topic"},
        "topic": "",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"SHOP_SERVICE": "payments", "SHOP_DATABASE_URL": "x", "SHOP_BROKER": json.dumps(broker)})
    said = str(caught.value)
    words = ("'b-2'", "kerberos", "no topics", "group is empty", "'a/b'", "'no topic'", "''", "moon")
    for word in (*words, "visibility_timeout_s is 0", "max_receives is 0"):
        assert word in said


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"kind": "rabbit"}', '{"kind": "kafka"}', '{"kind": "kafka", "bootstrap": "b:1", "inbound": 1}'],
)
def test_a_broker_that_is_none_is_a_problem_not_a_crash(text: str) -> None:
    with pytest.raises(SettingsError, match="SHOP_BROKER"):
        Settings.from_env({"SHOP_SERVICE": "storefront", "SHOP_BROKER": text})


@pytest.mark.parametrize("text", ["[]", "{", '{"payments": 1}', '{"payments": {"uri": "http://x"}}'])
def test_peers_that_are_no_peers_are_a_problem_not_a_crash(text: str) -> None:
    with pytest.raises(SettingsError, match="SHOP_PEERS"):
        Settings.from_env({"SHOP_SERVICE": "storefront", "SHOP_PEERS": text})


def test_only_the_storefront_can_do_without_a_database() -> None:
    assert Settings.from_env({"SHOP_SERVICE": "storefront"}).database_url is None
    with pytest.raises(SettingsError, match="SHOP_DATABASE_URL"):
        Settings.from_env({"SHOP_SERVICE": "payments"})
