"""What was seen during a run, as records on one clock, and their JSONL form.

Every time is CLOCK_MONOTONIC in nanoseconds: on Linux all processes of a machine share it, so the
load generator, the fault injector and the services' audits can be laid side by side. Several
processes write a file each, append-only; `merged` puts them in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a request ended, as far as the caller can know."""

    OK = "ok"
    FAIL = "fail"
    """Surely not applied: a 4xx, a refused connection, a refusal the server calls definite."""
    UNKNOWN = "unknown"
    """A timeout, a dropped connection, an error that leaves open whether it took effect."""


class FaultStep(StrEnum):
    """The life of one injected fault, in order."""

    INTENT = "intent"
    """Written before the act."""
    INJECTED = "injected"
    SEEN = "seen"
    """A probe saw it bite; `detail` says which and what it saw."""
    REFUSED = "refused"
    """A guard said no; nothing was done. `detail` is the reason."""
    FAILED = "failed"
    """Injecting or seeing it went wrong; `detail` says how."""
    UNDOING = "undoing"
    """The undo was ordered: from here on nothing counts as evidence for the fault."""
    UNDONE = "undone"
    RECOVERED = "recovered"
    """All operations good again. `at_ns` is the start of the first good span."""
    NOT_RECOVERED = "not-recovered"
    UNSEEN = "recovery-unseen"
    """The machine stood still so often that nobody could see whether the shop recovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One operation of one user."""

    operation: str
    key: str
    """Unique per invocation, '<run id>-<n>'; it is the Idempotency-Key of an operation that writes."""
    intended_ns: int
    """When the arrival process said it should start. Latency counts from here."""
    started_ns: int
    """When it was sent. started - intended is the generator's own lag."""
    ended_ns: int
    outcome: Outcome
    degraded: bool = False
    """The answer came from a fallback (stale catalogue)."""
    status: int | None = None
    """HTTP status, None without an answer."""
    subject: str | None = None
    """Id of the order or account it is about, once known."""
    error: str | None = None

    @property
    def latency_ms(self) -> float:
        """From the intended start, milliseconds."""
        return (self.ended_ns - self.intended_ns) / 1e6

    @property
    def lag_ms(self) -> float:
        """How late the generator sent it, milliseconds."""
        return (self.started_ns - self.intended_ns) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """An arrival that was due but never sent; it is counted, never dropped."""

    operation: str
    intended_ns: int
    reason: str
    """Such as 'pool full' (the generator's fault) or 'no order to cancel' (the load's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """The run enters a phase: 'warm-up', 'baseline', 'policy', 'restock', 'fault:<name>', 'undo:<name>',
    'recovery:<name>', 'drain', 'end'."""

    name: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEvent:
    """One step in the life of a fault."""

    fault: str
    step: FaultStep
    at_ns: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """The machine, or the generator, did not run: requests near it are censored by time, never by outcome."""

    source: str
    """'core-0', 'core-1', 'generator'."""
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the generator's process did in about a second."""

    at_ns: int
    cpu_share: float
    """Of one core, 0 to 1."""
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One effect, as a service's own database shows it when the run has drained.

    `service`/`kind` pairs: accounts/user, orders/order, orders/outbox and accounts/outbox (one line each, quantity =
    messages not published yet), inventory/stock, inventory/reservation,
    payments/capture, shipping/shipment, email/mail, analytics/event, cache/entry.
    """

    service: str
    kind: str
    id: str
    subject: str
    """The order or user it belongs to; for inventory/stock the product."""
    key: str
    """Idempotency key of the user's operation that caused it ('' for inventory/stock)."""
    state: str
    """orders: pending | confirmed | compensating | rejected | cancelled; reservation: reserved | released;
    capture: captured | refunded | void; shipment: booked | cancelled; mail: confirmation | welcome, or
    'retracted' once a correction followed; user: active | compensating | rejected; event and entry:
    present | removed; stock: on-hand; outbox: drained | pending."""
    quantity: int = 0
    """Units for reservation and stock, cents for order and capture, else 0."""
    initial: int = 0
    """For inventory/stock the units the shop opened with, else 0."""
    at_ns: int = 0
    """When it was first recorded."""
    detail: Mapping[str, str] = field(default_factory=dict)
    """For orders/order 'completed_ns' (first confirmed, rejected or cancelled) and 'cancelled_ns', as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that nobody could handle, as it lay in a dead-letter queue when the run had drained."""

    queue: str
    """The queue that it was taken from."""
    id: str
    reason: str = ""
    """Why it is dead, in a word: malformed, unknown-version, oversized, foreign, unknown-type, failed; '' where the
    broker moved it by itself, after too many deliveries."""
    detail: str = ""
    at_ns: int = 0
    """When it was given up; 0 if nobody said."""
    receives: int = 0
    """Deliveries until then."""
    type: str = ""
    """Of the message; '' if it cannot be read. So are the other two."""
    key: str = ""
    subject: str = ""


Record = Invocation | Unsent | Phase | FaultEvent | Stall | Usage | Audit | DeadLetter


def _optional(f: Field[Any]) -> bool:
    return f.default is not MISSING or f.default_factory is not MISSING


_TYPES: dict[str, type[Any]] = {
    "invocation": Invocation,
    "unsent": Unsent,
    "phase": Phase,
    "fault": FaultEvent,
    "stall": Stall,
    "usage": Usage,
    "audit": Audit,
    "dead-letter": DeadLetter,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}
_DEFAULTS: dict[type[Any], dict[str, Any]] = {
    cls: {f.name: {} if f.default is MISSING else f.default for f in fields(cls) if _optional(f)}
    for cls in _TYPES.values()
}


class HistoryError(ValueError):
    """A line is not a history record; the message names the line."""


def dump(record: Record) -> str:
    """One JSON line without its newline; fields at their default are left out."""
    default = _DEFAULTS[type(record)]
    said = {k: v for k, v in asdict(record).items() if k not in default or v != default[k]}
    return json.dumps({"type": _NAMES[type(record)], **said}, separators=(",", ":"))


def load(line: str) -> Record:
    """Read what `dump` wrote; raise HistoryError otherwise."""
    try:
        raw: dict[str, Any] = json.loads(line)
        cls = _TYPES[raw.pop("type")]
        if cls is Invocation:
            raw["outcome"] = Outcome(raw["outcome"])
        elif cls is FaultEvent:
            raw["step"] = FaultStep(raw["step"])
        record: Record = cls(**raw)
        return record
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise HistoryError(f"not a history record ({type(error).__name__}: {error}): {line[:200]!r}") from error


def read(lines: Iterable[str]) -> Iterator[Record]:
    """Parse lines lazily; an unfinished last line (the writer was killed) is left out, any other bad line raises."""
    pending: HistoryError | None = None
    for line in lines:
        if pending is not None:
            raise pending
        if not line.strip():
            continue
        try:
            yield load(line)
        except HistoryError as error:
            if line.endswith("\n"):
                raise
            pending = error


def at(record: Record) -> int:
    """The instant by which a record is ordered, nanoseconds."""
    if isinstance(record, Invocation | Unsent):
        return record.intended_ns
    if isinstance(record, Stall):
        return record.start_ns
    return record.at_ns


def merged(*parts: Iterable[Record]) -> list[Record]:
    """All records of several writers in order of time; equal times keep the order of the parts."""
    return sorted((record for part in parts for record in part), key=at)
