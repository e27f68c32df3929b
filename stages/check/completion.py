"""Was what users were promised for later really done, and in time?

An operation is accepted when its answer is good; it is complete when the records of the services say so, by the clock
that the load generator uses too. Per request and completion: in time, late (past its deadline), lost (never), or not
due (an order cancelled before it was confirmed gets no confirmation mail).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stages.blast_radius import Effect
from stages.check.cells import UNKNOWN, Cell
from stages.check.counting import MS_NS, SECOND_NS, Censor, Span
from stages.check.generator import percentile
from stages.check.seen import OFFENDERS_SHOWN, Seen
from stages.check.service_levels import SURELY
from stages.check.verdict import Verdict
from stages.evidence import REFUTED, binomial_tail, e_base, e_iso, wilson
from stages.history import Audit, Invocation, Stall
from stages.model import Completion

DUE_AFTER_S = 20.0
"""What a fault has delayed must be complete this long after its undo: a killed consumer's messages come back after
their visibility timeout (5 s), then the backlog of the fault is worked off."""

HELD_LONGER_S = 2.5
"""A fault must be held this much longer than a completion's deadline, or nothing accepted under it could be late."""

LATE_SHARE = 0.05
"""Fewer late completions are not what a fault does to an operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """One accepted request and one of its completions."""

    invocation: Invocation
    within_ms: int
    at_ns: int | None
    """When it was complete; None: never."""

    @property
    def ms(self) -> float | None:
        """From the request's intended start, milliseconds."""
        return None if self.at_ns is None else (self.at_ns - self.invocation.intended_ns) / MS_NS

    @property
    def late(self) -> bool:
        """Past its deadline, or never."""
        return self.ms is None or self.ms > self.within_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionLevel:
    """One completion in healthy time."""

    completion: str
    operation: str
    n: int
    """Accepted requests for which it was due."""
    in_time: int
    late: int
    """Complete after the deadline."""
    lost: int
    """Never complete."""
    p50_ms: float | None
    """Of those that were complete, from the intended start; None without any. So is the other."""
    p99_ms: float | None
    within_ms: int
    verdict: Verdict
    because: str


def waited(seen: Seen, operation: str, completion: Completion, spans: Sequence[Span], censor: Censor) -> list[Waited]:
    """Every accepted request of an operation intended in one of the spans, with the instant of a completion.

    Those near a stall, and those for which it was not due, are left out. Raise KeyError for a completion that nobody
    knows how to see.
    """
    instant = _INSTANTS[completion.name]
    found = []
    for i in seen.ok(operation):
        if not any(span.start_ns <= i.intended_ns < span.end_ns for span in spans):
            continue
        if censor.hides(i.intended_ns, completion.within_ms):
            continue
        due, at_ns = instant(seen, i)
        if due:
            found.append(Waited(invocation=i, within_ms=completion.within_ms, at_ns=at_ns))
    return found


def completion_levels(seen: Seen, spans: Sequence[Span], stalls: Iterable[Stall]) -> tuple[CompletionLevel, ...]:
    """Every completion of the stage in healthy time. The deadlines of the requests counted end within the spans."""
    censor = Censor(stalls)
    levels = []
    for operation in seen.stage.operations:
        for completion in operation.completions:
            short = [Span(start_ns=s.start_ns, end_ns=s.end_ns - completion.within_ms * MS_NS) for s in spans]
            found = waited(seen, operation.name, completion, short, censor)
            levels.append(_level(operation.name, completion, found, operation.slo_share))
    return tuple(levels)


