"""What does a control plane say of itself and of its cluster? status.json (pure)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from infra.local.mesh import pki
from infra.local.mesh.controlplane_discovery import Known
from infra.local.mesh.controlplane_leaves import CERTIFICATE_EXPIRED, Authority
from infra.local.mesh.controlplane_render import GARBAGE_CONFIG
from infra.local.mesh.controlplane_view import Affliction, View
from infra.local.mesh.registry import Named
from stages.mesh import ClusterPlan

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What has been noticed so far."""

    registry_reachable: bool | None = None
    """None before the first attempt."""
    rejected: int = 0
    """Answers that were not believed, and rounds of questions without an answer."""
    believed_at_ns: Mapping[str, int] = field(default_factory=dict, compare=False)
    """When the last believed answer on a callee came, on the monotonic clock; no news by itself."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Why the last answer on a callee was not believed, as long as that is so."""
    health: Mapping[Named, str | None] = field(default_factory=dict)
    afflictions: Mapping[str, str] = field(default_factory=dict)

    def refused(self, callee: str, reason: str) -> Report:
        return replace(self, rejected=self.rejected + 1, refusals={**self.refusals, callee: reason})

    def believed(self, callee: str, at_ns: int) -> Report:
        refusals = {c: reason for c, reason in self.refusals.items() if c != callee}
        return replace(self, believed_at_ns={**self.believed_at_ns, callee: at_ns}, refusals=refusals)


def status(
    report: Report, known: Mapping[str, Known], leaves: Mapping[str, pki.Leaf], authority: Authority
) -> dict[str, object]:
    """The whole document but for the time it was written."""
    health: dict[str, dict[str, str]] = {}
    for name, seen in sorted(report.health.items()):
        if seen is not None:
            health.setdefault(name.service, {})[name.version] = seen
    return {
        "format": FORMAT,
        "known": {
            callee: {
                "instances": len(k.entries),
                "healthy": sorted(k.healthy),
                "revision": k.revision,
                "at_ns": report.believed_at_ns.get(callee, 0),
            }
            for callee, k in sorted(known.items())
        },
        "registry_reachable": bool(report.registry_reachable),
        "rejected": report.rejected,
        "refusals": dict(report.refusals),
        "certificates": {service: _certificate(leaf, authority) for service, leaf in sorted(leaves.items())},
        "trusted": list(authority.trusted),
        "afflictions": dict(report.afflictions),
        "health": health,
    }


def afflictions(plan: ClusterPlan, view: View, leaves: Mapping[str, pki.Leaf]) -> dict[str, str]:
    """What is being done wrong on request, in words, by lease."""
    return {lease: _done(plan, view, leaves, a) for lease, a in sorted(view.afflictions.items())}


def _done(plan: ClusterPlan, view: View, leaves: Mapping[str, pki.Leaf], affliction: Affliction) -> str:
    match affliction.kind:
        case kind if kind == CERTIFICATE_EXPIRED and affliction.target in leaves:
            leaf = leaves[affliction.target]
            return f"{affliction.target} has certificate {leaf.serial}, which ended {_utc(leaf)}"
        case kind if kind == GARBAGE_CONFIG and affliction.target in view.parts:
            return f"endpoints and routes of {affliction.target} are garbage"
    return f"nothing: {affliction.kind} of {affliction.target!r} is not known in cluster {plan.cluster}"


def _certificate(leaf: pki.Leaf, authority: Authority) -> dict[str, str]:
    return {"serial": leaf.serial, "not_after_utc": _utc(leaf), "root": authority.root}


def _utc(leaf: pki.Leaf) -> str:
    return leaf.not_after.strftime("%Y-%m-%dT%H:%M:%SZ")
