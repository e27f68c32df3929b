"""What does the daemon know about one deployment? Everything it needs to take over after a SIGKILL.

Written whole, atomically, before an act whose traces must be found again and after every change. Specs
are frozen (what was asked for), the rest changes (what is).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.local.faultspec import Fault
from infra.local.home import read_json, write_atomically
from infra.local.processes import ProcessId
from stages.catalogue import STAGES
from stages.mesh import STABLE, gateway_of, sidecar_of

FORMAT = 1

SERVICE = "service"
"""The role of what does a shop's work; all others serve such."""


def boot_id() -> str:
    """Names this boot of the machine: pids, start times and the monotonic clock mean nothing after another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    network: str
    preload: tuple[str, ...] = ()
    """Modules the cluster host imports before it forks services."""
    nursery: bool = False
    """Whether its host is forked by the deployment's nursery, which has imported them for all clusters."""


@dataclass(frozen=True, slots=True)
class WireSpec:
    caller: str
    callee: str
    to: str | None = None
    """The service whose named port it leads to; None: to its callee itself."""
    port: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    cluster: str
    module: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """'{port}' in a value, or in an argument, becomes the instance's port."""
    ready_path: str = "/ready"
    database: str | None = None
    role: str = SERVICE
    """service, sidecar, gateway or control."""
    of: str | None = None
    """The service that a sidecar, or another version, belongs to."""
    version: str = STABLE
    ports: tuple[str, ...] = ()
    """Named ports besides its own, the same for as long as the service exists; '{port:NAME}' becomes one of them."""


@dataclass(frozen=True, slots=True)
class AuthoritySpec:
    trust_domain: str
    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BrokerSpec:
    url: str | None = None
    """None: the embedded broker. Else the user's own: 'http(s)://host:port', or 'aws'."""
    region: str = "us-east-1"
    env: Mapping[str, str] = field(default_factory=dict)
    """Credentials for the user's own, as the AWS SDK finds them; kept in a file that only its owner can read."""


@dataclass(frozen=True, slots=True)
class QueueSpec:
    broker: str
    visibility_timeout_s: int
    fifo: bool = False
    dead_letters: str | None = None
    """Name of the queue that gets what was received `max_receives` times."""
    max_receives: int | None = None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    broker: str
    fifo: bool = False


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    broker: str
    topic: str
    queue: str
    messages: tuple[str, ...] = ()
    """The queue gets messages whose attribute `type` is one of these; every message if empty."""


@dataclass(slots=True)
class Broker:
    """A broker's host process: the broker itself, or the one that speaks with the user's own."""

    spec: BrokerSpec
    port: int = 0
    """Where the embedded broker listens on 127.0.0.1, 0 for the user's own."""
    host: ProcessId | None = None

    @property
    def address(self) -> str | None:
        """host:port for a wire; None if no wire can lead there: TLS wants the broker's own name."""
        if self.spec.url is None:
            return f"127.0.0.1:{self.port}"
        parts = urlsplit(self.spec.url)
        return f"{parts.hostname}:{parts.port or 80}" if parts.scheme == "http" else None


@dataclass(slots=True)
class Queue:
    spec: QueueSpec
    url: str = ""
    arn: str = ""


@dataclass(slots=True)
class Topic:
    spec: TopicSpec
    arn: str = ""


@dataclass(slots=True)
class Subscription:
    spec: SubscriptionSpec
    arn: str = ""


@dataclass(slots=True)
class Cluster:
    spec: ClusterSpec
    host: ProcessId | None = None


@dataclass(slots=True)
class Wire:
    spec: WireSpec
    port: int


@dataclass(slots=True)
class Instance:
    """One process of a service."""

    port: int
    log_offset: int = 0
    """Where its output begins in the service's log, bytes."""
    process: ProcessId | None = None
    """None while it is being forked."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(slots=True)
class Service:
    spec: ServiceSpec
    instance: Instance | None = None
    """Serves, or was the last to serve."""
    next: Instance | None = None
    """Starts, and is not ready yet."""
    old: Instance | None = None
    """Drains after a rollover."""
    ended: str | None = None
    """How the instance ended, None while it runs."""


@dataclass(slots=True)
class Canary:
    """Another version of a service, beside the one that serves."""

    share_percent: int
    """Of the service's calls."""
    defect: str


@dataclass(slots=True)
class Lease:
    """A fault and its time to live. `intent` is written before the act."""

    fault: Fault
    ttl_s: float
    expires_s: float
    """CLOCK_MONOTONIC."""
    state: str = "intent"
    """intent, on, undoing, undone, expired or failed."""
    evidence: dict[str, Any] = field(default_factory=dict)
    holder: ProcessId | None = None
    reason: str | None = None
    """Why it failed."""

    @property
    def holds(self) -> bool:
        """Whether the fault is, or may be, on."""
        return self.state in ("intent", "on")


