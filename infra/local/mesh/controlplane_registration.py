"""What has to be said to the registry of a cluster's own instances, given what it knows of them? (pure)"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from infra.local.mesh.controlplane_view import View
from infra.local.mesh.registry import Entry, Found, Named
from stages.mesh import ClusterPlan


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance as it should stand in the registry."""

    entry: Entry
    health: str | None
    """None if it is not known yet: then nothing is said of it, and nothing taken back."""


@dataclass(frozen=True, slots=True)
class Register:
    name: Named
    entry: Entry


@dataclass(frozen=True, slots=True)
class Report:
    name: Named
    health: str


@dataclass(frozen=True, slots=True)
class Deregister:
    name: Named


Step = Register | Report | Deregister


def wanted(plan: ClusterPlan, view: View, health: Mapping[Named, str | None]) -> dict[Named, Wanted]:
    """Everything of this cluster that has a sidecar, whether its application runs or not; stable versions first.

    In this order it is registered, and backwards taken away: nobody ever finds a canary alone, and believes it.
    """
    found = {}
    for member in plan.members:
        for version, address in sorted(view.sidecars.get(member.service, {}).items()):
            name = Named(member.service, version)
            entry = Entry(address, version, plan.cluster, member.identity)
            found[name] = Wanted(entry, health.get(name))
    return found


def steps(plan: ClusterPlan, wanted: Mapping[Named, Wanted], seen: Mapping[str, Found]) -> Iterator[Step]:
    """What is to be done about the services that were looked up in the registry (`seen`).

    What stands there under our services' names and is not ours is taken away.
    """
    for member in plan.members:
        found = seen.get(member.service)
        if found is None:
            continue
        ours = {name.instance_id: (name, want) for name, want in wanted.items() if name.service == member.service}
        for instance_id in found.entries.keys() - ours.keys():
            yield Deregister(Named(member.service, instance_id.removeprefix(f"{member.service}-")))
        for instance_id, (name, want) in ours.items():
            yield from _step(name, want, found.entries.get(instance_id))


def _step(name: Named, want: Wanted, there: Entry | None) -> Iterator[Step]:
    if want.health is None:
        return
    if there is None or there.attributes != want.entry.attributes:
        yield Register(name, replace(want.entry, health=want.health))
    elif there.health != want.health:
        yield Report(name, want.health)
