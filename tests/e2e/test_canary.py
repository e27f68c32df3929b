"""`stages canary` for real: a good version replaces the old one under load, a bad one meets few users and is gone."""

from __future__ import annotations

import json

import httpx
import pytest

from suite.testing.judged import Undecided
from suite.testing.user import User

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def tried(user: User, *words: str) -> dict[str, object]:
    """One canary of inventory, to its end; its exit status must be that of its outcome, which may be open."""
    done = user.run("canary", "inventory", *words, "--json", timeout_s=400)
    assert done.stdout, done.stderr
    content: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == {"promoted": 0, "rolled back": 1, "undecided": 2}[str(content["outcome"])], done.stderr
    if content["outcome"] == "undecided":
        raise Undecided(content["because"])
    return content


def version(user: User) -> str:
    """What the service itself says."""
    record = json.loads((user.home / "deployments" / "mesh" / "deployment.json").read_text())
    return httpx.get(f"{record['services']['inventory']['url']}/products", trust_env=False).headers["x-version"]


def test_a_bad_version_is_rolled_back_and_a_good_one_replaces_the_old_under_load(user: User) -> None:
    edge = user.json("up", "mesh")["edge"]
    # the slow one is tried in tests/integration/test_canary_envoys.py, by the same judgement
    bad = tried(user, "--share", "10", "--candidate", "failing")
    assert bad["outcome"] == "rolled back", bad
    assert version(user) == "v1"
    good = tried(user, "--share", "50")
    assert good["outcome"] == "promoted", good
    assert version(user) == "v2"
    assert good["share"]["verdict"] == "valid", good  # type: ignore[index]
    assert httpx.get(f"{edge}/products", trust_env=False).json()["stale"] is False
    assert user.run("canary", "payments").returncode == 254
