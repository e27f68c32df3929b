"""What do users wait for in each operation, how long, and when is the rest of it done?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from stages.distance import round_trips
from stages.model import Kind, Stage

CHANGED_RATIO = 1.25
"""Median and p99 must both move by this factor, the same way, to be called faster or slower: between two equal runs
of some 200 requests on a busy machine p99 alone moves by a fifth."""


def compared_operations(
    documents: Mapping[str, Mapping[str, Any]], stages: Mapping[str, Stage]
) -> list[dict[str, Any]]:
    """One entry per operation that any stage has, in the order of the stages."""
    names = dict.fromkeys(o.name for stage in stages.values() for o in stage.operations)
    return [_operation(name, documents, stages) for name in names]


def _operation(name: str, documents: Mapping[str, Mapping[str, Any]], stages: Mapping[str, Stage]) -> dict[str, Any]:
    with_it = {n: s for n, s in stages.items() if any(o.name == name for o in s.operations)}
    found = {n: _at(name, documents[n], stage) for n, stage in with_it.items()}
    return {
        "operation": name,
        "stages": found,
        "steps": [_step(found, with_it[a], with_it[b]) for a, b in pairwise(with_it)],
    }


def _at(name: str, document: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    level = document["operations"].get(name, {})
    return {
        "n": level.get("n", 0),
        "accepted_p50_ms": level.get("p50_ms"),
        "accepted_p99_ms": level.get("p99_ms"),
        "slo_ms": stage.operation(name).latency_slo_ms,
        "round_trips": round_trips(stage)[name],
        "waits_for": waited_for(stage, name),
        "tells": told(stage, name),
        "completions": {
            completion: {
                key: seen.get(key) for key in ("n", "in_time", "late", "lost", "p50_ms", "p99_ms", "within_ms")
            }
            for completion, seen in (document.get("completions") or {}).items()
            if seen.get("operation") == name
        },
    }


def _step(found: Mapping[str, Mapping[str, Any]], before: Stage, after: Stage) -> dict[str, Any]:
    was, now = found[before.name], found[after.name]
    return {
        "before": before.name,
        "after": after.name,
        "change": _change(was, now),
        "because": _because(was["waits_for"], now["waits_for"], now["tells"]),
    }


def _change(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """faster | slower | similar | unknown"""
    pairs = [(was[key], now[key]) for key in ("accepted_p50_ms", "accepted_p99_ms")]
    if any(not a or not b for a, b in pairs):
        return "unknown"
    if all(a >= b * CHANGED_RATIO for a, b in pairs):
        return "faster"
    return "slower" if all(b >= a * CHANGED_RATIO for a, b in pairs) else "similar"


def _because(was: list[str], now: list[str], told_now: list[str]) -> str:
    gone = [s for s in was if s not in now]
    new = [s for s in now if s not in was]
    parts = []
    if gone:
        later = ", which hear of it by message" if set(gone) <= set(told_now) else ""
        parts.append(f"the answer no longer waits for {listed(gone)}{later}")
    if new:
        parts.append(f"the answer now also waits for {listed(new)}")
    return " and ".join(parts) or (f"the answer waits for {listed(now)}, as before" if now else "")


def waited_for(stage: Stage, operation: str) -> list[str]:
    """The services that must answer before the user gets an answer, the entry excluded; () for an unknown name."""
    return [callee for callee, kind in _reached(stage, operation) if kind is Kind.CALL]


def told(stage: Stage, operation: str) -> list[str]:
    """The services that hear of the operation by message, sooner or later."""
    return [callee for callee, kind in _reached(stage, operation) if kind is not Kind.CALL]


def _reached(stage: Stage, operation: str) -> Iterator[tuple[str, Kind]]:
    """Every service once, and whether the user waits for it; breadth first in order of step."""
    entry = stage.operation(operation).entry
    waiting, seen = [(entry, Kind.CALL)], {entry}
    while waiting:
        caller, how = waiting.pop(0)
        for channel in stage.channels_from(caller, operation):
            if channel.callee not in seen and channel.essential:
                seen.add(channel.callee)
                kind = channel.kind if how is Kind.CALL else how
                waiting.append((channel.callee, kind))
                yield channel.callee, kind


def listed(names: list[str]) -> str:
    """
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
