"""Which resources does a stage need on the local target? (pure)

    Stage -> (Deployment, Cluster.., Database.., Wire.., Service..)   in an order in which each may be created

Plain records, compared by equality in tests, sent to the local cloud by `infra.local.driver` or turned into
Pulumi resources. What is known only once something is deployed (a wire's address, a database's URL) is a
`Ref`, alone or between texts in a `Joined`; `{port}` in a service's environment is filled in by the cloud.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.naming import USERS, edge_wire
from stages.catalogue import VARIANTS
from stages.model import Channel, Kind, Service, Stage
from workloads.settings import Peer, Settings

PRELOAD = ("workloads.services",)
"""What every service of the shop imports: done once per cluster."""

MODULE = "workloads.services"


@dataclass(frozen=True, slots=True)
class Ref:
    """An output of another resource: `Ref("wire", "orders-payments", "listen")`."""

    kind: str
    """deployment, cluster, database, wire or service."""
    name: str
    attribute: str

    @property
    def token(self) -> str:
        """How it is written inside a text until it is resolved."""
        return f"${{{self.kind}:{self.name}:{self.attribute}}}"


_TOKEN = re.compile(r"\$\{([a-z]+):([^:}]*):([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Joined:
    """Texts and references, one after the other."""

    parts: tuple[str | Ref, ...]


Value = str | Ref | Joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource: PUT with these inputs has it, whatever was before."""

    kind: str
    name: str
    inputs: Mapping[str, object]
    """Plain JSON values, but for `env`, whose values may hold references."""
    env: Mapping[str, Value] = field(default_factory=dict)
    """Environment of a service, empty for everything else."""

    @property
    def needs(self) -> frozenset[tuple[str, str]]:
        """(kind, name) of every resource that must exist before, besides the deployment."""
        found = {(ref.kind, ref.name) for value in self.env.values() for ref in refs(value)}
        if self.kind == "service":
            found.add(("cluster", str(self.inputs["cluster"])))
            if self.inputs["database"] is not None:
                found.add(("database", str(self.inputs["database"])))
        return frozenset(found - {("deployment", "")})


def render(stage: Stage, *, run_id: str, variant: str | None = None) -> tuple[Resource, ...]:
    """Every resource of a stage but the deployment itself. Raise KeyError for an unknown variant."""
    disabled = frozenset({VARIANTS[variant].disables}) if variant else frozenset[str]()
    calls = [channel for channel in stage.channels if channel.kind is Kind.CALL]
    entries = sorted({operation.entry for operation in stage.operations})
    return (
        *(_cluster(cluster.name, cluster.network) for cluster in stage.clusters),
        *(Resource(kind="database", name=s.name, inputs={}) for s in stage.services if s.database),
        *(_wire(edge_wire(entry), USERS, entry) for entry in entries),
        *(_wire(channel.name, channel.caller, channel.callee) for channel in calls),
        *(_service(stage, service, calls, run_id, disabled) for service in stage.services),
    )


def _cluster(name: str, network: str) -> Resource:
    return Resource(kind="cluster", name=name, inputs={"network": network, "preload": list(PRELOAD)})


def _wire(name: str, caller: str, callee: str) -> Resource:
    return Resource(kind="wire", name=name, inputs={"caller": caller, "callee": callee})


def _service(stage: Stage, service: Service, calls: list[Channel], run_id: str, disabled: frozenset[str]) -> Resource:
    settings = Settings(
        service=service.name,
        stage=stage.name,
        run_id=run_id,
        listen="127.0.0.1:{port}",
        database_url=Ref("database", service.name, "url").token if service.database else None,
        peers={c.callee: _peer(c) for c in calls if c.caller == service.name},
        disabled=disabled,
        traces=f"{Ref('deployment', '', 'directory').token}/traces/{service.name}.jsonl",
    )
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
        env={key: _value(text) for key, text in sorted(settings.to_env().items())},
    )


def _peer(channel: Channel) -> Peer:
    return Peer(
        url=f"http://{Ref('wire', channel.name, 'listen').token}",
        timeout_ms=channel.timeout_ms,
        attempts=channel.attempts,
        breaker=channel.breaker,
    )


def _value(text: str) -> Value:
    """A text with tokens as texts and references."""
    parts: list[str | Ref] = []
    end = 0
    for match in _TOKEN.finditer(text):
        parts += [text[end : match.start()], Ref(*match.groups())]
        end = match.end()
    found = tuple(part for part in (*parts, text[end:]) if part != "")
    if len(found) == 1:
        return found[0]
    return Joined(found) if found else ""


def refs(value: Value) -> tuple[Ref, ...]:
    """The references in a value."""
    parts = value.parts if isinstance(value, Joined) else (value,)
    return tuple(part for part in parts if isinstance(part, Ref))


def resolve(value: Value, outputs: Mapping[tuple[str, str], Mapping[str, object]]) -> str:
    """The text, given what the resources said after they were created. Raise KeyError for an unknown one."""
    parts = value.parts if isinstance(value, Joined) else (value,)
    return "".join(
        str(outputs[part.kind, part.name][part.attribute]) if isinstance(part, Ref) else part for part in parts
    )
