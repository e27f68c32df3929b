"""How is one service of the shop configured? The only place that knows the environment's names.

A renderer writes `Settings(...).to_env()` into a process' environment, the service reads it back with
`Settings.from_env(os.environ)`; the round trip is exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SERVICES = (
    "storefront",
    "accounts",
    "orders",
    "inventory",
    "shipping",
    "payments",
    "email",
    "analytics",
    "cache",
)
"""Names `python -m workloads.services` accepts."""

DISABLED_WORDS = frozenset(
    {
        "timeout",
        "breaker",
        "fallback",
        "idempotency",
        "compensation",
        "outbox",
        "dead-letters",
        "visibility",
        "saga-timeout",
        "own-database",
        "mtls",
        "policy",
        "outlier-detection",
    }
)
"""Guarantees that a deliberately broken shop can leave out. The last three are the mesh's: services ignore them."""

DEFECTS = ("", "slow", "failing")
"""What a version of a service may have wrong with it on purpose."""

KAFKA = "kafka"
"""The kind of broker that says so in the environment; what says nothing is SQS and SNS."""
KAFKA_AUTHS = ("", "iam")
"""How Kafka knows who connects: not at all, in plain text, or by AWS IAM over TLS."""

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


class SettingsError(ValueError):
    """The environment does not describe a service; the message lists every problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A service that this one calls."""

    url: str
    """Base URL such as 'http://127.0.0.1:43001': the wire's address, never the callee's own."""
    timeout_ms: int | None = 300
    """How long one attempt may take, milliseconds, > 0; None waits for ever."""
    attempts: int = 2
    """Attempts per call including the first, >= 1."""
    breaker: bool = True
    """Whether a callee that keeps failing is left alone for a while."""
    fallback: str | None = None
    """The peer that answers instead, with a stale copy; None where there is no such answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """When a received message is given again, and when no more."""

    visibility_timeout_s: int = 5
    """How long a received message stays hidden unless that is extended, > 0."""
    max_receives: int = 5
    """Deliveries without success after which a message is dead, >= 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound(Redelivery):
    """The queue that a service reads."""

    url: str
    dead_letters_url: str
    """Where what cannot be handled goes, with the reason."""
    fifo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaInbound(Redelivery):
    """The topics that a service reads."""

    group: str
    """Consumer group: instances of a service share the partitions."""
    topics: Mapping[str, tuple[str, ...]]
    """Topic -> types of message that count, () for all of them: Kafka itself filters nothing."""
    dead_letters: str
    """Topic where what cannot be handled goes."""
    ordered: bool = False
    """Whether a message waits for those of its key before it. The others of a key go on while one is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where a service's messages go."""

    queues: Mapping[str, str] = field(default_factory=dict)
    """Service -> address of what it reads: where this one's commands, or its replies, go. A queue's URL, or a topic."""
    topic: str | None = None
    """Where this service's events go, None if it publishes none. A topic's ARN, on Kafka its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker(Destinations):
    """The messages of a service: SQS and SNS, or what speaks their protocol."""

    endpoint: str | None = None
    """Base URL such as 'http://127.0.0.1:43010' (a wire); None: AWS itself. Credentials: as the AWS SDK finds them."""
    region: str = "us-east-1"
    signed: bool = True
    """Whether calls are signed. The embedded broker looks at no signature, and making them is a sixth of all processor
    time of the shop."""
    inbound: Inbound | None = None
    """None for a service that only sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka(Destinations):
    """The messages of a service where Kafka carries them; "kind": "kafka" in the environment."""

    bootstrap: str
    """host:port of brokers, separated by commas."""
    auth: str = ""
    """One of KAFKA_AUTHS."""
    region: str = "us-east-1"
    """Whose IAM is asked; only with auth 'iam'."""
    inbound: KafkaInbound | None = None
    """None for a service that only sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a service is told from outside."""

    service: str
    """One of SERVICES."""
    stage: str = "sync"
    run_id: str = "dev"
    """Tag of the run this process belongs to; shown in logs and traces."""
    version: str = "v1"
    """Which version of the service this is; shown in answers, logs, traces and metrics."""
    defect: str = ""
    """One of DEFECTS, '' for none."""
    listen: str = "127.0.0.1:4101"
    """host:port to serve on."""
    database_url: str | None = None
    """SQLAlchemy URL; None only for a service that keeps nothing."""
    peers: Mapping[str, Peer] = field(default_factory=dict)
    """By name of the callee."""
    broker: Broker | Kafka | None = None
    """None where everything is a call."""
    disabled: frozenset[str] = frozenset()
    """Guarantees left out on purpose, a subset of DISABLED_WORDS."""
    traces: str = ""
    """Where spans go: path of a JSON lines file, an OTLP/HTTP URL, or '' for nowhere."""
    traces_share: float = 0.1
    """Share of traces kept among those that begin here, 0 to 1; a caller that sends a `traceparent` decides itself."""
    max_in_flight: int = 40
    """Requests worked on at once, >= 1; further ones are refused."""
    drain_s: float = 1.0
    """How long to go on serving after SIGTERM, seconds, >= 0."""

    @property
    def address(self) -> tuple[str, int]:
        """`listen` as host and port."""
        host, _, port = self.listen.rpartition(":")
        return host, int(port)

    def to_env(self) -> dict[str, str]:
        """Environment variables that `from_env` reads back to an equal record."""
        return {
            "SHOP_SERVICE": self.service,
            "SHOP_STAGE": self.stage,
            "SHOP_RUN_ID": self.run_id,
            "SHOP_VERSION": self.version,
            "SHOP_DEFECT": self.defect,
            "SHOP_LISTEN": self.listen,
            "SHOP_DATABASE_URL": self.database_url or "",
            "SHOP_PEERS": json.dumps({name: asdict(peer) for name, peer in self.peers.items()}, sort_keys=True),
            "SHOP_BROKER": broker_text(self.broker) if self.broker else "",
            "SHOP_DISABLED": ",".join(sorted(self.disabled)),
            "SHOP_TRACES": self.traces,
            "SHOP_TRACES_SHARE": repr(self.traces_share),
            "SHOP_MAX_IN_FLIGHT": str(self.max_in_flight),
            "SHOP_DRAIN_S": repr(self.drain_s),
        }

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read what `to_env` wrote; raise SettingsError with all problems at once."""
        found: list[str] = []
        settings = cls(
            service=env.get("SHOP_SERVICE", ""),
            stage=env.get("SHOP_STAGE", "sync"),
            run_id=env.get("SHOP_RUN_ID", "dev"),
            version=env.get("SHOP_VERSION") or "v1",
            defect=env.get("SHOP_DEFECT", ""),
            listen=env.get("SHOP_LISTEN", "127.0.0.1:4101"),
            database_url=env.get("SHOP_DATABASE_URL") or None,
            peers=_peers(env.get("SHOP_PEERS") or "{}", found),
            broker=_broker(env.get("SHOP_BROKER") or "null", found),
            disabled=frozenset(word for word in env.get("SHOP_DISABLED", "").split(",") if word),
            traces=env.get("SHOP_TRACES", ""),
            traces_share=_number(env, "SHOP_TRACES_SHARE", 0.1, found),
            max_in_flight=_whole(env, "SHOP_MAX_IN_FLIGHT", 40, found),
            drain_s=_number(env, "SHOP_DRAIN_S", 1.0, found),
        )
        found += problems(settings)
        if found:
            raise SettingsError("; ".join(found))
        return settings


def broker_text(broker: Broker | Kafka) -> str:
    """What SHOP_BROKER says of a broker."""
    kind = {"kind": KAFKA} if isinstance(broker, Kafka) else {}
    return json.dumps(kind | asdict(broker), sort_keys=True)


def problems(settings: Settings) -> list[str]:
    """Everything that is wrong with a record, as sentences with the offending values; empty when it is sound."""
    found = []
    if settings.service not in SERVICES:
        found.append(f"SHOP_SERVICE is {settings.service!r}, not one of {', '.join(SERVICES)}")
    elif settings.service != "storefront" and not settings.database_url:
        found.append(f"SHOP_DATABASE_URL is empty, but {settings.service} keeps records")
    host, _, port = settings.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        found.append(f"SHOP_LISTEN is {settings.listen!r}, not host:port")
    if not _VERSION.fullmatch(settings.version):
        found.append(f"SHOP_VERSION is {settings.version!r}, not a short word of letters, digits, '.', '_' and '-'")
    if settings.defect not in DEFECTS:
        found.append(f"SHOP_DEFECT is {settings.defect!r}, not one of {', '.join(map(repr, DEFECTS))}")
    if unknown := settings.disabled - DISABLED_WORDS:
        found.append(f"SHOP_DISABLED names {sorted(unknown)}, known are {sorted(DISABLED_WORDS)}")
    if not 0 <= settings.traces_share <= 1:
        found.append(f"SHOP_TRACES_SHARE is {settings.traces_share}, must be between 0 and 1")
    if settings.max_in_flight < 1:
        found.append(f"SHOP_MAX_IN_FLIGHT is {settings.max_in_flight}, must be at least 1")
    if not 0 <= settings.drain_s < float("inf"):
        found.append(f"SHOP_DRAIN_S is {settings.drain_s}, must be a finite number of seconds, 0 or more")
    for name, peer in settings.peers.items():
        found += _peer_problems(name, peer)
        if peer.fallback is not None and peer.fallback not in settings.peers:
            found.append(f"SHOP_PEERS {name}: fallback is {peer.fallback!r}, which is no peer")
    return found + (_broker_problems(settings.broker) if settings.broker else [])


def _broker_problems(broker: Broker | Kafka) -> list[str]:
    found = _kafka_problems(broker) if isinstance(broker, Kafka) else []
    endpoint = broker.endpoint if isinstance(broker, Broker) else None
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        found.append(f"SHOP_BROKER: endpoint is {endpoint!r}, must begin with http:// or https://")
    found += [f"SHOP_BROKER names {name!r}, which is no service" for name in broker.queues if name not in SERVICES]
    if broker.inbound is not None and broker.inbound.visibility_timeout_s < 1:
        found.append(f"SHOP_BROKER: visibility_timeout_s is {broker.inbound.visibility_timeout_s}, must be at least 1")
    if broker.inbound is not None and broker.inbound.max_receives < 1:
        found.append(f"SHOP_BROKER: max_receives is {broker.inbound.max_receives}, must be at least 1")
    return found


def _kafka_problems(kafka: Kafka) -> list[str]:
    found = []
    for address in kafka.bootstrap.split(","):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            found.append(f"SHOP_BROKER: bootstrap has {address!r}, which is not host:port")
    if kafka.auth not in KAFKA_AUTHS:
        found.append(f"SHOP_BROKER: auth is {kafka.auth!r}, not one of {', '.join(map(repr, KAFKA_AUTHS))}")
    topics = [*kafka.queues.values(), *([kafka.topic] if kafka.topic is not None else [])]
    if kafka.inbound is not None:
        topics += [*kafka.inbound.topics, kafka.inbound.dead_letters]
        if not kafka.inbound.topics:
            found.append("SHOP_BROKER: inbound has no topics")
        if not kafka.inbound.group:
            found.append("SHOP_BROKER: inbound's group is empty")
    found += [f"SHOP_BROKER names {t!r}, which is no name of a topic" for t in topics if not _TOPIC.fullmatch(t)]
    return found


def _peer_problems(name: str, peer: Peer) -> list[str]:
    found = []
    if name not in SERVICES:
        found.append(f"SHOP_PEERS names {name!r}, which is no service")
    if not peer.url.startswith("http://"):
        found.append(f"SHOP_PEERS {name}: url is {peer.url!r}, must begin with http://")
    if peer.timeout_ms is not None and peer.timeout_ms <= 0:
        found.append(f"SHOP_PEERS {name}: timeout_ms is {peer.timeout_ms}, must be positive")
    if peer.attempts < 1:
        found.append(f"SHOP_PEERS {name}: attempts is {peer.attempts}, must be at least 1")
    return found


def _peers(text: str, found: list[str]) -> dict[str, Peer]:
    try:
        return {str(name): Peer(**fields) for name, fields in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        found.append(f"SHOP_PEERS is not a JSON object of peers ({error})")
        return {}


def _broker(text: str, found: list[str]) -> Broker | Kafka | None:
    try:
        fields = json.loads(text)
        if fields is None:
            return None
        kind, inbound = fields.pop("kind", None), fields.pop("inbound", None)
        if kind == KAFKA:
            return Kafka(**fields, inbound=_kafka_inbound(**inbound) if inbound else None)
        if kind is not None:
            raise ValueError(f"its kind is {kind!r}; known is {KAFKA!r}, and SQS without a kind")
        return Broker(**fields, inbound=Inbound(**inbound) if inbound else None)
    except (ValueError, TypeError, AttributeError) as error:
        found.append(f"SHOP_BROKER is not a JSON object of a broker ({error})")
        return None


def _kafka_inbound(topics: Mapping[str, list[str]], **fields: Any) -> KafkaInbound:
    return KafkaInbound(topics={name: tuple(types) for name, types in topics.items()}, **fields)


def _whole(env: Mapping[str, str], name: str, default: int, found: list[str]) -> int:
    text = env.get(name) or str(default)
    try:
        return int(text)
    except ValueError:
        found.append(f"{name} is {text!r}, not a whole number")
        return default


def _number(env: Mapping[str, str], name: str, default: float, found: list[str]) -> float:
    text = env.get(name) or str(default)
    try:
        return float(text)
    except ValueError:
        found.append(f"{name} is {text!r}, not a number")
        return default
