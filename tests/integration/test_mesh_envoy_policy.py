"""Does a whole mesh of real Envoys let through what the model says, and nothing else?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from infra.local.mesh import envoy
from infra.local.mesh.policyprobe import FORBIDDEN, HUNG_UP, UNTRUSTED, measure
from infra.local.mesh.testing import Rig
from stages.catalogue import MESH
from stages.check import Verdict, policy_cells
from stages.deployment import Deployment, Part, Wire
from stages.mesh import STABLE, allowed, link_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(envoy.find_envoy() is None, reason="; ".join(envoy.problems())),
]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def deployed(rig: Rig) -> Deployment:
    """Every sidecar and every gateway of the shop, before one app that answers for all."""
    app = rig.app()
    sides = {s.name: rig.sidecar(s.name, {"app": [app.address]}) for s in MESH.services}
    doors = {}
    for cluster in rig.clusters:
        known = {f"{s}_{STABLE}": [sides[s].address("inbound")] for s in MESH.services_in(cluster)}
        doors[cluster] = rig.gateway(cluster, known)
    rig.ready()
    return Deployment(
        name="mesh",
        run_id="run",
        stage="mesh",
        target="local",
        control="",
        edge="",
        directory=str(rig.home),
        parts={
            side.name: Part(
                role="sidecar",
                of=service,
                cluster=MESH.cluster_of(service),
                version=STABLE,
                admin="",
                pid=side.process.pid,
                log="",
                ports=side.ports,
            )
            for service, side in sides.items()
        },
        wires={
            link_of(a, b): Wire(listen=doors[b].address("mtls"), caller=a, callee=b)
            for a, b in permutations(rig.clusters, 2)
        },
    )


def test_every_pair_with_every_credential_is_as_modelled(rig: Rig) -> None:
    tries = measure(MESH, deployed(rig))
    calls, pairs = len(allowed(MESH)), len(MESH.services) * (len(MESH.services) - 1)
    assert Counter((t.credential, t.answer) for t in tries) == {
        ("own", "allowed"): calls,
        ("own", FORBIDDEN): pairs - calls,
        ("other", FORBIDDEN): pairs,
        ("expired", UNTRUSTED): pairs,
        ("foreign", UNTRUSTED): pairs,
        ("plaintext", HUNG_UP): pairs,
    }
    assert [c.said for c in policy_cells(MESH, tries) if c.verdict is not Verdict.VALID] == []
    assert {(t.caller, t.callee) for t in tries if t.allowed} == allowed(MESH)


def test_a_sidecar_that_does_not_answer_gives_no_clue(rig: Rig) -> None:
    deployment = deployed(rig)
    (dead,) = (each for each in rig.envoys if each.name == "accounts-sidecar")
    dead.process.kill()
    dead.process.wait()
    tries = [t for t in measure(MESH, deployment) if (t.caller, t.callee) == ("storefront", "accounts")]
    assert {t.allowed for t in tries} == {None}
    assert all(t.answer.startswith("unknown: ") for t in tries)
