"""Can the outcome of a fault be decided on this stage, or does it hang on chance?

A delay far below every limit changes nothing, one far above is a failure; next to a timeout or an SLO the
same fault breaks one request and spares the next, and no prediction is right. Such a fault is a problem of
the catalogue, reported here with the two values that are too close. One rule, one function; those about
messages stand in `chaos.decidable_broker`, those about a mesh in `chaos.decidable_mesh`.
"""

from __future__ import annotations

from collections.abc import Iterator

from chaos import decidable_broker, decidable_mesh
from chaos.faults import (
    Bandwidth,
    ClusterFreeze,
    ClusterOutage,
    CpuStarve,
    DatabaseLocked,
    DatabaseSlow,
    Fault,
    Latency,
    Pause,
)
from chaos.faults_broker import BrokerDuplicate, BrokerPoison, BrokerSlow, BrokerThrottle, KillInFlight
from chaos.faults_mesh import Canary, CertificateExpired, Partition, RootRotation
from chaos.parts import authorities, parts, registries
from chaos.wires import brokers, queues, wired, wires
from stages.mesh import control_of
from stages.model import BACKOFF_MS_MAX, Channel, Kind, Stage

FAR_BELOW = 0.5
"""A delay of at most this share of a limit leaves the rest to the work itself and to a slow machine."""

FAR_ABOVE = 1.4
"""A delay of at least this multiple of a timeout misses it whatever the machine does."""

BUSY_TIMEOUT_MS = 200
"""How long a service waits for its database before it answers 503; the workloads promise no more."""

STARVED_SHARE = 0.05
"""A service that may run less than this cannot keep up with the shop's load of some 20 requests a second."""


def problems(fault: Fault, stage: Stage) -> list[str]:
    """Every reason why this fault has no predictable outcome on this stage; [] for a good one."""
    if unknown := list(_unknown_target(fault, stage)):
        return unknown
    return [f"{fault.kind} of {fault.target}: {finding}" for finding in _findings(fault, stage)]


def _findings(fault: Fault, stage: Stage) -> Iterator[str]:
    match fault:
        case Latency(wire=wire, delay_ms=delay, jitter_ms=jitter):
            trips = decidable_mesh.FIRST_TRIPS if stage.mesh else 1
            yield from _slow_wire(fault, stage, wire, 2 * (delay - jitter), trips * 2 * (delay + jitter))
        case Bandwidth(wire=wire):
            yield from _slow_wire(fault, stage, wire, fault.transfer_ms, fault.transfer_ms)
        case CpuStarve():
            yield from _not_starved_enough(fault, stage)
        case DatabaseLocked(database=database):
            yield from _slow_refusal(stage, database)
        case DatabaseSlow():
            yield from _neither_slow_nor_locked(fault, stage)
        case ClusterOutage(cluster=cluster):
            if not stage.services_in(cluster):
                yield "nothing runs there, so nothing can be seen of its loss"
        case ClusterFreeze(cluster=cluster):
            if not stage.services_in(cluster):
                yield "nothing runs there, so nothing can be seen of its standstill"
            yield from decidable_mesh.orphaned(control_of(cluster), stage)
        case BrokerSlow():
            yield from decidable_broker.slow(fault, stage)
        case BrokerThrottle():
            yield from decidable_broker.throttled(fault)
        case BrokerDuplicate():
            yield from decidable_broker.twice(stage)
        case BrokerPoison():
            yield from decidable_broker.poisoned(fault)
        case KillInFlight():
            yield from decidable_broker.in_flight(fault, stage)
        case Pause(service=service):
            yield from decidable_mesh.orphaned(service, stage)
        case Partition():
            yield from decidable_mesh.same(fault)
        case CertificateExpired() | RootRotation():
            yield from decidable_mesh.outlived(stage)
        case Canary():
            yield from decidable_mesh.seen_in_part(fault, stage)
            yield from _slow_canary(fault, stage)


