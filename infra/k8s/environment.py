"""What is each service told by its environment? The model's channels as Kubernetes addresses. (pure)

In stage mesh attempts, timeouts of one attempt and breakers are the sidecar's, as on the local target; the service
waits a little longer than its sidecar does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from infra.k8s.names import DNS, PORT, database_secret, host_of, namespace_of, shared_namespace
from infra.k8s.site import BrokerAt, Reach, SecretRef, Site
from stages.mesh import STABLE
from stages.messaging import messaging, talkers
from stages.model import Channel, Kind, Stage
from workloads.settings import Broker, Inbound, Peer, Settings

SLACK_MS = 100
"""What a service waits for its sidecar beyond the sidecar's own longest reaction; the local target has the same."""
DRAIN_S = 2.0
"""After the pre-stop pause nobody new comes: this is for those who keep a connection, and are told to close it."""
BROKER, BROKER_PORT = "broker", 4566
COLLECTOR, OTLP_PORT = "otel-collector", 4318

BROKER_SECRET = "broker-credentials"
"""Secret with the access keys for a broker of the user's own."""

WITHOUT_CREDENTIALS = {"AWS_EC2_METADATA_DISABLED": "true"}
"""Nobody asks for them: the SDK need not look for any."""


def environment(stage: Stage, site: Site, service: str, version: str = STABLE) -> list[dict[str, Any]]:
    """The `env` of a service's container, by name."""
    variables: dict[str, Any] = dict(settings_of(stage, site, service, version).to_env())
    if stage.service(service).database:
        variables["SHOP_DATABASE_URL"] = database_secret(service)
    if service in talkers(stage) and not broker_of(stage, site).signed:
        variables |= WITHOUT_CREDENTIALS
    variables |= {**site.env.get("*", {}), **site.env.get(service, {})}
    return [_variable(name, value) for name, value in sorted(variables.items())]


def settings_of(stage: Stage, site: Site, service: str, version: str = STABLE) -> Settings:
    """A service's settings; of the database only that there is one, for its URL is a secret."""
    return Settings(
        service=service,
        stage=stage.name,
        run_id=site.deployment,
        version=version,
        listen=f"0.0.0.0:{PORT}",
        database_url="secret" if stage.service(service).database else None,
        peers={c.callee: _peer(stage, site, c) for c in stage.channels if c.caller == service and c.kind is Kind.CALL},
        broker=broker_settings(stage, service, broker_of(stage, site)),
        traces=f"http://{COLLECTOR}.{namespace_of(stage, site, service)}.{DNS}:{OTLP_PORT}/v1/traces",
        drain_s=DRAIN_S,
    )


def broker_of(stage: Stage, site: Site) -> BrokerAt:
    """The broker of a site: the given one, or the one in the cluster."""
    if site.broker is not None:
        return site.broker
    host = f"{BROKER}.{shared_namespace(stage, site)}.{DNS}"
    return BrokerAt(endpoint=f"http://{host}:{BROKER_PORT}", signed=False, reach=Reach(cidrs=(), ports=(BROKER_PORT,)))


def broker_settings(
    stage: Stage,
    service: str,
    at: BrokerAt,
    queue_urls: Mapping[str, str] | None = None,
    topic_arns: Mapping[str, str] | None = None,
) -> Broker | None:
    """What a service is told of its messages, None if it has none.

    `queue_urls`, `topic_arns`: by name as `stages.messaging` has them; None: derived from where the broker is. A caller
    who knows them only later (Pulumi) makes SHOP_BROKER with this and `broker_variable`, inside of an `apply`.
    """
    if service not in talkers(stage):
        return None
    needed = messaging(stage)
    queue, topic = needed.queue_of(service), needed.topic_of(service)

    def url(name: str) -> str:
        return queue_urls[name] if queue_urls is not None else at.queue_url(name)

    partners = {to: needed.queue_of(to) for to in _partners(stage, service)}
    return Broker(
        endpoint=at.endpoint,
        region=at.region,
        signed=at.signed,
        inbound=Inbound(
            url=url(queue.name),
            dead_letters_url=url(queue.dead_letters),
            visibility_timeout_s=queue.visibility_timeout_s,
            max_receives=queue.max_receives,
            fifo=queue.fifo,
        )
        if queue
        else None,
        queues={to: url(read.name) for to, read in partners.items() if read},
        topic=(topic_arns[topic.name] if topic_arns is not None else at.topic_arn(topic.name)) if topic else None,
    )


def broker_variable(
    stage: Stage, service: str, at: BrokerAt, queue_urls: Mapping[str, str], topic_arns: Mapping[str, str]
) -> dict[str, str]:
    """SHOP_BROKER of a service for addresses that a cloud gave; {} for a service without messages."""
    broker = broker_settings(stage, service, at, queue_urls, topic_arns)
    if broker is None:
        return {}
    told = replace(Settings(service=service, database_url="secret"), broker=broker)
    return {"SHOP_BROKER": told.to_env()["SHOP_BROKER"]}


def _peer(stage: Stage, site: Site, channel: Channel) -> Peer:
    fallback = stage.channel(channel.fallback).callee if channel.fallback else None
    if stage.mesh:
        return Peer(
            url=f"http://{host_of(stage, site, channel.callee)}:{PORT}",
            timeout_ms=channel.reaction_ms + SLACK_MS,
            attempts=1,
            breaker=False,
            fallback=fallback,
        )
    return Peer(
        url=f"http://{channel.callee}:{PORT}",
        timeout_ms=channel.timeout_ms,
        attempts=channel.attempts,
        breaker=channel.breaker,
        fallback=fallback,
    )


def _partners(stage: Stage, service: str) -> Sequence[str]:
    """Whom a service sends to directly: those it commands, and those whose commands it answers."""
    commands = [c for c in stage.channels if c.kind is Kind.COMMAND]
    found = [c.callee for c in commands if c.caller == service] + [c.caller for c in commands if c.callee == service]
    return tuple(dict.fromkeys(found))


def _variable(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, SecretRef):
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": value.name, "key": value.key}}}
    return {"name": name, "value": value}
