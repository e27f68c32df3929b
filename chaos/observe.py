"""Does it bite? One short look from outside at the place where a fault should show.

A look takes part in nothing: it asks a service for /live, past the wires or through one, or reads a
database; it never writes. What the fault's holder says about it is the other half of the evidence
(`chaos.probes.fault_bites`). How one looks at a broker stands in `chaos.observe_broker`, how at a mesh in
`chaos.observe_mesh`: its wires between services carry TLS, so that whoever is there is greeted instead of asked.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chaos import observe_broker, observe_mesh
from chaos.ask import SILENCE_S, Reply, Sight, ask, ended, ends
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
from chaos.observe_mesh import own
from stages.deployment import Deployment

SLOW_PAGE = "/openapi.json"
"""A long answer that every service gives, for measuring bandwidth."""

SLOW_PAGE_S = 1.2
"""How long a trickle is watched."""

LOCK_LOOKS = 6
"""A database is locked all the time if this many looks in a row find it so."""

LOCK_LOOK_S = 0.03
"""Between two looks: the shop's own transactions hold their lock for a millisecond or two."""


def look(fault: Fault, deployment: Deployment, evidence: Mapping[str, Any] | None = None) -> Sight:
    """One look, at most about 2 s long; raise KeyError if the deployment does not have the target.

    `evidence` is what the fault's holder says; only faults that nobody else can see are told by it.
    """
    match fault:
        case Kill(service=service) | KillInFlight(service=service):
            return ends(service, own(deployment, service), "refused")
        case Pause(service=service):
            return ends(service, own(deployment, service), "silent")
        case CpuStarve(service=service):
            return _starved(fault, own(deployment, service))
        case Blackhole(wire=wire):
            return _wire(deployment, wire, "silent")
        case Reset(wire=wire):
            return _wire(deployment, wire, "reset")
        case Refuse(wire=wire):
            return _wire(deployment, wire, "refused")
        case Latency():
            return _late(fault, deployment)
        case Bandwidth():
            return _trickles(fault, deployment)
        case ClusterOutage(cluster=cluster):
            return _all_end(cluster, deployment, "refused")
        case ClusterFreeze(cluster=cluster):
            return _all_end(cluster, deployment, "silent")
        case DatabaseLocked(database=database):
            return _locked(database, _file(deployment, database))
        case DatabaseSlow(database=database):
            return _locked_by_turns(fault, _file(deployment, database))
        case BrokerOutage(broker=broker):
            return ends(f"the {broker}", observe_broker.address(deployment, broker), "silent")
        case BrokerSlow():
            return observe_broker.slow(fault, deployment)
        case BrokerThrottle():
            return observe_broker.throttles(fault, deployment)
        case BrokerDuplicate() | BrokerPoison():
            return observe_broker.told(fault, evidence or {})
        case Partition():
            return observe_mesh.parted(fault, deployment)
        case RegistryOutage(registry=registry):
            return ends(f"the {registry}", observe_broker.address(deployment, registry), "silent")
        case GarbageDiscovery():
            return observe_mesh.disbelieved(deployment, evidence or {})
        case CertificateExpired():
            return observe_mesh.expired(fault, deployment, evidence or {})
        case GarbageConfig():
            return observe_mesh.refuses(fault, deployment, evidence or {})
        case RootRotation():
            return observe_mesh.renewed(fault, deployment, evidence or {})
        case Canary():
            return observe_mesh.answers(fault, deployment, evidence or {})


def _wire(deployment: Deployment, wire: str, end: str) -> Sight:
    where = deployment.wires[wire].listen
    return ended(f"wire {wire}", where, _through(deployment, wire, timeout_s=SILENCE_S), end)


def _through(
    deployment: Deployment, wire: str, *, timeout_s: float, path: str = "/live", for_s: float | None = None
) -> Reply:
    """Ask whoever is at the other end; where only a greeting is answered, greet."""
    if observe_mesh.encrypted(deployment, wire):
        return observe_mesh.knock(deployment, wire, timeout_s=timeout_s, for_s=for_s)
    return ask(f"http://{deployment.wires[wire].listen}", timeout_s=timeout_s, path=path, for_s=for_s)


