"""Which resources does a stage need on the local target? (pure)

    Stage -> (Cluster.., Database.., Broker, Queue.., Topic.., Subscription.., Wire.., Service..)

in an order in which each may be created; a stage without messages has no broker and nothing of it, one with a mesh
has what `infra.local.render_mesh` adds.
The records are sent to the local cloud by `infra.local.driver`, or turned into Pulumi resources. `{port}` in a
service's environment is filled in by the cloud.
"""

from __future__ import annotations

from dataclasses import replace

from infra.local.render_mesh import PRELOAD as MESH_PRELOAD
from infra.local.render_mesh import mesh_broker_endpoint, mesh_peer, mesh_resources, mesh_wires
from infra.local.render_messages import OwnBroker, broker_resources, broker_settings, broker_wires, sdk_environment
from infra.local.resource import Ref, Resource, value_of, wire
from infra.naming import USERS, edge_wire
from stages.catalogue import VARIANTS
from stages.model import Channel, Kind, Service, Stage
from workloads.settings import Peer, Settings

PRELOAD = ("workloads.services",)
"""What every service of the shop imports: done once per cluster."""

MODULE = "workloads.services"

SHARED = "payments"
"""Where orders and payments keep their tables when they share a database: a fault of it is one of both."""


def render(
    stage: Stage, *, run_id: str, variant: str | None = None, broker: OwnBroker | None = None
) -> tuple[Resource, ...]:
    """Every resource of a stage but the deployment itself. Raise KeyError for an unknown variant.

    `broker` is the user's own; None means the embedded one.
    """
    disabled = frozenset({VARIANTS[variant].disables}) if variant else frozenset[str]()
    calls = [channel for channel in stage.channels if channel.kind is Kind.CALL]
    return (
        *(_cluster(stage, cluster.name, cluster.network) for cluster in stage.clusters),
        *(Resource(kind="database", name=s.name, inputs={}) for s in stage.services if s.database),
        *broker_resources(stage, disabled, broker),
        *(mesh_resources(stage) if stage.mesh else ()),
        *(mesh_wires(stage) if stage.mesh else _direct_wires(stage, calls)),
        *broker_wires(stage, broker),
        *(_service(stage, service, calls, run_id, disabled, broker) for service in stage.services),
    )


def _direct_wires(stage: Stage, calls: list[Channel]) -> tuple[Resource, ...]:
    entries = sorted({operation.entry for operation in stage.operations})
    return (
        *(wire(edge_wire(entry), USERS, entry) for entry in entries),
        *(wire(channel.name, channel.caller, channel.callee) for channel in calls),
    )


def _cluster(stage: Stage, name: str, network: str) -> Resource:
    inputs = {"network": network, "preload": preload(stage), "nursery": True}
    return Resource(kind="cluster", name=name, inputs=inputs)


def preload(stage: Stage) -> list[str]:
    """What the nursery of a deployment imports for all its clusters."""
    return [*PRELOAD, *(MESH_PRELOAD if stage.mesh else ())]


def _service(
    stage: Stage,
    service: Service,
    calls: list[Channel],
    run_id: str,
    disabled: frozenset[str],
    broker: OwnBroker | None,
) -> Resource:
    database = _database(service, disabled)
    messages = broker_settings(stage, service.name, disabled, broker)
    if messages is not None and stage.mesh and (broker is None or broker.wired):
        messages = replace(messages, endpoint=mesh_broker_endpoint(service.name))
    settings = Settings(
        service=service.name,
        stage=stage.name,
        run_id=run_id,
        listen="127.0.0.1:{port}",
        database_url=Ref("database", database, "url").token if database else None,
        peers={c.callee: _peer(stage, c) for c in calls if c.caller == service.name},
        broker=messages,
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
            "database": database,
        },
        env={key: value_of(text) for key, text in sorted(environment.items())},
    )


def _database(service: Service, disabled: frozenset[str]) -> str | None:
    """The database that a service uses, None if it keeps nothing."""
    if "own-database" in disabled and service.name in ("orders", "payments"):
        return SHARED
    return service.name if service.database else None


def _peer(stage: Stage, channel: Channel) -> Peer:
    fallback = stage.channel(channel.fallback).callee if channel.fallback else None
    if stage.mesh:
        return mesh_peer(channel, fallback)
    return Peer(
        url=f"http://{Ref('wire', channel.name, 'listen').token}",
        timeout_ms=channel.timeout_ms,
        attempts=channel.attempts,
        breaker=channel.breaker,
        fallback=fallback,
    )
