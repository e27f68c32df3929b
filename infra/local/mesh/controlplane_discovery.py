"""May an answer of the registry be believed, and where do calls go then? (pure)"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from infra.local.mesh.controlplane_view import View
from infra.local.mesh.registry import HEALTHY, UNHEALTHY, Entry, Found, Named
from stages.mesh import CANARY, STABLE, ClusterPlan, Edge

_ADDRESS = re.compile(r"127\.\d{1,3}\.\d{1,3}\.\d{1,3}:(\d{1,5})")
"""Of this machine only: nobody makes callers connect elsewhere."""


@dataclass(frozen=True, slots=True)
class Known:
    """The last answer on a callee that was believed."""

    entries: Mapping[str, Entry]
    revision: int

    @property
    def healthy(self) -> frozenset[str]:
        """Versions that can be called."""
        return frozenset(e.version for e in self.entries.values() if e.health == HEALTHY)


class Rejected(Exception):
    """An answer that is not believed; what was known before counts on."""


def believed(edge: Edge, found: Found, last: Known | None) -> Known:
    """What an answer on `edge.callee` says. Raise Rejected with the reason.

    Instances that are all unhealthy are believed, that is how a dead one leaves. That the stable version has vanished
    is not: so answers a registry that has lost its memory, or is just being told again who is there.
    """
    stable = Named(edge.callee, STABLE).instance_id
    if last is not None and stable in last.entries and stable not in found.entries:
        raise Rejected(f"{edge.callee}: {stable} is not there any more, healthy or not")
    for instance_id, entry in found.entries.items():
        wrong = _wrong(edge, instance_id, entry)
        if wrong:
            raise Rejected(f"{edge.callee}: {instance_id!r} has {wrong}")
    return Known(dict(found.entries), found.revision)


def _wrong(edge: Edge, instance_id: str, entry: Entry) -> str | None:
    address = _ADDRESS.fullmatch(entry.address)
    if entry.version not in (STABLE, CANARY):
        return f"unknown version {entry.version!r}"
    if instance_id != Named(edge.callee, entry.version).instance_id:
        return f"version {entry.version!r}, which is not its name's"
    if entry.identity != edge.identity:
        return f"foreign identity {entry.identity!r}, expected {edge.identity!r}"
    if entry.cluster != edge.callee_cluster:
        return f"wrong cluster {entry.cluster!r}, expected {edge.callee_cluster!r}"
    if address is None or not 0 < int(address[1]) < 65536:
        return f"an address that cannot be one, {entry.address!r}"
    if entry.health not in (HEALTHY, UNHEALTHY):
        return f"unknown health {entry.health!r}"
    return None


def edge_to(plan: ClusterPlan, callee: str) -> Edge:
    """An edge to a callee; what is checked is the same for all of them."""
    return next(edge for member in plan.members for edge in member.edges if edge.callee == callee)


def endpoints(view: View, known: Mapping[str, Known], edge: Edge) -> dict[str, str]:
    """Address by version to dial for an edge: the wire to every version that the registry calls healthy."""
    there = known[edge.callee].healthy if edge.callee in known else frozenset()
    return {v: address for v, address in sorted(view.routes.get(edge.channel, {}).items()) if v in there}


def share(split: Mapping[str, int], versions: Iterable[str]) -> int:
    """Percent of the calls that go to the canary: nothing if it is not there to be called.

    >>> share({"v2": 10}, {"v1", "v2"}), share({"v2": 10}, {"v1"}), share({}, {"v1", "v2"})
    (10, 0, 0)
    """
    return min(max(int(split.get(CANARY, 0)), 0), 100) if CANARY in versions else 0


def to_json(known: Mapping[str, Known]) -> dict[str, object]:
    """For the file from which a new control plane goes on; `from_json` reads it."""
    return {callee: asdict(k) for callee, k in sorted(known.items())}


def from_json(plan: ClusterPlan, raw: Mapping[str, object]) -> dict[str, Known]:
    """What is still believable of a file's content; the rest is left out."""
    found = {}
    for callee in plan.callees:
        match raw.get(callee):
            case {"entries": dict(entries), "revision": int(revision)}:
                try:
                    read = Found({str(i): Entry(**entry) for i, entry in entries.items()}, revision)
                    found[callee] = believed(edge_to(plan, callee), read, None)
                except (TypeError, Rejected):
                    continue
    return found
