"""What does the evidence of a cell say, in words?

`stages.check` leaves figures under known names; they are told in the order of use to a reader, and only where
they say something. Names that are not known here are told as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from suite.report.words import duration, line, percent

Json = Mapping[str, Any]


def facts(evidence: Json) -> list[tuple[str, str]]:
    """(label, text) for everything worth saying. Never raises for what the evidence holds."""
    known = [(label, told(evidence)) for label, told in _TOLD]
    rest = {k: v for k, v in evidence.items() if k not in _KNOWN and v not in (None, "", [], {})}
    return [*((label, text) for label, text in known if text), *((line(k), _plain(v)) for k, v in rest.items())]


def _baseline(evidence: Json) -> str:
    n, bad = evidence.get("baseline_n"), evidence.get("baseline_bad")
    return f"{bad} of {n} bad" if _number(n) and _number(bad) else ""


def _watched(evidence: Json) -> str:
    seconds = evidence.get("exposed_s")
    return duration(seconds) if _number(seconds) else ""


def _left_out(evidence: Json) -> str:
    return ", ".join(
        f"{evidence[key]} {why}"
        for key, why in (("censored", "near a stall or unsent"), ("not_ready", "for want of an order"))
        if _number(evidence.get(key)) and evidence[key] > 0
    )


def _margin(evidence: Json) -> str:
    margin = evidence.get("margin")
    if not _number(margin):
        return ""
    within = "; it lost something, but less than that" if evidence.get("within_margin") is True else ""
    return f"less than {percent(margin)} bad{within}"


def _strength(evidence: Json) -> str:
    """The e-values, in both senses of bad where they differ: 20 refutes a claim at 5 %."""
    senses = [(name, evidence[name]) for name in ("strict", "lenient") if isinstance(evidence.get(name), Mapping)]
    if len(senses) == 2 and senses[0][1] == senses[1][1]:
        return _figures(senses[0][1])
    if not senses:
        return _figures(evidence)
    return "; ".join(f"{name}: {_figures(found)}" for name, found in senses)


def _figures(found: Json) -> str:
    names = (("e_iso", "isolated"), ("e_base", "worse than before"), ("e_conc", "worse than the others"))
    return ", ".join(f"{word} {_weight(found[key])}" for key, word in names if _number(found.get(key)))


def _weight(value: float) -> str:
    """An e-value: beyond a million nobody doubts, below a twentieth there is none."""
    return "over a million" if value > 1e6 else "0" if value < 0.05 else f"{value:.3g}"


def _errors(evidence: Json) -> str:
    errors = evidence.get("errors")
    return "; ".join(line(e) for e in errors) if isinstance(errors, list) else ""


def _control(evidence: Json) -> str:
    if evidence.get("no_clean_control") is True:
        return "its controls were bad at the same time: nothing to compare with"
    pool = evidence.get("pool", evidence.get("operations"))
    return ", ".join(line(p) for p in pool) if isinstance(pool, list) else ""


def _completions(evidence: Json) -> str:
    """What became of the requests that were accepted under the fault."""
    found = evidence.get("completions")
    if not isinstance(found, Mapping):
        return line(found or "")
    n = found.get("n")
    if not _number(n) or not n:
        return ""
    told = [f"{found[key]} {word}" for key, word in _LATENESS if _number(found.get(key)) and found[key]]
    took = f"; the slowest took {duration(found['worst_ms'] / 1000)}" if _number(found.get("worst_ms")) else ""
    return f"of {n} accepted {', '.join(told) or 'all in time'}{took}"


_LATENESS = (("late", "late"), ("overdue", "long after the fault's end"), ("lost", "never"))


_TOLD: tuple[tuple[str, Callable[[Json], str]], ...] = (
    ("without faults", _baseline),
    ("promise", _margin),
    ("watched for", _watched),
    ("left out", _left_out),
    ("compared with", _control),
    ("completed", _completions),
    ("answers", _errors),
    ("evidence (20 decides)", _strength),
)
_TOLD_KEYS = ("baseline_n", "baseline_bad", "exposed_s", "censored", "not_ready", "margin", "within_margin", "pool")
_FIGURE_KEYS = (
    "strict",
    "lenient",
    "e_iso",
    "e_base",
    "e_conc",
    "no_clean_control",
    "operations",
    "completions",
    "errors",
)
_TOLD_ELSEWHERE = ("control", "seen_by", "better", "bit", "interval")
"""The mark of the cell, its interval and the section on recovery say these."""
_KNOWN = frozenset((*_TOLD_KEYS, *_FIGURE_KEYS, *_TOLD_ELSEWHERE))


def _plain(value: object) -> str:
    if isinstance(value, str | int | float):
        return line(value)
    return line(json.dumps(value, ensure_ascii=False, default=str))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
