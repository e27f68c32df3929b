"""The main job for real: a quick run is valid, and its files keep their contract. Broken shops: tests/broken."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from stages.catalogue import STAGES
from stages.history import read
from suite.testing.judged import decided, shortcomings, verdict_of
from suite.testing.user import User, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

CHECKS = {
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
}
OF_A_MESH = {"policy-as-modelled", "breakers-open-and-close"}
OF_MESSAGES = {"no-event-lost", "outbox-drained", "dead-letters-accounted-for"}


def stage_keeps_its_contract(name: str, stage: dict[str, Any]) -> None:
    operations = STAGES[name].operations
    assert {c["fault"] for c in stage["matrix"]} == {f["name"] for f in stage["faults"]}
    assert len(stage["matrix"]) == len(stage["faults"]) * len(operations)
    assert all(f["injected"] and f["seen_by"] and f["recovered_s"] is not None for f in stage["faults"])
    assert set(stage["operations"]) == {o.name for o in operations}
    assert set(stage["completions"]) == {c.name for o in operations for c in o.completions}
    radius = stage["blast_radius"]
    assert 0 <= radius["measured_low"] <= radius["measured"] <= radius["measured_high"] <= 1
    further = {"sync": set(), "async": OF_MESSAGES, "mesh": OF_MESSAGES | OF_A_MESH}[name]
    assert {c["name"] for c in stage["checks"]} == CHECKS | further
    assert stage["cpu_ms_per_order"] > 0


def too_slow(found: dict[str, Any]) -> str:
    """What a stage promises and did not even keep while nothing was broken."""
    levels = [
        (n, lv) for s in found["stages"].values() for k in ("operations", "completions") for n, lv in s[k].items()
    ]
    return "; ".join(f"{name}: {level['because']}" for name, level in levels if level["verdict"] == "invalid")


def test_a_quick_run_of_all_stages_is_valid_and_leaves_what_the_readme_promises(user: User, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = verdict_of(user, out, "--seed", "11")

    if slow := too_slow(found):
        pytest.skip(f"the machine is too slow for the shop at this rate, faults or not: {slow}")
    assert found["verdict"] != "invalid", shortcomings(found)
    assert (found["seed"], list(found["stages"])) == (11, ["sync", "async", "mesh"])
    decided(found)
    for name, stage in found["stages"].items():
        stage_keeps_its_contract(name, stage)
    measured = {
        c["measured"]
        for n in ("async", "mesh")
        for c in found["stages"][n]["matrix"]
        if c["operation"] == "place-order"
    }
    assert "failing" not in measured
    mesh = found["stages"]["mesh"]
    assert [c["verdict"] for c in mesh["checks"] if c["name"] == "policy-as-modelled"] == ["valid"]
    assert [(g["system"], bool(g["owner"])) for g in mesh["governance"]] == [
        ("commerce", True), ("fulfilment", True), ("payments", True), ("engagement", True)
    ]  # fmt: skip

    with (out / "history.jsonl").open() as lines:
        assert len(list(read(lines))) > 1000
    cases = ET.parse(out / "junit.xml").getroot().iter("testcase")
    assert len(list(cases)) >= sum(len(s["matrix"]) + len(s["checks"]) for s in found["stages"].values())
    for page in ("report.html", "edges.html"):
        text = (out / page).read_text()
        assert "BEGIN " not in text, "no certificate and no key"
    report = (out / "report.html").read_text()
    assert "<script src" not in report
    assert "place-order" in report
    assert json.loads((out / "environment.json").read_text())["packages"]["locust"]
    assert (out / "logs" / "async" / "orders.log").stat().st_size > 0

    again = user.run("report", str(out))
    assert again.returncode == 0, again.stderr
    # the local cloud itself ends a moment after its last deployment
    wait_until(lambda: not user.processes(), 10, lambda: f"still running: {user.processes()}")
    if found["verdict"] == "unknown":
        pytest.skip(f"the machine left it undecided, nothing was worse than predicted: {shortcomings(found)}")
    step = found["comparison"]["steps"][0]
    assert (step["before"], step["after"], step["falls"]) == ("sync", "async", True)
    assert "delayed" in measured