def _unknown_target(fault: Fault, stage: Stage) -> Iterator[str]:
    known = {
        "service": [*(s.name for s in stage.services), *parts(stage)],
        "wire": list(wires(stage)),
        "database": [s.name for s in stage.services if s.database],
        "cluster": [c.name for c in stage.clusters],
        "broker": list(brokers(stage)),
        "queue": list(queues(stage)),
        "registry": list(registries(stage)),
        "authority": list(authorities(stage)),
    }
    for need in fault.needs:
        kind, _, name = need.partition(" ")
        if name not in known[kind]:
            there = ", ".join(known[kind]) or "none"
            yield f"{fault.kind}: stage {stage.name!r} has no {kind} {name!r}; it has {there}"


def _slow_wire(fault: Fault, stage: Stage, wire: str, least_ms: int, most_ms: int) -> Iterator[str]:
    channels = wires(stage)[wire].channels
    for channel in channels:
        if channel.kind is Kind.CALL:
            yield from _near_a_limit(stage, channel, least_ms, most_ms)
    if any(c.kind is not Kind.CALL for c in channels):
        yield from decidable_broker.near_a_deadline(stage, fault.impact(stage).delay_ms)


def _near_a_limit(stage: Stage, channel: Channel, least_ms: int, most_ms: int) -> Iterator[str]:
    timeout = channel.timeout_ms
    if timeout is not None and least_ms >= FAR_ABOVE * timeout:
        return  # it never answers in time, which is as clear as a cut
    if timeout is not None and most_ms > FAR_BELOW * timeout:
        yield f"adds {least_ms} to {most_ms} ms to {channel.name!r}, too close to its timeout_ms={timeout}"
    for operation in map(stage.operation, channel.operations):
        if most_ms > FAR_BELOW * operation.latency_slo_ms:
            slo = f"its SLO of {operation.latency_slo_ms} ms"
            yield f"adds up to {most_ms} ms to {operation.name!r}, too close to {slo}"


def _slow_canary(fault: Canary, stage: Stage) -> Iterator[str]:
    for name, delay_ms in fault.impact(stage).delay_ms.items():
        yield from _near_a_limit(stage, stage.channel(name), delay_ms, delay_ms)


def _not_starved_enough(fault: CpuStarve, stage: Stage) -> Iterator[str]:
    if fault.share > STARVED_SHARE:
        yield f"share={fault.share} may or may not suffice; below {STARVED_SHARE} it surely does not"
    idle_ms = fault.period_ms * (1 - fault.share)
    for channel in wired(stage):
        patience_ms = channel.reaction_ms
        if channel.callee == fault.service and idle_ms < FAR_ABOVE * patience_ms:
            yield f"stands still for {idle_ms:.0f} ms, too close to the {patience_ms} ms that {channel.name!r} tries"


def _slow_refusal(stage: Stage, database: str) -> Iterator[str]:
    """A locked database is refused only after the busy timeout: a fallback must still come in time."""
    for channel in wired(stage):
        if channel.callee != database or channel.fallback is None:
            continue
        waited = channel.attempts * min(BUSY_TIMEOUT_MS, channel.timeout_ms or BUSY_TIMEOUT_MS)
        waited += (channel.attempts - 1) * BACKOFF_MS_MAX
        for operation in map(stage.operation, channel.operations):
            if waited > FAR_BELOW * operation.latency_slo_ms:
                yield (
                    f"{channel.name!r} waits {waited} ms before it falls back, too close to the SLO of "
                    f"{operation.name!r}, {operation.latency_slo_ms} ms"
                )


def _neither_slow_nor_locked(fault: DatabaseSlow, stage: Stage) -> Iterator[str]:
    if fault.hold_ms > FAR_BELOW * BUSY_TIMEOUT_MS:
        yield f"hold_ms={fault.hold_ms} is too close to the busy timeout of {BUSY_TIMEOUT_MS} ms"
    if fault.hold_ms > FAR_BELOW * fault.every_ms:
        yield f"hold_ms={fault.hold_ms} leaves too little of every_ms={fault.every_ms} for the work"
    for channel in wired(stage):
        if channel.callee == fault.database:
            yield from _near_a_limit(stage, channel, 0, fault.hold_ms)
