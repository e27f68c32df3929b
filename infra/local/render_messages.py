"""Which resources and settings do a stage's messages need on the local target? (pure)

    Broker, Queue (dead letters first).., Topic.., Subscription.., Wire "<service>-broker"..

Settings and wires differ a little where the user brings a broker: TLS cannot go through a wire, and credentials are
the user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.local.requests import broker_url_problems
from infra.local.resource import Ref, Resource, wire
from stages.messaging import Messaging, Queue, messaging, talkers
from stages.model import Channel, Kind, Stage
from workloads.settings import Broker, Inbound

BROKER = "broker"
"""Name of a deployment's only broker, and callee of every wire to it."""

VARIABLE = "STAGES_BROKER_URL"

SHORT_VISIBILITY_S = 1
"""What the variant without visibility gets: a message reappears while a slow broker still carries its deletion."""

REGION = "us-east-1"
"""The embedded broker's only one, and the default for the user's own."""

EMBEDDED_CREDENTIALS = {"aws_access_key_id": "embedded", "aws_secret_access_key": "embedded"}
"""The embedded broker asks nobody who they are, but the SDK signs requests in any case."""

EMBEDDED_ENVIRONMENT = {
    **{name.upper(): value for name, value in EMBEDDED_CREDENTIALS.items()},
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a service's SDK finds: nothing of the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBroker:
    """What speaks SQS and SNS, brought by the user."""

    url: str
    """'http(s)://host:port', or 'aws'."""
    region: str = REGION
    env: Mapping[str, str] = field(default_factory=dict)
    """Everything in the environment that the AWS SDK reads."""

    @property
    def wired(self) -> bool:
        """Whether wires can lead there."""
        return self.url.startswith("http:")


def own_broker(env: Mapping[str, str]) -> OwnBroker | None:
    """The user's broker as the environment names it, None for the embedded one."""
    url = env.get(VARIABLE)
    if not url:
        return None
    aws = {name: value for name, value in env.items() if name.startswith("AWS_")}
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or REGION
    return OwnBroker(url=url.rstrip("/"), region=region, env=aws)


def own_broker_problems(env: Mapping[str, str]) -> list[str]:
    """Why the environment's broker cannot be used; empty when it can, or there is none."""
    url = env.get(VARIABLE)
    return broker_url_problems(VARIABLE, url.rstrip("/")) if url else []


def broker_wire(service: str) -> str:
    """Name of the wire from a service to the broker.

    >>> broker_wire("orders")
    'orders-broker'
    """
    return f"{service}-{BROKER}"


def broker_resources(stage: Stage, disabled: frozenset[str], own: OwnBroker | None) -> tuple[Resource, ...]:
    """The broker with its queues, topics and subscriptions; nothing for a stage without messages."""
    needed = messaging(stage)
    if not needed.queues and not needed.topics:
        return ()
    inputs = {"url": own.url, "region": own.region, "env": dict(own.env)} if own else {}
    return (
        Resource(kind="broker", name=BROKER, inputs=inputs),
        *(_queue(queue.dead_letters, queue, disabled, None) for queue in needed.queues),
        *(_queue(queue.name, queue, disabled, queue.dead_letters) for queue in needed.queues),
        *(Resource(kind="topic", name=t.name, inputs={"broker": BROKER, "fifo": t.fifo}) for t in needed.topics),
        *(
            Resource(
                kind="subscription",
                name=s.name,
                inputs={"broker": BROKER, "topic": s.topic, "queue": s.queue, "messages": list(s.messages)},
            )
            for s in needed.subscriptions
        ),
    )


def broker_wires(stage: Stage, own: OwnBroker | None) -> tuple[Resource, ...]:
    """One per service that speaks with the broker."""
    if own is not None and not own.wired:
        return ()
    return tuple(wire(broker_wire(service), service, BROKER) for service in talkers(stage))


def broker_settings(stage: Stage, service: str, disabled: frozenset[str], own: OwnBroker | None) -> Broker | None:
    """What a service is told of its messages; None if it has none."""
    if service not in talkers(stage):
        return None
    needed = messaging(stage)
    topic = needed.topic_of(service)
    return Broker(
        endpoint=_endpoint(service, own),
        region=own.region if own else REGION,
        signed=own is not None,
        inbound=_inbound(needed.queue_of(service), disabled),
        queues={to: _queue_url(needed, to) for to in _partners(stage, service)},
        topic=Ref("topic", topic.name, "arn").token if topic else None,
    )


def sdk_environment(own: OwnBroker | None) -> dict[str, str]:
    """What a service's AWS SDK finds."""
    return dict(own.env) if own else EMBEDDED_ENVIRONMENT


def _queue(name: str, queue: Queue, disabled: frozenset[str], dead_letters: str | None) -> Resource:
    kept = dead_letters if "dead-letters" not in disabled else None
    inputs = {
        "broker": BROKER,
        "fifo": queue.fifo,
        "visibility_timeout_s": _visibility_s(queue, disabled),
        "dead_letters": kept,
        "max_receives": queue.max_receives if kept else None,
    }
    return Resource(kind="queue", name=name, inputs=inputs)


def _visibility_s(queue: Queue, disabled: frozenset[str]) -> int:
    return SHORT_VISIBILITY_S if "visibility" in disabled else queue.visibility_timeout_s


def _inbound(queue: Queue | None, disabled: frozenset[str]) -> Inbound | None:
    if queue is None:
        return None
    return Inbound(
        url=Ref("queue", queue.name, "url").token,
        dead_letters_url=Ref("queue", queue.dead_letters, "url").token,
        visibility_timeout_s=_visibility_s(queue, disabled),
        max_receives=queue.max_receives,
        fifo=queue.fifo,
    )


def _endpoint(service: str, own: OwnBroker | None) -> str | None:
    if own is not None and not own.wired:
        return None if own.url == "aws" else own.url
    return f"http://{Ref('wire', broker_wire(service), 'listen').token}"


def _partners(stage: Stage, service: str) -> list[str]:
    """Whom a service sends to directly: those it commands, and those whose commands it answers."""
    commands: list[Channel] = [channel for channel in stage.channels if channel.kind is Kind.COMMAND]
    found = [c.callee for c in commands if c.caller == service] + [c.caller for c in commands if c.callee == service]
    return list(dict.fromkeys(found))


def _queue_url(needed: Messaging, service: str) -> str:
    queue = needed.queue_of(service)
    assert queue is not None, f"{service} is sent messages, so it has a queue"
    return Ref("queue", queue.name, "url").token
