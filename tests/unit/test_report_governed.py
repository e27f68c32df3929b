"""The report tells who answers for what, where the budget went, and every call that is not as modelled."""

from __future__ import annotations

import re

import pytest

from suite.report.governed import read_owned, read_policy
from suite.report.html import render
from suite.report.reading import load
from suite.report.testing import Sample, sample


@pytest.fixture(scope="module")
def run() -> Sample:
    return sample("invalid", stages=("async", "mesh"), rate=20)


@pytest.fixture(scope="module")
def page(run: Sample) -> str:
    return render(run.verdict, {}, run.stages)


def section(page: str, name: str) -> str:
    start = page.index(f'<section id="{name}"')
    return page[start : page.index("</section>", start)]


def test_every_owner_is_named_with_network_promise_and_the_faults_that_spent_the_budget(page: str) -> None:
    found = section(page, "governance")
    for owner, network in (("team-storefront", "10.1.0.0/16"), ("team-money", "10.3.0.0/16")):
        assert owner in found
        assert network in found
    assert "99\u00a0%\u00a0within\u00a0800\u00a0ms" in found
    assert "inventory-killed" not in found  # browse fell back: nothing was spent
    assert "commerce-cluster-outage" in found
    assert "not counted" in found  # completions, since a sample has no audits
    assert "<h3>async</h3>" not in found


def test_the_matrix_shows_every_try_and_names_the_wrong_one(page: str) -> None:
    found = section(page, "policy")
    assert found.count('<span class="try ') == 360
    assert len(re.findall(r'class="try allowed open"', found)) == 5
    assert len(re.findall(r'class="try allowed wrong"', found)) == 1
    assert "storefront calls accounts with no certificate, in plaintext: allowed; the model denies it" in found


def test_the_loss_of_every_cluster_is_told(page: str) -> None:
    found = section(page, "changed")
    assert "When a cluster is lost" in found
    assert "The loss of payments leaves browse, register, track-order and insights unaffected" in found


def test_a_stage_without_owners_or_mesh_has_neither_section() -> None:
    shown = sample("valid", faults=2, rate=20)
    html = render(shown.verdict, {}, shown.stages)
    assert 'id="governance"' not in html
    assert 'id="policy"' not in html


def test_whatever_else_stands_there_is_read_as_unknown() -> None:
    assert read_policy("none") is None
    policy = read_policy({"cells": [{"caller": 3, "measured": "perhaps", "verdict": "fine"}, 7], "services": None})
    assert policy is not None
    assert [(t.measured, t.verdict) for tried in policy.cells.values() for t in tried] == [("unknown", "unknown")]
    owned = read_owned({"objectives": [{"name": "browse", "budget": {"spent": "much", "by_fault": {}}}]})
    assert owned.objectives[0].budget is not None
    assert (owned.objectives[0].budget.spent, owned.objectives[0].budget.worst) == (None, ())
    assert load({"stages": {"mesh": {"governance": 1, "policy": []}}}).stages[0].policy is None
