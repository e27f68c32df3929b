"""Which toys does a fault of the fake cloud break, and how do they behave then? One row per class of fault. (pure)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
from chaos.faults_broker import (
    BrokerDuplicate,
    BrokerOutage,
    BrokerPoison,
    BrokerSlow,
    BrokerThrottle,
    KillInFlight,
)
from chaos.faults_mesh import (
    Canary,
    CertificateExpired,
    GarbageConfig,
    GarbageDiscovery,
    Partition,
    RegistryOutage,
    RootRotation,
)
from chaos.parts import controls, registry_wires
from chaos.wires import BROKER, wires
from stages.mesh import sidecar_of
from stages.model import Stage


def broken(fault: Fault, stage: Stage) -> Iterable[str]:
    """Names of the services and wires whose toys behave differently: a broker is met on every wire to it."""
    match fault:
        case BrokerOutage() | BrokerSlow() | BrokerThrottle():
            return [name for name in wires(stage) if name.endswith(f"-{BROKER}")]
        case BrokerDuplicate() | BrokerPoison() | RootRotation() | Canary():
            return []
        case RegistryOutage():
            return registry_wires(stage)
        case GarbageDiscovery():
            return controls(stage)
        case CertificateExpired(service=service):
            return [door_of(sidecar_of(service))]
        case KillInFlight(service=service):
            return [service]
    return fault.touches(stage)


def door_of(part: str) -> str:
    """Name of the toy at which a sidecar is greeted."""
    return f"{part}:inbound"


def behaviour(fault: Fault) -> dict[str, Any]:
    """Arguments of `Toy.change`."""
    match fault:
        case Kill() | KillInFlight() | ClusterOutage() | Refuse():
            return {"mode": "gone"}
        case Pause() | ClusterFreeze() | Blackhole() | BrokerOutage() | Partition() | RegistryOutage():
            return {"mode": "silent"}
        case Reset():
            return {"mode": "reset"}
        case CpuStarve(period_ms=period, share=share):
            return {"mode": "late", "delay_s": period * (1 - share) / 1000}
        case Latency(round_trip_ms=round_trip):
            return {"mode": "late", "delay_s": round_trip / 1000}
        case BrokerSlow(delay_ms=delay):
            return {"mode": "late", "delay_s": 2 * delay / 1000}
        case Bandwidth(bytes_per_s=rate):
            return {"mode": "trickle", "bytes_per_s": rate}
        case BrokerThrottle():
            return {"mode": "throttled"}
        case CertificateExpired():
            return {"mode": "expired"}
        case GarbageConfig():
            return {"mode": "rejecting"}
        case GarbageDiscovery():
            return {"mode": "disbelieving"}
        case DatabaseLocked() | DatabaseSlow() | BrokerDuplicate() | BrokerPoison() | RootRotation() | Canary():
            return {"mode": "well"}
