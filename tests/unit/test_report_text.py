"""The terminal report: readable without colour, at 80 columns, and deaf to what the run's texts would have it do."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from suite.report.testing import Sample, hostile, sample
from suite.report.text import print_summary


def printed(run: Sample, width: int = 80, **options: object) -> str:
    console = Console(width=width, file=io.StringIO(), **{"color_system": None, **options})  # type: ignore[arg-type]
    print_summary(run.verdict, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def invalid() -> Sample:
    return sample("invalid", stages=("sync", "async", "mesh"))


def test_letters_alone_tell_effect_leak_and_better() -> None:
    lines = {line.split()[0]: line.split()[1:] for line in printed(sample("invalid"), 120).splitlines() if line.strip()}
    assert lines["payments-paused"] == [".", ".", "X", "X!", "X", "."]
    assert lines["email-cpu-starved"] == [".", ".+", "X", ".", ".", "."]
    assert lines["inventory-killed"] == ["o", ".", "X", ".", "X", "."]


def test_undecided_cells_are_question_marks() -> None:
    line = next(t for t in printed(sample("unknown")).splitlines() if t.startswith(" inventory-paused "))
    assert line.split()[1:] == ["o", "?", "X", "?", "X", "?"]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(invalid: Sample, width: int) -> None:
    assert max(len(line) for line in printed(invalid, width).splitlines()) <= width


def test_three_stages_stand_side_by_side_at_80_columns(invalid: Sample) -> None:
    text = printed(invalid, 80)
    head = text.splitlines()[0].split()
    assert head == ["sync", "async", "mesh"]
    assert "place-order" in text


def test_stages_stand_below_one_another_where_the_width_does_not_suffice(invalid: Sample) -> None:
    lines = [line.strip() for line in printed(invalid, 60).splitlines()]
    assert [line for line in lines if line in {"sync", "async", "mesh"}] == ["sync", "async", "mesh"]


def test_last_line_is_the_verdict(invalid: Sample) -> None:
    last = printed(invalid, 120).splitlines()[-1]
    assert last.startswith("INVALID  3 stages, 45 faults, 3 leaks, 30 of 34 checks valid, blast radius falls")


def test_stages_are_compared_in_columns_and_each_step_is_told() -> None:
    text = printed(sample("valid", stages=("sync", "async")), 100)
    lines = {line[:22].strip(): line[22:].split() for line in text.splitlines()}
    told = " ".join(text.split())
    assert lines["known gaps"] == ["2", "0"]
    assert lines["delayed"][0] == "0.00"
    assert "+ the blast radius falls: " in told
    assert "- new: broker-outage and broker-slow (register, place-order and cancel-order delayed)" in told
    assert text.splitlines()[-1].startswith("VALID  2 stages, 25 faults, 22 of 22 checks valid, blast radius falls")


def test_a_single_stage_is_compared_with_nothing() -> None:
    assert "stage by stage" not in printed(sample("valid", faults=3))


def test_every_check_that_is_not_valid_is_told_with_its_reason() -> None:
    text = " ".join(printed(sample("invalid")).split())
    assert "invalid no-order-applied-twice: 12 orders were charged twice" in text
    assert "money-conserved" not in text


def test_without_colour_there_is_no_escape_sequence(invalid: Sample) -> None:
    assert "\x1b" not in printed(invalid)
    assert "\x1b" in printed(invalid, color_system="truecolor", force_terminal=True)


def test_texts_of_the_run_are_neither_markup_nor_terminal_commands(invalid: Sample) -> None:
    text = printed(hostile(invalid))
    assert "\x1b" not in text
    assert "[red]" in text


def test_nothing_at_all_is_unknown() -> None:
    assert printed(Sample({}, {}, {})).splitlines()[-1].startswith("UNKNOWN")


def test_owners_budgets_and_policy_of_the_mesh_are_told(invalid: Sample) -> None:
    text = " ".join(printed(invalid, 140).split())
    assert "mesh: error budgets spent, by owner team-storefront register" in text
    assert "policy, every call tried with every credential: invalid storefront calls accounts in plaintext" in text
    assert "sync: policy" not in text
    assert "sync: error budgets" not in text
