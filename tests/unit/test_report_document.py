"""Reading verdict.json: marks follow from predicted, measured and verdict, and doubt never turns into 'valid'."""

from __future__ import annotations

from typing import Any

import pytest

from suite.report.grouping import fault_class
from suite.report.matrix import groups, troubles
from suite.report.reading import load
from suite.report.testing import sample


def cell(**fields: Any) -> dict[str, Any]:
    return {"fault": "payments-killed", "operation": "browse", "verdict": "valid", "n": 63, "bad": 0, **fields}


def run_of(*cells: dict[str, Any]) -> Any:
    return load({"verdict": "valid", "stages": {"sync": {"verdict": "valid", "matrix": list(cells)}}})


@pytest.mark.parametrize(
    ("predicted", "measured", "verdict", "mark"),
    [
        ("unaffected", "unaffected", "valid", "as-predicted"),
        ("failing", "degraded", "valid", "better"),
        ("unaffected", "failing", "invalid", "leak"),
        ("delayed", "failing", "valid", "leak"),  # a contradiction is shown at its worst
        ("failing", "failing", "invalid", "leak"),
        ("unaffected", "unknown", "unknown", "unknown"),
        ("unaffected", "unaffected", "unknown", "unknown"),
        ("unaffected", "nonsense", "valid", "unknown"),
        ("unaffected", "unaffected", "nonsense", "unknown"),
    ],
)
def test_mark_of_a_cell(predicted: str, measured: str, verdict: str, mark: str) -> None:
    found = run_of(cell(predicted=predicted, measured=measured, verdict=verdict)).stages[0].cells[0]
    assert found.mark == mark
    assert (found.shown == "unknown") == (mark == "unknown")


def test_undecided_but_no_worse_than_predicted_is_hatched_and_no_trouble() -> None:
    run = run_of(cell(predicted="delayed", measured="unknown", verdict="valid"))
    assert run.stages[0].cells[0].bounded
    assert run.stages[0].cells[0].shown == "unknown"
    assert troubles(run) == []


def test_lost_completions_are_trouble() -> None:
    completion = {"operation": "place-order", "n": 9, "lost": 2, "verdict": "invalid", "because": "never came for o-1"}
    found = troubles(load({"stages": {"async": {"verdict": "invalid", "completions": {"email-sent": completion}}}}))
    assert [(t.verdict, t.where, t.what) for t in found] == [
        ("invalid", "email-sent, without faults", "never came for o-1")
    ]


def test_dead_letters_are_none_where_nobody_looked() -> None:
    def letters(**more: Any) -> Any:
        return load({"stages": {"async": {"verdict": "valid", **more}}}).stages[0].letters

    assert (letters(), letters(dead_letters=[])) == (None, ())
    assert letters(dead_letters=[{"queue": "q", "reason": "malformed"}])[0].reason == "malformed"


def test_interval_comes_from_the_document_or_is_computed_for_display() -> None:
    given = run_of(cell(evidence={"interval": [0.0, 0.05]})).stages[0].cells[0]
    computed = run_of(cell()).stages[0].cells[0]
    without = run_of(cell(n=0)).stages[0].cells[0]
    assert given.interval == (0.0, 0.05)
    assert computed.interval == pytest.approx((0.0, 0.0575), abs=1e-4)
    assert without.interval is None


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("payments-killed", "process"),
        ("email-cpu-starved", "process"),
        ("orders-payments-latency", "wire"),
        ("accounts-email-refused", "wire"),
        ("storefront-inventory-bandwidth", "wire"),
        ("inventory-database-slow", "dependency"),
        ("shop-cluster-outage", "cluster"),
        ("broker-outage", "broker"),
        ("payments-poisoned", "broker"),
        ("accounts-killed-publishing", "process"),
        ("registry-outage", "mesh"),
        ("something-else", "other"),
    ],
)
def test_class_of_a_fault_follows_from_its_name(name: str, group: str) -> None:
    assert fault_class(name) == group


def test_rows_of_all_stages_are_aligned_by_fault() -> None:
    run = load(sample("valid", stages=("sync", "mesh"), faults=99).verdict)
    rows = {row.fault: row for group in groups(run) for row in group.rows}
    assert set(rows) == set(run.fault_names)
    assert all(len(row.stages) == 2 for row in rows.values())
    assert rows["orders-email-reset"].stages[1].cells == (None,) * 6
    assert rows["orders-email-reset"].stages[1].empty
    assert rows["orders-email-reset"].differs
    assert not rows["orders-killed"].differs
    assert not rows["payments-killed"].notable
    assert rows["email-cpu-starved"].notable


def test_cells_that_say_the_same_are_one_piece_of_news() -> None:
    found = troubles(load(sample("unknown").verdict))
    assert [t.where for t in found] == [
        "generator-honest",
        "inventory-paused × register, track-order, insights",
        "inventory-paused, pooled",
    ]


def test_invalid_comes_before_unknown() -> None:
    checks = [
        {"name": "a", "verdict": "unknown"},
        {"name": "b", "verdict": "invalid"},
        {"name": "c", "verdict": "valid"},
    ]
    found = troubles(load({"stages": {"sync": {"verdict": "invalid", "checks": checks}}}))
    assert [(t.verdict, t.where) for t in found] == [("invalid", "b"), ("unknown", "a")]


def test_sample_is_made_from_its_seed_alone() -> None:
    assert sample("invalid", seed=3, faults=3) == sample("invalid", seed=3, faults=3)
    assert sample("invalid", seed=3, faults=3) != sample("invalid", seed=4, faults=3)
