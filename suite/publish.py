"""From a run's verdict and history to its files for people and for CI, now or again later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.catalogue import STAGES
from stages.history import HistoryError, Phase, Record, read
from suite.ports import BadInput
from suite.report import edges, html, junit
from suite.report.series import Series, summarize
from suite.store import Store

STAGE_MARK = "stage:"
"""A phase with this prefix begins a stage's part of the history."""


def publish(store: Store, document: Mapping[str, Any], history: Sequence[Record]) -> None:
    """Write verdict.json, report.html and junit.xml, and what `write_reports` adds for a mesh."""
    store.write_json("verdict.json", document)
    write_reports(store, document, history)


def write_reports(store: Store, document: Mapping[str, Any], history: Iterable[Record]) -> list[Path]:
    """Write report.html and junit.xml, for a mesh also edges.html and traces.json; return their paths."""
    series = _series(history)
    return [
        store.write_text("report.html", html.render(document, series, STAGES)),
        store.write_text("junit.xml", junit.render(document)),
        *(_write_edges(store, document) if edges.has_edges(document) else ()),
    ]


def _write_edges(store: Store, document: Mapping[str, Any]) -> list[Path]:
    followed = {name: stage["traces"] for name, stage in document["stages"].items() if "traces" in stage}
    return [
        store.write_text("edges.html", edges.render(document, STAGES)),
        store.write_json("traces.json", followed),
    ]


def rewrite(directory: Path) -> list[Path]:
    """Write the reports of a finished run again; BadInput when its files are not there or not readable."""
    problems = [
        f"{directory / name} is missing: {directory} is not the directory of a finished run"
        for name in ("verdict.json", "history.jsonl")
        if not (directory / name).is_file()
    ]
    if problems:
        raise BadInput(problems)
    try:
        document = json.loads((directory / "verdict.json").read_text())
        with (directory / "history.jsonl").open() as lines:
            history = list(read(lines))
    except (ValueError, HistoryError) as error:
        raise BadInput([f"{directory}: cannot be read: {error}"]) from error
    if not isinstance(document, dict):
        raise BadInput([f"{directory / 'verdict.json'} does not hold an object"])
    return write_reports(Store(directory), document, history)


def _series(history: Iterable[Record]) -> dict[str, Series]:
    parts: dict[str, list[Record]] = {}
    into: list[Record] = []
    for record in history:
        if isinstance(record, Phase) and record.name.startswith(STAGE_MARK):
            into = parts.setdefault(record.name.removeprefix(STAGE_MARK), [])
        else:
            into.append(record)
    return {
        name: summarize(records, {o.name: o.latency_slo_ms for o in STAGES[name].operations})
        for name, records in parts.items()
        if name in STAGES
    }