@dataclass(slots=True)
class DeploymentState:
    name: str
    stage: str
    run_id: str
    variant: str | None = None
    owner: ProcessId | None = None
    """Its end is the deployment's end."""
    deleting: bool = False
    boot: str = ""
    wire_host: ProcessId | None = None
    nursery: ProcessId | None = None
    authority: AuthoritySpec | None = None
    """None where nobody has an identity."""
    clusters: dict[str, Cluster] = field(default_factory=dict)
    databases: dict[str, dict[str, str]] = field(default_factory=dict)
    brokers: dict[str, Broker] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    topics: dict[str, Topic] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    wires: dict[str, Wire] = field(default_factory=dict)
    registries: dict[str, Broker] = field(default_factory=dict)
    ports: dict[str, dict[str, int]] = field(default_factory=dict)
    """By service and name."""
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First and last port of a cluster's own, by cluster; those for which there was no room are not there."""
    services: dict[str, Service] = field(default_factory=dict)
    canaries: dict[str, Canary] = field(default_factory=dict)
    """By service."""
    afflictions: dict[str, dict[str, str]] = field(default_factory=dict)
    """What control planes do wrong on purpose, by lease."""
    leases: dict[str, Lease] = field(default_factory=dict)

    def cluster_of(self, name: str) -> str | None:
        """Where a service, or a part of a mesh, runs or will run; None for what is in no cluster."""
        service = self.services.get(name)
        return service.spec.cluster if service else _homes(self.stage).get(name.replace("-canary", ""))

    def hosted(self, name: str) -> Broker | None:
        """A broker or registry: what has a host process and a port of its own."""
        return self.brokers.get(name) or self.registries.get(name)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **_fields(self)}, default=_fields)

    def write(self, directory: Path) -> None:
        write_atomically(directory / "state.json", self.to_json())

    @classmethod
    def read(cls, directory: Path) -> DeploymentState | None:
        """What `write` left, None if there is nothing that can be read. After another boot all processes are gone."""
        raw = read_json(directory / "state.json")
        if raw is None or raw.get("format") != FORMAT:
            return None
        state = _from_json(raw)
        if state.boot != boot_id():
            _forget_processes(state)
        return state


@cache
def _homes(stage: str) -> Mapping[str, str]:
    """Cluster of every service, sidecar and gateway that a stage will have."""
    known = STAGES.get(stage)
    if known is None:
        return {}
    homes = {service.name: known.cluster_of(service.name) for service in known.services}
    beside = {sidecar_of(name): cluster for name, cluster in homes.items()}
    return homes | beside | {gateway_of(cluster.name): cluster.name for cluster in known.clusters}


def _fields(record: Any) -> dict[str, Any]:
    """A record's fields; a third of the time that `asdict` takes, and a start writes the state some 200 times."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _from_json(raw: dict[str, Any]) -> DeploymentState:
    plain = {key: raw[key] for key in ("name", "stage", "run_id", "variant", "deleting", "boot", "databases")}
    return DeploymentState(
        **plain,
        owner=_process(raw["owner"]),
        wire_host=_process(raw["wire_host"]),
        nursery=_process(raw.get("nursery")),
        authority=_authority(raw.get("authority")),
        clusters={k: Cluster(_cluster_spec(v["spec"]), _process(v["host"])) for k, v in raw["clusters"].items()},
        brokers=_hosted(raw.get("brokers", {})),
        registries=_hosted(raw.get("registries", {})),
        queues={k: Queue(QueueSpec(**v["spec"]), v["url"], v["arn"]) for k, v in raw.get("queues", {}).items()},
        topics={k: Topic(TopicSpec(**v["spec"]), v["arn"]) for k, v in raw.get("topics", {}).items()},
        subscriptions={k: _subscription(v) for k, v in raw.get("subscriptions", {}).items()},
        wires={k: Wire(WireSpec(**v["spec"]), v["port"]) for k, v in raw["wires"].items()},
        ports=raw.get("ports", {}),
        ranges={k: (first, last) for k, (first, last) in raw.get("ranges", {}).items()},
        services={k: _service(v) for k, v in raw["services"].items()},
        canaries={k: Canary(**v) for k, v in raw.get("canaries", {}).items()},
        afflictions=raw.get("afflictions", {}),
        leases={k: _lease(v) for k, v in raw["leases"].items()},
    )


def _process(raw: dict[str, int] | None) -> ProcessId | None:
    return ProcessId(**raw) if raw else None


def _cluster_spec(raw: dict[str, Any]) -> ClusterSpec:
    return ClusterSpec(**{**raw, "preload": tuple(raw["preload"])})


def _authority(raw: dict[str, Any] | None) -> AuthoritySpec | None:
    return AuthoritySpec(raw["trust_domain"], tuple(raw["clusters"])) if raw else None


def _hosted(raw: dict[str, Any]) -> dict[str, Broker]:
    return {k: Broker(BrokerSpec(**v["spec"]), v["port"], _process(v["host"])) for k, v in raw.items()}


def _subscription(raw: dict[str, Any]) -> Subscription:
    return Subscription(SubscriptionSpec(**{**raw["spec"], "messages": tuple(raw["spec"]["messages"])}), raw["arn"])


def _instance(raw: dict[str, Any] | None) -> Instance | None:
    return Instance(raw["port"], raw["log_offset"], _process(raw["process"])) if raw else None


def _service(raw: dict[str, Any]) -> Service:
    lists = {key: tuple(raw["spec"].get(key, ())) for key in ("args", "ports")}
    spec = ServiceSpec(**{**raw["spec"], **lists})
    return Service(spec, _instance(raw["instance"]), _instance(raw["next"]), _instance(raw["old"]), raw["ended"])


def _lease(raw: dict[str, Any]) -> Lease:
    return Lease(**{**raw, "fault": Fault(**raw["fault"]), "holder": _process(raw["holder"])})


def _forget_processes(state: DeploymentState) -> None:
    state.boot = boot_id()
    state.wire_host = state.nursery = None
    for cluster in state.clusters.values():
        cluster.host = None
    for hosted in (*state.brokers.values(), *state.registries.values()):
        hosted.host = None
    for service in state.services.values():
        for instance in (service.instance, service.next, service.old):
            if instance is not None:
                instance.process = None
    for lease in state.leases.values():
        lease.holder = None
        lease.expires_s = 0.0
