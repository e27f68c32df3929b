"""What an answer over REST says about its effect, whoever gave it: a service, or the mesh in its place."""

from __future__ import annotations

import json
import random

import pytest

from workloads.adapters.rest import _understood
from workloads.adapters.routes import ROUTES
from workloads.defect import Defect
from workloads.messages import CapturePayment, ReadInsights
from workloads.ports import CallRefused
from workloads.problems import INTERNAL, ProblemError
from workloads.resilience import AttemptFailed

SENDS, READS = ROUTES[CapturePayment], ROUTES[ReadInsights]


def mesh_says(status: int, *, definite: bool, kind: str = "dependency-unavailable") -> bytes:
    document = {"type": f"urn:shop:problem:{kind}", "title": "t", "status": status, "detail": "mesh: UF"}
    return json.dumps({**document, "definite": definite}).encode()


def failure(status: int, answer: bytes) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        _understood("payments", SENDS, status, answer)
    return caught.value


@pytest.mark.parametrize("definite", [True, False])
@pytest.mark.parametrize("status", [503, 504])
def test_a_sidecars_refusal_is_as_definite_as_it_says(status: int, definite: bool) -> None:
    found = failure(status, mesh_says(status, definite=definite))
    assert (found.definite, found.again) == (definite, False)
    assert found.problem is not None
    assert found.problem.detail == "mesh: UF"


@pytest.mark.parametrize("status", [503, 504])
@pytest.mark.parametrize("answer", [b"", b"no healthy upstream", b"[]", b"7", b'{"definite": true}', b'{"type": 1}'])
def test_a_failure_without_a_problem_document_may_have_had_an_effect(status: int, answer: bytes) -> None:
    assert failure(status, answer).definite is False


def test_what_only_reads_had_no_effect_whoever_answers() -> None:
    with pytest.raises(AttemptFailed) as caught:
        _understood("analytics", READS, 503, b"no healthy upstream")
    assert caught.value.definite is True


def test_who_is_not_let_through_by_policy_is_refused_for_good() -> None:
    with pytest.raises(CallRefused) as caught:
        _understood("payments", SENDS, 403, mesh_says(403, definite=True, kind="not-allowed"))
    assert (caught.value.definite, caught.value.problem.kind.name) == (True, "not-allowed")


async def test_a_failing_version_refuses_half_of_all_requests_and_a_good_one_none() -> None:
    async def refused(kind: str) -> int:
        defect, count = Defect(kind, random.Random(3)), 0
        for _ in range(1000):
            try:
                await defect.strike()
            except ProblemError as error:
                count += error.kind is INTERNAL
        return count

    assert await refused("") == 0
    assert 430 < await refused("failing") < 570
