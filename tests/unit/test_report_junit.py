"""JUnit output: a case for everything that was judged, and no verdict that gets lost on the way."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from suite.report import junit
from suite.report.testing import hostile, sample


def parsed(verdict: dict[str, Any]) -> Element:
    return fromstring(junit.render(verdict))


def test_a_case_per_cell_pooled_row_operation_and_check() -> None:
    run = sample("valid", faults=5).verdict
    stage = run["stages"]["sync"]
    expected = sum(len(stage[part]) for part in ("matrix", "pooled", "operations", "completions", "checks"))
    root = parsed(run)
    assert [s.get("name") for s in root] == ["sync"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == (str(expected), "0", "0")
    assert len(root.findall("testsuite/testcase")) == expected


def test_each_step_of_a_comparison_is_a_case_with_its_figures() -> None:
    root = parsed(sample("valid", stages=("sync", "async"), faults=9).verdict)
    suite = root[-1]
    assert [s.get("name") for s in root] == ["sync", "async", "comparison"]
    assert [(c.get("name"), len(c)) for c in suite.findall("testcase")] == [
        ("blast radius falls from sync to async", 0)
    ]
    figures = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert float(str(figures["async.blast_radius"])) < float(str(figures["sync.blast_radius"]))
    assert {"sync.place-order.accepted_p99_ms", "async.order-completed.p50_ms", "async.memory_mb"} <= set(figures)


@pytest.mark.parametrize(("verdict", "tag"), [("invalid", "failure"), ("unknown", "error")])
def test_a_radius_that_does_not_fall_as_predicted_fails_the_build(verdict: str, tag: str) -> None:
    step = {"before": "sync", "after": "async", "verdict": verdict, "because": "0.40 at sync, 0.41 at async"}
    root = parsed({"verdict": verdict, "stages": {}, "comparison": {"steps": [step]}})
    case = root[-1].findall("testcase")[0]
    assert (case[0].tag, case[0].get("message")) == (tag, "0.40 at sync, 0.41 at async")


def test_a_comparison_that_failed_itself_is_an_error_of_its_own() -> None:
    broken = {"verdict": "unknown", "because": "the comparison itself failed: KeyError: 'matrix'"}
    root = parsed({"verdict": "unknown", "stages": {"sync": {"verdict": "valid"}}, "comparison": broken})
    assert [e.get("message") for e in root.iter("error")] == [broken["because"]]


def test_a_cell_that_is_surely_no_worse_than_predicted_passes_though_undecided() -> None:
    cell = {"fault": "f", "operation": "o", "predicted": "delayed", "measured": "unknown", "verdict": "valid", "n": 9}
    run = {"verdict": "valid", "stages": {"async": {"verdict": "valid", "matrix": [cell]}}}
    assert (parsed(run).get("failures"), parsed(run).get("errors")) == ("0", "0")


def test_leaks_and_broken_checks_are_failures_with_their_reason() -> None:
    root = parsed(sample("invalid").verdict)
    failed = {(c.get("classname"), c.get("name")): c[0] for c in root.iter("testcase") if c.find("failure") is not None}
    assert set(failed) == {
        ("sync.payments-paused", "track-order"),
        ("sync.payments-paused", "pooled"),
        ("sync.checks", "no-order-applied-twice"),
    }
    leak = failed["sync.payments-paused", "track-order"]
    assert "worse than predicted (unaffected): a leak" in str(leak.get("message"))
    assert "o-611" in str(failed["sync.checks", "no-order-applied-twice"].text)


def test_unknown_is_an_error_so_that_no_build_passes_on_it() -> None:
    root = parsed(sample("unknown").verdict)
    errors = list(root.iter("error"))
    assert {e.get("type") for e in errors} == {"unknown"}
    assert (root.get("failures"), root.get("errors")) == ("0", str(len(errors)))
    assert len(errors) == 5  # three cells, their pool, the generator


def test_better_than_predicted_passes_and_is_noted() -> None:
    notes = [n.text or "" for n in parsed(sample("valid").verdict).iter("system-out")]
    assert len(notes) == 1
    assert "unaffected, better than predicted (failing)" in notes[0]


def test_hostile_names_leave_the_document_well_formed() -> None:
    root = parsed(hostile(sample("invalid", faults=8)).verdict)
    assert int(root.get("tests", "0")) > 50
    assert any("<img" in str(c.get("classname")) for c in root.iter("testcase"))


@pytest.mark.parametrize(
    ("verdict", "failures", "errors"),
    [
        ({"verdict": "invalid", "stages": {"sync": {"verdict": "invalid"}}}, 1, 0),
        ({"verdict": "unknown", "stages": {}}, 0, 1),
        ({"verdict": "invalid", "stages": {"sync": {"verdict": "valid", "checks": []}}}, 1, 0),
        ({}, 0, 1),
    ],
)
def test_a_verdict_that_no_case_explains_becomes_a_case(verdict: dict[str, Any], failures: int, errors: int) -> None:
    root = parsed(verdict)
    assert (root.get("failures"), root.get("errors")) == (str(failures), str(errors))


def test_fault_that_was_not_injected_is_an_error() -> None:
    fault = {"name": "payments-killed", "injected": False, "because": "a guard refused it"}
    root = parsed({"verdict": "unknown", "stages": {"sync": {"verdict": "unknown", "faults": [fault]}}})
    assert [(e.get("type"), e.get("message")) for e in root.iter("error")] == [("unknown", "a guard refused it")]
