"""The evidence of a cell in words: known figures in order, strangers as they are, nothing said about nothing."""

from __future__ import annotations

import pytest

from suite.report.facts import facts


def test_figures_of_a_cell_are_told_in_words() -> None:
    senses = {"bad": 0, "e_iso": 20.02, "e_base": 0.0, "e_conc": None}
    evidence = {
        "bit": True,
        "seen_by": "pid 7 is gone",
        "exposed_s": 5.5,
        "baseline_n": 200,
        "baseline_bad": 1,
        "censored": 3,
        "not_ready": 0,
        "within_margin": True,
        "margin": 0.05,
        "strict": senses,
        "lenient": senses,
        "pool": ["browse", "insights"],
        "better": False,
        "completions": "",
        "no_clean_control": False,
    }
    assert facts(evidence) == [
        ("without faults", "1 of 200 bad"),
        ("promise", "less than 5 % bad; it lost something, but less than that"),
        ("watched for", "5.5 s"),
        ("left out", "3 near a stall or unsent"),
        ("compared with", "browse, insights"),
        ("evidence (20 decides)", "isolated 20, worse than before 0"),
    ]


def test_both_senses_of_bad_are_told_where_they_differ() -> None:
    evidence = {"strict": {"e_iso": 0.001, "e_conc": 1e300}, "lenient": {"e_iso": 21.5}}
    said = "strict: isolated 0, worse than the others over a million; lenient: isolated 21.5"
    assert facts(evidence) == [("evidence (20 decides)", said)]


def test_a_missing_control_is_said() -> None:
    assert facts({"no_clean_control": True, "pool": ["browse"]}) == [
        ("compared with", "its controls were bad at the same time: nothing to compare with")
    ]


@pytest.mark.parametrize(
    ("completions", "said"),
    [
        ({"n": 60, "late": 52, "lost": 0, "worst_ms": 8400}, "of 60 accepted 52 late; the slowest took 8.4 s"),
        ({"n": 60, "late": 2, "overdue": 1, "lost": 1}, "of 60 accepted 2 late, 1 long after the fault's end, 1 never"),
        ({"n": 60, "late": 0, "lost": 0, "worst_ms": None}, "of 60 accepted all in time"),
    ],
)
def test_completions_under_a_fault_are_told(completions: dict[str, object], said: str) -> None:
    assert facts({"completions": completions}) == [("completed", said)]


@pytest.mark.parametrize(
    "evidence",
    [{}, {"baseline_n": "x", "margin": None, "strict": 3, "exposed_s": [], "pool": 1}, {"completions": {"n": 0}}],
)
def test_nothing_to_say_is_nothing_said(evidence: dict[str, object]) -> None:
    assert facts(evidence) == []


def test_unknown_names_are_told_as_they_are() -> None:
    assert facts({"stuck": {"orders": 40}, "empty": []}) == [("stuck", '{"orders": 40}')]
