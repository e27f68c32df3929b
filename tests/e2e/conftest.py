"""Each test gets a user with a home of their own; whatever is left running fails the test and is ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.testing.user import User, wait_until


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    made = User(home=tmp_path / "home", directory=tmp_path)
    yield made
    try:
        if made.home.is_dir():
            made.run("down", "--all")
        wait_until(lambda: not made.processes(), 10, lambda: f"still running: {made.processes()}")
    finally:
        made.end_all()
