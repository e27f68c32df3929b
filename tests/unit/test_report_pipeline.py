"""What the pipeline writes is what the report reads: a run of the simulated shop, shown in all three forms."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import jsonschema
import pytest
from rich.console import Console

from stages.blast_radius import Effect
from stages.catalogue import STAGES
from stages.history import merged
from suite.bootstrap import fault_catalogue
from suite.plan import make_plan
from suite.report import html, junit
from suite.report.reading import load
from suite.report.series import Series, summarize
from suite.report.testing import objectives
from suite.report.text import print_summary
from suite.stage_run import StageResult, run_stage
from suite.store import Store
from suite.testing.world import World
from suite.verdict import run_document
from suite.wishes import Wishes

SCHEMA = json.loads((resources.files("suite.comparison") / "schema.json").read_text())
FAULTS = ("payments-killed", "inventory-killed", "email-killed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Series]:
    """A run of one stage in which something leaks, something is better, and something is not decided."""
    directory: Path = tmp_path_factory.mktemp("report")
    catalogue = fault_catalogue()
    plan = make_plan(Wishes(stages=("sync",), faults=FAULTS), catalogue=catalogue, cannot={})
    world = World(
        directory,
        catalogue={f.name: f for f in catalogue["sync"]},
        reality={("payments-killed", "track-order"): Effect.FAILING, ("email-killed", "register"): Effect.UNAFFECTED},
        dull=frozenset({"inventory-killed"}),
    )
    now = datetime.now(UTC)
    result = StageResult(plan=plan.stages[0])
    run_stage(plan, result, world.tools(Store.create(directory / "run", now=now, seed=1)))
    command = ("stages", "verify", "--faults", ",".join(FAULTS))
    document = run_document(plan, [result], started=now, duration_s=42, command=command, environment={"cores": 2})
    return document, summarize(merged(result.gathered.records()), objectives(STAGES["sync"]))


def test_marks_are_those_of_the_verdict(run: tuple[dict[str, Any], Series]) -> None:
    found = load(run[0])
    assert [(c.fault, c.operation) for c in found.cells("leak")] == [("payments-killed", "track-order")]
    assert [(c.fault, c.operation) for c in found.cells("better")] == [("email-killed", "register")]
    assert {c.fault for c in found.cells("unknown")} == {"inventory-killed"}


def test_nothing_of_the_document_is_lost_on_the_way(run: tuple[dict[str, Any], Series]) -> None:
    stage, raw = load(run[0]).stages[0], run[0]["stages"]["sync"]
    assert (len(stage.cells), len(stage.pooled)) == (len(raw["matrix"]), len(raw["pooled"]))
    assert [(c.name, c.verdict) for c in stage.checks] == [(c["name"], c["verdict"]) for c in raw["checks"]]
    assert [o.name for o in stage.healthy] == list(raw["operations"])
    assert all(c.interval is not None and c.path for c in stage.cells if c.mark != "unknown")
    assert all(f.summary for f in stage.faults)


def test_page_shows_the_windows_of_its_history(run: tuple[dict[str, Any], Series]) -> None:
    text = html.render(run[0], {"sync": run[1]}, STAGES)
    assert {w.fault for w in run[1].windows} == set(FAULTS)
    assert "<title>INVALID" in text
    assert text.count('class="timeline"') == 1
    assert "stages verify --faults payments-killed,inventory-killed,email-killed" in text


def test_terminal_and_junit_agree_with_the_verdict(run: tuple[dict[str, Any], Series]) -> None:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    print_summary(run[0], console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[-1].startswith("INVALID  1 stage, 3 faults, 1 leak")
    root = fromstring(junit.render(run[0]))
    assert int(root.get("failures", "0")) >= 2  # the leaking cell and its pool
    assert int(root.get("errors", "0")) >= 7  # a row that proves nothing and its pool


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """verdict.json of two stages that do as predicted."""
    catalogue = fault_catalogue()
    chosen = ("payments-killed", "email-killed", "broker-outage", "orders-payments-latency")
    plan = make_plan(Wishes(stages=("sync", "async"), faults=chosen), catalogue=catalogue, cannot={})
    results, now = [], datetime.now(UTC)
    for stage_plan in plan.stages:
        directory: Path = tmp_path_factory.mktemp("both")
        world = World(directory, catalogue={f.name: f for f in catalogue[stage_plan.stage.name]})
        results.append(StageResult(plan=stage_plan))
        run_stage(plan, results[-1], world.tools(Store.create(directory / "run", now=now, seed=1)))
    return run_document(plan, results, started=now, duration_s=42, command=("stages", "verify"), environment={})


def test_two_stages_are_compared_as_the_schema_says(both: dict[str, Any]) -> None:
    jsonschema.validate(both["comparison"], SCHEMA)
    assert (both["verdict"], both["comparison"]["falls"]) == ("valid", True)
    assert [(f["fault"], f["missing"]) for f in both["comparison"]["faults"] if f["missing"]] == [
        ("orders-payments-latency", {"async": "orders commands payments by message: there is no such wire"}),
        ("broker-outage", {"sync": "sync has no broker"}),
    ]


def test_two_stages_are_shown_side_by_side(both: dict[str, Any]) -> None:
    text = html.render(both, {}, STAGES)
    assert 'id="comparison"' in text
    assert text.count('class="cell m-delayed as-predicted"') == 6
