"""Are dead letters found, redriven and counted; and does a user's own broker do instead of the embedded one?"""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.brokerclient import client
from infra.local.client import LocalCloud
from infra.local.driver import apply
from infra.local.errors import Conflict, NotFound, Unavailable
from infra.local.messages import Messages, _own_backlog
from infra.local.render import render
from infra.local.render_messages import EMBEDDED_CREDENTIALS, OwnBroker
from infra.local.target import LocalTarget
from infra.local.testing import Shop, end, kill_daemon, local_cloud, until
from stages.catalogue import ASYNC
from stages.messaging import messaging

Urls = dict[str, str]


def _deploy(cloud: LocalCloud, broker: OwnBroker | None = None) -> tuple[Shop, Urls]:
    """Everything of stage async but its services, databases and calls; the URL or ARN of each queue and topic."""
    shop = Shop(cloud)
    cloud.put(shop.at(), {"stage": "async", "run_id": shop.run_id})
    kinds = ("broker", "queue", "topic", "subscription", "wire")
    rendered = render(ASYNC, run_id=shop.run_id, broker=broker)
    resources = [r for r in rendered if r.kind in kinds and r.inputs.get("callee", "broker") == "broker"]
    done = apply(cloud, shop.name, resources, {("deployment", ""): {}}, lambda _: None)
    return shop, {name: str(said.get("url") or said.get("arn")) for (_, name), said in done.items()}


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, Urls, Any]]:
    with local_cloud(tmp_path_factory.mktemp("letters")) as cloud:
        found, urls = _deploy(cloud)
        endpoint = cloud.get(found.at("brokers/broker"))["endpoint"]
        sqs = client("sqs", endpoint, "us-east-1", **EMBEDDED_CREDENTIALS)
        yield found, urls, sqs
        sqs.close()


@pytest.fixture(autouse=True)
def _nothing_waits(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "shop" in request.fixturenames:
        _, urls, sqs = request.getfixturevalue("shop")
        for url in urls.values():
            if "http" in url:
                sqs.purge_queue(QueueUrl=url)


def _bury(sqs: Any, url: str, body: str, reason: str = "malformed", **more: Any) -> str:
    """Put a letter where a consumer would."""
    told = {"reason": _text(reason), "detail": _text("x"), "type": _text("CapturePayment"), "receives": _text("5")}
    told |= {"died_ns": _text("9"), "died_utc": _text("2026-11-22T07:30:00Z"), "source": _text("payments-commands")}
    return str(sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=told, **more)["MessageId"])


def _receive(sqs: Any, url: str) -> list[Any]:
    answer = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"], WaitTimeSeconds=1
    )
    return list(answer.get("Messages", []))


def test_letters_are_listed_with_their_reason_and_stay_where_they_are(shop: tuple[Shop, Urls, Any]) -> None:
    found, urls, sqs = shop
    ids = {_bury(sqs, urls["payments-commands-dlq"], f"b-{n}") for n in range(23)}
    for _ in range(2):
        letters = Messages(found.cloud).dead_letters(found.name)
        assert {letter["id"] for letter in letters} == ids
        assert {(x["queue"], x["consumer"], x["reason"]) for x in letters} == {
            ("payments-commands", "payments", "malformed")
        }
    assert Messages(found.cloud).backlog(found.name)["queued"] == 0, "dead letters wait for nobody"


def test_what_the_broker_gave_up_is_a_letter_without_a_reason(shop: tuple[Shop, Urls, Any]) -> None:
    found, urls, sqs = shop
    sqs.send_message(QueueUrl=urls["email-events"], MessageBody="deadly")
    for _ in range(5):
        sqs.receive_message(QueueUrl=urls["email-events"], VisibilityTimeout=0)
    assert _receive(sqs, urls["email-events"]) == []
    (letter,) = Messages(found.cloud).dead_letters(found.name)
    assert (letter["queue"], letter["consumer"], letter["reason"]) == ("email-events", "email", "")
    assert letter["receives"] >= 5


def test_redriven_letters_are_back_in_their_queue_without_a_trace_of_death(shop: tuple[Shop, Urls, Any]) -> None:
    found, urls, sqs = shop
    body = json.dumps({"type": "CapturePayment"})
    _bury(sqs, urls["payments-commands-dlq"], body)
    about = {"MessageGroupId": "o-1", "MessageDeduplicationId": "d-1"}
    _bury(sqs, urls["cache-events-dlq.fifo"], "first", **about)
    assert Messages(found.cloud).redrive(found.name, None, None) == {"moved": 2, "left": 0}
    assert Messages(found.cloud).backlog(found.name) == {"outbox": 0, "unfinished": 0, "queued": 2}
    (back,) = _receive(sqs, urls["payments-commands"])
    assert (back["Body"], back["MessageAttributes"].keys()) == (body, {"type"})
    (ordered,) = _receive(sqs, urls["cache-events.fifo"])
    assert (ordered["Body"], ordered["Attributes"]["MessageGroupId"]) == ("first", "o-1")
    assert Messages(found.cloud).redrive(found.name, None, None) == {"moved": 0, "left": 0}


