"""Does every fault of messaging bite, show in its evidence, end with its lease, and leave nothing when undone?"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.brokerclient import client
from infra.local.errors import Conflict
from infra.local.processes import identify, state_of
from infra.local.render_messages import EMBEDDED_CREDENTIALS
from infra.local.testing import Shop, end, get, kill_daemon, local_cloud, until

FAULTS: dict[str, dict[str, Any]] = {
    "broker-outage": {"broker": "broker"},
    "broker-slow": {"broker": "broker", "delay_ms": 150},
    "broker-throttle": {"broker": "broker", "share": 1},
    "broker-duplicate": {"broker": "broker", "share": 1},
    "broker-poison": {"queue": "letters", "count": 1},
}

ONCE = {"total_max_attempts": 1}


class Post:
    """A broker with one queue, and a sender that does not try again."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop.up()
        self.endpoint = shop.cloud.put(shop.at("brokers/broker"), {})["endpoint"]
        body = {"broker": "broker", "visibility_timeout_s": 2}
        self.url = shop.cloud.put(shop.at("queues/letters"), body)["url"]
        shop.cloud.put(shop.at("wires/back-broker"), {"caller": "back", "callee": "broker"})
        self.sqs = client("sqs", self.endpoint, "us-east-1", **EMBEDDED_CREDENTIALS)

    def send(self, body: str = "whole", *, patience_s: float = 5) -> str:
        """What happened: 'sent', or the error's code or class."""
        config = Config(connect_timeout=patience_s, read_timeout=patience_s, retries=ONCE)
        hasty = boto3.client(
            "sqs", endpoint_url=self.endpoint, region_name="us-east-1", config=config, **EMBEDDED_CREDENTIALS
        )
        try:
            hasty.send_message(QueueUrl=self.url, MessageBody=body)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        except BotoCoreError as error:
            return type(error).__name__
        finally:
            hasty.close()
        return "sent"

    def take(self, wait_s: int = 0) -> list[str]:
        """Receive and delete."""
        answer = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s)
        for message in answer.get("Messages", []):
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in answer.get("Messages", [])]

    def delete_all(self, wait_s: int = 0) -> list[str]:
        """The same with one deletion for all."""
        answer = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s)
        found = answer.get("Messages", [])
        if found:
            entries = [{"Id": m["MessageId"], "ReceiptHandle": m["ReceiptHandle"]} for m in found]
            done = self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)
            assert len(done["Successful"]) == len(found)
        return [message["Body"] for message in found]

    def well(self) -> bool:
        """Whether a message gets through whole and once, and no fault is on."""
        good = self.send("probe") == "sent" and self.take(wait_s=5) == ["probe"] and self.take() == []
        return good and self.shop.cloud.get("/faults") == []


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    with local_cloud(tmp_path_factory.mktemp("post")) as cloud:
        found = Post(Shop(cloud))
        yield found
        found.sqs.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_to_the_next(post: Post) -> Iterator[None]:
    yield
    assert post.shop.cloud.delete("/faults")["left"] == []
    post.sqs.purge_queue(QueueUrl=post.url)


def _slow(post: Post) -> bool:
    began = time.monotonic()
    return post.send() == "sent" and time.monotonic() - began > 0.3


def _twice(post: Post) -> bool:
    post.send("again")
    return post.take() == ["again"] and post.take(wait_s=10) == ["again"] and post.take(wait_s=3) == []


def _cut(post: Post) -> bool:
    post.send("0123456789")
    post.send("0123456789")
    return post.take() == ["01234", "0123456789"]


