"""Tests of real processes are run again where the machine stood still; skipped, only if that left them undecided."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from suite.testing.judged import Undecided, decided

ROOT = Path(__file__).parents[2]

CONFTEST = """
from tests.machine import Machine
Machine.stood_still_s = lambda self, since_ns: {stall_s}
"""

TEST = """
from pathlib import Path
from suite.testing.judged import Undecided

TRIES = Path(__file__).with_name("tries")

def test_one():
    tries = len(TRIES.read_text()) if TRIES.exists() else 0
    TRIES.write_text("x" * (tries + 1))
    {body}
"""

GOOD_THE_SECOND_TIME = "assert tries == 1"
UNDECIDED = "raise Undecided('60 of 70 requests lie near a stall')"
WRONG = "assert False, 'wrong'"
WRONG_AT_FIRST = f"assert tries != 0, 'wrong'; {UNDECIDED}"
WRONG_AT_LAST = f"assert tries != 2, 'wrong'; {UNDECIDED}"

STALLED = {"verdict": "unknown", "because": "60 of 70 requests lie near a stall"}
NOT_BITTEN = {"verdict": "unknown", "because": "the fault did not bite"}
BROKEN = {"verdict": "invalid", "because": "7 of 9 requests failed"}


def verdict(*cells: dict[str, str], because: str = "") -> dict[str, Any]:
    """As much of a verdict.json as is asked for."""
    stage = {"operations": {}, "completions": {}, "matrix": [*cells], "pooled": [], "checks": [], "because": because}
    return {"stages": {"sync": stage}}


@pytest.mark.parametrize(
    ("found", "part", "open_"),
    [
        (verdict(STALLED), STALLED, True),
        (verdict(STALLED, BROKEN), BROKEN, False),
        (verdict(STALLED, NOT_BITTEN), NOT_BITTEN, False),
        (verdict(STALLED, NOT_BITTEN, because="a fault was not reached"), NOT_BITTEN, True),
        (verdict(STALLED, BROKEN, because="a fault was not reached"), BROKEN, False),
        (verdict(NOT_BITTEN, because="a fault was not reached"), NOT_BITTEN, False),
        (verdict(STALLED), None, False),
        (verdict(STALLED, because="a fault was not reached"), None, True),
    ],
)
def test_a_verdict_is_left_open_by_the_machine_where_stalls_are_the_reason(
    found: dict[str, Any], part: dict[str, str] | None, open_: bool
) -> None:
    if open_:
        with pytest.raises(Undecided, match="near a stall"):
            decided(found, part)
    else:
        decided(found, part)


@pytest.mark.parametrize(
    ("body", "stall_s", "tries", "outcome"),
    [
        (GOOD_THE_SECOND_TIME, 0.2, 2, "1 passed"),
        (GOOD_THE_SECOND_TIME, 0.0, 2, "1 passed"),
        (WRONG, 0.2, 3, "1 failed"),
        (WRONG, 0.0, 2, "1 failed"),
        (UNDECIDED, 0.2, 3, "1 skipped"),
        (UNDECIDED, 0.0, 2, "1 failed"),
        (WRONG_AT_FIRST, 0.2, 3, "1 failed"),
        (WRONG_AT_LAST, 0.2, 3, "1 failed"),
    ],
)
def test_how_often_a_test_is_tried_and_what_comes_of_it(
    tmp_path: Path, body: str, stall_s: float, tries: int, outcome: str
) -> None:
    (tmp_path / "e2e").mkdir()
    (tmp_path / "conftest.py").write_text(CONFTEST.format(stall_s=stall_s))
    (tmp_path / "e2e" / "test_one.py").write_text(TEST.format(body=body))
    words = ["-p", "tests.conftest", "-c", "/dev/null", "--rootdir", str(tmp_path), "-rs", str(tmp_path / "e2e")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome in done.stdout.splitlines()[-1], done.stdout + done.stderr
    assert len((tmp_path / "e2e" / "tries").read_text()) == tries
    if "skipped" in outcome:
        assert "the machine left it undecided 3 times: 60 of 70 requests lie near a stall" in done.stdout
