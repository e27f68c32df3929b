"""Experiments run as they are against a running shop, and find the blast radius that the model predicts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos import experiment
from chaos.catalogue import faults_of
from chaos.client import LocalCloud
from chaos.driver import ChaosDriver
from chaos.journal import Done, outcome
from stages.catalogue import SYNC
from stages.history import FaultStep, Invocation, read
from suite.testing.experiments import BIN, chaos_run, deployed, plays_as_predicted
from suite.testing.user import hear_interrupts

pytestmark = pytest.mark.slow

LEASE_END_S = 10.0
"""No fault may outlive its runner by more."""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with deployed("sync") as directory:
        yield directory


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosDriver]:
    with ChaosDriver(errors=tmp_path_factory.mktemp("chaos") / "errors.log") as one:
        yield one


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


ONE_OF_EACH_KIND = {named.fault.kind: named.name for named in reversed(faults_of(SYNC))}
"""The first of the catalogue; `stages verify` plays them all."""


@pytest.mark.drawn(4)
@pytest.mark.parametrize("name", sorted(ONE_OF_EACH_KIND.values()))
def test_the_blast_radius_is_no_larger_than_predicted_and_every_operation_recovers(
    driver, home, tmp_path, name
) -> None:
    plays_as_predicted(driver, home, "sync", name, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_chaos_run_that_is_ended_leaves_no_fault_on(home, tmp_path, number) -> None:
    history = tmp_path / "h.jsonl"
    command = [BIN / "chaos", "--no-version-check", "--no-log-file", "run", "--journal-path", tmp_path / "journal.json"]
    process = subprocess.Popen(
        [*map(str, command), str(experiment.DIRECTORY / "orders-email-reset.json")],
        env={**os.environ, "STAGES_HOME": str(home), "STAGES_HISTORY": str(history), "STAGES_HOLD_S": "60"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=hear_interrupts,  # noqa: PLW1509  # no other thread forks meanwhile
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
