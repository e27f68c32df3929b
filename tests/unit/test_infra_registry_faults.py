"""Is nonsense of a registry never believed, and does it end with its lease?"""

from __future__ import annotations

import asyncio
import json

import pytest

from infra.local.faultspec import Fault
from infra.local.mesh.controlplane_discovery import Known, Rejected, believed, edge_to
from infra.local.mesh.registry import CloudMap, Entry
from infra.local.registryfaults import NO_PROTOCOL, RegistryFaults, nonsense
from stages.catalogue import MESH
from stages.mesh import cluster_plan

EDGE = edge_to(cluster_plan(MESH, "commerce"), "inventory")
STABLE = Entry("127.0.0.1:20040", "v1", EDGE.callee_cluster, EDGE.identity)
SAID = {"InstanceId": "inventory-v1", "Attributes": STABLE.attributes, "HealthStatus": "HEALTHY"}
ANSWER = json.dumps({"Instances": [SAID], "InstancesRevision": 8}).encode()
GARBAGE = Fault("garbage-discovery", "registry")
KINDS = 6
"""Of nonsense that is JSON; after them comes what is not."""


class Parrot:
    """Stands in for boto3's client: gives one answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def discover_instances(self, **_: object) -> object:
        return json.loads(self._answer)


def found(answer: bytes) -> Known:
    """What a control plane that knew the instance believes."""
    return believed(EDGE, CloudMap(Parrot(answer)).discover("inventory"), Known({"inventory-v1": STABLE}, 7))


def test_the_answer_itself_is_believed() -> None:
    assert found(ANSWER) == Known({"inventory-v1": STABLE}, 8)


@pytest.mark.parametrize("turn", range(KINDS))
def test_no_kind_of_nonsense_is_believed(turn: int) -> None:
    assert nonsense(turn, ANSWER) != ANSWER
    with pytest.raises(Rejected):
        found(nonsense(turn, ANSWER))


def test_after_all_kinds_comes_what_is_no_answer_at_all_and_then_the_first_again() -> None:
    assert len({nonsense(turn, ANSWER) for turn in range(KINDS)}) == KINDS
    assert nonsense(KINDS, ANSWER) == NO_PROTOCOL
    assert nonsense(KINDS + 1, ANSWER) == nonsense(0, ANSWER)


def test_nonsense_is_counted_and_ends_with_its_lease_although_nobody_undoes_it() -> None:
    async def story() -> list[bytes]:
        faults = RegistryFaults()
        answers = [faults.garble(ANSWER)]
        faults.handle({"cmd": "fault", "lease": "l", "fault": GARBAGE.to_json(), "ttl_s": 0.02})
        answers.append(faults.garble(ANSWER))
        await asyncio.wait_for(faults.of(GARBAGE.kind)[0].over.wait(), 5)
        assert faults.seen() == {"l": {"state": "expired", "count": 1}}
        return [*answers, faults.garble(ANSWER)]

    assert asyncio.run(story()) == [ANSWER, nonsense(0, ANSWER), ANSWER]


def test_nonsense_that_is_undone_is_over_at_once_and_undoing_may_be_repeated() -> None:
    async def story() -> None:
        faults = RegistryFaults()
        faults.handle({"cmd": "fault", "lease": "l", "fault": GARBAGE.to_json(), "ttl_s": 60})
        faults.handle({"cmd": "renew", "lease": "l", "ttl_s": 60})
        for _ in range(2):
            assert faults.handle({"cmd": "undo", "lease": "l"}) == {}
        assert faults.garble(ANSWER) == ANSWER
        assert faults.handle({"cmd": "ping"}) is None

    asyncio.run(story())
