"""A stage that is deployed while the one before it drains is taken over once, or taken away."""

from __future__ import annotations

import threading

import pytest

from stages.deployment import Deployment
from suite.ahead import Ahead
from suite.ports import SuiteError


def record(name: str, run_id: str) -> Deployment:
    return Deployment(name=name, run_id=run_id, stage="async", target="local", control="", edge="", directory="")


def test_what_was_begun_is_taken_over_once() -> None:
    ahead, gone = Ahead(), list[str]()
    ahead.start("async", "verify-r2", "r2", lambda name, run_id: (record(name, run_id), 1.5))
    coming = ahead.take("async")
    assert coming is not None
    assert coming.future.result() == (record("verify-r2", "r2"), 1.5)
    assert (ahead.take("async"), ahead.take("sync")) == (None, None)
    ahead.close(gone.append)
    assert gone == [], "whoever took it answers for it"


def test_what_nobody_took_is_taken_away_once_it_is_up() -> None:
    ahead, gone, may = Ahead(), list[str](), threading.Event()

    def up(name: str, run_id: str) -> tuple[Deployment, float]:
        assert may.wait(10)
        return record(name, run_id), 0.0

    ahead.start("async", "verify-r2", "r2", up)
    may.set()
    ahead.close(gone.append)
    ahead.close(gone.append)
    assert gone == ["verify-r2"]


def test_a_deployment_that_failed_tells_who_takes_it_and_is_taken_away_in_any_case() -> None:
    def up(name: str, run_id: str) -> tuple[Deployment, float]:
        raise SuiteError("no port is free")

    ahead, gone = Ahead(), list[str]()
    ahead.start("async", "verify-r2", "r2", up)
    coming = ahead.take("async")
    assert coming is not None
    with pytest.raises(SuiteError, match="no port is free"):
        coming.future.result()
    ahead.start("mesh", "verify-r3", "r3", up)
    ahead.close(gone.append)
    assert gone == ["verify-r3"]
