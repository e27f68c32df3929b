"""Who may do what? Permissions as data, and the policy documents they become. (pure)

What a service may do follows from its channels: whoever sends commands may send to those queues, whoever publishes may
publish to its own topic, whoever reads may read its own queue and bury what is dead. Nothing else; the actions are
those that `workloads.broker.sqs` calls (a batch call needs the permission of the single one).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.kafka import kafka_reads, kafka_writes, partners
from stages.messaging import messaging
from stages.model import Stage

VERSION = "2012-10-17"

RECEIVE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
SEND = ("sqs:SendMessage",)
PUBLISH = ("sns:Publish",)
USE_KEY = ("kms:Decrypt", "kms:GenerateDataKey")
"""Sending to an encrypted queue needs both: SQS caches data keys and decrypts what it cached (SQS Developer Guide,
'Key management')."""
CONNECT = ("rds-db:connect",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A resource by what the model calls it; its ARN is known when it exists."""

    kind: str
    """'queue', 'topic', 'database user', 'key', 'kafka cluster', 'kafka topic' or 'kafka group'."""
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Something that a service may do."""

    sid: str
    """Letters and digits, unique in a service's policy."""
    actions: tuple[str, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy document."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ()
    """() in a trust policy, which is about its role."""
    principals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """'Service' or 'AWS' -> who; empty in what is attached to a role."""
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def permissions(stage: Stage, service: str, broker: str = "sqs") -> tuple[Permission, ...]:
    """Everything that a service may do on AWS; () for one that keeps and sends nothing."""
    user = Permission(sid="Connect", actions=CONNECT, targets=(Target(kind="database user", name=service),))
    messages = _kafka(stage, service) if broker == "kafka" else _sqs(stage, service)
    return (*((user,) if stage.service(service).database else ()), *messages)


def _sqs(stage: Stage, service: str) -> Iterator[Permission]:
    needed = messaging(stage)
    inbound, topic = needed.queue_of(service), needed.topic_of(service)
    sent = [queue.name for to in partners(stage, service) if (queue := needed.queue_of(to)) is not None]
    if inbound is not None:
        yield Permission(sid="Receive", actions=RECEIVE, targets=_queues(inbound.name))
        sent.append(inbound.dead_letters)
    if sent:
        yield Permission(sid="Send", actions=SEND, targets=_queues(*sent))
    if topic is not None:
        yield Permission(sid="Publish", actions=PUBLISH, targets=(Target(kind="topic", name=topic.name),))
    if sent or topic is not None:
        yield Permission(sid="Encrypt", actions=USE_KEY, targets=(Target(kind="key", name="messages"),))


def _queues(*names: str) -> tuple[Target, ...]:
    return tuple(Target(kind="queue", name=name) for name in names)


def _kafka(stage: Stage, service: str) -> Iterator[Permission]:
    """Names of actions: Amazon MSK Developer Guide, 'IAM access control', 'authorization policy actions'."""
    reads, writes = kafka_reads(stage, service), kafka_writes(stage, service)
    if not reads and not writes:
        return
    cluster = (Target(kind="kafka cluster", name="messages"),)
    connect = ("kafka-cluster:Connect", *(("kafka-cluster:WriteDataIdempotently",) if writes else ()))
    yield Permission(sid="Cluster", actions=connect, targets=cluster)
    if reads:
        yield Permission(
            sid="Read",
            actions=("kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"),
            targets=_kafka_topics(reads),
        )
        yield Permission(
            sid="Group",
            actions=("kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"),
            targets=(Target(kind="kafka group", name=service),),
        )
    if writes:
        yield Permission(
            sid="Write",
            actions=("kafka-cluster:DescribeTopic", "kafka-cluster:WriteData"),
            targets=_kafka_topics(writes),
        )


def _kafka_topics(names: Sequence[str]) -> tuple[Target, ...]:
    return tuple(Target(kind="kafka topic", name=name) for name in names)


def statements(granted: Sequence[Permission], arns: Mapping[Target, str]) -> tuple[Statement, ...]:
    """Permissions with their resources named. Raise KeyError for a target that has no ARN."""
    return tuple(
        Statement(sid=p.sid, actions=p.actions, resources=tuple(arns[target] for target in p.targets)) for p in granted
    )


def document(*parts: Statement) -> dict[str, Any]:
    """The policy document, in AWS's own words."""
    return {"Version": VERSION, "Statement": [_statement(part) for part in parts]}


def text(*parts: Statement) -> str:
    """The same as JSON; equal documents are equal texts."""
    return json.dumps(document(*parts), sort_keys=True)


def trust(service: str, *actions: str, conditions: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Who may take a role on: one service of AWS.

    >>> json.loads(trust("ec2.amazonaws.com"))["Statement"][0]["Action"]
    ['sts:AssumeRole']
    """
    principals = {"Service": (service,)}
    acts = actions or ("sts:AssumeRole",)
    return text(Statement(sid="Trust", actions=acts, principals=principals, conditions=conditions or {}))


def _statement(part: Statement) -> dict[str, Any]:
    made: dict[str, Any] = {"Sid": part.sid, "Effect": "Allow", "Action": list(part.actions)}
    if part.principals:
        made["Principal"] = {kind: list(who) for kind, who in part.principals.items()}
    if part.resources:
        made["Resource"] = list(part.resources)
    if part.conditions:
        made["Condition"] = {op: dict(keys) for op, keys in part.conditions.items()}
    return made


def wildcards(policy: Mapping[str, Any]) -> list[str]:
    """Every statement of an identity's policy that allows more than it names, as sentences; [] for a narrow one.

    A resource may end in ':*' behind a name: the streams of a log group. A document of a key is another matter: there
    '*' means that key.
    """
    found = []
    for part in policy["Statement"]:
        sid = part.get("Sid", "?")
        for action in _listed(part.get("Action", "*")):
            if "*" in action:
                found.append(f"statement {sid!r} allows action {action!r}")
        for resource in _listed(part.get("Resource", "*")):
            if "*" in resource.removesuffix(":*"):
                found.append(f"statement {sid!r} allows resource {resource!r}")
    return found


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
