"""Which resources does a stage need on the local target? (pure)

    Stage -> (Cluster.., Database.., Broker, Queue.., Topic.., Subscription.., Wire.., Service..)

in an order in which each may be created; a stage without messages has no broker and nothing of it.
The records are sent to the local cloud by `infra.local.driver`, or turned into Pulumi resources. `{port}` in a
service's environment is filled in by the cloud.
"""

from __future__ import annotations

from infra.local.render_messages import OwnBroker, broker_resources, broker_settings, broker_wires, sdk_environment
from infra.local.resource import Ref, Resource, value_of, wire
from infra.naming import USERS, edge_wire
from stages.catalogue import VARIANTS
from stages.model import Channel, Kind, Service, Stage
from workloads.settings import Peer, Settings

PRELOAD = ("workloads.services",)
"""What every service of the shop imports: done once per cluster."""

MODULE = "workloads.services"


def render(
    stage: Stage, *, run_id: str, variant: str | None = None, broker: OwnBroker | None = None
) -> tuple[Resource, ...]:
    """Every resource of a stage but the deployment itself. Raise KeyError for an unknown variant.

    `broker` is the user's own; None means the embedded one.
    """
    disabled = frozenset({VARIANTS[variant].disables}) if variant else frozenset[str]()
    calls = [channel for channel in stage.channels if channel.kind is Kind.CALL]
    entries = sorted({operation.entry for operation in stage.operations})
    return (
        *(_cluster(cluster.name, cluster.network) for cluster in stage.clusters),
        *(Resource(kind="database", name=s.name, inputs={}) for s in stage.services if s.database),
        *broker_resources(stage, disabled, broker),
        *(wire(edge_wire(entry), USERS, entry) for entry in entries),
        *(wire(channel.name, channel.caller, channel.callee) for channel in calls),
        *broker_wires(stage, broker),
        *(_service(stage, service, calls, run_id, disabled, broker) for service in stage.services),
    )


def _cluster(name: str, network: str) -> Resource:
    return Resource(kind="cluster", name=name, inputs={"network": network, "preload": list(PRELOAD)})


def _service(
    stage: Stage,
    service: Service,
    calls: list[Channel],
    run_id: str,
    disabled: frozenset[str],
    broker: OwnBroker | None,
) -> Resource:
    settings = Settings(
        service=service.name,
        stage=stage.name,
        run_id=run_id,
        listen="127.0.0.1:{port}",
        database_url=Ref("database", service.name, "url").token if service.database else None,
        peers={c.callee: _peer(stage, c) for c in calls if c.caller == service.name},
        broker=broker_settings(stage, service.name, disabled, broker),
        disabled=disabled,
        traces=f"{Ref('deployment', '', 'directory').token}/traces/{service.name}.jsonl",
    )
    environment = settings.to_env() | (sdk_environment(broker) if settings.broker else {})
    return Resource(
        kind="service",
        name=service.name,
        inputs={
            "cluster": stage.cluster_of(service.name),
            "module": MODULE,
            "args": [service.name],
            "ready_path": "/ready",
            "database": service.name if service.database else None,
        },
        env={key: value_of(text) for key, text in sorted(environment.items())},
    )


def _peer(stage: Stage, channel: Channel) -> Peer:
    return Peer(
        url=f"http://{Ref('wire', channel.name, 'listen').token}",
        timeout_ms=channel.timeout_ms,
        attempts=channel.attempts,
        breaker=channel.breaker,
        fallback=stage.channel(channel.fallback).callee if channel.fallback else None,
    )
