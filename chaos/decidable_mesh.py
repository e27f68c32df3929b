"""Can the outcome of a fault of the mesh be decided? One rule, one function; who asks which is `chaos.decidable`."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.faults_mesh import Canary, Partition
from chaos.parts import controls
from stages.mesh import calls
from stages.model import Stage

FIRST_TRIPS = 2
"""Round trips of the first exchange on a new connection between sidecars: one for TLS 1.3, one for itself."""

AFFECTED_SHARE_MIN = 0.2
"""A fifth of an operation's requests is four times the margin of a verdict: 0.25 is told apart from none in 99 of 100
windows of 20 s at 20 requests a second, 0.1 in 35, 0.05 (which is the margin itself) in 3. Simulated."""

OLD_CONNECTIONS_S_MAX = 5.0
"""A change of certificates that open connections outlive for longer is not seen while a fault is watched."""

HELD_S_MAX = 60.0
"""No fault of a run is held for longer."""


def same(fault: Partition) -> Iterator[str]:
    if fault.from_ == fault.cluster:
        yield "a cluster cannot be parted from itself"


def outlived(stage: Stage) -> Iterator[str]:
    """What changed about certificates shows only on new connections."""
    age_ms = stage.mesh.connection_age_ms if stage.mesh else 0
    if age_ms > 1000 * OLD_CONNECTIONS_S_MAX:
        yield f"connections of before live on for connection_age_ms={age_ms}, past {OLD_CONNECTIONS_S_MAX:g} s"


def orphaned(service: str, stage: Stage) -> Iterator[str]:
    """Without its control plane a sidecar gets no new certificate: the one it has must last."""
    if stage.mesh and service in controls(stage) and stage.mesh.certificate_ttl_s / 2 < HELD_S_MAX:
        ttl = f"certificate_ttl_s={stage.mesh.certificate_ttl_s}"
        yield f"a certificate near its half-life may end within {HELD_S_MAX:g} s: {ttl} is too short"


def seen_in_part(fault: Canary, stage: Stage) -> Iterator[str]:
    if fault.defect == "none":
        return
    if not any(c.callee == fault.service for c in calls(stage)):
        yield "nobody calls it, so its version makes no difference"
    elif fault.affected < AFFECTED_SHARE_MIN:
        share = f"share_percent={fault.share_percent} of a version that is {fault.defect}"
        yield f"{share} shows in {fault.affected:.1%} of the calls, less than the {AFFECTED_SHARE_MIN:.0%} it takes"
