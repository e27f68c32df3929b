"""Does the local cloud have a broker as SQS and SNS are, repair it, and leave nothing of it?"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.brokerclient import client
from infra.local.errors import Conflict, Invalid, NotFound
from infra.local.processes import alive, identify
from infra.local.render_messages import EMBEDDED_CREDENTIALS
from infra.local.testing import Shop, end, kill_daemon, local_cloud, until

LIVE: dict[str, Any] = {"broker": "broker", "visibility_timeout_s": 5}


class Post:
    """A deployment with a broker and what it holds; a client past every wire."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.cloud = shop.cloud
        self.cloud.put(shop.at(), {"stage": "async", "run_id": shop.run_id})
        endpoint = self.cloud.put(shop.at("brokers/broker"), {})["endpoint"]
        self.port = int(endpoint.rpartition(":")[2])
        self.sqs = client("sqs", endpoint, "us-east-1", **EMBEDDED_CREDENTIALS)
        self.sns = client("sns", endpoint, "us-east-1", **EMBEDDED_CREDENTIALS)

    def queue(self, name: str, **spec: object) -> str:
        """PUT a queue, return its URL."""
        fifo = name.endswith(".fifo")
        return str(self.cloud.put(self.shop.at(f"queues/{name}"), {**LIVE, "fifo": fifo, **spec})["url"])

    def send(self, url: str, body: str, **more: Any) -> None:
        self.sqs.send_message(QueueUrl=url, MessageBody=body, **more)

    def receive(self, url: str, wait_s: int = 0, **more: Any) -> list[Any]:
        answer = self.sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait_s,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
            **more,
        )
        return list(answer.get("Messages", []))

    def bodies(self, url: str, wait_s: int = 0) -> list[str]:
        """Take what is there for good."""
        found = self.receive(url, wait_s)
        for message in found:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in found]

    def close(self) -> None:
        self.sqs.close()
        self.sns.close()


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    with local_cloud(tmp_path_factory.mktemp("broker")) as cloud:
        post = Post(Shop(cloud))
        yield post
        post.close()


def test_a_queue_hands_out_what_was_sent_and_hides_it_meanwhile(post: Post) -> None:
    url = post.queue("plain", visibility_timeout_s=1)
    post.send(url, "hello")
    assert [m["Body"] for m in post.receive(url)] == ["hello"]
    assert post.receive(url) == []
    assert post.bodies(url, wait_s=3) == ["hello"], "it comes again after its visibility timeout"
    assert post.receive(url, wait_s=2) == []


def test_waiting_for_a_message_takes_no_time_once_it_is_sent(post: Post) -> None:
    url = post.queue("quick")
    seen = []
    for n in range(40):
        post.send(url, str(n))
        began = time.monotonic()
        assert post.bodies(url, wait_s=5) == [str(n)]
        seen.append(time.monotonic() - began)
    assert sorted(seen)[20] < 0.06, "two round trips; one look per 100 ms would take most of that longer"


def test_changed_attributes_are_applied_in_place_and_messages_stay(post: Post) -> None:
    url = post.queue("changing", visibility_timeout_s=30)
    post.queue("changing-dlq")
    post.send(url, "kept")
    post.queue("changing", visibility_timeout_s=2, dead_letters="changing-dlq", max_receives=3)
    seen = post.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (seen["VisibilityTimeout"], json.loads(seen["RedrivePolicy"])["maxReceiveCount"]) == ("2", "3")
    post.queue("changing", visibility_timeout_s=2)
    assert "RedrivePolicy" not in post.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert post.bodies(url) == ["kept"]


def test_what_was_received_too_often_goes_to_the_dead_letters(post: Post) -> None:
    dead = post.queue("often-dlq")
    url = post.queue("often", visibility_timeout_s=1, dead_letters="often-dlq", max_receives=2)
    post.send(url, "deadly")
    for _ in range(2):
        message = until(lambda: post.receive(url, VisibilityTimeout=0), "it is received")[0]
        assert message["Body"] == "deadly"
    assert until(lambda: not post.receive(url) and post.bodies(dead), "it is moved") == ["deadly"]


def test_a_topic_sends_each_queue_only_what_it_subscribed_to(post: Post) -> None:
    mail, cache = post.queue("mail"), post.queue("views.fifo")
    topic = post.cloud.put(post.shop.at("topics/news.fifo"), {"broker": "broker", "fifo": True})["arn"]
    for queue, messages in (("mail", ["Confirmed"]), ("views.fifo", ["Confirmed", "Cancelled"])):
        body = {"broker": "broker", "topic": "news.fifo", "queue": queue, "messages": messages}
        post.cloud.put(post.shop.at(f"subscriptions/news-to-{queue.removesuffix('.fifo')}"), body)
    for n, kind in enumerate(("Confirmed", "Cancelled", "Other")):
        attributes = {"type": {"DataType": "String", "StringValue": kind}}
        about = {"MessageGroupId": "o-1", "MessageDeduplicationId": str(n)}
        post.sns.publish(TopicArn=topic, Message=kind, MessageAttributes=attributes, **about)
    (seen,) = post.receive(mail)
    assert (seen["Body"], seen["MessageAttributes"]["type"]["StringValue"]) == ("Confirmed", "Confirmed"), (
        "delivered raw"
    )
    assert post.bodies(cache) == ["Confirmed", "Cancelled"], "in their order"


