"""What do the checks of a whole run look at? Its history and its audits, joined by idempotency key and order id.

Keys of this run begin with '<run id>-'; what other runs left in the same deployment is theirs, and only counted. So
are the requests of the fault injector's own probes, '<run id>-steady-...', which are not in the history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.check.counting import MS_NS
from stages.check.verdict import Check, Verdict
from stages.history import Audit, DeadLetter, FaultEvent, FaultStep, Invocation, Outcome
from stages.model import Gap, Kind, Stage

PROBES = "steady"

OFFENDERS_SHOWN = 5
"""So many offenders are named, all are counted."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A finished run. The shop has drained: nothing is under way any more."""

    stage: Stage
    run_id: str
    invocations: Sequence[Invocation]
    audits: Sequence[Audit]
    """Of all services, foreign runs included."""
    audited: frozenset[str] | None = None
    """Services whose audit was read to its end: without it their silence proves nothing. None: all of the stage."""
    fault_events: Sequence[FaultEvent] = ()
    crashed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Fault name -> services that it killed in mid-request."""
    poisoned: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Fault name -> queues in which it made messages unreadable."""
    dead_letters: Sequence[DeadLetter] | None = None
    """What lay in the dead-letter queues in the end; None: nobody looked."""

    # Indexes, made once.
    tried: Mapping[str, Invocation] = field(init=False, repr=False)
    """This run's requests by key."""
    effects: Mapping[tuple[str, str], Mapping[str, tuple[Audit, ...]]] = field(init=False, repr=False)
    """(service, kind) -> key -> this run's records."""
    foreign: int = field(init=False, repr=False)
    """Records of other runs."""
    accepted: Mapping[str, Sequence[Invocation]] = field(init=False, repr=False)
    """Requests that were answered well, by operation."""
    orders_by_id: Mapping[str, Audit] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prefix = f"{self.run_id}-"
        by_key: dict[tuple[str, str], dict[str, list[Audit]]] = defaultdict(lambda: defaultdict(list))
        foreign = 0
        for audit in self.audits:
            if audit.key.startswith(prefix) and not audit.key.startswith(f"{prefix}{PROBES}-"):
                by_key[audit.service, audit.kind][audit.key].append(audit)
            elif audit.key:
                foreign += 1
        effects = {pair: {key: tuple(found) for key, found in keys.items()} for pair, keys in by_key.items()}
        object.__setattr__(self, "tried", {i.key: i for i in self.invocations})
        object.__setattr__(self, "effects", effects)
        object.__setattr__(self, "foreign", foreign)
        accepted: dict[str, list[Invocation]] = defaultdict(list)
        for i in self.invocations:
            if i.outcome is Outcome.OK:
                accepted[i.operation].append(i)
        object.__setattr__(self, "accepted", dict(accepted))
        object.__setattr__(self, "orders_by_id", {order.id: order for order in self.orders()})

    def of(self, service: str, kind: str) -> Mapping[str, tuple[Audit, ...]]:
        """This run's records of one kind, by key."""
        return self.effects.get((service, kind), {})

    def found(self, service: str, kind: str, key: str, *states: str) -> list[Audit]:
        """The records of a key, in any of some states (none given: in whatever state)."""
        return [a for a in self.of(service, kind).get(key, ()) if not states or a.state in states]

    def orders(self) -> list[Audit]:
        """This run's orders."""
        return [audit for found in self.of("orders", "order").values() for audit in found]

    def ok(self, operation: str) -> list[Invocation]:
        """Requests that were answered well."""
        return list(self.accepted.get(operation, ()))

    def order(self, order_id: str) -> Audit | None:
        """This run's order of that id."""
        return self.orders_by_id.get(order_id)

    def accepted_later(self, operation: str) -> bool:
        """Whether an operation's ok means 'accepted', since messages do the rest, and not 'done'."""
        return any(c.kind is Kind.COMMAND and operation in c.operations for c in self.stage.channels)

    def gap(self, operation: str, at_ns: int) -> Gap | None:
        """The gap of the stage that predicts a loss at this moment, if one does."""
        # What was under way when the fault was ordered may have begun as long before as it may take.
        under_way_ns = self.stage.operation(operation).latency_slo_ms * MS_NS
        for gap in self.stage.gaps:
            windows = self.windows(self.crashed, gap.crash_of) if gap.operation == operation else ()
            if any(start - under_way_ns <= at_ns <= end for start, end in windows):
                return gap
        return None

    def windows(self, touched: Mapping[str, frozenset[str]], name: str) -> list[tuple[int, int]]:
        """From intent to recovery of every fault that touched `name`; without a recovery it lasts for ever."""
        events = sorted(self.fault_events, key=lambda e: e.at_ns)
        windows: list[tuple[int, int]] = []
        for fault, names in touched.items():
            if name not in names:
                continue
            mine = [e for e in events if e.fault == fault]
            starts = [e.at_ns for e in mine if e.step is FaultStep.INTENT]
            ends = [e.at_ns for e in mine if e.step is FaultStep.RECOVERED]
            windows += [(start, next((e for e in ends if e >= start), 2**63)) for start in starts]
        return windows


@dataclass(slots=True)
class Findings:
    """Offenders of one check, those that the model predicted kept apart."""

    surely: list[str] = field(default_factory=list)
    predicted: dict[str, list[str]] = field(default_factory=dict)
    """Name of the gap -> offenders within it."""

    def add(self, sentence: str, gap: Gap | None = None) -> None:
        """Note an offender; with a gap it was predicted."""
        if gap is None:
            self.surely.append(sentence)
        else:
            self.predicted.setdefault(gap.name, []).append(sentence)


def conclude(name: str, findings: Findings, *, shown: int, what: str, evidence: Mapping[str, Any]) -> Check:
    """The verdict of a check that looked at everything: invalid with offenders, unknown if nothing showed the promise.

    `shown` counts the cases in which the promise could be seen kept or broken; `what` says what they are.
    """
    gaps = {gap: {"count": len(found), "first": found[:OFFENDERS_SHOWN]} for gap, found in findings.predicted.items()}
    facts: dict[str, Any] = {**evidence, "checked": shown, "offenders": len(findings.surely)}
    if findings.surely:
        facts["first"] = findings.surely[:OFFENDERS_SHOWN]
    if gaps:
        facts["predicted_gaps"] = gaps
    if findings.surely:
        more = f" (and {len(findings.surely) - 1} more)" if len(findings.surely) > 1 else ""
        return Check(name=name, verdict=Verdict.INVALID, evidence=facts, because=f"{findings.surely[0]}{more}")
    if shown == 0:
        return Check(name=name, verdict=Verdict.UNKNOWN, evidence=facts, because=f"there were no {what} to check")
    said = f"{shown} {what} checked, none broke the promise"
    for gap, found in findings.predicted.items():
        said += f" but {len(found)} in the predicted gap {gap!r} ({found[0]})"
    return Check(name=name, verdict=Verdict.VALID, evidence=facts, because=said)


def unread(name: str, seen: Seen, services: Iterable[str]) -> Check | None:
    """Unknown, if the audit of a service that a check needs was not read."""
    missing = sorted(set(services) - seen.audited) if seen.audited is not None else []
    if not missing:
        return None
    because = f"the audit of {', '.join(missing)} was not read, so nothing can be said"
    return Check(name=name, verdict=Verdict.UNKNOWN, evidence={"unread": missing}, because=because)


def cents(amount: int) -> str:
    """
    >>> cents(4200)
    '4200 cents'
    """
    return f"{amount} cents"
