"""Every experiment runs as it is against a running shop, and finds the blast radius that the model predicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from chaos import experiment
from chaos.catalogue import faults_of
from chaos.driver import ChaosDriver
from chaos.journal import Done, outcome
from stages.catalogue import SYNC
from stages.history import FaultStep, Invocation, read

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Of a local cloud in which stage sync runs, deployed as a user deploys it."""
    with tempfile.TemporaryDirectory(prefix="e-") as directory:
        environment = {**os.environ, "STAGES_HOME": directory}
        try:
            run([BIN / "stages", "up", "sync", "--json"], environment)
            yield Path(directory)
        finally:
            run([BIN / "stages", "down", "--json"], environment)


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


def chaos_run(home: Path, name: str, tmp_path: Path, **environment: str) -> dict[str, object]:
    """`chaos run` on the checked-in file, as it is; returns the journal."""
    quiet = ["--no-version-check", "--no-log-file"]
    command = [
        BIN / "chaos",
        *quiet,
        "run",
        "--journal-path",
        tmp_path / "journal.json",
        experiment.DIRECTORY / f"{name}.json",
    ]
    run(command, {**os.environ, "STAGES_HOME": str(home), "STAGES_HISTORY": str(tmp_path / "h.jsonl"), **environment})
    written: dict[str, object] = json.loads((tmp_path / "journal.json").read_text())
    return written


def test_chaos_run_takes_an_experiment_as_it_is(home, tmp_path) -> None:
    written = chaos_run(home, "payments-killed", tmp_path, STAGES_HOLD_S="1")
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
