"""However it ends, nothing outlives it: SIGKILL, Ctrl-C, a killed local cloud, two deployments side by side."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from stages.history import Invocation, read
from suite.testing.judged import names_stalls
from suite.testing.user import User, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LEASE_S = 15
"""A fault whose runner died is undone after at most this long."""


def fault_is_on(user: User) -> bool:
    done = user.run("status", "--json")
    return done.returncode == 0 and any(d["faults"] for d in json.loads(done.stdout)["deployments"])


def test_sigkill_of_verify_during_a_fault_leaves_nothing_and_the_next_command_works(user: User, tmp_path: Path) -> None:
    run = user.begin("verify", "sync", "--quick", "--faults", "payments-paused", "--out", str(tmp_path / "run"))
    try:
        wait_until(lambda: fault_is_on(user), 150, lambda: "no fault was injected")
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
    wait_until(lambda: not user.processes(), LEASE_S + 5, lambda: f"still running: {user.processes()}")
    assert user.json("heal") == {"healed": [], "left": []}
    assert user.json("status") == {"deployments": []}


def test_ctrl_c_during_a_fault_heals_tears_down_and_exits_130(user: User, tmp_path: Path) -> None:
    run = user.begin("verify", "sync", "--quick", "--faults", "email-killed", "--out", str(tmp_path / "run"))
    try:
        wait_until(lambda: fault_is_on(user), 150, lambda: "no fault was injected")
        os.killpg(run.pid, signal.SIGINT)
        said, _ = run.communicate(timeout=120)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 130, said
    assert "Traceback" not in said
    wait_until(lambda: not user.processes(), 15, lambda: f"still running: {user.processes()}")
    with (tmp_path / "run" / "history.jsonl").open() as lines:
        assert sum(isinstance(record, Invocation) for record in read(lines)) > 100, "what was seen until then is kept"


def test_after_sigkill_of_the_local_cloud_up_adopts_and_down_leaves_nothing(user: User) -> None:
    before = user.json("up", "sync")
    for pid in user.pids_of("infra.local.daemon"):
        os.kill(pid, signal.SIGKILL)
    after = user.json("up", "sync")
    assert {s: i["pid"] for s, i in after["services"].items()} == {s: i["pid"] for s, i in before["services"].items()}
    assert user.run("down").returncode == 0
    wait_until(lambda: not user.processes(), 10, lambda: f"still running: {user.processes()}")
    assert not list((user.home / "deployments").glob("*"))


def test_a_running_deployment_is_used_by_every_tool_and_left_running(user: User, tmp_path: Path) -> None:
    user.json("up", "sync", "--name", "one")
    user.json("up", "sync", "--name", "two")
    assert [d["name"] for d in user.json("status")["deployments"]] == ["one", "two"]
    load = user.run("load", "--use", "two", "--seconds", "3")
    left_open = load.returncode == 2 and names_stalls(load.stdout)
    assert load.returncode == 0 or left_open, load.stdout + load.stderr
    user.json("down", "two")

    edge = user.json("status", "one")["deployments"][0]["edge"]
    root = Path(__file__).parents[2]
    locust = user.tool(
        "locust",
        "-f",
        str(root / "loadtests" / "locustfile.py"),
        "--host",
        edge,
        "--headless",
        "-t",
        "3s",
        "--rate",
        "20",
    )
    assert locust.returncode == 0, locust.stderr
    experiment = root / "chaos" / "experiments" / "payments-killed.json"
    chaos = user.tool(
        "chaos", "--no-version-check", "--no-log-file", "run", str(experiment),
        "--journal-path", str(tmp_path / "journal.json"), STAGES_HOLD_S="2",
    )  # fmt: skip
    assert chaos.returncode == 0, chaos.stdout + chaos.stderr
    journal = json.loads((tmp_path / "journal.json").read_text())
    assert [step["status"] for step in journal["run"] + journal["rollbacks"]] == ["succeeded"] * 5

    done = user.run(
        "verify", "sync", "--use", "one", "--quick", "--faults", "email-killed", "--out", str(tmp_path / "r")
    )
    # a machine that stalls leaves it undecided, but nothing may be worse than predicted
    assert done.returncode in (0, 2), done.stdout + done.stderr
    assert [d["name"] for d in user.json("status")["deployments"]] == ["one"]
    assert "order" in user.run("logs", "orders", "-n", "5").stdout
