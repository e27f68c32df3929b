"""How do tests play experiments? Against a stage that is deployed as a user deploys it, alone on the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chaos.driver import ChaosDriver
from infra.local.target import LocalTarget

BIN = Path(sys.executable).parent

WELL = {"listening", "available", "running"}
"""States of a resource that explain nothing."""


@contextmanager
def deployed(stage: str) -> Iterator[Path]:
    """The home of a local cloud in which a stage runs."""
    with tempfile.TemporaryDirectory(prefix="e-") as directory:
        environment = {**os.environ, "STAGES_HOME": directory}
        try:
            run([BIN / "stages", "up", stage, "--json"], environment)
            yield Path(directory)
        finally:
            run([BIN / "stages", "down", "--json"], environment)


def run(command: Sequence[object], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """To its end; an exit status other than 0 is a failure that shows what was said."""
    done = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def chaos_run(home: Path, file: Path, tmp_path: Path, **environment: str) -> dict[str, object]:
    """`chaos run` on an experiment's file, as it is; returns the journal."""
    quiet = ["--no-version-check", "--no-log-file"]
    command = [BIN / "chaos", *quiet, "run", "--journal-path", tmp_path / "journal.json", file]
    run(command, {**os.environ, "STAGES_HOME": str(home), "STAGES_HISTORY": str(tmp_path / "h.jsonl"), **environment})
    written: dict[str, object] = json.loads((tmp_path / "journal.json").read_text())
    return written


def plays_as_predicted(driver: ChaosDriver, home: Path, stage: str, fault: str, tmp_path: Path) -> None:
    """A fault bites, breaks no more than the model says, is undone, and every operation recovers."""
    record = home / "deployments" / stage / "deployment.json"
    driver.run(fault, deployment=record, history=tmp_path / "h.jsonl", hold_s=0.5, hypothesis=True)
    answer = driver.wait(180)
    told = (answer.outcome, answer.bit, answer.undone, answer.problems)
    assert told == ("injected", True, True, ()), f"{answer}\n{situation(home, stage)}"
    assert answer.recovered_s is not None


def situation(home: Path, name: str) -> str:
    """What a deployment says of itself, for the message of a test that failed: what waits where, and the logs' ends."""
    target = LocalTarget(home)
    waiting = target.cloud.get(f"/deployments/{name}/brokers/broker") if name != "sync" else {}
    queues = {
        queue: counts for queue, counts in (waiting.get("queues") or {}).items() if counts and any(counts.values())
    }
    said = [f"queues: {queues}"]
    said += [f"{r['kind']} {r['name']}: {r['state']}" for r in target.resources(name) if r["state"] not in WELL]
    for file in sorted((home / "deployments" / name / "logs").glob("*.log")):
        lines = [line for line in file.read_text(errors="replace").splitlines() if '"level": "info"' not in line]
        said += [f"{file.stem}: {line[:300]}" for line in lines[-2:]]
    return "\n".join(said)