def test_a_fifo_queue_keeps_the_order_of_a_group_and_takes_nothing_twice(post: Post) -> None:
    url = post.queue("order.fifo", visibility_timeout_s=5)
    for n, group in enumerate("aab"):
        post.send(url, str(n), MessageGroupId=group, MessageDeduplicationId=str(n))
        post.send(url, str(n), MessageGroupId=group, MessageDeduplicationId=str(n))
    first = post.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1)["Messages"][0]
    assert first["Body"] == "0"
    assert [m["Body"] for m in post.receive(url)] == ["2"], "the rest of group a waits for its first"
    post.sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    assert post.bodies(url) == ["1"]


def test_who_hangs_up_while_waiting_gets_no_message_on_his_way_out(post: Post) -> None:
    url = post.queue("hang-up")
    body = json.dumps({"QueueUrl": url, "WaitTimeSeconds": 10}).encode()
    head = (
        f"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ReceiveMessage\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", post.port)) as waiting:
        waiting.sendall(head.encode() + body)
        waiting.settimeout(0.3)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
    post.sqs.get_queue_url(QueueName="hang-up")  # a round trip later the broker has seen it go
    post.send(url, "for the next one")
    assert post.bodies(url) == ["for the next one"]


def test_repeating_every_put_changes_nothing(post: Post) -> None:
    post.queue("again-dlq")
    post.queue("again", dead_letters="again-dlq", max_receives=2)
    before = post.cloud.get(post.shop.at())
    post.cloud.put(post.shop.at("brokers/broker"), {})
    post.queue("again-dlq")
    post.queue("again", dead_letters="again-dlq", max_receives=2)
    assert post.cloud.get(post.shop.at()) == before


def test_what_somebody_deleted_at_the_broker_is_missing_until_it_is_put_again(post: Post) -> None:
    url = post.queue("drifting")
    assert post.cloud.get(post.shop.at("queues/drifting"))["state"] == "available"
    post.sqs.delete_queue(QueueUrl=url)
    assert post.cloud.get(post.shop.at("queues/drifting"))["state"] == "missing"
    assert post.queue("drifting") == url
    assert post.cloud.get(post.shop.at("queues/drifting"))["state"] == "available"


def test_numbers_of_messages_are_told(post: Post) -> None:
    url = post.queue("counted")
    for n in range(3):
        post.send(url, str(n))
    post.sqs.receive_message(QueueUrl=url)
    queues = post.cloud.get(post.shop.at("brokers/broker"))["queues"]
    assert queues["counted"] == {"visible": 2, "in_flight": 1, "delayed": 0}
    post.cloud.delete(post.shop.at("queues/counted"))
    with pytest.raises(NotFound):
        post.cloud.get(post.shop.at("queues/counted"))
    assert not [u for u in post.sqs.list_queues()["QueueUrls"] if u.endswith("/counted")]


def test_bad_requests_about_messages_are_refused_with_every_reason(post: Post) -> None:
    at = post.shop.at
    with pytest.raises(Invalid, match="fifo is False, but the name is"):
        post.cloud.put(at("queues/x.fifo"), {**LIVE, "fifo": False})
    with pytest.raises(Conflict, match="for dead letters, which does not exist"):
        post.queue("x", dead_letters="nowhere", max_receives=2)
    with pytest.raises(Conflict, match="there is no broker 'other'"):
        post.queue("x", broker="other")
    with pytest.raises(Conflict) as caught:
        post.cloud.put(at("subscriptions/x"), {"broker": "broker", "topic": "t", "queue": "q"})
    assert caught.value.problems == ("there is no topic 't'", "there is no queue 'q'")
    with pytest.raises(Invalid, match="may hold only"):
        post.queue("x.y")
    post.queue("used-dlq")
    post.queue("user", dead_letters="used-dlq", max_receives=1)
    with pytest.raises(Conflict, match="queue used-dlq is used by user"):
        post.cloud.delete(at("queues/used-dlq"))
    with pytest.raises(Conflict, match="broker broker still holds"):
        post.cloud.delete(at("brokers/broker"))


def test_a_broker_that_died_comes_back_on_its_port_with_its_queues_and_without_messages(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        post = Post(Shop(cloud))
        url = post.queue("once")
        post.send(url, "lost")
        post.cloud.put(post.shop.at("topics/t"), {"broker": "broker"})
        body = {"broker": "broker", "topic": "t", "queue": "once", "messages": ["X"]}
        post.cloud.put(post.shop.at("subscriptions/t-to-once"), body)
        post.cloud.put(post.shop.at("wires/w"), {"caller": "a", "callee": "broker"})
        end(post.cloud.get(post.shop.at("brokers/broker"))["pid"])
        states = {
            "broker": "running",
            "once": "available",
            "t": "available",
            "t-to-once": "available",
            "w": "listening",
        }
        until(lambda: {r["name"]: r["state"] for r in cloud.get(post.shop.at())["resources"]} == states, "all is back")
        assert post.receive(url) == []
        post.send(url, "found")
        assert post.bodies(url) == ["found"]
        post.close()


def test_a_broker_runs_on_without_the_daemon_and_the_next_one_adopts_it(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        post = Post(Shop(cloud))
        url = post.queue("kept")
        before = cloud.get(post.shop.at())
        kill_daemon(cloud.home)
        assert cloud.get(post.shop.at()) == before
        post.send(url, "still there")
        kill_daemon(cloud.home)
        end(before["resources"][0]["pid"])
        until(lambda: cloud.get(post.shop.at("queues/kept"))["state"] == "available", "the next daemon starts another")
        assert post.receive(url) == [], "messages die with the embedded broker"
        process = identify(cloud.get(post.shop.at("brokers/broker"))["pid"])
        kill_daemon(cloud.home)
        post.shop.down()
        assert not alive(process)
        assert post.shop.leftovers() == []
        post.close()
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections linger, no listener does
            free.bind(("127.0.0.1", post.port))
