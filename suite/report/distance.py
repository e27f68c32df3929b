"""How does latency grow with distance, stage beside stage? sweep.json in, one HTML page out; nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from suite.report.distance_plot import plots
from suite.report.swept import load
from suite.report.templating import page


def render(document: Mapping[str, Any]) -> str:
    """The page of a sweep, self-contained. Never raises for what the document holds."""
    found = load(document)
    return page("distance.html.j2", sweep=found, plots=plots(found))
