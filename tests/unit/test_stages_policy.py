"""The measured allow/deny matrix against the model's: each wrong cell is named, and what was not tried is not known."""

from __future__ import annotations

from dataclasses import replace

from stages.catalogue import MESH
from stages.check import Credential, PolicyTry, Verdict, policy_as_modelled, policy_cells
from stages.testing import tries_as_modelled


def with_answer(caller: str, callee: str, credential: Credential, **more: object) -> list[PolicyTry]:
    """The same, but for one try."""
    return [
        replace(t, **more) if (t.caller, t.callee, t.credential) == (caller, callee, credential) else t  # type: ignore[arg-type]
        for t in tries_as_modelled(MESH)
    ]


def test_a_mesh_that_does_as_modelled_is_valid() -> None:
    found = policy_as_modelled(MESH, tries_as_modelled(MESH))
    assert (found.name, found.verdict) == ("policy-as-modelled", Verdict.VALID)
    assert found.because == "of 360 calls tried, the 5 that the model allows work, and no other does"
    assert found.evidence == {"cells": 360, "allowed": 5, "denied": 355, "untried": [], "wrong": []}


def test_a_call_that_works_though_the_model_denies_it_is_invalid_and_named() -> None:
    found = policy_as_modelled(MESH, with_answer("email", "payments", Credential.OWN, allowed=True, answer="allowed"))
    assert found.verdict is Verdict.INVALID
    assert found.because == "email calls payments with its own certificate: allowed, the model denies it"
    assert found.evidence["wrong"] == [found.because]


def test_a_call_that_is_denied_though_the_model_allows_it_is_invalid() -> None:
    tries = with_answer("storefront", "orders", Credential.OWN, allowed=False, answer="denied: rbac 403")
    found = policy_as_modelled(MESH, tries)
    assert (found.verdict, found.because) == (
        Verdict.INVALID,
        "storefront calls orders with its own certificate: denied: rbac 403, the model allows it",
    )


def test_a_mesh_that_takes_plaintext_is_invalid_in_every_such_cell() -> None:
    tries = [
        replace(t, allowed=True, answer="allowed") if t.credential is Credential.PLAINTEXT else t
        for t in tries_as_modelled(MESH)
    ]
    found = policy_as_modelled(MESH, tries)
    assert found.verdict is Verdict.INVALID
    assert len(found.evidence["wrong"]) == 72
    assert found.because.endswith("(and 66 more)")
    assert "storefront calls accounts in plaintext: allowed, the model denies it" in found.because


def test_identity_counts_and_not_where_one_stands() -> None:
    cells = policy_cells(MESH, with_answer("email", "orders", Credential.OTHER, shown="storefront", allowed=True))
    lent = next(c for c in cells if (c.caller, c.callee, c.credential) == ("email", "orders", Credential.OTHER))
    assert (lent.expected, lent.verdict) == (True, Verdict.VALID)


def test_a_try_that_could_not_be_made_leaves_it_unknown() -> None:
    tries = with_answer("cache", "email", Credential.EXPIRED, allowed=None, answer="no answer: connection refused")
    found = policy_as_modelled(MESH, tries)
    assert found.verdict is Verdict.UNKNOWN
    assert found.because == (
        "1 of 360 calls could not be tried: cache calls email with an expired certificate: "
        "no answer: connection refused, the model denies it"
    )


def test_a_try_that_is_missing_leaves_it_unknown_and_a_wrong_one_beside_it_invalid() -> None:
    assert policy_as_modelled(MESH, tries_as_modelled(MESH)[1:]).verdict is Verdict.UNKNOWN
    wrong = with_answer("email", "payments", Credential.OWN, allowed=True, answer="allowed")
    assert policy_as_modelled(MESH, wrong[1:]).verdict is Verdict.INVALID


def test_nobody_tried_is_unknown() -> None:
    assert policy_as_modelled(MESH, None).verdict is Verdict.UNKNOWN
    assert policy_as_modelled(MESH, []).verdict is Verdict.UNKNOWN


def test_of_two_tries_of_one_cell_the_wrong_one_counts() -> None:
    again = replace(tries_as_modelled(MESH)[4], allowed=True, answer="allowed")
    assert policy_as_modelled(MESH, [*tries_as_modelled(MESH), again]).verdict is Verdict.INVALID
