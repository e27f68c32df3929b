"""The CI recipe parses, names what exists, and tells the four ways a run can end apart."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from suite.cli import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github/workflows/stages.yml").read_text()
RECIPE: dict[Any, Any] = yaml.safe_load(TEXT)
JOB = RECIPE["jobs"]["quick"]
STEPS: list[dict[str, Any]] = JOB["steps"]
UPLOADS = [s for s in STEPS if s.get("uses", "").startswith("actions/upload-artifact@")]


def step(name: str) -> dict[str, Any]:
    return next(s for s in STEPS if s.get("name") == name)


def test_the_recipe_runs_for_pull_requests_with_no_more_rights_than_reading() -> None:
    assert set(RECIPE[True]) == {"pull_request", "workflow_dispatch"}  # YAML 1.1 reads `on` as true
    assert RECIPE["permissions"] == {"contents": "read"}
    assert JOB["timeout-minutes"] <= 30


def test_every_action_is_of_a_stated_version() -> None:
    used = [s["uses"] for s in STEPS if "uses" in s]
    assert used
    assert [u for u in used if not re.fullmatch(r"actions/[a-z-]+@v[0-9]+", u)] == []


def test_python_is_one_that_the_project_takes() -> None:
    setup = next(s for s in STEPS if s.get("uses", "").startswith("actions/setup-python@"))["with"]
    version = tuple(map(int, setup["python-version"].split(".")))
    assert version >= (3, 11)
    assert (ROOT / setup["cache-dependency-path"]).exists()


def test_every_make_target_and_option_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = [s["run"] for s in STEPS if s.get("run", "").startswith("make ")]
    assert [shlex.split(line)[1] for line in made] == ["setup", "verify"]
    assert {shlex.split(line)[1] for line in made} <= targets
    given = shlex.split(shlex.split(step("verify")["run"])[2].removeprefix("ARGS="))
    command = typer.main.get_command(app).commands["verify"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in given if word.startswith("--")} == {"--quick", "--out"}
    assert {word for word in given if word.startswith("--")} <= known


def test_artefacts_are_what_a_run_leaves_and_are_kept_whatever_happens() -> None:
    out = shlex.split(shlex.split(step("verify")["run"])[2].removeprefix("ARGS="))[-1]
    paths = [path for upload in UPLOADS for path in upload["with"]["path"].split()]
    assert {"junit.xml", "report.html"} <= {path.removeprefix(f"{out}/") for path in paths}
    left = (ROOT / "README.md").read_text().partition("## What a run leaves")[2]
    assert [p for p in paths if f"`{p.removeprefix(f'{out}/').rstrip('/')}" not in left] == []
    assert {upload["if"] for upload in UPLOADS} == {"always()"}
    assert len({upload["with"]["name"] for upload in UPLOADS}) == len(UPLOADS)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the recipe's steps are for bash, which is not here")
@pytest.mark.parametrize(
    ("verdict", "status", "told"),
    [
        ("valid", 0, "valid: every fault"),
        ("invalid", 1, "::error::invalid"),
        ("unknown", 1, "::warning::unknown"),
        (None, 1, "::error::nothing was judged"),
    ],
)
def test_the_job_passes_only_if_the_run_was_valid_and_says_which_it_was(
    tmp_path: Path, verdict: str | None, status: int, told: str
) -> None:
    if verdict is not None:
        (tmp_path / "verdict").mkdir()
        (tmp_path / "verdict/verdict.json").write_text(json.dumps({"verdict": verdict}))
    summary = tmp_path / "summary"
    done = subprocess.run(
        # as GitHub runs a step
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step("say the verdict")["run"]],
        cwd=tmp_path,
        env={**os.environ, "GITHUB_STEP_SUMMARY": str(summary)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, told in done.stdout) == (status, True), done.stderr
    assert f"**{verdict or 'none'}**" in summary.read_text()