def test_only_the_letters_asked_for_are_redriven(shop: tuple[Shop, Urls, Any]) -> None:
    found, urls, sqs = shop
    ids = [_bury(sqs, urls["payments-commands-dlq"], f"b-{n}") for n in range(12)]
    other = _bury(sqs, urls["shipping-commands-dlq"], "other")
    messages = Messages(found.cloud)
    assert messages.redrive(found.name, None, ids[10:]) == {"moved": 2, "left": 11}
    assert {m["Body"] for m in _receive(sqs, urls["payments-commands"])} == {"b-10", "b-11"}
    assert messages.redrive(found.name, "payments-commands", None) == {"moved": 10, "left": 0}
    assert [letter["id"] for letter in messages.dead_letters(found.name)] == [other]
    with pytest.raises(NotFound, match="no queue 'nowhere' with dead letters; known: inventory-commands, "):
        messages.redrive(found.name, "nowhere", None)


def test_letters_that_die_again_at_once_are_moved_only_once(shop: tuple[Shop, Urls, Any]) -> None:
    found, urls, sqs = shop
    over = threading.Event()

    def bury_again() -> None:
        while not over.is_set():
            for message in _receive(sqs, urls["payments-commands"]):
                _bury(sqs, urls["payments-commands-dlq"], message["Body"])
                sqs.delete_message(QueueUrl=urls["payments-commands"], ReceiptHandle=message["ReceiptHandle"])

    for n in range(5):
        _bury(sqs, urls["payments-commands-dlq"], str(n))
    consumer = threading.Thread(target=bury_again)
    consumer.start()
    try:
        assert Messages(found.cloud).redrive(found.name, None, None)["moved"] == 5
        until(lambda: len(Messages(found.cloud).dead_letters(found.name)) == 5, "they are dead again")
    finally:
        over.set()
        consumer.join()


