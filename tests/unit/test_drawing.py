"""Drawing: as many of every family as asked for, the same everywhere, and never against what was named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import Case, commit, family_of, left_out

ROOT = Path(__file__).parents[2]

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=12)


def family(name: str, members: list[str], count: int) -> list[Case]:
    return [Case(name=f"{name}-{member}", family=name, count=count) for member in members]


@given(NAMES, NAMES, st.integers(1, 5), st.text(max_size=5))
def test_so_many_of_each_family_are_played_and_all_of_a_smaller_one(one, other, count, seed) -> None:
    out = left_out(family("one", one, count) + family("other", other, 2), seed)
    assert sum(name.startswith("one-") for name in out) == max(0, len(one) - count)
    assert sum(name.startswith("other-") for name in out) == max(0, len(other) - 2)


@given(NAMES, NAMES, st.text(max_size=5))
def test_neither_order_nor_another_family_changes_what_is_drawn(one, other, seed) -> None:
    cases, more = family("one", one, 3), family("other", other, 3)
    alone = left_out(cases, seed)
    assert alone == {name for name in left_out([*more, *reversed(cases)], seed) if name.startswith("one-")}


def test_every_case_has_its_turn() -> None:
    cases = family("one", list("abcde"), 2)
    played = [{case.name for case in cases} - left_out(cases, str(seed)) for seed in range(40)]
    assert set.union(*played) == {case.name for case in cases}


def test_a_family_is_a_test_or_its_cases_with_one_value() -> None:
    assert family_of("t", {"stage": "sync", "name": "n"}) == "t"
    assert family_of("t", {"stage": "sync", "name": "n"}, of="stage") == "t stage=sync"


def test_without_a_repository_something_is_drawn_all_the_same(tmp_path: Path) -> None:
    assert commit(tmp_path) == "none"


def planned(*words: str) -> str:
    """What a run of the broken shops would be, without running any."""
    command = [sys.executable, "-m", "pytest", "tests/broken", "--setup-plan", "-q", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120).stdout


def test_broken_shops_that_are_not_drawn_are_counted_with_the_way_to_play_them() -> None:
    told = planned("--draw", "7")
    assert "SKIPPED [6]" in told
    assert "not drawn by seed 7; --whole plays every case" in told
    assert [told.count(f"SETUP    F stage['{stage}']") for stage in ("sync", "async", "mesh")] == [2, 2, 4]


def test_what_is_named_is_played_and_so_is_everything_on_demand() -> None:
    assert "skipped" not in planned("-k", "no-dlq")
    assert "skipped" not in planned("--whole")