def _all_end(cluster: str, deployment: Deployment, end: str) -> Sight:
    there = {name: i.url for name, i in deployment.services.items() if i.cluster == cluster}
    there |= {name: part.admin for name, part in deployment.parts.items() if part.cluster == cluster}
    with ThreadPoolExecutor() as at_once:  # each silence takes its time
        replies = at_once.map(lambda url: ask(url, timeout_s=SILENCE_S), there.values())
        ends = {name: reply.end for name, reply in zip(there, replies, strict=True)}
    others = [f"{name} {seen}" for name, seen in ends.items() if seen != end]
    verb = {"refused": "refuse connections", "silent": "take connections and are silent"}[end]
    said = f"not so: {', '.join(others)}" if others else f"all {len(there)} processes {verb}"
    return Sight(bites=bool(there) and not others, said=f"cluster {cluster}: {said}")


def _starved(fault: CpuStarve, url: str) -> Sight:
    """Some request in a row that spans a period meets the standstill."""
    idle_s = fault.period_ms / 1000 * (1 - fault.share)
    end = time.monotonic() + 1.5 * fault.period_ms / 1000
    longest = 0.0
    while longest < 0.4 * idle_s and time.monotonic() < end:
        longest = max(longest, ask(url, timeout_s=idle_s).took_s)
        time.sleep(0.02)
    return Sight(
        bites=longest >= 0.4 * idle_s,
        said=f"{fault.service} at {url} took {longest * 1000:.0f} ms to answer, of {idle_s * 1000:.0f} ms standstill",
    )


def _late(fault: Latency, deployment: Deployment) -> Sight:
    """The fastest of three requests: a slow machine can delay one, but cannot speed one up."""
    least_s = 2 * (fault.delay_ms - fault.jitter_ms) / 1000
    replies = [_through(deployment, fault.wire, timeout_s=SILENCE_S + 2 * least_s) for _ in range(3)]
    fastest_s = min(r.took_s for r in replies)
    said = f"a round trip over wire {fault.wire} takes {fastest_s * 1000:.0f} ms, {least_s * 1000:.0f} ms of it added"
    return Sight(bites=fastest_s >= least_s, said=said)


def _trickles(fault: Bandwidth, deployment: Deployment) -> Sight:
    reply = _through(deployment, fault.wire, path=SLOW_PAGE, timeout_s=SILENCE_S, for_s=SLOW_PAGE_S)
    rate = reply.read_bytes / reply.took_s
    # Twice the limit leaves room for what a limiter lets through at once before it begins to count.
    enough = reply.end in {"answered", "silent"} and reply.took_s >= SILENCE_S
    said = f"{reply.read_bytes} bytes in {reply.took_s * 1000:.0f} ms over wire {fault.wire}"
    return Sight(
        bites=enough and rate <= 2 * fault.bytes_per_s, said=f"{said}; the limit is {fault.bytes_per_s} bytes/s"
    )


def _file(deployment: Deployment, database: str) -> str:
    url = deployment.services[database].database or ""
    return url.removeprefix("sqlite:///")


def _locked(database: str, path: str) -> Sight:
    seen = 0
    while seen < LOCK_LOOKS and is_locked(path):
        seen += 1
        time.sleep(LOCK_LOOK_S)
    bites = seen == LOCK_LOOKS
    return Sight(
        bites=bites, said=f"database {database}: {seen} looks in a row found it locked, {LOCK_LOOKS} are asked for"
    )


def _locked_by_turns(fault: DatabaseSlow, path: str) -> Sight:
    """Over two turns at least half of the expected share of looks finds it locked."""
    end = time.monotonic() + 2 * fault.every_ms / 1000
    looks: list[bool] = []
    while time.monotonic() < end:
        looks.append(is_locked(path))
        time.sleep(0.005)
    share, expected = sum(looks) / len(looks), fault.hold_ms / fault.every_ms
    said = f"database {fault.database}: locked in {sum(looks)} of {len(looks)} looks, {expected:.0%} expected"
    return Sight(bites=share >= expected / 2, said=said)


def is_locked(path: str) -> bool:
    """Whether a reader is turned away right now. Holds a shared lock for some microseconds if not."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    finally:
        connection.close()
    return False