def test_a_redrive_that_was_killed_in_between_loses_no_letter(shop: tuple[Shop, Urls, Any]) -> None:
    found, urls, sqs = shop
    bodies = {f"b-{n}" for n in range(60)}
    for body in bodies:
        _bury(sqs, urls["payments-commands-dlq"], body)
    code = """
import sys
from pathlib import Path
from infra.local.target import LocalTarget
print("ready", flush=True)
LocalTarget(Path(sys.argv[1])).redrive("shop")
"""
    command = [sys.executable, "-c", code, str(found.home.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as mover:
        assert mover.stdout is not None
        mover.stdout.readline()
        counts = found.at("brokers/broker")
        until(lambda: found.cloud.get(counts)["queues"]["payments-commands"]["visible"] > 3, "some are moved")
        mover.kill()
    there: set[str] = set()
    while batch := _receive(sqs, urls["payments-commands"]):
        there |= {message["Body"] for message in batch}
    dead = sum(found.cloud.get(counts)["queues"]["payments-commands-dlq"].values())
    assert len(there) < len(bodies), "it was killed in between"
    assert there <= bodies
    assert len(there) + dead in (60, 61), "each is in one of the two queues, and at most the last one in both"


def test_a_stopped_broker_is_named_by_whoever_asks_for_its_messages(shop: tuple[Shop, Urls, Any]) -> None:
    found, _, _ = shop
    found.fault("away", kind="broker-outage", broker="broker")
    for ask in (
        lambda: Messages(found.cloud).backlog(found.name),
        lambda: Messages(found.cloud).dead_letters(found.name),
        lambda: Messages(found.cloud).redrive(found.name, None, None),
    ):
        with pytest.raises(Unavailable, match="the broker of shop is paused"):
            ask()
    found.undo("away")


class _Service(http.server.BaseHTTPRequestHandler):
    answer = (404, b"{}")

    def do_GET(self) -> None:
        self.send_response(self.answer[0])
        self.end_headers()
        self.wfile.write(self.answer[1])

    def log_message(self, *_: object) -> None:
        """Not on the tests' output."""


def test_a_service_without_a_backlog_has_none_and_one_that_is_dead_is_named() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        assert _own_backlog("cache", url) == {}
        _Service.answer = (200, b'{"outbox": 2, "unfinished": 3}')
        assert _own_backlog("orders", url) == {"outbox": 2, "unfinished": 3}
        server.shutdown()
    with pytest.raises(Unavailable, match="backlog of orders at"):
        _own_backlog("orders", url)


def test_a_stage_without_messages_has_no_letters_and_no_backlog(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        cloud.put("/deployments/plain", {"stage": "sync", "run_id": "r"})
        messages = Messages(cloud)
        assert messages.dead_letters("plain") == []
        assert messages.redrive("plain", None, None) == {"moved": 0, "left": 0}
        assert messages.backlog("plain") == {"outbox": 0, "unfinished": 0, "queued": 0}


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[OwnBroker, subprocess.Popen[bytes]]]:
    """A broker that somebody else started, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    process = subprocess.Popen([sys.executable, "-m", "infra.local.brokerapp", str(port)])
    try:
        until(lambda: _listens(port), "the user's broker listens")
        yield OwnBroker(url=f"http://127.0.0.1:{port}", env=env), process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _names(own: OwnBroker) -> set[str]:
    """What is at the user's broker."""
    sqs = client("sqs", own.url, own.region)
    sns = client("sns", own.url, own.region)
    found = {url.rpartition("/")[2] for url in sqs.list_queues().get("QueueUrls", [])}
    found |= {topic["TopicArn"].rpartition(":")[2] for topic in sns.list_topics()["Topics"]}
    sqs.close()
    sns.close()
    return found


def test_a_users_own_broker_does_instead_of_the_embedded_one_and_is_left_clean(
    tmp_path: Path, mine: tuple[OwnBroker, subprocess.Popen[bytes]]
) -> None:
    own, _ = mine
    needed = messaging(ASYNC)
    names = {f"shop-{n}" for q in needed.queues for n in (q.name, q.dead_letters)}
    names |= {f"shop-{topic.name}" for topic in needed.topics}
    with local_cloud(tmp_path / "h") as cloud:
        shop, urls = _deploy(cloud, own)
        assert _names(own) == names
        assert {r["state"] for r in cloud.get(shop.at())["resources"]} == {"running", "available", "listening"}
        listen = "http://{}:{}".format(*shop.wire("orders-broker"))
        sqs = client("sqs", listen, own.region)
        sqs.send_message(QueueUrl=urls["payments-commands"], MessageBody="through the wire")
        assert [m["Body"] for m in _receive(sqs, urls["payments-commands"])] == ["through the wire"]
        _bury(sqs, urls["payments-commands-dlq"], "dead")
        assert Messages(cloud).backlog("shop") == {"outbox": 0, "unfinished": 0, "queued": 1}
        assert [letter["body"] for letter in Messages(cloud).dead_letters("shop")] == ["dead"]
        assert Messages(cloud).redrive("shop", None, None) == {"moved": 1, "left": 0}
        attributes = {"type": _text("OrderConfirmed")}
        sns = client("sns", listen, own.region)
        about = {"MessageGroupId": "o-1", "MessageDeduplicationId": "1"}
        sns.publish(TopicArn=urls["orders-events.fifo"], Message="news", MessageAttributes=attributes, **about)
        assert [m["Body"] for m in _receive(sqs, urls["email-events"])] == ["news"]
        for broken in (
            {"kind": "broker-outage", "broker": "broker"},
            {"kind": "broker-poison", "queue": "email-events", "count": 1},
        ):
            with pytest.raises(Conflict, match=r"is your own .*: only the embedded one can be broken"):
                shop.fault("x", **broken)
        again, _ = _deploy(cloud, own)
        kill_daemon(cloud.home)
        end(cloud.get(again.at("brokers/broker"))["pid"])
        shop.down()
        assert (_names(own), shop.leftovers()) == (set(), [])
        sqs.close()
        sns.close()


def test_what_is_left_at_a_users_broker_that_is_gone_is_named_by_down(
    tmp_path: Path, mine: tuple[OwnBroker, subprocess.Popen[bytes]]
) -> None:
    own, process = mine
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud)
        cloud.put(shop.at(), {"stage": "async", "run_id": "r"})
        cloud.put(shop.at("brokers/broker"), {"url": own.url, "region": own.region, "env": dict(own.env)})
        url = cloud.put(shop.at("queues/q"), {"broker": "broker", "visibility_timeout_s": 5})["url"]
        assert os.stat(cloud.home.deployment("shop") / "state.json").st_mode & 0o077 == 0, "credentials are in it"
        process.kill()
        process.wait()
        with pytest.raises(Unavailable, match=f"shop is gone, but your own broker still holds: queue {url}: "):
            LocalTarget(cloud.home.path).down("shop")
        assert shop.leftovers() == []
