"""Where is a stage put, and what does it find there? Everything that the model does not say. (pure)

A value that only the cloud knows (a `pulumi.Output`) may stand for any value in `Site.env` and in
annotations: the renderers pass it on as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Manifest = Mapping[str, Any]
"""One Kubernetes object: apiVersion, kind, metadata with name and, unless it is cluster-wide, namespace."""

ANYWHERE = "0.0.0.0/0"
BROKER_IMAGE = "ministackorg/ministack:1.5.33"
"""Speaks SQS and SNS; the version that the local target embeds. Keeps messages in memory: for trying."""
DATABASE_IMAGE = "postgres:17.6"
COLLECTOR_IMAGE = "otel/opentelemetry-collector:0.140.0"
PRINTING: Mapping[str, Any] = {"debug": {"verbosity": "basic"}}
"""An exporter of the collector that says in its log how much came, and forgets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """A key of a Secret in the service's namespace."""

    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Addresses that pods may speak to."""

    cidrs: tuple[str, ...] = (ANYWHERE,)
    ports: tuple[int, ...] = (443,)
    namespaces: tuple[str, ...] = ()
    """Whose pods are meant besides: some network plug-ins do not count pods among addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAt:
    """A broker that is there already: SQS and SNS, or what speaks their protocol."""

    endpoint: str | None = None
    """Base URL; None: AWS itself."""
    region: str = "us-east-1"
    account: str = "000000000000"
    """Whose queues they are: part of every address."""
    prefix: str = ""
    """Begins the name of every queue and topic."""
    signed: bool = True
    reach: Reach = field(default_factory=Reach)

    def queue_url(self, name: str) -> str:
        base = self.endpoint or f"https://sqs.{self.region}.amazonaws.com"
        return f"{base}/{self.account}/{self.prefix}{name}"

    def topic_arn(self, name: str) -> str:
        return f"arn:aws:sns:{self.region}:{self.account}:{self.prefix}{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressAt:
    """How users come in."""

    host: str
    class_name: str | None = None
    """None: the cluster's default."""
    tls_secret: str | None = None
    """Secret with the certificate of `host`; None where the controller has it from elsewhere (an ACM ARN)."""
    annotations: Mapping[str, Any] = field(default_factory=dict)
    from_namespaces: tuple[str, ...] = ()
    """Where the controller's pods are; ..."""
    from_cidrs: tuple[str, ...] = ()
    """... or its addresses, where it is no pod."""
    gateway_namespace: str = "istio-ingress"
    """Stage mesh: where the mesh's own gateway for users is; its Helm release is called 'istio-ingress'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """The OpenTelemetry collector of a namespace."""

    image: str = COLLECTOR_IMAGE
    """Must contain what `traces` and `metrics` name."""
    traces: Mapping[str, Any] = field(default_factory=lambda: dict(PRINTING))
    """Exporters that get spans, by name as the collector's configuration has them."""
    metrics: Mapping[str, Any] = field(default_factory=lambda: dict(PRINTING))
    """Exporters that get metrics; one that is in both is the same."""
    metric_names: str = ".+"
    """Regular expression of the metrics that are kept, whole names."""
    scrape_interval: str = "15s"
    reach: tuple[Reach, ...] = ()
    """Where the exporters send to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A second version of a service beside the first; stage mesh only."""

    image: str
    percent: int
    """Of the calls, 0 to 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One deployment's surroundings."""

    deployment: str
    image: str
    """Of the workloads."""
    owner: str = "platform"
    """Who answers for what has no owner in the model."""
    namespace: str = ""
    """Of everything; in stage mesh the beginning of every system's. '': the deployment's name."""
    env: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Service ('*': each) -> variable -> text, SecretRef or Output; wins over what the model gives."""
    broker: BrokerAt | None = None
    """None: one is run in the cluster, if the stage has messages."""
    database: Reach | None = None
    """Where the databases of others are; None: PostgreSQL is run in the cluster. In either case a service finds its
    URL in `infra.k8s.names.database_secret`."""
    ingress: IngressAt | None = None
    collector: Collector = field(default_factory=Collector)
    egress: tuple[Reach, ...] = ()
    """What every service may speak to besides, such as the Pod Identity agent."""
    service_accounts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Service -> annotations of its ServiceAccount."""
    canaries: Mapping[str, Canary] = field(default_factory=dict)
    let_in: frozenset[str] = frozenset()
    """Services beside whose container another one may be started as root, with a root file system to write to."""
    replicas: tuple[int, int] = (2, 6)
    """Fewest and most pods of a service."""
    trust_domain: str = ""
    """First part of every identity in the mesh; '': the model's."""
    broker_image: str = BROKER_IMAGE
    database_image: str = DATABASE_IMAGE
    storage_class: str | None = None
    """Of the databases' volumes; None: the cluster's default."""
