"""Every experiment runs as it is against a running shop, and finds the blast radius that the model predicts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos import experiment
from chaos.catalogue import faults_of
from chaos.client import LocalCloud
from chaos.driver import ChaosDriver
from chaos.journal import Done, outcome
from infra.local.mesh.envoy import problems as envoy_problems
from stages.catalogue import ASYNC, SYNC
from stages.history import FaultStep, Invocation, read

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent

LEASE_END_S = 10.0
"""No fault may outlive its runner by more."""


@contextmanager
def deployed(stage: str) -> Iterator[Path]:
    """The home of a local cloud in which a stage runs, deployed as a user deploys it."""
    with tempfile.TemporaryDirectory(prefix="e-") as directory:
        environment = {**os.environ, "STAGES_HOME": directory}
        try:
            run([BIN / "stages", "up", stage, "--json"], environment)
            yield Path(directory)
        finally:
            run([BIN / "stages", "down", "--json"], environment)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with deployed("sync") as directory:
        yield directory


@pytest.fixture(scope="module")
def home_async() -> Iterator[Path]:
    with deployed("async") as directory:
        yield directory


@pytest.fixture(scope="module")
def home_mesh() -> Iterator[Path]:
    if problems := envoy_problems():
        pytest.skip("; ".join(problems))
    with deployed("mesh") as directory:
        yield directory


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosDriver]:
    with ChaosDriver(errors=tmp_path_factory.mktemp("chaos") / "errors.log") as one:
        yield one


def run(command: Sequence[object], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """To its end; an exit status other than 0 is a failure that shows what was said."""
    done = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def chaos_run(home: Path, file: Path, tmp_path: Path, **environment: str) -> dict[str, object]:
    """`chaos run` on an experiment's file, as it is; returns the journal."""
    quiet = ["--no-version-check", "--no-log-file"]
    command = [
        BIN / "chaos",
        *quiet,
        "run",
        "--journal-path",
        tmp_path / "journal.json",
        file,
    ]
    run(command, {**os.environ, "STAGES_HOME": str(home), "STAGES_HISTORY": str(tmp_path / "h.jsonl"), **environment})
    written: dict[str, object] = json.loads((tmp_path / "journal.json").read_text())
    return written


def test_chaos_run_takes_an_experiment_as_it_is(home, tmp_path) -> None:
    written = chaos_run(home, experiment.DIRECTORY / "payments-killed.json", tmp_path, STAGES_HOLD_S="1")
    found = outcome(written)
    assert (found.done, found.bit, found.undone, found.problems) == (Done.INJECTED, True, True, ())
    assert written["deviated"] is False
    assert found.recovered_s is not None
    history = list(read((tmp_path / "h.jsonl").read_text().splitlines(keepends=True)))
    steps = [record.step for record in history if not isinstance(record, Invocation)]
    assert steps == [FaultStep.INTENT, FaultStep.INJECTED, FaultStep.SEEN, FaultStep.UNDOING, FaultStep.UNDONE]
    keys = [record.key for record in history if isinstance(record, Invocation)]
    assert len(keys) == len(set(keys)) > 0


