"""Which faults does a stage get? Derived from its graph, so that a new stage brings its own.

Four sources: every service but a few is killed, every cluster is lost and frozen, every cluster of a mesh is parted
from each other one and from all, and a table of chosen faults is kept where the stage has their target (a stage that
sends messages instead of calling has no wire to cut between the two, one that only calls has no broker, and one without
a mesh no certificates).
Names are '<target>-<what>'; a name means the same fault at every stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.faults import (
    Bandwidth,
    Blackhole,
    ClusterFreeze,
    ClusterOutage,
    CpuStarve,
    DatabaseLocked,
    DatabaseSlow,
    Fault,
    Kill,
    Latency,
    Pause,
    Refuse,
    Reset,
)
from chaos.faults_broker import BrokerDuplicate, BrokerOutage, BrokerPoison, BrokerSlow, BrokerThrottle, KillInFlight
from chaos.faults_mesh import (
    Canary,
    CertificateExpired,
    GarbageConfig,
    GarbageDiscovery,
    Partition,
    RegistryOutage,
    RootRotation,
)
from chaos.parts import AUTHORITY, REGISTRY, authorities, parts, registries, registry_wires
from chaos.wires import BROKER, brokers, queues, wires
from stages.mesh import cluster_pairs, control_of, gateway_of, sidecar_of
from stages.model import Stage

NOT_KILLED = {
    "storefront": "it is the edge: every operation fails, which the loss of its cluster shows as well",
    "shipping": "orders-shipping-blackhole silences it in the harder way",
}
"""Services that no fault of the catalogue kills, and why: a row that teaches nothing costs half a minute."""

QUICK = (
    "payments-killed",
    "email-killed",
    "orders-payments-latency",
    "fulfilment-cluster-outage",
    "broker-outage",
)
"""In order of how much they show; a quick run takes the first QUICK_COUNT that its stage has."""

QUICK_COUNT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFault:
    """A fault of the catalogue."""

    name: str
    """'<target>-<what>', unique; also the name of its experiment file."""
    summary: str
    """One line: what is done, and what it is meant to show."""
    fault: Fault
    quick: bool
    """Whether `stages verify --quick` injects it."""


_CHOSEN: tuple[tuple[str, Fault, str], ...] = (
    ("payments-paused", Pause(service="payments"), "payments hangs: only timeouts tell its callers"),
    ("inventory-paused", Pause(service="inventory"), "inventory hangs: without a breaker every browse waits it out"),
    (
        "email-cpu-starved",
        # Both attempts of a caller and the pause between them fit into one standstill.
        CpuStarve(service="email", share=0.02, period_ms=2000),
        "email runs for 40 ms of every two seconds: it answers a few, too late for most",
    ),
    (
        "orders-payments-latency",
        # One way stays below the timeout of 500 ms, so that the first attempt is applied; the round trip
        # does not, so that its answer is lost and a second attempt is made.
        Latency(wire="orders-payments", delay_ms=350),
        "payments applies the capture but its answer comes too late: the retry must not charge twice",
    ),
    (
        "storefront-inventory-blackhole",
        Blackhole(wire="storefront-inventory"),
        "the storefront hears nothing from inventory, orders does",
    ),
    ("orders-email-reset", Reset(wire="orders-email"), "every connection from orders to email breaks"),
    ("accounts-email-refused", Refuse(wire="accounts-email"), "accounts cannot connect to email, orders can"),
    (
        "storefront-inventory-bandwidth",
        # The catalogue of 1,700 bytes then takes 1.7 s even on an idle wire, four times the storefront's timeout.
        Bandwidth(wire="storefront-inventory", bytes_per_s=1000),
        "the catalogue trickles in too slowly for the storefront's timeout",
    ),
    (
        "orders-shipping-blackhole",
        Blackhole(wire="orders-shipping"),
        "orders hears nothing from shipping: stock and money of the order must be given back",
    ),
    (
        "storefront-analytics-latency",
        Latency(wire="storefront-analytics", delay_ms=10, jitter_ms=4, seed=1),
        "20 ms of distance to analytics: far within every limit, nothing may change",
    ),
    (
        "payments-database-locked",
        DatabaseLocked(database="payments"),
        "payments lives but cannot write: it has to say so quickly",
    ),
    (
        "inventory-database-slow",
        # A tenth of the time, and never longer than half of the service's patience with its database.
        DatabaseSlow(database="inventory", hold_ms=60, every_ms=600),
        "inventory's database stalls for 60 ms now and then: within its patience, nothing may change",
    ),
    (
        "broker-outage",
        BrokerOutage(broker=BROKER),
        "the broker hangs: orders are accepted all the same, and completed once it is back",
    ),
    (
        "broker-slow",
        # Three delays per message are past every deadline; four are still below every visibility timeout.
        BrokerSlow(broker=BROKER, delay_ms=1000),
        "every exchange with the broker takes two seconds: answers come as ever, completions come late",
    ),
    (
        "broker-throttled",
        BrokerThrottle(broker=BROKER, share=0.05),
        "the broker refuses one request in twenty: those who try again with backoff are in time all the same",
    ),
    (
        "broker-duplicates",
        BrokerDuplicate(broker=BROKER, share=0.5),
        "every other message is delivered twice: nothing may be done twice",
    ),
    (
        "payments-poisoned",
        BrokerPoison(queue="payments-commands", count=1),
        "a command to payments that nobody can read: it is put aside with its reason, and its order asks again",
    ),
    (
        "payments-killed-deleting",
        KillInFlight(service="payments", wire="payments-broker", delay_ms=200),
        "payments dies between an effect and the deletion of its command: the command comes again, the money stays",
    ),
    (
        "accounts-killed-publishing",
        # 5 registrations a second and a second to the broker: a few are always committed and not there yet.
        KillInFlight(service="accounts", wire="accounts-broker", delay_ms=1000),
        "accounts dies between its commit, publishing and marking it done: events come late or twice, never not at all",
    ),
    (
        "fulfilment-gateway-killed",
        Kill(service=gateway_of("fulfilment")),
        "the way into cluster fulfilment is gone: calls from outside fail, messages go on",
    ),
    (
        "engagement-gateway-killed",
        Kill(service=gateway_of("engagement")),
        "the way into cluster engagement is gone, and so is the fallback of those who call there",
    ),
    (
        "inventory-sidecar-killed",
        Kill(service=sidecar_of("inventory")),
        "inventory lives, but nobody reaches it and it does not reach the broker",
    ),
    (
        "payments-sidecar-killed",
        Kill(service=sidecar_of("payments")),
        "payments lives, but its commands wait at the broker that it does not reach",
    ),
    (
        "registry-outage",
        RegistryOutage(registry=REGISTRY),
        "the registry hangs: sidecars go on with the endpoints they know",
    ),
    (
        "registry-garbage",
        GarbageDiscovery(registry=REGISTRY),
        "the registry answers nonsense: control planes go on with the last answer that made sense",
    ),
    (
        "fulfilment-control-paused",
        Pause(service=control_of("fulfilment")),
        "the control plane of cluster fulfilment hangs: its sidecars go on with what they were told",
    ),
    (
        "storefront-garbage-config",
        GarbageConfig(service=sidecar_of("storefront")),
        "the storefront's sidecar is told nonsense: it keeps its last good configuration",
    ),
    (
        "inventory-certificate-expired",
        CertificateExpired(service="inventory"),
        "inventory's certificate has run out: calls to it fail, its messages need none and go on",
    ),
    (
        "root-rotated",
        RootRotation(authority=AUTHORITY),
        "every certificate and the root behind it are replaced: nobody may notice",
    ),
    (
        "inventory-canary-failing",
        # Half of the calls to a version that fails half of them: a quarter falls back, enough to be told from none.
        Canary(service="inventory", share_percent=50, defect="failing"),
        "a new version of inventory takes half of the calls and fails half of those: the fallback answers for them",
    ),
)
"""Name, fault, summary: what the derived faults do not show."""


def faults_of(stage: Stage) -> tuple[NamedFault, ...]:
    """Every fault that makes sense on this stage, in the order in which the matrix shows them."""
    found = [*_killed(stage), *_chosen(stage), *_lost(stage), *_frozen(stage), *_parted(stage)]
    names = {name for name, _, _ in found}
    quick = [name for name in QUICK if name in names][:QUICK_COUNT]
    return tuple(
        NamedFault(name=name, summary=summary, fault=fault, quick=name in quick) for name, fault, summary in found
    )


def fault_named(stage: Stage, name: str) -> NamedFault:
    """Look a fault up; raise KeyError with a sentence that names what there is."""
    known = {named.name: named for named in faults_of(stage)}
    if name not in known:
        raise KeyError(f"stage {stage.name!r} has no fault {name!r}; it has {', '.join(known)}")
    return known[name]


def _killed(stage: Stage) -> Iterator[tuple[str, Fault, str]]:
    for service in stage.services:
        if service.name not in NOT_KILLED:
            yield f"{service.name}-killed", Kill(service=service.name), f"{service.name} dies ({service.summary})"


def _lost(stage: Stage) -> Iterator[tuple[str, Fault, str]]:
    for cluster in stage.clusters:
        yield (
            f"{cluster.name}-cluster-outage",
            ClusterOutage(cluster=cluster.name),
            f"everything in cluster {cluster.name} dies at once",
        )


def _frozen(stage: Stage) -> Iterator[tuple[str, Fault, str]]:
    for cluster in stage.clusters:
        yield (
            f"{cluster.name}-cluster-frozen",
            ClusterFreeze(cluster=cluster.name),
            f"everything in cluster {cluster.name} hangs: connections are taken, nothing is answered",
        )


def _parted(stage: Stage) -> Iterator[tuple[str, Fault, str]]:
    for a, b in cluster_pairs(stage) if stage.mesh else ():
        summary = f"nothing gets through between the clusters {a} and {b}, in either direction"
        yield f"{a}-{b}-partitioned", Partition(cluster=a, from_=b), summary
    for cluster in stage.clusters if stage.mesh else ():
        summary = f"nothing gets through between cluster {cluster.name} and any other, in either direction"
        yield f"{cluster.name}-partitioned", Partition(cluster=cluster.name), summary


def _chosen(stage: Stage) -> Iterator[tuple[str, Fault, str]]:
    there = {s.name for s in stage.services} | {*wires(stage), *brokers(stage), *queues(stage)}
    there |= {*parts(stage), *registries(stage), *registry_wires(stage), *authorities(stage)}
    return ((name, fault, summary) for name, fault, summary in _CHOSEN if fault.touches(stage) <= there)