def _level(operation: str, completion: Completion, found: Sequence[Waited], share: float) -> CompletionLevel:
    lost = [w for w in found if w.at_ns is None]
    late = sum(w.late for w in found) - len(lost)
    took = [w.ms for w in found if w.ms is not None]
    n = len(found)
    said = f"{n - late - len(lost)} of {n} within {completion.within_ms} ms"
    if n == 0:
        verdict, because = Verdict.UNKNOWN, f"nothing was accepted that {completion.name} could follow"
    elif lost:
        verdict, because = Verdict.INVALID, f"{completion.name} never came for {_named(lost)}: accepted, then lost"
    elif binomial_tail(late, n, 1 - share) < SURELY:
        verdict, because = Verdict.INVALID, f"{completion.name} comes too late: {said}, promised are {share:.1%}"
    else:
        verdict, because = Verdict.VALID, said
    return CompletionLevel(
        completion=completion.name,
        operation=operation,
        n=n,
        in_time=n - late - len(lost),
        late=late,
        lost=len(lost),
        p50_ms=percentile(took, 50),
        p99_ms=percentile(took, 99),
        within_ms=completion.within_ms,
        verdict=verdict,
        because=because,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """When a fault was on."""

    fault: str
    seen_ns: int
    undo_ns: int
    """When its undo was ordered."""


def with_completions(
    cells: Iterable[Cell],
    seen: Seen,
    held: Mapping[str, Held],
    healthy: Sequence[Span],
    stalls: Iterable[Stall],
    *,
    promised_cells: int,
    margin: float = 0.05,
) -> list[Cell]:
    """Judge the cells once more, now that the records tell when everything was complete.

    An operation whose answers stayed good is `delayed` if what was accepted under the fault was complete too late, but
    within DUE_AFTER_S of the undo, and `failing` if it was later still, or lost. A loss in a gap of the stage is
    predicted, and changes nothing. Cells without completions, or whose answers were not good, stay as they are.
    """
    censor = Censor(stalls)
    shown: dict[str, tuple[list[Waited], ...]] = {
        o.name: tuple(waited(seen, o.name, c, healthy, censor) for c in o.completions) for o in seen.stage.operations
    }
    judged = []
    for cell in cells:
        completions = seen.stage.operation(cell.operation).completions
        window = held.get(cell.fault)
        if window is None or not completions or cell.measured != Effect.UNAFFECTED:
            judged.append(cell)
            continue
        span = Span(start_ns=window.seen_ns, end_ns=window.undo_ns)
        under = tuple(waited(seen, cell.operation, c, [span], censor) for c in completions)
        judged.append(
            _refined(cell, seen, window, _worst(under), _worst(shown[cell.operation]), promised_cells, margin)
        )
    return judged


def _worst(by_completion: Sequence[Sequence[Waited]]) -> list[Waited]:
    """Per request the completion that took longest."""
    worst: dict[str, Waited] = {}
    for found in by_completion:
        for w in found:
            before = worst.get(w.invocation.key)
            if before is None or (before.ms is not None and (w.ms is None or w.ms > before.ms)):
                worst[w.invocation.key] = w
    return list(worst.values())


def _refined(
    cell: Cell,
    seen: Seen,
    window: Held,
    under: Sequence[Waited],
    healthy: Sequence[Waited],
    promised_cells: int,
    margin: float,
) -> Cell:
    lost = [w for w in under if w.at_ns is None and seen.gap(cell.operation, w.invocation.ended_ns) is None]
    due_ns = window.undo_ns + round(DUE_AFTER_S * SECOND_NS)
    overdue = [w for w in under if w.at_ns is not None and w.at_ns > due_ns + w.within_ms * MS_NS]
    n, late = len(under), sum(w.late for w in under)
    base_n, base_late = len(healthy), sum(w.late for w in healthy)
    worse = e_base(late, n, base_late, base_n) if n else 0.0
    isolated = e_iso(n, late, margin) if n else 0.0
    evidence: dict[str, Any] = {
        "n": n,
        "late": late,
        "lost": len(lost),
        "overdue": len(overdue),
        "worst_ms": max((w.ms for w in under if w.ms is not None), default=None),
        "interval": list(wilson(late, n)),
        "baseline_n": base_n,
        "baseline_late": base_late,
        "e_iso": isolated,
        "e_base": worse,
    }
    many = REFUTED * (promised_cells if cell.predicted is Effect.UNAFFECTED else 1)
    deadline = under[0].within_ms if under else 0
    if lost:
        measured, said = Effect.FAILING.value, f"{len(lost)} of {n} accepted were never complete ({_named(lost)})"
    elif overdue:
        measured = Effect.FAILING.value
        said = f"{len(overdue)} of {n} accepted were complete only {DUE_AFTER_S:g} s after the fault's end or later"
    elif late > LATE_SHARE * n and worse >= many:
        measured, said = Effect.DELAYED.value, f"{late} of {n} accepted were complete after more than {deadline} ms"
    elif isolated >= REFUTED:
        measured, said = cell.measured, f"{n - late} of {n} accepted were complete within {deadline} ms"
    else:
        measured, said = UNKNOWN, f"{late} late of {n} accepted do not decide whether completions were in time"
    return _as_measured(cell, measured, said, evidence)


def _as_measured(cell: Cell, measured: str, said: str, evidence: Mapping[str, Any]) -> Cell:
    if measured == UNKNOWN:
        # the answers were good and nothing was lost: where a delay is predicted, it cannot be worse than that
        verdict = Verdict.VALID if cell.predicted >= Effect.DELAYED else Verdict.UNKNOWN
    else:
        verdict = Verdict.INVALID if Effect(measured) > cell.predicted else Verdict.VALID
    better = verdict is Verdict.VALID and measured not in (UNKNOWN, cell.predicted.value)
    because = f"{cell.operation} {_WORDS[measured]}: {cell.n - cell.bad} of {cell.n} answers were good; {said}"
    if verdict is Verdict.INVALID:
        because += f"; that is worse than predicted ({cell.predicted})"
    elif better:
        because += f"; that is better than predicted ({cell.predicted})"
    prediction = cell.because.partition(". Prediction: ")[2]
    return replace(
        cell,
        measured=measured,
        verdict=verdict,
        evidence={**cell.evidence, "completions": dict(evidence), "better": better},
        because=f"{because}. Prediction: {prediction}",
    )


_WORDS = {
    Effect.UNAFFECTED.value: "was unaffected",
    Effect.DELAYED.value: "was delayed",
    Effect.FAILING.value: "failed",
    UNKNOWN: "is undecided",
}


def _named(lost: Sequence[Waited]) -> str:
    names = [w.invocation.subject or w.invocation.key for w in lost[:OFFENDERS_SHOWN]]
    more = f" and {len(lost) - len(names)} more" if len(lost) > len(names) else ""
    return ", ".join(names) + more


# --- where the records show each completion: (due, instant) ---------------------------------------


def _order_completed(seen: Seen, invocation: Invocation) -> tuple[bool, int | None]:
    order = _first(seen, "orders", "order", invocation.key)
    return True, _instant(order, "completed_ns")


def _order_cancelled(seen: Seen, invocation: Invocation) -> tuple[bool, int | None]:
    order = seen.order(invocation.subject or "")
    return order is not None, _instant(order, "cancelled_ns")


def _email_sent(seen: Seen, invocation: Invocation) -> tuple[bool, int | None]:
    order = _first(seen, "orders", "order", invocation.key)
    completed, cancelled = _instant(order, "completed_ns"), _instant(order, "cancelled_ns")
    ended = order is not None and order.state in ("rejected", "cancelled")
    confirmed = completed is not None and cancelled is not None and completed < cancelled
    mail = _first(seen, "email", "mail", invocation.key)
    return not ended or confirmed, mail.at_ns if mail else None


def _user_visible(seen: Seen, invocation: Invocation) -> tuple[bool, int | None]:
    event = _first(seen, "analytics", "event", invocation.key)
    return True, event.at_ns if event else None


_INSTANTS: Mapping[str, Callable[[Seen, Invocation], tuple[bool, int | None]]] = {
    "order-completed": _order_completed,
    "order-cancelled": _order_cancelled,
    "email-sent": _email_sent,
    "user-visible-in-analytics": _user_visible,
}
"""By name of the completion."""


def _first(seen: Seen, service: str, kind: str, key: str) -> Audit | None:
    return next(iter(seen.of(service, kind).get(key, ())), None)


def _instant(audit: Audit | None, name: str) -> int | None:
    text = audit.detail.get(name) if audit is not None else None
    return int(text) if text else None
