"""`make test` in parts: every test folder belongs to one, and no failure of one is lost among the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts import ALONE, BESIDE, LAST, NOTHING_SELECTED, STAT, given, status_of

TESTS = Path(__file__).parents[1]


def test_every_folder_with_tests_belongs_to_one_part() -> None:
    folders = sorted(f"tests/{path.parent.name}" for path in TESTS.glob("*/test_*.py"))
    parts = sorted(word for word in (*ALONE, *BESIDE, *LAST) if word.startswith("tests/"))
    assert parts == sorted(set(folders))


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        ((0, 0, 0), 0),
        ((0, NOTHING_SELECTED, NOTHING_SELECTED), 0),
        ((NOTHING_SELECTED, NOTHING_SELECTED, NOTHING_SELECTED), 1),
        ((1, 0, 0), 1),
        ((0, 2, 0), 1),
        ((0, 0, -9), 1),
    ],
)
def test_one_part_that_failed_is_enough_and_all_empty_is_no_success(statuses: tuple[int, ...], whole: int) -> None:
    assert status_of(statuses) == whole


def test_what_the_host_took_is_told_apart_from_what_was_used() -> None:
    before = "cpu  10 20 30 40 50 60 70 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
    after = "cpu  6010 20 3030 2040 1050 60 70 6080 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
    assert given(before, after, 90.0) == "1.5 min; of the cores: 1.5 min busy, 0.5 idle, 1.0 stolen by the host"


def test_this_machines_own_figures_can_be_read() -> None:
    now = STAT.read_text(encoding="ascii")
    assert given(now, now, 0.0) == "0.0 min; of the cores: 0.0 min busy, 0.0 idle, 0.0 stolen by the host"
