"""`stages up` and `stages down` with --target aws: exit statuses, and what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.aws.fleet import ENCRYPTED
from infra.aws.target import AwsTarget, shared_config
from infra.aws.testing import FakeWorkspace
from suite import bootstrap, cli, clouds

STACK_FILE = """config:
  staged-decoupling:image: repository:1
  staged-decoupling:domain: shop.example.com
  aws:region: eu-west-1
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, a CLI, a backend and credentials, as far as can be seen without using them."""
    (tmp_path / "Pulumi.yaml").write_text("name: staged-decoupling\nruntime: python\n")
    (tmp_path / "Pulumi.aws-mesh.yaml").write_text(STACK_FILE)
    pulumi = tmp_path / "pulumi"
    pulumi.write_text("#!/bin/sh\nexit 1\n")
    pulumi.chmod(0o755)
    for name, value in {
        "STAGES_PROJECT": str(tmp_path),
        "PATH": str(tmp_path),
        "HOME": str(tmp_path),
        "PULUMI_BACKEND_URL": "file:///nowhere",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "PULUMI_HOME", "PULUMI_SECRETS_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def workspace(project: Path, monkeypatch: pytest.MonkeyPatch) -> FakeWorkspace:
    fake = FakeWorkspace()
    monkeypatch.setattr(bootstrap, "cloud", lambda _name: clouds.AwsStages(AwsTarget(workspace=fake)))
    return fake


def _run(*argv: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["stages", *argv])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_up_builds_all_and_down_takes_all_away(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("up", "mesh", "--target", "aws", "--json", monkeypatch=monkeypatch) == 0
    stacks = json.loads(capsys.readouterr().out)["mesh"]
    assert list(stacks) == ["mesh-backbone", "mesh-commerce", "mesh-fulfilment", "mesh-payments", "mesh-engagement"]
    assert {stack["outcome"] for stack in stacks.values()} == {"done"}
    assert workspace.there["mesh-payments"]["region"] == "eu-west-1"

    assert _run("down", "mesh", "--target", "aws", monkeypatch=monkeypatch) == 0
    assert workspace.there == {}
    assert _run("down", "mesh", "--target", "aws", monkeypatch=monkeypatch) == 0
    assert "nothing was there" in capsys.readouterr().out


def test_a_second_up_brings_what_changed_and_a_dry_run_says_so_before(
    project: Path,
    workspace: FakeWorkspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    up = ("up", "mesh", "--target", "aws", "--name", "shop")
    assert _run(*up, monkeypatch=monkeypatch) == 0
    workspace.own["shop-payments"] = {"image": "repository:held"}
    (project / "Pulumi.aws-mesh.yaml").write_text(STACK_FILE.replace("repository:1", "repository:2"))
    done = len(workspace.touched)
    capsys.readouterr()

    assert _run(*up, "--dry-run", monkeypatch=monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "in this order: shop-backbone -> shop-commerce" in said
    assert "image becomes repository:2 (was repository:1): shop-backbone, shop-commerce, shop-fulfilment" in said
    assert "shop-payments keeps image repository:held of its own, the fleet's is repository:2" in said
    assert len(workspace.touched) == done
    assert _run(*up, "--dry-run", "--json", monkeypatch=monkeypatch) == 0
    settings = json.loads(capsys.readouterr().out)["shop-payments"]["settings"]
    assert settings == {
        "image": {"act": "kept", "before": "repository:1", "fleet": "repository:2", "own": "repository:held"}
    }

    assert _run(*up, monkeypatch=monkeypatch) == 0
    assert "shop-payments keeps image" in " ".join(capsys.readouterr().out.split())
    assert workspace.there["shop-payments"]["image"] == "repository:held"
    assert workspace.there["shop-backbone"]["image"] == "repository:2"


def test_a_setting_that_is_kept_as_a_secret_is_named_with_the_way_out(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.own["shop-payments"] = {"image": ENCRYPTED}

    assert _run("up", "mesh", "--target", "aws", "--name", "shop", monkeypatch=monkeypatch) == 254
    said = " ".join(capsys.readouterr().err.split())
    assert "Pulumi.shop-payments.yaml: image is encrypted" in said
    assert "`pulumi config set --stack shop-payments --plaintext image VALUE`" in said
    assert workspace.touched == []


def test_what_was_not_begun_was_not_told_anything(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.fails = {"mesh-backbone"}

    assert _run("up", "mesh", "--target", "aws", monkeypatch=monkeypatch) == 1
    said = capsys.readouterr().out
    assert "image becomes repository:1: mesh-backbone\n" in said


def test_a_deployment_that_stands_is_not_moved_to_another_region(
    project: Path,
    workspace: FakeWorkspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run("up", "mesh", "--target", "aws", monkeypatch=monkeypatch) == 0
    shared = STACK_FILE + "  staged-decoupling:region: us-west-2\n"
    (project / "Pulumi.aws-mesh.yaml").write_text(shared)
    done = len(workspace.touched)

    assert _run("up", "mesh", "--target", "aws", monkeypatch=monkeypatch) == 254
    assert "does not move" in " ".join(capsys.readouterr().err.split())
    assert len(workspace.touched) == done


def test_a_stack_that_fails_is_exit_status_1_and_all_three_lists(
    workspace: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.fails = {"shop-payments"}

    assert _run("up", "mesh", "--target", "aws", "--name", "shop", monkeypatch=monkeypatch) == 1
    said = capsys.readouterr().out
    assert "done: shop-backbone, shop-commerce, shop-fulfilment, shop-engagement" in said
    assert "failed: shop-payments; not begun: none" in said


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("up", "mesh", "--target", "moon"), "no target 'moon'"),
        (("up", "mesh", "--target", "aws", "--variant", "no-dlq"), "local target only"),
        (("up", "mesh", "--dry-run"), "--dry-run is for --target aws"),
        (("up", "mesh", "--target", "aws", "--name", "Shop!"), "lower-case letters"),
        (("down", "--target", "aws"), "which one?"),
    ],
)
def test_bad_input_is_254_and_touches_nothing(
    argv: tuple[str, ...],
    words: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(*argv, monkeypatch=monkeypatch) == 254
    assert words in capsys.readouterr().err


def test_everything_that_lacks_is_told_at_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "pulumi").unlink()
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    (project / "Pulumi.aws-mesh.yaml").write_text("config: {}\n")

    assert _run("up", "mesh", "--target", "aws", monkeypatch=monkeypatch) == 254
    said = capsys.readouterr().err
    for words in ("no `pulumi`", "no passphrase", "no region", "no AWS credentials", "image is not set"):
        assert words in said


def test_a_secret_in_the_shared_file_is_refused_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.aws-mesh.yaml"
    path.write_text(
        "config:\n  staged-decoupling:database_url:\n    secure: v1:abc\n  staged-decoupling:zones: [a, b]\n"
    )

    found, problems = shared_config(path)

    assert found == {"zones": '["a", "b"]'}
    assert len(problems) == 1
    assert "set it on each stack" in problems[0]
