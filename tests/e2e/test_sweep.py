"""`stages sweep distance` for real: the wires grow, answers come later by whole round trips, nothing is left."""

from __future__ import annotations

import json
import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from stages.catalogue import SYNC
from stages.distance import round_trips
from stages.history import Invocation, Outcome, Phase, read
from suite.testing.user import User, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXIT_OF = {"valid": 0, "invalid": 1, "unknown": 2}

DISTANCE = "distance:"


def fastest_ms(history: Path, one_way_ms: int) -> dict[str, float]:
    """The quickest good answer of each operation in the blocks at a distance."""
    fastest: dict[str, float] = {}
    with history.open() as lines:
        records = list(read(lines))
    phases = [r for r in records if isinstance(r, Phase)]
    spans = [(p.at_ns, after.at_ns) for p, after in pairwise(phases) if p.name.startswith(f"{DISTANCE}{one_way_ms}:")]
    good = [r for r in records if isinstance(r, Invocation) and r.outcome is Outcome.OK and not r.degraded]
    for record in good:
        if any(start <= record.intended_ns and record.ended_ns < end for start, end in spans):
            fastest[record.operation] = min(record.latency_ms, fastest.get(record.operation, 1e9))
    return fastest


def test_in_sync_each_answer_comes_later_by_the_round_trips_that_it_waits_for(user: User, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = user.run("sweep", "distance", "sync", "--quick", "--out", str(out))
    found = json.loads((out / "sweep.json").read_text())
    stage = found["stages"]["sync"]
    said = f"{done.stdout}\n{done.stderr}"

    assert done.returncode == EXIT_OF[found["verdict"]], said
    # a machine that is busy with something else makes it unknown, but never wrong
    assert {n: o["because"] for n, o in stage["operations"].items() if o["verdict"] == "invalid"} == {}, said
    assert {c["name"]: c["verdict"] for c in stage["checks"]} == {
        "distance-was-there": "valid",
        "nothing-left-behind": "valid",
    }, said
    fastest = fastest_ms(out / "history.jsonl", 50)
    assert set(fastest) == {o.name for o in SYNC.operations}, said
    too_fast = {name: ms for name, ms in fastest.items() if ms < round_trips(SYNC)[name] * 100}
    assert too_fast == {}, "nobody is faster than the distance allows"
    assert "<svg" in (out / "sweep.html").read_text()
    assert (out / "logs" / "sync" / "orders.log").stat().st_size > 0
    wait_until(lambda: not user.processes(), 10, lambda: f"still running: {user.processes()}")


def test_ctrl_c_while_systems_are_apart_undoes_everything_and_exits_130(user: User, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = user.begin("sweep", "distance", "sync", "--quick", "--out", str(out))
    try:
        load = out / "parts" / "load-1" / "load.jsonl"
        wait_until(lambda: load.exists() and DISTANCE in load.read_text(), 120, lambda: "no block began")
        os.killpg(run.pid, signal.SIGINT)
        said, _ = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 130, said
    assert "Traceback" not in said
    wait_until(lambda: not user.processes(), 10, lambda: f"still running: {user.processes()}")
    with (out / "history.jsonl").open() as lines:
        assert any(isinstance(record, Invocation) for record in read(lines)), "what was seen until then is kept"