def test_a_dry_run_passes_every_guard_and_injects_nothing(home, tmp_path) -> None:
    environment = {
        **os.environ,
        "STAGES_HOME": str(home),
        "STAGES_HISTORY": str(tmp_path / "h.jsonl"),
        "STAGES_DRY_RUN": "1",
    }
    command = [BIN / "chaos", "--no-version-check", "--no-log-file", "run", "--journal-path", tmp_path / "journal.json"]
    subprocess.run(
        [*map(str, command), str(experiment.DIRECTORY / "payments-killed.json")],
        env=environment, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    found = outcome(json.loads((tmp_path / "journal.json").read_text()))
    assert (found.done, found.bit) == (Done.REFUSED, False)
    last = [
        record
        for record in read((tmp_path / "h.jsonl").read_text().splitlines(keepends=True))
        if not isinstance(record, Invocation)
    ]
    assert "would" in last[1].detail


@pytest.mark.parametrize("name", [named.name for named in faults_of(SYNC)])
def test_the_blast_radius_is_no_larger_than_predicted_and_every_operation_recovers(
    driver, home, tmp_path, name
) -> None:
    record = home / "deployments" / "sync" / "deployment.json"
    driver.run(name, deployment=record, history=tmp_path / "h.jsonl", hold_s=0.5, hypothesis=True)
    answer = driver.wait(90)
    assert (answer.outcome, answer.bit, answer.undone, answer.problems) == ("injected", True, True, ())
    assert answer.recovered_s is not None


OF_MESSAGES = sorted({named.name for named in faults_of(ASYNC)} - {named.name for named in faults_of(SYNC)})


@pytest.mark.parametrize("name", ["payments-killed", *OF_MESSAGES])
def test_where_messages_are_sent_the_blast_radius_is_no_larger_than_predicted_either(
    driver, home_async, tmp_path, name
) -> None:
    record = home_async / "deployments" / "async" / "deployment.json"
    driver.run(name, deployment=record, history=tmp_path / "h.jsonl", hold_s=0.5, hypothesis=True)
    answer = driver.wait(90)
    assert (answer.outcome, answer.bit, answer.undone, answer.problems) == ("injected", True, True, ())
    assert answer.recovered_s is not None


OF_MESH = (
    "storefront-inventory-blackhole",
    "inventory-sidecar-killed",
    "engagement-gateway-killed",
    "commerce-fulfilment-partitioned",
    "registry-outage",
    "fulfilment-control-paused",
    "storefront-garbage-config",
    "inventory-certificate-expired",
    "inventory-canary-failing",
    "root-rotated",
    "fulfilment-cluster-outage",
)
"""One of each class, and of each part of a mesh."""


@pytest.mark.parametrize("name", OF_MESH)
def test_between_clusters_the_blast_radius_is_no_larger_than_predicted_either(
    driver, home_mesh, tmp_path, name
) -> None:
    record = home_mesh / "deployments" / "mesh" / "deployment.json"
    driver.run(name, deployment=record, history=tmp_path / "h.jsonl", hold_s=0.5, hypothesis=True)
    answer = driver.wait(120)
    assert (answer.outcome, answer.bit, answer.undone, answer.problems) == ("injected", True, True, ())
    assert answer.recovered_s is not None


def test_chaos_run_takes_an_experiment_of_messages_as_it_is(home_async, tmp_path) -> None:
    written = chaos_run(home_async, experiment.DIRECTORY / "broker-outage.json", tmp_path, STAGES_HOLD_S="1")
    found = outcome(written)
    assert (found.done, found.bit, found.undone, found.problems) == (Done.INJECTED, True, True, ())
    assert written["deviated"] is False


def test_an_experiment_of_ones_own_may_ask_for_confirmed_orders_and_empty_queues(home_async, tmp_path) -> None:
    def probe(func: str, tolerance: object, **arguments: object) -> dict[str, object]:
        provider = {
            "type": "python",
            "module": "chaos.probes",
            "func": func,
            "arguments": {"deployment": "", **arguments},
        }
        return {"type": "probe", "name": func, "tolerance": tolerance, "provider": provider}

    soon = {"type": "range", "range": [0, 5]}
    mine = {
        "title": "orders are confirmed",
        "description": "without any fault",
        "configuration": {"home": {"type": "env", "key": "STAGES_HOME"}},
        "steady-state-hypothesis": {
            "title": "orders are confirmed, few messages wait",
            "probes": [
                probe("order_confirmed", soon, within_s=5),
                probe("queue_depth", {"type": "range", "range": [0, 50]}),
            ],
        },
        "method": [probe("dead_letters", 0, queue="email-events")],
        "rollbacks": [],
    }
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    written = chaos_run(home_async, tmp_path / "mine.json", tmp_path)
    assert (written["status"], written["deviated"]) == ("completed", False)
    [counted] = written["run"]
    assert (counted["status"], counted["output"]) == ("succeeded", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_chaos_run_that_is_ended_leaves_no_fault_on(home, tmp_path, number) -> None:
    history = tmp_path / "h.jsonl"
    command = [BIN / "chaos", "--no-version-check", "--no-log-file", "run", "--journal-path", tmp_path / "journal.json"]
    process = subprocess.Popen(
        [*map(str, command), str(experiment.DIRECTORY / "orders-email-reset.json")],
        env={**os.environ, "STAGES_HOME": str(home), "STAGES_HISTORY": str(history), "STAGES_HOLD_S": "60"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: history.exists() and '"step":"seen"' in history.read_text(), 30, "the fault is seen to bite")
        process.send_signal(number)
        with LocalCloud(str(home / "cloud.sock")) as cloud:
            eventually(lambda: cloud.live("sync").faults == (), LEASE_END_S, f"no fault is on after {number.name}")
        assert process.wait(30) == {signal.SIGINT: 1, signal.SIGTERM: 1, signal.SIGKILL: -signal.SIGKILL}[number]
    finally:
        process.kill()
        process.wait()


def eventually(check: Callable[[], object], within_s: float, why: str) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s} s: {why}"
        time.sleep(0.05)
