"""What a target deployed, and how to reach it: the record in which infra, chaos and loadtests meet.

A target writes it, everything else reads it. JSON both ways, so that another process, a Pulumi
stack output or a CI artefact can carry it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 1
"""Version of the JSON form; a reader refuses another."""


class DeploymentError(ValueError):
    """The text is not a Deployment record; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One running service."""

    url: str
    """Its own address, past every wire: for audits and probes, never for users."""
    cluster: str
    pid: int
    """Process id on the local target, 0 elsewhere."""
    log: str
    """Where its output can be read: a path, or the log group on AWS."""
    database: str | None = None
    """SQLAlchemy URL without credentials, None for a service without a database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process of the mesh: it serves the services, not the users."""

    role: str
    """'sidecar', 'gateway' or 'control'; 'service' for a second version of a service."""
    of: str | None
    """The service that a sidecar or a second version belongs to, None for the others."""
    cluster: str
    version: str
    """Of the service that it belongs to: 'v1' or 'v2'."""
    admin: str
    """Base URL of its own interface: Envoy's, a control plane's, a service's."""
    pid: int
    """0 where there is none."""
    log: str
    ports: Mapping[str, int] = field(default_factory=dict)
    """Its named ports on loopback: 'inbound' of a sidecar, 'mtls' of a gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The network path of one channel: a stable address in front of the callee."""

    listen: str
    """host:port that the caller uses."""
    caller: str
    """A service, or 'users'."""
    callee: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A stage that runs somewhere."""

    name: str
    """Unique per local cloud, chosen by the user or the run."""
    run_id: str
    """Tags everything that belongs to it; guards compare it before a fault is injected."""
    stage: str
    target: str
    """'local', 'k8s' or 'aws'."""
    control: str
    """Control address: for 'local' the path of the local cloud's unix socket."""
    edge: str
    """Base URL for users, such as 'http://127.0.0.1:41001'; goes through the wire 'users-storefront'."""
    directory: str
    """Where logs, traces and databases of this deployment live ('' where there is none)."""
    variant: str | None = None
    """Name of the deliberately broken variant that runs, None for the real shop."""
    services: Mapping[str, Instance] = field(default_factory=dict)
    wires: Mapping[str, Wire] = field(default_factory=dict)
    """By channel name, plus 'users-storefront', those to brokers and registries, and the links between clusters."""
    parts: Mapping[str, Part] = field(default_factory=dict)
    """The mesh's processes by name; none where there is no mesh."""

    def to_json(self) -> str:
        """One JSON object, keys sorted."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Deployment:
        """Read what `to_json` wrote; raise DeploymentError otherwise."""
        try:
            raw: dict[str, Any] = json.loads(text)
            version = raw.pop("format")
            if version != FORMAT:
                raise DeploymentError(f"deployment record has format {version}, this release reads {FORMAT}")
            raw["services"] = {k: Instance(**v) for k, v in raw["services"].items()}
            raw["wires"] = {k: Wire(**v) for k, v in raw["wires"].items()}
            raw["parts"] = {k: Part(**v) for k, v in raw.get("parts", {}).items()}
            return cls(**raw)
        except DeploymentError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DeploymentError(f"not a deployment record: {type(error).__name__}: {error}") from error
