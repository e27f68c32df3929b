"""How does a template become a page? Escaping everything, with one style sheet, two themes and one script inside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from suite.report import words
from suite.report.document import EFFECTS
from suite.report.facts import facts
from suite.report.governed import CREDENTIALS, WORST_SHOWN
from suite.report.matrix import CHECKS, POOLED, says
from suite.report.palette import DARK, LIGHT, css

TROUBLES_SHOWN = 6
"""How many reasons the first screen gives; the others are one click away."""

EVIDENCE_SHOWN = 12
"""How many items of a list in the evidence are shown before the rest is counted; verdict.json has them all."""

LETTERS_SHOWN = 20

GIST_BOUGHT, GIST_PAID = 3, 1
"""Sentences for and against a step on the first screen; what else they say, the figures beside them say too."""


def page(template: str, **content: Any) -> str:
    """A whole document; `content` is what the template speaks of."""
    script = _file("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            style=_file("style.css") + _file("governed.css"),
            colours={"light": css(LIGHT), "dark": css(DARK)},
            script=script,
            policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
            "base-uri 'none'; form-action 'none'",
            **content,
        )
    )


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
    "CREDENTIALS": CREDENTIALS,
    "WORST_SHOWN": WORST_SHOWN,
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
