"""The main job for real: a quick run is valid, its files keep their contract, and every broken shop is caught."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from stages.catalogue import SYNC, VARIANTS
from stages.history import read
from suite.testing.user import User, wait_until

pytestmark = pytest.mark.e2e


def verdict_of(user: User, directory: Path, *words: str, expected: int) -> dict[str, Any]:
    done = user.run("verify", "sync", "--quick", "--out", str(directory), *words)
    found: dict[str, Any] = json.loads((directory / "verdict.json").read_text())
    assert done.returncode == expected, f"{done.stdout}\n{done.stderr}\n{shortcomings(found)}"
    return found


def shortcomings(found: dict[str, Any]) -> str:
    """Everything that is not valid, for the message of a test that failed."""
    stage = found["stages"]["sync"]
    parts = [*stage["matrix"], *stage["pooled"], *stage["checks"], *stage["operations"].values()]
    return "\n".join(f"{p.get('fault', '')} {p['verdict']}: {p['because']}" for p in parts if p["verdict"] != "valid")


def test_a_quick_run_is_valid_and_leaves_what_the_readme_promises(user: User, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = verdict_of(user, out, "--seed", "11", expected=0)
    stage = found["stages"]["sync"]

    assert (found["verdict"], found["seed"], stage["verdict"]) == ("valid", 11, "valid")
    assert {c["fault"] for c in stage["matrix"]} == {f["name"] for f in stage["faults"]}
    assert len(stage["matrix"]) == len(stage["faults"]) * len(SYNC.operations)
    assert all(f["injected"] and f["seen_by"] and f["recovered_s"] is not None for f in stage["faults"])
    assert set(stage["operations"]) == {o.name for o in SYNC.operations}
    radius = stage["blast_radius"]
    assert 0 < radius["measured_low"] <= radius["measured"] <= radius["measured_high"] < 1

    names = {c["name"] for c in stage["checks"]}
    assert {
        "every-accepted-order-terminates",
        "no-order-lost",
        "no-order-applied-twice",
        "stock-conserved",
        "money-conserved",
        "one-email-per-confirmed-order",
        "registrations-reach-every-consumer",
        "no-effect-without-operation",
        "recovered-after-every-fault",
        "generator-honest",
        "nothing-left-behind",
    } <= names

    with (out / "history.jsonl").open() as lines:
        assert len(list(read(lines))) > 1000
    cases = ET.parse(out / "junit.xml").getroot().iter("testcase")
    assert len(list(cases)) >= len(stage["matrix"]) + len(stage["checks"])
    report = (out / "report.html").read_text()
    assert "<script src" not in report
    assert "place-order" in report
    assert json.loads((out / "environment.json").read_text())["packages"]["locust"]
    assert (out / "logs" / "sync" / "orders.log").stat().st_size > 0

    again = user.run("report", str(out))
    assert again.returncode == 0, again.stderr
    # the local cloud itself ends a moment after its last deployment
    wait_until(lambda: not user.processes(), 10, lambda: f"still running: {user.processes()}")


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_broken_shop_is_invalid_on_what_its_name_says(user: User, tmp_path: Path, name: str) -> None:
    variant = VARIANTS[name]
    words = ("--variant", name, "--faults", variant.exposed_by)
    stage = verdict_of(user, tmp_path / "run", *words, expected=1)["stages"]["sync"]
    if " x " in variant.breaks:
        fault, operation = variant.breaks.split(" x ")
        broken = next(c for c in stage["matrix"] if (c["fault"], c["operation"]) == (fault, operation))
    else:
        broken = next(c for c in stage["checks"] if c["name"] == variant.breaks)
    assert broken["verdict"] == "invalid", broken["because"]
