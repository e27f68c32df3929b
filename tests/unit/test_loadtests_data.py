"""Profiles, commands, records and figures of the load: data in, data out."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests import commands
from loadtests.commands import BadCommand, Start, WarmUp
from loadtests.heartbeat import beats
from loadtests.profiles import EQUAL, PROFILES, ProfileError, mix_problems, parse_mix
from loadtests.recorder import FileRecorder
from loadtests.tally import Tally
from stages import history
from stages.catalogue import STAGES
from stages.history import Invocation, Outcome, Stall, Unsent

START = {
    "edge": "http://127.0.0.1:41001/",
    "rate": 60,
    "mix": {"browse": 1},
    "seed": 7,
    "run_id": "r1",
    "history": "/tmp/load.jsonl",
    "warm_up": {"ready_within_s": 5, "rate": 20, "seconds": 2},
}


def invocation(operation: str = "browse", *, latency_ms: int = 10, outcome: Outcome = Outcome.OK) -> Invocation:
    return Invocation(
        operation=operation,
        key="r1-1",
        intended_ns=0,
        started_ns=1_000_000,
        ended_ns=latency_ms * 1_000_000,
        outcome=outcome,
    )


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_can_be_driven(name: str) -> None:
    assert mix_problems(PROFILES[name].mix) == []
    assert PROFILES[name].rate_per_s > 0


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_the_experiments_mix_is_the_models(stage: Any) -> None:
    assert {o.name: o.weight for o in stage.operations} == EQUAL


def test_the_experiments_mix_places_more_orders_than_it_cancels() -> None:
    assert EQUAL["place-order"] > EQUAL["cancel-order"]


def test_a_mix_is_a_profile_or_weights() -> None:
    assert parse_mix("smoke") == EQUAL
    assert parse_mix("browse=2, place-order=1") == {"browse": 2, "place-order": 1}


def test_all_problems_of_a_mix_are_told_at_once() -> None:
    with pytest.raises(ProfileError) as caught:
        parse_mix("brows=2,place-order=many,cancel-order=5000")
    for word in ("'brows'", "'place-order=many'", "5000"):
        assert word in str(caught.value)


def test_an_empty_mix_is_a_problem() -> None:
    with pytest.raises(ProfileError, match="nothing would arrive"):
        parse_mix("")


def test_a_start_command_is_read_whole() -> None:
    assert commands.start(START) == Start(
        edge="http://127.0.0.1:41001",
        rate_per_s=60.0,
        mix={"browse": 1},
        seed=7,
        run_id="r1",
        history=Path("/tmp/load.jsonl"),
        warm_up=WarmUp(ready_within_s=5.0, rate_per_s=20.0, seconds=2.0),
    )


def test_all_problems_of_a_start_command_are_told_at_once() -> None:
    bad = {
        "edge": "localhost:1",
        "rate": 0,
        "mix": {"browze": 1},
        "seed": "x",
        "warm_up": {"rate": -1, "secs": 1},
        "b": 1,
    }
    with pytest.raises(BadCommand) as caught:
        commands.start(bad)
    for word in ("edge=", "rate=0", "'browze'", "seed=", "run_id", "history", "warm_up rate=-1", "'secs'", "'b'"):
        assert word in str(caught.value)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"7", b'{"cmd": "fly"}', b'{"cmd": []}', b"{}"])
def test_what_is_no_command_is_refused(line: bytes) -> None:
    with pytest.raises(BadCommand):
        commands.parse(line)


def test_records_are_on_file_after_a_flush_and_for_the_user_only(tmp_path: Path) -> None:
    file = tmp_path / "load.jsonl"
    recorder = FileRecorder(file)
    records = [invocation(), Unsent(operation="browse", intended_ns=5, reason="pool full")]
    for record in records:
        recorder.add(record)
    assert file.read_text() == ""
    recorder.flush()
    with file.open() as lines:
        assert list(history.read(lines)) == records
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    recorder.close()


def test_figures_count_outcomes_and_start_over_with_a_phase() -> None:
    tally = Tally()
    tally.phase("baseline")
    for latency_ms in range(1, 101):
        tally.add(invocation(latency_ms=latency_ms))
    tally.add(invocation("place-order", outcome=Outcome.UNKNOWN))
    figures = tally.figures()
    assert figures["answered"] == 101
    assert figures["operations"]["browse"] == {
        "n": 100,
        "ok": 100,
        "fail": 0,
        "unknown": 0,
        "degraded": 0,
        "p50_ms": 50.0,
        "p95_ms": 95.0,
        "p99_ms": 99.0,
    }
    assert figures["operations"]["place-order"]["unknown"] == 1
    tally.phase("drain")
    assert tally.figures()["operations"] == {}


def test_a_heartbeat_that_wakes_late_tells_when_and_how_long() -> None:
    now = [0]
    late_by_ms: Iterator[int] = iter([0, 49, 51, 0])

    def sleep(seconds: float) -> bool:
        late = next(late_by_ms, None)
        now[0] += round(seconds * 1e9) + (late or 0) * 1_000_000
        return late is not None

    assert list(beats("core-0", sleep=sleep, now_ns=lambda: now[0])) == [
        Stall(source="core-0", start_ns=79_000_000, end_ns=130_000_000)
    ]


def test_the_driver_and_the_heartbeat_do_not_import_locust() -> None:
    code = "import sys, loadtests.driver, loadtests.heartbeat, loadtests.profiles; sys.exit('gevent' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
