"""Fault by fault: what was measured at each stage, is it better or worse, why, and why does a stage lack a fault?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from stages.blast_radius import Effect, Impact, Prediction, predict
from stages.model import Kind, Stage
from suite.comparison.radius import UNKNOWN

Json = Mapping[str, Any]

ABOUT_MESSAGES = frozenset({"poisoned", "publishing", "deleting", "duplicates", "throttled"})
"""Words in the names of faults that need messages, though they name a service that other stages have as well."""


ABOUT_MESHES = frozenset({"sidecar", "gateway", "control", "garbage", "certificate", "root", "canary", "partitioned"})
"""Words in the names of faults that need a mesh, though they may name a service or cluster of other stages too."""


def compared_faults(
    documents: Mapping[str, Json],
    stages: Mapping[str, Stage],
    impacts: Mapping[str, Mapping[str, Impact]],
) -> list[dict[str, Any]]:
    """One entry per fault of any stage, in the order of their appearance."""
    matrices = {name: _rows(document) for name, document in documents.items()}
    summaries = {f["name"]: f["summary"] for d in documents.values() for f in d["faults"]}
    found = []
    for fault in dict.fromkeys(name for rows in matrices.values() for name in rows):
        rows = {name: matrix[fault] for name, matrix in matrices.items() if fault in matrix}
        foreseen = {name: _predicted(stages[name], impacts.get(name, {}).get(fault)) for name in rows}
        having = stages[next(iter(rows))]
        found.append(
            {
                "fault": fault,
                "summary": summaries.get(fault, ""),
                "missing": {name: why_missing(fault, having, stages[name]) for name in documents if name not in rows},
                "operations": list(_operations(rows, foreseen)),
            }
        )
    return found


def _rows(document: Json) -> dict[str, dict[str, Json]]:
    """By fault, then by operation: the cell."""
    found: dict[str, dict[str, Json]] = {}
    for cell in document["matrix"]:
        found.setdefault(cell["fault"], {})[cell["operation"]] = cell
    return found


def _predicted(stage: Stage, impact: Impact | None) -> dict[str, Prediction]:
    return predict(stage, impact) if impact is not None else {}


def _operations(
    rows: Mapping[str, Mapping[str, Json]], foreseen: Mapping[str, Mapping[str, Prediction]]
) -> Iterator[dict[str, Any]]:
    for operation in dict.fromkeys(name for row in rows.values() for name in row):
        cells = {name: row[operation] for name, row in rows.items() if operation in row}
        reasons = {n: foreseen[n][operation].because for n in cells if operation in foreseen[n]}
        yield {
            "operation": operation,
            "stages": {
                name: {key: cell[key] for key in ("predicted", "measured", "verdict", "n", "bad")}
                for name, cell in cells.items()
            },
            "steps": [_step(a, b, cells, reasons) for a, b in pairwise(cells)],
        }


def _step(before: str, after: str, cells: Mapping[str, Json], reasons: Mapping[str, str]) -> dict[str, Any]:
    was, now = cells[before]["measured"], cells[after]["measured"]
    undecided = [name for name in (before, after) if cells[name]["measured"] == UNKNOWN]
    change = "undecided" if undecided else _change(was, now)
    if undecided:
        because = f"not decided at {' and '.join(undecided)}"
    elif change == "same" and cells[before]["predicted"] == cells[after]["predicted"]:
        because = reasons.get(after, "")
    else:
        because = "; ".join(_said(name, cells[name], reasons.get(name, "")) for name in (before, after))
    return {"before": before, "after": after, "change": change, "because": because}


def _change(was: str, now: str) -> str:
    """better | worse | same"""
    if was == now:
        return "same"
    return "better" if Effect(now) < Effect(was) else "worse"


def _said(name: str, cell: Json, reason: str) -> str:
    """The prediction's reason explains the measurement only where they agree."""
    if cell["measured"] == cell["predicted"]:
        return f"{name}: {reason or cell['measured']}"
    return f"{name}: {cell['measured']}, against the prediction ({cell['predicted']})"


def why_missing(fault: str, having: Stage, lacking: Stage) -> str:
    """Why a stage has no such fault: what it is aimed at does not exist there. The name says the target."""
    if lacking.mesh is None and having.mesh is not None and set(fault.split("-")) & ABOUT_MESHES:
        return f"{lacking.name} has no mesh"
    target = _target(fault, having)
    for kind, before, after in (
        ("shared part", having.shared, lacking.shared),
        ("cluster", having.clusters, lacking.clusters),
        ("service", having.services, lacking.services),
    ):
        if target in {p.name for p in before} and target not in {p.name for p in after}:
            return f"{lacking.name} has no {target}" + ("" if kind == "shared part" else f" {kind}")
    if target in {c.name for c in having.channels}:
        return _why_no_channel(target, having, lacking)
    if set(fault.split("-")) & ABOUT_MESSAGES and all(c.kind is Kind.CALL for c in lacking.channels):
        return f"{lacking.name} sends no messages"
    return f"not injected at {lacking.name} in this run"


def _why_no_channel(name: str, having: Stage, lacking: Stage) -> str:
    was = having.channel(name)
    now = next((c for c in lacking.channels if c.name == name), None)
    if now is None:
        return f"{was.caller} does not speak to {was.callee} there"
    if now.kind is was.kind:
        return f"not injected at {lacking.name} in this run"
    verb = {Kind.CALL: "calls", Kind.COMMAND: "commands", Kind.EVENT: "tells"}[now.kind]
    how = "directly" if now.kind is Kind.CALL else "by message"
    return f"{now.caller} {verb} {now.callee} {how}: there is no such wire"


def _target(fault: str, stage: Stage) -> str:
    """The longest name of a part of the stage that the fault's name begins with; '' for none."""
    if "-cluster" in fault:
        return next((c.name for c in stage.clusters if fault.startswith(f"{c.name}-cluster")), "")
    names = [
        *(c.name for c in stage.channels),
        *(s.name for s in stage.shared),
        *(s.name for s in stage.services),
    ]
    return max((name for name in names if fault.startswith(f"{name}-")), key=len, default="")