BITES: dict[str, Callable[[Post], bool]] = {
    "broker-outage": lambda post: post.send(patience_s=0.5) == "ReadTimeoutError",
    "broker-slow": _slow,
    "broker-throttle": lambda post: post.send() == "RequestThrottled",
    "broker-duplicate": _twice,
    "broker-poison": _cut,
}
SEEN = {
    "broker-outage": "is stopped",
    "broker-slow": "requests and answers waited",
    "broker-throttle": "requests were refused",
    "broker-duplicate": "1 messages were kept although they were deleted",
    "broker-poison": "1 messages were cut in half",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_fault_of_the_broker_bites_is_seen_and_is_undone(post: Post, kind: str) -> None:
    assert post.well()
    assert post.shop.fault(kind, kind=kind, **FAULTS[kind])["state"] == "on"
    assert BITES[kind](post)
    assert SEEN[kind] in post.shop.lease(kind)["evidence"]["seen"]
    assert [f["lease"] for f in post.shop.cloud.get("/faults")] == [kind]
    assert post.shop.undo(kind)["state"] == "undone"
    assert post.shop.undo(kind)["state"] == "undone", "undoing twice is fine"
    assert post.shop.cloud.get("/faults") == []
    post.sqs.purge_queue(QueueUrl=post.url)
    assert post.well(), f"{kind} has left no trace"
    assert SEEN[kind] in post.shop.lease(kind)["evidence"]["seen"], "what was seen is kept"


@pytest.mark.parametrize("kind", FAULTS)
def test_fault_of_the_broker_ends_with_its_lease_although_the_daemon_is_dead(post: Post, kind: str) -> None:
    post.shop.fault(f"{kind}-orphan", ttl_s=2, kind=kind, **FAULTS[kind])
    kill_daemon(post.shop.home)
    until(lambda: post.send(patience_s=0.5) == "sent", f"{kind} ends by itself")
    until(lambda: post.shop.lease(f"{kind}-orphan")["state"] in ("expired", "failed"), "the next daemon knows")
    post.sqs.purge_queue(QueueUrl=post.url)
    assert post.well()


def test_renewal_keeps_a_brokers_fault_on_and_faults_of_a_broker_add_up(post: Post) -> None:
    post.shop.fault("slow", ttl_s=3, kind="broker-slow", broker="broker", delay_ms=60)
    post.shop.fault("refusing", ttl_s=30, kind="broker-throttle", broker="broker", share=1)
    until_s = time.monotonic() + 4
    while time.monotonic() < until_s:
        assert post.shop.cloud.post(post.shop.at("faults/slow/renew"), {"ttl_s": 3})["state"] == "on"
        time.sleep(0.2)  # the renewer's own period
    began = time.monotonic()
    assert post.send() == "RequestThrottled"
    assert time.monotonic() - began > 0.12
    assert sorted(post.shop.cloud.delete("/faults")["healed"]) == ["shop/refusing", "shop/slow"]


def test_topics_are_throttled_as_sns_does_it(post: Post) -> None:
    arn = post.shop.cloud.put(post.shop.at("topics/news"), {"broker": "broker"})["arn"]
    sns = client("sns", post.endpoint, "us-east-1", **EMBEDDED_CREDENTIALS)
    post.shop.fault("topic", kind="broker-throttle", broker="broker", share=1)
    with pytest.raises(ClientError) as caught:
        sns.publish(TopicArn=arn, Message="x")
    assert caught.value.response["Error"]["Code"] == "Throttling"
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] > 0, "the SDK knows that it may try again"
    post.shop.undo("topic")
    sns.close()


def test_a_batch_of_deletions_is_acknowledged_whole_but_only_partly_done(post: Post) -> None:
    for n in range(10):
        post.send(str(n))
    post.shop.fault("some", kind="broker-duplicate", broker="broker", share=0.5)
    assert len(post.delete_all()) == 10
    again = post.delete_all(wait_s=10)
    assert 0 < len(again) < 10
    assert post.delete_all(wait_s=3) == [], "at most once per message"
    assert post.shop.lease("some")["evidence"]["count"] == len(again)
    post.shop.undo("some")


def test_only_messages_to_the_poisoned_queue_are_cut_also_those_of_topics(post: Post) -> None:
    shop = post.shop
    other = shop.cloud.put(shop.at("queues/others"), {"broker": "broker", "visibility_timeout_s": 1})["url"]
    arn = shop.cloud.put(shop.at("topics/all"), {"broker": "broker"})["arn"]
    for queue in ("letters", "others"):
        body = {"broker": "broker", "topic": "all", "queue": queue, "messages": []}
        shop.cloud.put(shop.at(f"subscriptions/all-to-{queue}"), body)
    shop.fault("spoil", kind="broker-poison", queue="letters", count=1)
    sns = client("sns", post.endpoint, "us-east-1", **EMBEDDED_CREDENTIALS)
    sns.publish(TopicArn=arn, Message="0123")
    sns.close()
    assert post.take() == ["01"]
    assert post.sqs.receive_message(QueueUrl=other)["Messages"][0]["Body"] == "0123"
    assert shop.undo("spoil")["state"] == "undone"


def test_a_stopped_broker_takes_no_other_fault_and_other_faults_none_of_it(post: Post) -> None:
    post.shop.fault("away", kind="broker-outage", broker="broker")
    for fault in (
        {"kind": "broker-slow", "broker": "broker", "delay_ms": 5},
        {"kind": "broker-poison", "queue": "letters", "count": 1},
    ):
        with pytest.raises(Conflict, match="under the fault away already"):
            post.shop.fault("more", **fault)
    with pytest.raises(Conflict, match="is stopped; undo that fault first"):
        post.shop.cloud.put(post.shop.at("queues/letters"), {"broker": "broker", "visibility_timeout_s": 1})
    states = {r["name"]: r["state"] for r in post.shop.cloud.get(post.shop.at())["resources"]}
    assert (states["broker"], states["letters"]) == ("paused", "unknown")
    post.shop.undo("away")
    for fault in (
        {"kind": "broker-slow", "broker": "other", "delay_ms": 5},
        {"kind": "broker-poison", "queue": "x", "count": 1},
    ):
        with pytest.raises(Conflict, match=r"there is no (broker|queue) '(other|x)'"):
            post.shop.fault("more", **fault)


