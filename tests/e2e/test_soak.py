"""A few rounds of what `make soak` does at length: kills and outages from a seed, nothing lost, nothing twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from suite.testing.user import User

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def test_kills_and_outages_drawn_from_a_seed_lose_nothing_and_double_nothing(user: User) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--rounds", "2", "--seed", "1"],
        cwd=ROOT,
        env=user.environment_of_a_command(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
