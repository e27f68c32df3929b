"""How many messages go over each edge of the broker, and how long do they wait? From the sampled spans. (pure)

No sidecar logs what goes to the broker, so the rate is estimated: the handlings that were sampled, divided by the share
of the requests at the edge that were. The wait is what lies between the end of what sent a message and the beginning of
its handling: outbox, broker and queue together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from stages.model import Kind, Stage
from suite.signals import Window, percentile
from suite.signals_clock import Offset
from suite.signals_lines import INGRESS, Line
from suite.traces import CONSUMER, HANDLE, SERVER, Step


def message_signals(
    stage: Stage, steps: Sequence[Step], lines: Sequence[Line], shown: Sequence[Window], offset: Offset
) -> list[dict[str, Any]]:
    """One entry for every command and event channel of the stage; by phase, those in which anything was sampled."""
    share = sampled_share(steps, lines)
    waits = _waits(stage, steps, offset)
    return [
        {
            "edge": c.name,
            "caller": c.caller,
            "callee": c.callee,
            "kind": str(c.kind),
            "phases": {w.name: found for w in shown if (found := _during(waits.get(c.name, ()), w, share)) is not None},
        }
        for c in stage.channels
        if c.kind is not Kind.CALL
    ]


def sampled_share(steps: Sequence[Step], lines: Sequence[Line]) -> float | None:
    """Share of the requests at the edge whose trace was kept; None where it cannot be told."""
    doors = sum(r.side == INGRESS for r in lines)
    begun = sum(s.kind == SERVER and not s.parent_id for s in steps)
    return min(1.0, begun / doors) if doors and begun else None


def _waits(stage: Stage, steps: Sequence[Step], offset: Offset) -> Mapping[str, list[tuple[int, float]]]:
    """By channel: when each sampled message was handled, on the run's clock, and its wait in milliseconds."""
    channels = {
        (c.caller, c.callee, message): c.name
        for c in stage.channels
        if c.kind is not Kind.CALL
        for message in c.messages
    }
    known = {s.span_id: s for s in steps}
    found: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for step in steps:
        parent = known.get(step.parent_id)
        if step.kind != CONSUMER or parent is None:
            continue
        channel = channels.get((parent.service, step.service, step.name.removeprefix(HANDLE)))
        if channel is not None:
            waited_ms = max(0.0, (step.start_ns - parent.end_ns) / 1e6)
            found[channel].append((offset.monotonic(step.start_ns), waited_ms))
    return found


def _during(waits: Sequence[tuple[int, float]], window: Window, share: float | None) -> dict[str, Any] | None:
    mine = sorted(ms for at, ms in waits if window.span.start_ns <= at < window.span.end_ns)
    if not mine:
        return None
    rate = len(mine) / share / window.seconds if share and window.seconds else None
    p50, p90, p99 = (percentile(mine, p) for p in (50, 90, 99))
    return {
        "sampled": len(mine),
        "rate": None if rate is None else round(rate, 2),
        "p50_ms": None if p50 is None else round(p50, 2),
        "p90_ms": None if p90 is None else round(p90, 2),
        "p99_ms": None if p99 is None else round(p99, 2),
    }