def test_heal_continues_a_broker_that_somebody_stopped(post: Post) -> None:
    pid = post.shop.cloud.get(post.shop.at("brokers/broker"))["pid"]
    end(pid, signal.SIGSTOP)
    until(lambda: state_of(identify(pid)) == "T", "it is stopped")
    assert post.shop.cloud.delete("/faults")["healed"] == ["shop/stop of broker broker"]
    assert post.well()


def test_a_fault_of_a_broker_that_dies_has_failed_and_does_not_come_back_with_it(post: Post) -> None:
    post.shop.fault("gone", kind="broker-throttle", broker="broker", share=1)
    end(post.shop.cloud.get(post.shop.at("brokers/broker"))["pid"])
    until(lambda: post.shop.lease("gone")["state"] == "failed", "the daemon notices")
    assert until(lambda: post.send() == "sent", "another broker serves")


def _say(post: Post, text: str) -> str:
    """Let the service `back` send something through its wire; it answers before the broker has it."""
    address = post.shop.cloud.get(post.shop.at("services/back"))["url"].removeprefix("http://").split(":")
    query = urlencode({"port": post.shop.wire("back-broker")[1], "queue": post.url, "text": text})
    return get((address[0], int(address[1])), f"/send?{query}")[1]


def test_a_kill_in_flight_loses_what_the_wire_held_and_nothing_before(post: Post) -> None:
    shop = post.shop
    before = shop.pid("back")
    said: list[str] = []

    def keep_saying() -> None:
        while _say(post, f"m{len(said)}") == "said":
            said.append(f"m{len(said)}")

    speaking = threading.Thread(target=keep_saying)
    speaking.start()
    until(lambda: len(said) > 3, "it speaks")
    answer = shop.fault("shot", kind="kill-in-flight", service="back", wire="back-broker", delay_ms=300)
    speaking.join(10)
    arrived: list[str] = []
    while batch := post.take(wait_s=1):
        arrived += batch
    assert answer["state"] == "on"
    assert answer["evidence"]["lost_bytes"] > 0
    assert f"processes {before} are gone, with" in answer["evidence"]["seen"]
    assert 3 < len(arrived) < len(said), "the last ones were said, but on the wire when it died"
    assert set(arrived) == set(said[: len(arrived)]), "all before them arrived"
    assert shop.state("back") == "down-by-fault"
    assert shop.undo("shot")["state"] == "undone"
    assert (shop.state("back"), shop.cloud.get(shop.at("wires/back-broker"))["state"]) == ("running", "listening")
    assert shop.pid("back") != before
    assert _say(post, "well") == "said"
    assert post.take(wait_s=5) == ["well"]
    assert post.shop.cloud.get("/faults") == [], "its wire delays nothing any more"


def test_a_kill_in_flight_needs_a_wire_of_the_service(post: Post) -> None:
    with pytest.raises(Conflict, match="wire front-back is of front, not of back"):
        post.shop.fault("x", kind="kill-in-flight", service="back", wire="front-back", delay_ms=10)
    with pytest.raises(Conflict, match="there is no wire 'nowhere'"):
        post.shop.fault("x", kind="kill-in-flight", service="back", wire="nowhere", delay_ms=10)
    with pytest.raises(Conflict, match="'nobody' of shop is unknown"):
        post.shop.fault("x", kind="kill-in-flight", service="nobody", wire="back-broker", delay_ms=10)


def test_a_kill_in_flight_whose_daemon_died_before_the_kill_is_undone_by_the_next(post: Post) -> None:
    shop = post.shop
    pid = shop.pid("back")

    def put() -> None:
        shop.fault("cut-short", ttl_s=20, kind="kill-in-flight", service="back", wire="back-broker", delay_ms=2000)

    putting = threading.Thread(target=put)
    putting.start()
    until(
        lambda: '"state": "intent"' in (shop.home.deployment("shop") / "state.json").read_text(),
        "the intent is on disk",
    )
    kill_daemon(shop.home)
    assert shop.lease("cut-short")["state"] in ("undone", "undoing", "expired", "on", "intent")
    putting.join(60)
    shop.undo("cut-short")
    assert shop.state("back") == "running"
    assert shop.pid("back") != pid or shop.cloud.get("/faults") == []


def test_nothing_of_a_fault_stays_on_disk(post: Post) -> None:
    assert list(Path(post.shop.home.deployment("shop") / "leases").iterdir()) == []
