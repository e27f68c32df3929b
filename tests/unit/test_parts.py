"""`make test` in parts: every test folder belongs to one, and no failure of one is lost among the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parts import ALONE, BESIDE, LAST, NOTHING_SELECTED, status_of

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
