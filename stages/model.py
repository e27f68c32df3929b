"""What a topology is: the words every other module speaks in.

A stage describes one step of the decoupling completely: which operations users perform, which
services answer them, over which channels, and which cluster each service lives in. Everything
else (what is deployed, which faults make sense, what each fault is predicted to break) follows
from these records. They are plain data; `stages.rules` says what is wrong with a stage and
`stages.blast_radius` what a fault does to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

BACKOFF_MS_MAX = 100
"""Longest pause before a caller's next attempt: 50 ms plus as much jitter."""


class Kind(StrEnum):
    """What a channel asks of the caller."""

    CALL = "call"
    """The caller waits for the answer: the callee's failure is the caller's failure."""
    COMMAND = "command"
    """A message to exactly one receiver, which will act on it; the caller does not wait."""
    EVENT = "event"
    """A message to whoever listens; the producer does not know who does."""


class Transport(StrEnum):
    """How a channel's messages travel."""

    REST = "rest"
    GRPC = "grpc"
    SQS = "sqs"
    SNS = "sns"
    KAFKA = "kafka"


class Delivery(StrEnum):
    """How often a message may take effect, before the receiver's own idempotency."""

    AT_MOST_ONCE = "at-most-once"
    AT_LEAST_ONCE = "at-least-once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """An effect that a user is promised but that may come after the answer."""

    name: str
    """Such as 'email-sent'."""
    at: str
    """The service whose record shows the effect."""
    within_ms: int
    """Deadline, milliseconds from the operation's intended start, without any fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a user does, and what the user is promised about it."""

    name: str
    """Such as 'place-order'; unique in a stage."""
    summary: str
    entry: str
    """The service that receives the user's request."""
    latency_slo_ms: int
    """A request answered later than this, counted from its intended start, is bad. At least 3 x p99,
    so that a host stall does not look like a fault."""
    slo_share: float = 0.99
    """Share of requests that must be good without any fault, in (0, 1)."""
    weight: int = 1
    """Share of the traffic, relative to the other operations, in the mix used by experiments."""
    completions: tuple[Completion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One deployable of the shop."""

    name: str
    """A single word: it is part of channel, fault and resource names."""
    summary: str
    system: str
    database: bool = True
    """Whether the service keeps records, in a database of its own unless `store` says otherwise."""
    store: str | None = None
    """Name of the service in whose database it keeps its records; None: in its own. A rule refuses one of another
    system: who shares a database shares its locks, its schema and its outages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One caller -> callee edge and the promises made about it."""

    caller: str
    callee: str
    kind: Kind = Kind.CALL
    transport: Transport = Transport.REST
    delivery: Delivery = Delivery.AT_MOST_ONCE
    operations: tuple[str, ...]
    """The operations that travel over this channel, in no particular order."""
    timeout_ms: int | None = None
    """How long a caller waits for one attempt. Required for calls, meaningless for messages."""
    attempts: int = 1
    """Attempts per call including the first, >= 1. More than one only where the callee is idempotent."""
    breaker: bool = True
    """Whether the caller stops calling a callee that keeps failing, and tries again later."""
    fallback: str | None = None
    """Name of the channel whose callee answers instead, with a stale or reduced answer."""
    essential: bool = True
    """False where the caller ignores the failure (the fallback channel itself, a write-behind)."""
    step: int = 0
    """Calls of one operation with equal step run in parallel, others one after the other, ascending."""
    via: tuple[str, ...] = ()
    """Shared parts the messages pass through, such as the broker."""
    messages: tuple[str, ...] = ()
    """Types of message that travel over it, such as 'OrderConfirmed'. Required for commands and events, where they
    become filter policies; () for calls."""

    @property
    def name(self) -> str:
        """Unique in a stage, 'orders-payments': part of wire and fault names."""
        return f"{self.caller}-{self.callee}"

    @property
    def reaction_ms(self) -> int:
        """Longest time a caller spends on a call that fails: all attempts and the pauses between them."""
        return self.attempts * (self.timeout_ms or 0) + (self.attempts - 1) * BACKOFF_MS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPart:
    """Infrastructure that several systems lean on (broker, discovery, gateway); it keeps its own faults."""

    name: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A failure domain: everything in it can be lost at once."""

    name: str
    network: str
    """Address range of its own, CIDR; clusters of one stage must not overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Services that belong together, with one owner."""

    name: str
    cluster: str
    owner: str | None = None
    """The team that answers for it. Required once systems are separated."""
    objectives: tuple[str, ...] = ()
    """Operations and completions whose SLO the owner answers for. Required once systems are separated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """How the sidecars of a stage treat connections: the same everywhere, whatever a service is written in."""

    trust_domain: str = "shop"
    """First part of every identity: 'spiffe://shop/commerce/orders'."""
    certificate_ttl_s: int = 600
    """Life of a service's certificate; a new one is issued after half of it."""
    connection_age_ms: int = 3000
    """A connection between sidecars lives so long: a certificate or rule that changed counts from then on."""
    ejected_after: int = 2
    """Failures in a row (refused, reset, timed out, 502 to 504) after which a callee is left alone."""
    ejection_ms: int = 2000
    """For how long, times the number of ejections so far, ..."""
    ejection_ms_max: int = 6000
    """... up to this."""
    requests_max: int = 40
    """Requests that one caller may have under way to one callee; further ones are refused at once."""
    retry_budget_percent: int = 20
    """Second attempts as a share of the requests under way; beyond it there are none, ..."""
    retries_min: int = 3
    """... but so many are always allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A promise that a stage, as such, cannot keep. It is predicted, counted and shown, never patched away."""

    name: str
    """Such as 'lost-email'."""
    effect: str
    """The completion that may be missing."""
    operation: str
    crash_of: str
    """The service whose death in mid-request opens the gap."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the decoupling: the whole topology, and what this step changed."""

    name: str
    title: str
    previous: str | None
    """Name of the stage before, None for the first."""
    change: str
    """The one thing that differs from the previous stage."""
    reason: str
    """Why one takes this step."""
    operations: tuple[Operation, ...]
    services: tuple[Service, ...]
    channels: tuple[Channel, ...]
    systems: tuple[System, ...]
    clusters: tuple[Cluster, ...]
    shared: tuple[SharedPart, ...] = ()
    gaps: tuple[Gap, ...] = ()
    mesh: Mesh | None = None
    """None where services speak to each other directly."""

    def operation(self, name: str) -> Operation:
        """Raise KeyError for a name that is not in this stage; so do the other look-ups."""
        return _named(self.operations, name)

    def service(self, name: str) -> Service:
        return _named(self.services, name)

    def channel(self, name: str) -> Channel:
        return _named(self.channels, name)

    def system(self, name: str) -> System:
        return _named(self.systems, name)

    def cluster_of(self, service: str) -> str:
        """The cluster a service runs in."""
        return self.system(self.service(service).system).cluster

    def services_in(self, cluster: str) -> tuple[str, ...]:
        """Names of the services in a cluster, in the stage's order."""
        return tuple(s.name for s in self.services if self.cluster_of(s.name) == cluster)

    def channels_from(self, caller: str, operation: str) -> tuple[Channel, ...]:
        """What a service calls or sends for an operation, in order of step."""
        mine = [c for c in self.channels if c.caller == caller and operation in c.operations]
        return tuple(sorted(mine, key=lambda c: c.step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A deliberately broken shop: shows that a verdict of 'valid' is not to be had for free."""

    name: str
    """Such as 'no-idempotency'."""
    disables: str
    """The guarantee that the services leave out: one word they know."""
    summary: str
    """One line: what is left out and what goes wrong then."""
    stage: str
    """The stage that it is a broken form of, where `stages verify --variant NAME` runs it by default."""
    exposed_by: str
    """The fault under which it shows."""
    breaks: str
    """The check, or 'fault x operation' cell, that must turn invalid."""


_Named = TypeVar("_Named", Operation, Service, Channel, System)


def _named(items: tuple[_Named, ...], name: str) -> _Named:
    for item in items:
        if item.name == name:
            return item
    raise KeyError(name)
