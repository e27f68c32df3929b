"""The plan of stage mesh on the real engine: stacks of a program without a cloud, one of which breaks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.aws.automation import Engine
from infra.aws.rollout import Outcome, build, raze
from infra.aws.split import Plan, plan
from infra.aws.testing import check_workspace
from stages.catalogue import MESH

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH"),
]

PROJECT = """
name: staged-decoupling
runtime: python
config:
  image: {type: string, default: ""}
  size: {type: string, default: ""}
  fleet: {type: object, default: {}}
"""
"""With defaults, as the real one: they are nobody's choice."""

PROGRAM = """
from pathlib import Path

import pulumi

from infra.config import merged
from infra.program import raw_config

config, here = merged(raw_config(pulumi.get_project()))[0], pulumi.get_stack()
if Path(f"broken-{here}").exists():
    raise pulumi.RunError("this stack is broken")
for key in ("stage", "target", "name", "system", "image", "size"):
    pulumi.export(key, config.get(key))
if config.get("system") == "backbone":
    pulumi.export("account", "123456789012")
else:
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{config['name']}-backbone"
    if Path("refer").exists():
        pulumi.export("account", pulumi.StackReference(name).require_output("account"))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own with a backend of its own: nothing of the user's is read or written."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "Pulumi.yaml").write_text(PROJECT)
    (root / "__main__.py").write_text(PROGRAM)
    state = tmp_path / "state"
    state.mkdir()
    for name, value in {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return root


def _quiet(_line: str) -> None:
    pass


def _break(project: Path, stack: str) -> None:
    for file in project.glob("broken-*"):
        file.unlink()
    if stack:
        (project / f"broken-{stack}").touch()


def _states(tmp_path: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (tmp_path / "state").glob(".pulumi/stacks/*/*.json")}


def test_the_engine_keeps_the_contract_of_a_workspace(project: Path) -> None:
    parts = plan(MESH, "shop", {"image": "repository:1", "size": "trial"}).parts

    def owner(stack: str, key: str, value: str | None) -> None:
        change = ["set", key, value] if value else ["rm", key]
        subprocess.run(["pulumi", "config", *change, "--stack", stack], cwd=project, check=True, capture_output=True)

    check_workspace(lambda: Engine(project), lambda stack: _break(project, stack), owner, (parts[1], parts[2]))


def test_a_broken_system_leaves_the_state_of_all_others_as_it_was(project: Path, tmp_path: Path) -> None:
    (project / "refer").touch()
    whole, engine = plan(MESH, "shop", {"image": "repository:1"}), Engine(project)
    planned = Plan(
        name="shop", parts=whole.parts[:3]
    )  # a backbone and two systems: each run of the engine takes seconds
    first = build(planned, engine, _quiet)
    assert first.ok, first.summary
    assert {f.outputs["account"] for f in first.finished} == {"123456789012"}
    before = _states(tmp_path)
    assert set(before) == {p.stack for p in planned.parts}
    _break(project, "shop-fulfilment")

    report = build(planned, engine, _quiet)

    assert report.stacks(Outcome.FAILED) == ("shop-fulfilment",)
    assert report.stacks(Outcome.NOT_BEGUN) == ()
    assert "this stack is broken" in report.summary
    assert _resources(_states(tmp_path)) == _resources(before)

    _break(project, "")
    assert raze(planned, engine, _quiet).ok
    assert engine.stacks() == frozenset()


def _resources(states: dict[str, bytes]) -> dict[str, object]:
    """Of each stack, without the times of its last update."""
    return {
        stack: [
            {key: value for key, value in resource.items() if key not in ("created", "modified")}
            for resource in json.loads(state)["checkpoint"]["latest"]["resources"]
        ]
        for stack, state in states.items()
    }


def test_a_failure_says_which_stack_and_what_to_do(project: Path) -> None:
    planned = plan(MESH, "shop", {"image": "repository:1"})
    _break(project, "shop-backbone")

    report = build(planned, Engine(project), _quiet)

    assert report.stacks(Outcome.FAILED) == ("shop-backbone",)
    assert len(report.stacks(Outcome.NOT_BEGUN)) == len(MESH.systems)
    assert "`pulumi up -s shop-backbone` says more" in report.finished[0].reason
