"""Which files does every Envoy of a cluster need, given all that its control plane knows? (pure)"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.mesh import envoyconf as conf
from infra.local.mesh import pki
from infra.local.mesh.controlplane_discovery import Known, endpoints, share
from infra.local.mesh.controlplane_view import Part, View
from stages.mesh import CANARY, ClusterPlan, Member

GARBAGE_CONFIG = "garbage-config"
"""Affliction: what a sidecar reads while it runs is no JSON."""

GARBAGE = '{"resources": [{"@type": "type.googleapis.com/nothing.that.exists", \n'


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that files depend on; equal inputs give equal files."""

    view: View
    known: Mapping[str, Known]
    leaves: Mapping[str, pki.Leaf]
    """By service."""
    trust: str
    """Roots, PEM."""


def files_of(plan: ClusterPlan, inputs: Inputs, name: str, paths: conf.Paths) -> dict[str, str]:
    """Files of one part, by name in its directory, in the order in which they have to be written.

    Raise KeyError, ValueError or StopIteration if the view is wrong about it.
    """
    part = inputs.view.parts[name]
    docs = _gateway(plan, inputs, part, paths) if part.of is None else _sidecar(plan, inputs, name, part, paths)
    files = {file: json.dumps(doc, sort_keys=True) for file, doc in docs.items()}
    if name in inputs.view.afflicted(GARBAGE_CONFIG):
        files |= {file: GARBAGE for file in files if file.startswith(("cds/", "rds/"))}
    return files


def shares(view: View, known: Mapping[str, Known], member: Member) -> dict[str, dict[str, int]]:
    """Percent of a member's calls that go to canaries, by callee; none to one that cannot be called."""
    return {
        edge.callee: {CANARY: share(view.splits.get(edge.callee, {}), endpoints(view, known, edge))}
        for edge in member.edges
    }


def _sidecar(plan: ClusterPlan, inputs: Inputs, name: str, part: Part, paths: conf.Paths) -> dict[str, Any]:
    view, known = inputs.view, inputs.known
    member = next(m for m in plan.members if m.service == part.of)
    leaf = inputs.leaves[member.service]
    app = view.instances.get(member.service, {}).get(part.version)
    broker = view.broker_routes.get(member.service)
    targets = {conf.APP: [app] if app else [], conf.BROKER: [broker] if broker else []}
    for edge in member.edges:
        targets |= {conf.outbound(edge.callee, v): [at] for v, at in endpoints(view, known, edge).items()}
    return {
        **conf.secrets(leaf.chain, leaf.key, inputs.trust),
        **conf.targets(plan, member, targets, paths, disabled=view.variant),
        **conf.routes(member, shares(view, known, member)),
        conf.BOOTSTRAP: conf.bootstrap(
            plan, member, part.ports, paths, disabled=view.variant, part=name, version=part.version
        ),
    }


def _gateway(plan: ClusterPlan, inputs: Inputs, part: Part, paths: conf.Paths) -> dict[str, Any]:
    targets = {
        conf.outbound(service, version): [address]
        for service, versions in inputs.view.sidecars.items()
        for version, address in versions.items()
    }
    return {
        **conf.gateway_targets(plan, targets),
        conf.BOOTSTRAP: conf.gateway_bootstrap(plan, part.ports, paths),
    }
