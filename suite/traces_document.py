"""Which requests are shown as examples, and what is said of them? One that ends with an e-mail, one through a gateway.

Of all that were sampled in the baseline and came to their end, the one with the most parts joined is taken, and among
equals the one of median length: it was chosen for being complete and ordinary, never for being fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stages.mesh import calls, crosses
from stages.model import Stage
from suite.signals import BASELINE, Window
from suite.signals_clock import Offset
from suite.signals_lines import OUT, Line
from suite.traces import CONSUMER, HANDLE, Row, Step, Trace, rows, traces

OPERATION, EFFECT = "place-order", "email-sent"


def traces_document(
    stage: Stage, steps: Iterable[Step], lines: Iterable[Line], shown: Sequence[Window], offset: Offset
) -> list[dict[str, Any]]:
    """The examples: [] for a stage that has no such operation. One that was not found says why."""
    found = traces(steps, lines)
    baseline = next((w for w in shown if w.name == BASELINE), None)
    if baseline is not None:
        healthy = {name: t for name, t in found.items() if _starts_in(t, baseline, offset)}
    else:
        healthy = found
    wanted: list[tuple[str, Callable[[Trace], bool]]] = []
    if (last := _mailed(stage)) is not None:
        wanted.append(("an order, from the edge to the e-mail", lambda t: _handles(t, *last)))
    apart = {c.name for c in calls(stage) if crosses(stage, c)} if stage.mesh else set()
    if apart:
        wanted.append(("a call into another cluster, through its gateway", lambda t: _passes(t, apart)))
    return [_example(title, [t for t in healthy.values() if fits(t)], len(found), stage) for title, fits in wanted]


def _mailed(stage: Stage) -> tuple[str, frozenset[str]] | None:
    """The service that sends the mail of an order, and the messages that make it."""
    at = [c.at for o in stage.operations if o.name == OPERATION for c in o.completions if c.name == EFFECT]
    if not at:
        return None
    told = frozenset(m for c in stage.channels if c.callee == at[0] and OPERATION in c.operations for m in c.messages)
    return (at[0], told)


def _handles(trace: Trace, service: str, messages: frozenset[str]) -> bool:
    return any(
        s.service == service and s.kind == CONSUMER and s.name.removeprefix(HANDLE) in messages for s in trace.steps
    )


def _passes(trace: Trace, edges: set[str]) -> bool:
    return any(r.side == OUT and r.edge in edges and r.good for r in trace.lines)


def _starts_in(trace: Trace, window: Window, offset: Offset) -> bool:
    return window.span.start_ns <= offset.monotonic(trace.steps[0].start_ns) < window.span.end_ns


def _example(title: str, fitting: Sequence[Trace], sampled: int, stage: Stage) -> dict[str, Any]:
    drawn = [rows(t, stage) for t in fitting]
    if not drawn:
        return {"title": title, "because": f"none of {sampled} sampled traces is one", "rows": []}
    most = max(map(_joined, drawn))
    whole = sorted((d for d in drawn if _joined(d) == most), key=_length_ns)
    taken = whole[(len(whole) - 1) // 2]
    start_ns = min(r.start_ns for r in taken)
    trace = fitting[drawn.index(taken)]
    return {
        "title": title,
        "because": "",
        "trace_id": trace.steps[0].trace_id,
        "sampled": sampled,
        "fitting": len(drawn),
        "duration_ms": round(_length_ns(taken) / 1e6, 3),
        "answered_ms": round((taken[0].end_ns - taken[0].start_ns) / 1e6, 3),
        "rows": [_written(row, start_ns) for row in taken],
    }


def _joined(drawn: Sequence[Row]) -> int:
    """How many different parts a waterfall shows."""
    return len({(r.kind, r.where) for r in drawn})


def _length_ns(drawn: Sequence[Row]) -> int:
    return max(r.end_ns for r in drawn) - min(r.start_ns for r in drawn)


def _written(row: Row, start_ns: int) -> Mapping[str, Any]:
    return {
        "depth": row.depth,
        "kind": row.kind,
        "where": row.where,
        "name": row.name,
        "start_ms": round((row.start_ns - start_ns) / 1e6, 3),
        "ms": round((row.end_ns - row.start_ns) / 1e6, 3),
        "detail": row.detail,
    }
