"""From a JSON object to a fault, or to every reason why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
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
from chaos.faults_broker import BrokerDuplicate, BrokerOutage, BrokerPoison, BrokerSlow, BrokerThrottle, KillInFlight
from chaos.faults_mesh import (
    DEFECTS,
    Canary,
    CertificateExpired,
    GarbageConfig,
    GarbageDiscovery,
    Partition,
    RegistryOutage,
    RootRotation,
)

CLASSES: dict[str, type[Fault]] = {
    cls.kind: cls
    for cls in (
        Kill,
        Pause,
        CpuStarve,
        Latency,
        Blackhole,
        Reset,
        Refuse,
        Bandwidth,
        ClusterOutage,
        ClusterFreeze,
        DatabaseLocked,
        DatabaseSlow,
        BrokerOutage,
        BrokerSlow,
        BrokerThrottle,
        BrokerDuplicate,
        BrokerPoison,
        KillInFlight,
        Partition,
        RegistryOutage,
        GarbageDiscovery,
        CertificateExpired,
        GarbageConfig,
        RootRotation,
        Canary,
    )
}
"""Every class of fault by its kind."""


class FaultError(ValueError):
    """The object is not a fault; `problems` holds every finding."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def from_spec(raw: Any) -> Fault:
    """Read what `spec` wrote; raise FaultError with all findings otherwise.

    >>> from_spec({"kind": "kill", "service": "payments"})
    Kill(service='payments')
    """
    if not isinstance(raw, Mapping) or raw.get("kind") not in CLASSES:
        raise FaultError([f"not a fault: {raw!r}; 'kind' must be one of {', '.join(CLASSES)}"])
    cls = CLASSES[raw["kind"]]
    given = {name: value for name, value in raw.items() if name != "kind"}
    if problems := _misfits(cls, given):
        raise FaultError(problems)
    fields_of = {f.name.rstrip("_"): f.name for f in fields(cls)}
    fault: Fault = cls(**{fields_of[key]: value for key, value in given.items()})
    if problems := malformed(fault):
        raise FaultError(problems)
    return fault


def malformed(fault: Fault) -> list[str]:
    """Every value of a fault that makes no sense anywhere, with the fault's target; [] for a sound one."""
    least = {"jitter_ms": 0, "seed": 0}
    findings = [
        f"{fault.kind} of {fault.target}: {f.name}={value} must be at least {least.get(f.name, 1)}"
        for f in fields(fault)
        if isinstance(value := getattr(fault, f.name), int) and value < least.get(f.name, 1)
    ]
    match fault:
        case CpuStarve(share=share) | BrokerThrottle(share=share) | BrokerDuplicate(share=share) if not 0 < share < 1:
            findings.append(f"{fault.kind} of {fault.target}: share={share} must lie between 0 and 1")
        case Latency(delay_ms=delay, jitter_ms=jitter) if jitter > delay:
            findings.append(f"{fault.kind} of {fault.target}: jitter_ms={jitter} is more than delay_ms={delay}")
        case DatabaseSlow(hold_ms=hold, every_ms=every) if hold >= every:
            findings.append(f"{fault.kind} of {fault.target}: hold_ms={hold} must be less than every_ms={every}")
        case Canary(share_percent=percent, defect=defect):
            if percent > 100:
                findings.append(f"{fault.kind} of {fault.target}: share_percent={percent} must be at most 100")
            if defect not in DEFECTS:
                known = ", ".join(DEFECTS)
                findings.append(f"{fault.kind} of {fault.target}: defect={defect!r} must be one of {known}")
    return findings


def _misfits(cls: type[Fault], given: Mapping[str, Any]) -> list[str]:
    types: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float)}
    known = {f.name.rstrip("_"): f for f in fields(cls)}
    return [
        *(f"{cls.kind}: unknown field {name!r}" for name in given if name not in known),
        *(f"{cls.kind}: {n!r} is missing" for n, f in known.items() if f.default is MISSING and n not in given),
        *(
            f"{cls.kind}: {name}={value!r} must be of type {known[name].type}"
            for name, value in given.items()
            if name in known and (isinstance(value, bool) or not isinstance(value, types[str(known[name].type)]))
        ),
    ]
