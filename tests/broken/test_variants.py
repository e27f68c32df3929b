"""Every guarantee left out on purpose, one at a time: the main job must find each, and say what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.catalogue import VARIANTS
from suite.testing.judged import decided, named, shortcomings, verdict_of
from suite.testing.user import User

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


DRAWN = {"sync", "async"}
"""Stages of which two variants are played for each commit, and all with --whole: what finds theirs, cells and audits,
unit tests play on simulated shops, too. What finds those of mesh is there only where Envoys run."""

BROKEN = [
    pytest.param(v.stage, name, marks=pytest.mark.drawn(2, of="stage") if v.stage in DRAWN else ())
    for name, v in sorted(VARIANTS.items())
]


@pytest.mark.parametrize(("stage", "name"), BROKEN)
def test_a_broken_shop_is_invalid_on_what_its_name_says(user: User, tmp_path: Path, stage: str, name: str) -> None:
    variant = VARIANTS[name]
    found = verdict_of(user, tmp_path / "run", "--variant", name, "--faults", variant.exposed_by)
    broken = named(found["stages"][stage], variant.breaks)
    decided(found, broken)
    assert broken["verdict"] == "invalid", f"{broken['because']}\n{shortcomings(found)}"
