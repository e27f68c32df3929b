"""Which toys does a fault of the fake cloud break, and how do they behave then? One row per class of fault. (pure)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chaos.faults import (
    Bandwidth,
    Blackhole,
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
from chaos.wires import BROKER, wires
from stages.model import Stage


def broken(fault: Fault, stage: Stage) -> Iterable[str]:
    """Names of the services and wires whose toys behave differently: a broker is met on every wire to it."""
    match fault:
        case BrokerOutage() | BrokerSlow() | BrokerThrottle():
            return [name for name in wires(stage) if name.endswith(f"-{BROKER}")]
        case BrokerDuplicate() | BrokerPoison():
            return []
        case KillInFlight(service=service):
            return [service]
    return fault.touches(stage)


def behaviour(fault: Fault) -> dict[str, Any]:
    """Arguments of `Toy.change`."""
    match fault:
        case Kill() | KillInFlight() | ClusterOutage() | Refuse():
            return {"mode": "gone"}
        case Pause() | Blackhole() | BrokerOutage():
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
        case DatabaseLocked() | DatabaseSlow() | BrokerDuplicate() | BrokerPoison():
            return {"mode": "well"}
