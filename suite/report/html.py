"""How does a run look as one HTML file? Data in, text out; nothing is loaded from elsewhere.

The page works without JavaScript: cells open native popovers, sections are native disclosures. A small script,
allowed by its hash in the page's content security policy, adds hover, arrow keys and a copy button. Templates
escape everything; only drawings made by `suite.report.svg`, which escapes by itself, are inserted as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.model import Stage
from suite.report import sections, words
from suite.report.document import Run
from suite.report.edges import has_edges
from suite.report.matrix import groups, troubles, wide_columns
from suite.report.reading import load
from suite.report.series import Series
from suite.report.side_by_side import figures
from suite.report.templating import page

BECAUSE = {
    "valid": "Every fault reached only what the model predicted, and every promise held.",
    "invalid": "A fault reached further than predicted, or a promise was broken.",
    "unknown": "Nothing was shown to be broken, but not everything could be shown to be sound.",
}


def render(verdict: Mapping[str, Any], series: Mapping[str, Series], stages: Mapping[str, Stage]) -> str:
    """The report as one HTML document.

    `verdict` is the object of verdict.json, `series` and `stages` are by stage name; a stage without series
    or model is reported without its charts or its map. Never raises for what the verdict holds.
    """
    run = load(verdict)
    rows = groups(run)
    return page(
        "report.html.j2",
        run=run,
        summary=summary(run),
        edges=has_edges(verdict),
        because=run.because or BECAUSE[run.verdict],
        troubles=troubles(run),
        comparison=run.comparison,
        figures=figures(run.comparison) if run.comparison else (),
        ideal=sections.ideal_radius(stages),
        groups=rows,
        columns=wide_columns(run),
        ids=sections.element_ids(run, rows),
        timelines=sections.timelines(run, series),
        distributions=sections.distributions(run, series),
        topologies=sections.topologies(run, stages),
        fault_rows=sections.fault_rows(run),
        gaps={gap.name: gap.reason for stage in stages.values() for gap in stage.gaps},
        any_gap=any(cell.gaps for stage in run.stages for cell in stage.cells),
        about={f.name: f.summary for stage in run.stages for f in stage.faults if f.summary},
    )


def summary(run: Run) -> str:
    """What was run, in one line."""
    parts = ["shop", words.count(len(run.stages), "stage"), words.count(len(run.fault_names), "fault")]
    if run.variant:
        parts[0] = f"shop without a guarantee ({run.variant})"
    if run.rate is not None:
        parts.append(f"{run.rate:g} requests/s")
    if run.seed is not None:
        parts.append(f"seed {run.seed}")
    if run.duration_s is not None:
        parts.append(words.duration(run.duration_s))
    return ", ".join(parts)
