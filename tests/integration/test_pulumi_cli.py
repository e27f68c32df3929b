"""Does `pulumi up` do what a Pulumi user expects, through the real engine? Skipped where there is no `pulumi`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.pulumi.testing import ROOT
from infra.local.target import LocalTarget
from infra.local.testing import end

pytestmark = pytest.mark.skipif(
    shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH; tests/integration/test_pulumi_program.py ran"
)


class Stack:
    """A stack in a project folder, backend and home of its own: the repository's stack files stay as they are."""

    def __init__(self, folder: Path) -> None:
        self.project, self.home = folder / "project", folder / "home"
        (folder / "backend").mkdir(parents=True)
        self.project.mkdir()
        (self.project / "infra").symlink_to(ROOT / "infra")
        for file in ROOT.glob("Pulumi*.yaml"):
            shutil.copy(file, self.project)
        self.env = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "STAGES_HOME": str(self.home),
            "PULUMI_HOME": str(folder / "pulumi"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "for tests",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        self.target = LocalTarget(self.home)

    def run(self, *words: str, fails: bool = False) -> str:
        """Run `pulumi` and return what it said."""
        ended = subprocess.run(
            ["pulumi", *words, "--non-interactive"],
            cwd=self.project,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (ended.returncode != 0) == fails, ended.stdout
        return ended.stdout

    def summary(self, *words: str) -> dict[str, int]:
        """Resources by what was done, or would be."""
        command, *rest = words
        sure = () if command == "preview" else ("--yes", "--skip-preview")
        said = self.run(command, *sure, *rest, "--suppress-outputs")
        lines = said.partition("Resources:\n")[2].partition("\n\n")[0].splitlines()
        words_of = [line.strip(" +-~").split() for line in lines if line.strip() and "changes." not in line]
        return {what: int(count) for count, *_, what in words_of if count.isdecimal()}

    def outputs(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("stack", "output", "--json"))
        return found

    def browse(self) -> int:
        return httpx.get(self.outputs()["edge"], trust_env=False, timeout=10).status_code


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("pulumi"))
    made.run("stack", "init", "local")
    try:
        yield made
    finally:
        for deployment in made.target.list():
            made.target.down(deployment["name"])
        made.target.cloud.close()


def test_a_preview_starts_nothing(stack: Stack) -> None:
    assert stack.summary("preview") == {"create": 36}
    assert not stack.home.exists()


def test_up_serves_users_and_a_second_one_changes_nothing(stack: Stack) -> None:
    assert stack.summary("up") == {"created": 36}
    assert stack.browse() == 200
    assert stack.summary("up") == {"unchanged": 36}
    assert stack.summary("refresh") == {"unchanged": 36}


def test_a_killed_service_is_drift_that_up_repairs(stack: Stack) -> None:
    end(stack.target.get("local").services["payments"].pid)
    assert '"running" => "exited"' in stack.run("refresh", "--yes", "--diff")
    assert stack.summary("up") == {"updated": 1, "unchanged": 35}
    assert stack.summary("refresh") == {"unchanged": 36}


def test_a_changed_configuration_is_shown_and_done(stack: Stack) -> None:
    stack.run("config", "set", "variant", "no-breaker")
    assert "SHOP_DISABLED" in stack.run("preview", "--diff")
    assert stack.summary("up") == {"updated": 11, "unchanged": 25}
    assert stack.target.get("local").variant == "no-breaker"
    stack.run("config", "rm", "variant")


def test_a_wrong_configuration_is_told_whole_before_anything_runs(stack: Stack) -> None:
    stack.run("config", "set", "variant", "none-such")
    stack.run("config", "set", "region", "mars")
    said = stack.run("up", "--yes", fails=True)
    assert "variant is 'none-such'" in said
    assert "region means nothing on target 'local'" in said
    assert "Traceback" not in said
    stack.run("config", "rm", "variant")
    stack.run("config", "rm", "region")


def test_a_stack_moves_through_the_stages_and_back(stack: Stack) -> None:
    run_id = stack.target.get("local").run_id
    for stage in ("async", "sync"):
        stack.run("config", "set", "stage", stage)
        stack.summary("up")
        found = stack.target.get("local")
        assert (found.stage, found.run_id, stack.browse()) == (stage, run_id, 200)
        assert set(stack.summary("refresh")) == {"unchanged"}
    assert "broker" not in {resource["kind"] for resource in stack.target.resources("local")}


def test_destroy_leaves_nothing(stack: Stack) -> None:
    assert stack.summary("destroy") == {"deleted": 36}
    assert (stack.target.list(), stack.target.residue("local")) == ([], [])


def test_a_python_without_the_project_is_told_what_to_do(stack: Stack, tmp_path: Path) -> None:
    """Pulumi says it itself, since this one does not even have the SDK; for one that has, see the provider's tests."""
    (tmp_path / "python3").symlink_to(Path(sys.executable).resolve())
    stack.env["PATH"] = os.pathsep.join([str(tmp_path), stack.env["PATH"]])
    assert "the Pulumi SDK has not been installed" in stack.run("preview", fails=True)
