"""Which deployment is meant, and who holds its faults? From configuration to objects; the composition root.

A deployment is given by name, by the path of its record, or not at all if only one is running.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.client import LocalCloud
from chaos.dry import DryRun
from chaos.guard import Refused
from chaos.lease import Cloud, CloudError, Lease
from stages.deployment import Deployment, DeploymentError

RECORD = "deployment.json"
"""Name of the record in a deployment's directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A deployment and the port to whoever holds its faults."""

    record: Deployment
    path: Path
    """Where the record was read."""
    cloud: Cloud
    token: str
    """Of the experiment: part of its leases' names, so that nobody else ends or renews them."""

    def lease(self, fault: str) -> Lease:
        """The experiment's lease of a named fault."""
        return Lease(cloud=self.cloud, deployment=self.record.name, name=f"{fault}-{self.token}")


@contextmanager
def opened(deployment: str, configuration: Mapping[str, Any] | None = None) -> Iterator[Target]:
    """The target of an experiment; raise Refused if it cannot be told or read. Closes its connection."""
    settings = configuration or {}
    path = find(deployment, home(settings))
    record = read(path)
    with LocalCloud(record.control) as cloud:
        port = DryRun(cloud) if is_dry(settings) else cloud
        # an experiment of somebody else's making may lack the token: the process then stands for it
        yield Target(record=record, path=path, cloud=port, token=str(settings.get("token") or os.getpid()))


def is_dry(settings: Mapping[str, Any]) -> bool:
    """Whether nothing shall be injected."""
    return str(settings.get("dry_run", "")).lower() in {"1", "true", "yes"}


def home(settings: Mapping[str, Any]) -> Path:
    """Where the local cloud keeps its state: configuration, else $STAGES_HOME, else the user's state directory."""
    given = settings.get("home") or os.environ.get("STAGES_HOME") or "~/.local/state/stages"
    return Path(given).expanduser()


def find(deployment: str, where: Path) -> Path:
    """The path of a deployment's record; raise Refused if none or several could be meant."""
    if "/" in deployment or deployment.endswith(".json"):
        return Path(deployment)
    if deployment:
        return where / "deployments" / deployment / RECORD
    records = sorted(where.glob(f"deployments/*/{RECORD}"))
    running = [path for path in records if _runs(path)] if len(records) > 1 else records
    if len(running) == 1:
        return running[0]
    names = ", ".join(path.parent.name for path in running)
    found = f"several deployments run ({names})" if running else f"no deployment runs in {where}"
    raise Refused(f"{found}; name one: STAGES_DEPLOYMENT=<name or path of its {RECORD}>")


def read(path: Path) -> Deployment:
    """The record; raise Refused if it cannot be read."""
    try:
        return Deployment.from_json(path.read_text())
    except (OSError, DeploymentError) as error:
        raise Refused(f"deployment record {str(path)!r} cannot be read: {error}") from error


def _runs(path: Path) -> bool:
    try:
        record = read(path)
        with LocalCloud(record.control) as cloud:
            return cloud.live(record.name).deployment.run_id == record.run_id
    except (Refused, CloudError):
        return False
