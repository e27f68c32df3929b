"""When was the shop well again after a fault was undone?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stages.check.counting import MS_NS, SECOND_NS, Censor, Outstanding, bad_in
from stages.history import Invocation, Stall
from stages.model import Stage

GOOD_SPAN_S = 2.0
"""This long every operation must be good before the shop counts as recovered."""

FEWEST_REQUESTS = 3
"""Per operation, from the start of the good span on; where they come slowly, the answer comes later."""

BAD_SHARE_MAX = 0.1
"""Of an operation's requests in the span: the occasional slow answer is not the fault's."""

UNSEEN_SHARE = 0.5
"""Above this share of requests near a stall, the rest does not show that an operation stayed bad."""

_STEP_NS = 100 * MS_NS


def recovery(
    stage: Stage,
    invocations: Iterable[Invocation],
    undone_ns: int,
    now_ns: int,
    stalls: Iterable[Stall],
    *,
    outstanding: Sequence[Outstanding] | None = None,
    operations: Iterable[str] | None = None,
    good_span_s: float = GOOD_SPAN_S,
) -> int | None:
    """Start of the first span after `undone_ns` in which every operation is good again, or None: not yet.

    Bad is meant strictly: an answer from a fallback is not yet good. `operations` limits it to those that are under
    load (default: all of the stage); an operation without requests is not shown to be good.
    `outstanding` are the requests that are due and not answered by `now_ns`: none of them is good yet, and so all that
    came is known. Without them (None), only requests whose SLO is over by `now_ns` count, or those that were answered
    quickly would stand for all.
    """
    names = list(operations) if operations is not None else [o.name for o in stage.operations]
    seen = _seen(stage, names, invocations, outstanding, Censor(stalls), undone_ns, now_ns)
    span_ns = round(good_span_s * SECOND_NS)
    start_ns = undone_ns
    while start_ns + span_ns <= now_ns:
        if all(_good(seen[name], start_ns, start_ns + span_ns) for name in names):
            return start_ns
        start_ns += _STEP_NS
    return None


def unseen(
    stage: Stage, invocations: Iterable[Invocation], undone_ns: int, now_ns: int, stalls: Iterable[Stall]
) -> str:
    """Why it cannot be said that a shop did not recover, or '': too many requests since the undo lie near a stall.

    A sentence with the operation of which the least is known.
    """
    censor = Censor(stalls)
    due: dict[str, int] = {o.name: 0 for o in stage.operations}
    hidden = dict(due)
    for invocation in invocations:
        if invocation.operation in due and undone_ns <= invocation.intended_ns <= now_ns:
            slo_ms = stage.operation(invocation.operation).latency_slo_ms
            due[invocation.operation] += 1
            hidden[invocation.operation] += censor.hides(invocation.intended_ns, slo_ms)
    worst = max(due, key=lambda name: hidden[name] / max(1, due[name]))
    if hidden[worst] <= UNSEEN_SHARE * due[worst]:
        return ""
    return f"{hidden[worst]} of {due[worst]} requests to {worst} since the undo lie near a stall of the machine"


def _seen(
    stage: Stage,
    names: Sequence[str],
    invocations: Iterable[Invocation],
    outstanding: Sequence[Outstanding] | None,
    censor: Censor,
    undone_ns: int,
    now_ns: int,
) -> dict[str, list[tuple[int, bool]]]:
    """(intended start, bad) of every request that counts, by operation, in order of time."""
    slo_ms = {name: stage.operation(name).latency_slo_ms for name in names}
    unknown_ns = {name: 0 if outstanding is not None else slo_ms[name] * MS_NS for name in names}
    seen: dict[str, list[tuple[int, bool]]] = {name: [] for name in names}

    def put(operation: str, intended_ns: int, bad: bool) -> None:
        counts = operation in seen and undone_ns <= intended_ns <= now_ns - unknown_ns[operation]
        if counts and not censor.hides(intended_ns, slo_ms[operation]):
            seen[operation].append((intended_ns, bad))

    for invocation in invocations:
        if invocation.operation in slo_ms:
            put(invocation.operation, invocation.intended_ns, bad_in(invocation, slo_ms[invocation.operation])[0])
    for waiting in outstanding or ():
        put(waiting.operation, waiting.intended_ns, True)
    return {name: sorted(requests) for name, requests in seen.items()}


def _good(requests: Sequence[tuple[int, bool]], start_ns: int, end_ns: int) -> bool:
    """Good in the span, and in the first few requests after its start if the span holds fewer."""
    after = [r for r in requests if r[0] >= start_ns]
    in_span = [r for r in after if r[0] < end_ns]
    sample = in_span if len(in_span) >= FEWEST_REQUESTS else after[:FEWEST_REQUESTS]
    bad = sum(is_bad for _, is_bad in sample)
    return len(sample) >= FEWEST_REQUESTS and bad <= BAD_SHARE_MAX * len(sample)
