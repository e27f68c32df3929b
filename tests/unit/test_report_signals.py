"""The page of the edges: what was measured stands on the map and in the tables, and nothing in it becomes markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.catalogue import MESH, STAGES
from suite.report import edges, html
from suite.report.edges_reading import load
from suite.report.simulated import impacts
from suite.report.testing import Sample, sample
from suite.report.waterfall import waterfall
from suite.signals_clock import Offset
from suite.signals_run import documents
from suite.testing.sidecars import OFFSET_NS, write

BAD = "<img src=x onerror=alert(1)>'\"]]>{{7*7}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    found = sample(stages=("async", "mesh"), faults=5)
    directory = tmp_path_factory.mktemp("traces")
    write(directory, MESH, found.histories["mesh"], impacts(MESH))
    clock = Offset(offset_ns=OFFSET_NS, off_by_ns=900)
    found.verdict["stages"]["mesh"] |= documents(MESH, impacts(MESH), directory, found.histories["mesh"], clock)
    return found


@pytest.fixture(scope="module")
def page(run: Sample) -> str:
    return edges.render(run.verdict, STAGES)


def test_every_edge_and_every_fault_is_on_the_page(run: Sample, page: str) -> None:
    (found,) = load(run.verdict)
    assert found.stage == "mesh"
    assert [e.name for e in (*found.edges, *found.messages) if e.name not in page] == []
    assert [name for name in found.phases if name not in page] == []
    assert len(found.phases) == 6


def test_the_map_carries_rate_errors_and_latency(run: Sample, page: str) -> None:
    figures = next(e for e in load(run.verdict)[0].edges if e.name == "storefront-inventory").phases["baseline"]
    assert figures.rate is not None
    assert f">{figures.rate:.0f}/s · " in page or f">{figures.rate:.1f}/s · " in page
    assert "hurt-failing" in page.partition("</main>")[0].partition("<main>")[2]


def test_the_page_loads_nothing_from_elsewhere_and_its_ids_are_unique(page: str) -> None:
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert sorted(set(ids)) == sorted(ids)


def test_the_report_leads_to_the_page_only_where_there_is_one(run: Sample) -> None:
    without = sample(stages=("sync",), faults=2)
    assert 'href="edges.html"' in html.render(run.verdict, run.series, run.stages)
    assert 'href="edges.html"' not in html.render(without.verdict, without.series, without.stages)


def poisoned(value: Any) -> Any:
    if isinstance(value, str):
        return value + BAD
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return {k + BAD: poisoned(v) for k, v in value.items()} | value if isinstance(value, dict) else value


def test_names_from_the_run_cannot_become_markup(run: Sample) -> None:
    mesh = run.verdict["stages"]["mesh"]
    parts = {name: poisoned(mesh[name]) for name in ("signals", "breakers", "traces")}
    found = edges.render({"stages": {"mesh": parts, BAD: parts}}, STAGES)
    assert "<img" not in found
    assert "&lt;img" in found


WORDS = (
    *("edges", "edge", "messages", "phases", "baseline", "name", "seconds", "title", "rows", "verdict"),
    *("n", "rate", "error_share", "p50_ms", "flags", "depth", "start_ms", "ms"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(signals=JSON, breakers=JSON, traces=JSON)
def test_any_document_can_be_shown(signals: Any, breakers: Any, traces: Any) -> None:
    verdict = {"stages": {"mesh": {"signals": signals, "breakers": breakers, "traces": traces}}}
    assert edges.render(verdict, STAGES).startswith("<!doctype html>")


def test_a_run_whose_sidecars_wrote_nothing_says_so(run: Sample, tmp_path: Path) -> None:
    nothing = documents(MESH, impacts(MESH), tmp_path, run.histories["mesh"], Offset(offset_ns=0, off_by_ns=0))
    found = edges.render({"stages": {"mesh": nothing}}, STAGES)
    assert "No sidecar&#39;s access log was found" in found or "No sidecar's access log was found" in found


def test_a_waterfall_without_length_is_still_drawn() -> None:
    assert waterfall("nothing", ()).startswith("<svg")
