"""Does a broker come to have what a stage's messages need, the same as on every target?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.k8s import broker_setup
from infra.k8s.broker import broker_objects, setup_plan
from infra.k8s.site import BrokerAt, Manifest, Site
from stages.catalogue import ASYNC, MESH, SYNC
from stages.messaging import messaging

SITE = Site(deployment="shop", image="shop:1")
GIVEN = replace(SITE, broker=BrokerAt(endpoint="https://broker.example.com", prefix="shop-"))


class FakeSqs:
    """As much of SQS as making queues takes: a queue that is there already must be asked for as it is."""

    def __init__(self) -> None:
        self.queues: dict[str, dict[str, str]] = {}
        self.made: dict[str, dict[str, str]] = {}

    def create_queue(self, QueueName: str, Attributes: dict[str, str]) -> dict[str, str]:
        if self.made.setdefault(QueueName, Attributes) != Attributes:
            raise ValueError(f"QueueNameExists: {QueueName}")
        self.queues.setdefault(QueueName, {}).update(Attributes)
        return {"QueueUrl": f"url/{QueueName}"}

    def set_queue_attributes(self, QueueUrl: str, Attributes: dict[str, str]) -> None:
        self.queues[QueueUrl.removeprefix("url/")].update(Attributes)

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        return {"Attributes": {"QueueArn": f"arn:{QueueUrl.removeprefix('url/')}"}}


class FakeSns:
    """As much of SNS."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, str]] = {}
        self.subscriptions: dict[tuple[str, str], dict[str, str]] = {}

    def create_topic(self, Name: str, Attributes: dict[str, str]) -> dict[str, str]:
        self.topics[Name] = Attributes
        return {"TopicArn": f"arn:{Name}"}

    def subscribe(self, TopicArn: str, Protocol: str, Endpoint: str, **more: Any) -> dict[str, str]:
        key = (TopicArn.removeprefix("arn:"), Endpoint.removeprefix("arn:"))
        self.subscriptions.setdefault(key, {})
        return {"SubscriptionArn": " ".join(key)}

    def set_subscription_attributes(self, SubscriptionArn: str, AttributeName: str, AttributeValue: str) -> None:
        topic, queue = SubscriptionArn.split()
        self.subscriptions[topic, queue][AttributeName] = AttributeValue


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    return next(m for m in manifests if m["kind"] == kind)


def test_queues_topics_and_subscriptions_are_those_of_the_model() -> None:
    sqs, sns = FakeSqs(), FakeSns()
    for _ in range(2):  # the second time everything is there
        broker_setup.setup(sqs, sns, setup_plan(ASYNC, SITE))
    needed = messaging(ASYNC)
    assert set(sqs.queues) == {name for q in needed.queues for name in (q.name, q.dead_letters)}
    for queue in needed.queues:
        made = sqs.queues[queue.name]
        assert json.loads(made["RedrivePolicy"]) == {
            "deadLetterTargetArn": f"arn:{queue.dead_letters}",
            "maxReceiveCount": str(queue.max_receives),
        }
        assert made["VisibilityTimeout"] == str(queue.visibility_timeout_s)
        assert ("FifoQueue" in made, "FifoQueue" in sqs.queues[queue.dead_letters]) == (queue.fifo, queue.fifo)
        assert "RedrivePolicy" not in sqs.queues[queue.dead_letters]
    assert {name: "FifoTopic" in a for name, a in sns.topics.items()} == {t.name: t.fifo for t in needed.topics}
    assert sns.subscriptions == {
        (s.topic, s.queue): {"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"type": list(s.messages)})}
        for s in needed.subscriptions
    }


def test_names_at_a_given_broker_are_those_that_services_are_told() -> None:
    plan, at = setup_plan(ASYNC, GIVEN), GIVEN.broker
    assert at is not None
    assert {at.queue_url(q.name) for q in messaging(ASYNC).queues} <= {
        f"https://broker.example.com/000000000000/{q['name']}" for q in plan["queues"]
    }
    assert {at.topic_arn(t.name) for t in messaging(ASYNC).topics} == {
        f"arn:aws:sns:us-east-1:000000000000:{t['name']}" for t in plan["topics"]
    }


def test_a_stage_without_messages_has_no_broker() -> None:
    assert list(broker_objects(SYNC, SITE)) == []
    assert list(broker_objects(SYNC, GIVEN)) == []


def test_the_queues_of_aws_itself_are_not_made_from_within_a_cluster() -> None:
    assert list(broker_objects(ASYNC, replace(SITE, broker=BrokerAt()))) == []


def test_an_emulator_that_restarts_gets_its_queues_again() -> None:
    found = list(broker_objects(ASYNC, SITE))
    deployment = of_kind(found, "Deployment")["spec"]
    commands = [c.get("command") for c in deployment["template"]["spec"]["containers"]]
    assert commands == [None, ["python", "/setup/broker_setup.py", "/setup/plan.json", "--forever"]]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    plan = json.loads(of_kind(found, "ConfigMap")["data"]["plan.json"])
    assert plan["endpoint"] == "http://127.0.0.1:4566"


def test_a_given_broker_gets_its_queues_from_a_job_that_is_new_when_they_change() -> None:
    def job(site: Site) -> Manifest:
        return of_kind(list(broker_objects(ASYNC, site)), "Job")

    assert job(GIVEN) == job(GIVEN)
    other = replace(GIVEN, broker=BrokerAt(endpoint="https://broker.example.com", prefix="other-"))
    assert job(GIVEN)["metadata"]["name"] != job(other)["metadata"]["name"]
    assert "Deployment" not in {m["kind"] for m in broker_objects(ASYNC, GIVEN)}


@pytest.mark.parametrize(("signed", "names"), [(True, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]), (False, [])])
def test_keys_of_a_given_broker_come_from_a_secret(signed: bool, names: list[str]) -> None:
    site = replace(SITE, broker=BrokerAt(endpoint="http://b:1", signed=signed))
    env = of_kind(list(broker_objects(MESH, site)), "Job")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [e["name"] for e in env if e.get("valueFrom", {}).get("secretKeyRef", {}).get("name")] == names


def test_what_runs_in_the_pod_is_this_very_file() -> None:
    data = of_kind(list(broker_objects(ASYNC, SITE)), "ConfigMap")["data"]
    assert data["broker_setup.py"] == Path(broker_setup.__file__).read_text(encoding="utf-8")
    assert "from infra" not in data["broker_setup.py"]
    assert "from stages" not in data["broker_setup.py"]


def test_a_broker_that_does_not_answer_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(setup_plan(ASYNC, SITE)), encoding="utf-8")
    made = tmp_path / "made"
    made.touch()
    monkeypatch.setattr(broker_setup, "_client", lambda *_: None)  # has no method at all
    monkeypatch.setattr(broker_setup, "PATIENCE_S", -1.0)
    monkeypatch.setattr(broker_setup, "MADE", made)
    assert broker_setup.main([str(plan)]) == 1
    assert not made.exists()


def test_readiness_is_told_once_everything_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, made = tmp_path / "plan.json", tmp_path / "made"
    plan.write_text(json.dumps(setup_plan(ASYNC, SITE)), encoding="utf-8")
    clients = {"sqs": FakeSqs(), "sns": FakeSns()}
    monkeypatch.setattr(broker_setup, "_client", lambda service, _plan: clients[service])
    monkeypatch.setattr(broker_setup, "MADE", made)
    assert broker_setup.main([str(plan)]) == 0
    assert made.exists()
