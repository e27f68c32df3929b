"""The page of a sweep: every operation's latency against distance, what was predicted, and nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.report.distance import render
from suite.report.distance_plot import plots
from suite.report.swept import load

DELAYS = (0, 5, 10, 25, 50)


def grown(at_zero_ms: float, trips: float, **more: Any) -> dict[str, Any]:
    """An operation whose latency follows its line exactly."""
    points = [[d, at_zero_ms + 2 * d * trips, 60] for d in DELAYS]
    line = {"slope": trips, "low": trips - 0.05, "high": trips + 0.05, "at_zero_ms": at_zero_ms}
    return {"points": points, "blocks": points, **line, **more}


def document(**more: Any) -> dict[str, Any]:
    def judged(at_zero_ms: float, trips: int) -> dict[str, Any]:
        return grown(at_zero_ms, trips, predicted=trips, verdict="valid", because=f"as {trips} exchanges predict")

    return {
        "verdict": "valid",
        "because": "every operation grows slower with distance by the round trips that it waits for",
        "delays_ms": list(DELAYS),
        "seed": 7,
        "command": ["stages", "sweep", "distance"],
        "stages": {
            "sync": {"operations": {"place-order": judged(40, 6), "browse": judged(9, 1)}},
            "async": {
                "operations": {"place-order": judged(20, 0), "browse": judged(9, 1)},
                "completions": {"order-completed": grown(90, 9.4)},
            },
        },
        **more,
    }


def panel(drawing: str) -> Element:
    return fromstring(drawing)


def classed(root: Element, name: str) -> list[Element]:
    return [e for e in root.iter() if name in (e.get("class") or "").split()]


def test_every_operation_is_a_panel_with_a_line_per_stage() -> None:
    found = plots(load(document()))
    assert list(found.operations) == ["place-order", "browse"]
    assert list(found.completions) == ["order-completed"]
    root = panel(found.operations["place-order"])
    assert len(classed(root, "fit")) == 2
    assert len(classed(root, "mark")) == 2 * len(DELAYS)
    assert root.get("aria-label") == (
        "place-order: latency against distance; sync 6.0 round trips, predicted 6; async 0.0 round trips, predicted 0"
    )


def test_panels_share_their_axes_so_that_slopes_can_be_compared() -> None:
    found = plots(load(document()))
    marks = [
        [t.text for t in classed(panel(drawing), "tick") if (t.text or "").endswith(" ms")]
        for drawing in found.operations.values()
    ]
    assert marks[0] == marks[1]


def test_labels_of_lines_that_end_together_do_not_touch() -> None:
    ends = [float(str(e.get("y"))) for e in classed(panel(plots(load(document())).operations["browse"]), "end")]
    assert abs(ends[0] - ends[1]) >= 20


def test_page_gives_slopes_intervals_and_reasons() -> None:
    parts = document()
    parts["stages"]["sync"]["operations"]["browse"] |= {"verdict": "invalid", "because": "3 round trips, not 1"}
    text = render(parts | {"verdict": "invalid"})
    assert "<title>INVALID – latency against distance, 2 stages, 0 to 50 ms one way, seed 7</title>" in text
    assert "5.95 to 6.05" in text
    assert "<b>sync, browse</b>: 3 round trips, not 1" in text
    assert "stages sweep distance" in text


def test_page_loads_nothing_from_elsewhere() -> None:
    text = render(document())
    links = {link for link in re.findall(r'(?:href|src)="([^"]*)"', text) if not link.startswith("#")}
    assert links == {"data:,", "sweep.json", "history.jsonl", "logs/"}


def test_names_of_the_sweep_cannot_become_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    parts = document(because=evil, command=[evil])
    parts["stages"][evil] = {"title": evil, "operations": {evil: grown(3, 1, because=evil)}}
    assert "<img" not in render(parts)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
GROWN = st.dictionaries(st.sampled_from(["points", "blocks", "slope", "low", "high", "at_zero_ms", "predicted"]), JSON)
STAGE = st.dictionaries(
    st.sampled_from(["operations", "completions", "checks", "wires"]),
    JSON | st.dictionaries(st.text(max_size=3), GROWN),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(["verdict", "delays_ms", "stages"]), JSON | st.dictionaries(st.text(), STAGE)))
def test_any_document_can_be_shown_and_garbage_is_never_valid(garbage: dict[str, Any]) -> None:
    assert load(garbage).verdict == "unknown" or garbage["verdict"] in ("valid", "invalid")
    render(garbage)


@pytest.mark.parametrize("points", [[], [[0, 5, 9]], [[0, 5, 9], [50, float("nan"), 9]]])
def test_an_operation_without_a_line_is_drawn_as_far_as_it_was_measured(points: list[Any]) -> None:
    parts = {"delays_ms": [0, 50], "stages": {"sync": {"operations": {"browse": {"points": points, "slope": None}}}}}
    root = panel(plots(load(parts)).operations["browse"])
    assert len(classed(root, "mark")) == min(len(points), 1)
    assert classed(root, "fit") == []
