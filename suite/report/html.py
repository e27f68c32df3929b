"""How does a run look as one HTML file? Data in, text out; nothing is loaded from elsewhere.

The page works without JavaScript: cells open native popovers, sections are native disclosures. A small script,
allowed by its hash in the page's content security policy, adds hover, arrow keys and a copy button. Templates
escape everything; only drawings made by `suite.report.svg`, which escapes by itself, are inserted as they are.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from stages.model import Stage
from suite.report import sections, words
from suite.report.document import EFFECTS, Run
from suite.report.facts import facts
from suite.report.matrix import CHECKS, POOLED, groups, says, troubles, wide_columns
from suite.report.palette import DARK, LIGHT, css
from suite.report.reading import load
from suite.report.series import Series
from suite.report.side_by_side import figures

TROUBLES_SHOWN = 6
"""How many reasons the first screen gives; the others are one click away."""

LETTERS_SHOWN = 20

GIST_BOUGHT, GIST_PAID = 3, 1
"""Sentences for and against a step on the first screen; what else they say, the figures beside them say too."""

EVIDENCE_SHOWN = 12
"""How many items of a list in the evidence are shown before the rest is counted; verdict.json has them all."""

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
    script = _file("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template("report.html.j2")
    return page.render(
        run=run,
        style=_file("style.css"),
        colours={"light": css(LIGHT), "dark": css(DARK)},
        script=script,
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        summary=summary(run),
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


def _unbroken(text: str) -> str:
    """A figure stays on one line with its unit."""
    return text.replace(" ", "\u00a0")


_FILTERS: dict[str, Callable[..., object]] = {
    "duration": lambda seconds: _unbroken(words.duration(seconds)),
    "ms": lambda ms: _unbroken(words.milliseconds(ms)),
    "percent": lambda share: _unbroken(words.percent(share)),
    "figure": words.figure,
    "unbroken": _unbroken,
    "breakable": lambda name: name.replace("-", "-\u200b"),
    "symbol": lambda effect: words.SYMBOLS.get(effect, "?").replace(".", "·"),
    "says": says,
    "facts": facts,
    "clean": words.clean,
    "sentence": lambda text: text[:1].upper() + text[1:],
}
_CONSTANTS: dict[str, object] = {
    "EFFECTS": EFFECTS,
    "POOLED": POOLED,
    "CHECKS": CHECKS,
    "TROUBLES_SHOWN": TROUBLES_SHOWN,
    "EVIDENCE_SHOWN": EVIDENCE_SHOWN,
    "LETTERS_SHOWN": LETTERS_SHOWN,
    "GIST_BOUGHT": GIST_BOUGHT,
    "GIST_PAID": GIST_PAID,
}


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("suite.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(_FILTERS)
    found.globals.update(_CONSTANTS)
    return found


def _file(name: str) -> str:
    return (resources.files("suite.report") / "templates" / name).read_text(encoding="utf-8")
