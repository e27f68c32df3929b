"""Who answers for what, and how much of the promise is spent? Owners, objectives and error budgets of a run. (pure)

    share promised   0.99 of 1,200 requests  ->  12 may be bad: the error budget of the run
    bad              40, of which 38 while payments was down, 2 without any fault  ->  spent 3.3 times

A budget says what users had to bear, and by which fault; it is no verdict: faults are injected to be borne.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stages.check.completion import waited
from stages.check.counting import MS_NS, Censor, Span, bad_in
from stages.check.seen import Seen
from stages.history import FaultEvent, FaultStep, Stall
from stages.model import Stage, System

NO_FAULT = "without any fault"
"""Stands for a fault where none was on."""

_FOR_EVER = Span(start_ns=0, end_ns=2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a system promises about one operation, or about what comes after its answer."""

    name: str
    """Of the operation, or of the completion."""
    operation: str
    """What users do."""
    completion: bool
    """Whether it is promised for later."""
    within_ms: int
    """From the operation's intended start."""
    share: float
    """Of the requests, in (0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The part of an objective's requests that came in one fault's time."""

    fault: str
    """`NO_FAULT` for the rest."""
    n: int
    bad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many requests of the run were bad, and how many might have been."""

    objective: Objective
    n: int
    """Answers: requests. Completions: accepted requests for which it was due. Those near a stall are left out."""
    bad: int
    """Answers: not good within the limit; what a fallback answers in time is good. Completions: late, or never."""
    by_fault: tuple[Spent, ...]
    """In the order of the faults' beginnings, those without any request left out."""

    @property
    def allowed(self) -> float:
        """Bad requests that the promise leaves room for."""
        return (1 - self.objective.share) * self.n

    @property
    def spent(self) -> float | None:
        """Share of the budget that is gone, above 1 where it is overdrawn; None without any request."""
        return self.bad / self.allowed if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Governed:
    """A system, its owner, and what the owner answers for."""

    system: str
    owner: str | None
    cluster: str
    network: str
    services: tuple[str, ...]
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...] = field(default=())
    """One per objective that could be counted, in their order; () without a run."""


def governed(stage: Stage) -> tuple[Governed, ...]:
    """Every system that answers for something, in the stage's order; () for a stage in which none does."""
    return tuple(_governed(stage, system, ()) for system in stage.systems if system.objectives)


def governance(seen: Seen, stalls: Iterable[Stall]) -> tuple[Governed, ...]:
    """The same with the error budgets of a finished run.

    Without audits nobody knows of completions: they have no budget then.
    """
    censor = Censor(stalls)
    on = Windows(seen.fault_events)
    found = []
    for system in seen.stage.systems:
        if system.objectives:
            budgets = tuple(_budgets(seen, system, censor, on))
            found.append(_governed(seen.stage, system, budgets))
    return tuple(found)


def objectives(stage: Stage, system: System) -> tuple[Objective, ...]:
    """What a system answers for, operations first; names that the stage does not have are left out."""
    operations = [
        Objective(name=o.name, operation=o.name, completion=False, within_ms=o.latency_slo_ms, share=o.slo_share)
        for o in stage.operations
        if o.name in system.objectives
    ]
    completions = [
        Objective(name=c.name, operation=o.name, completion=True, within_ms=c.within_ms, share=o.slo_share)
        for o in stage.operations
        for c in o.completions
        if c.name in system.objectives
    ]
    return (*operations, *completions)


class Windows:
    """Knows which fault a request met: from the intent to inject it until all was good again."""

    def __init__(self, events: Iterable[FaultEvent]) -> None:
        self._spans: list[tuple[int, int, str]] = []
        for event in sorted(events, key=lambda e: e.at_ns):
            if event.step is FaultStep.INTENT:
                self._spans.append((event.at_ns, 2**63, event.fault))
            elif event.step is FaultStep.RECOVERED and self._spans and self._spans[-1][2] == event.fault:
                self._spans[-1] = (self._spans[-1][0], event.at_ns, event.fault)
            elif event.step is FaultStep.REFUSED and self._spans and self._spans[-1][2] == event.fault:
                self._spans.pop()  # nothing was done
        self._starts = [start for start, _, _ in self._spans]

    @property
    def faults(self) -> tuple[str, ...]:
        """In the order of their beginnings, each once."""
        return tuple(dict.fromkeys(fault for _, _, fault in self._spans))

    def fault(self, intended_ns: int, within_ms: int) -> str:
        """The fault that was on at an instant, or began within the time that the request had to be good in."""
        on = bisect_right(self._starts, intended_ns) - 1
        if on >= 0 and intended_ns < self._spans[on][1]:
            return self._spans[on][2]
        ahead = on + 1
        if ahead < len(self._spans) and self._spans[ahead][0] <= intended_ns + within_ms * MS_NS:
            return self._spans[ahead][2]
        return NO_FAULT


def _governed(stage: Stage, system: System, budgets: tuple[Budget, ...]) -> Governed:
    networks = {c.name: c.network for c in stage.clusters}
    return Governed(
        system=system.name,
        owner=system.owner,
        cluster=system.cluster,
        network=networks.get(system.cluster, ""),
        services=tuple(s.name for s in stage.services if s.system == system.name),
        objectives=objectives(stage, system),
        budgets=budgets,
    )


def _budgets(seen: Seen, system: System, censor: Censor, on: Windows) -> Iterator[Budget]:
    for objective in objectives(seen.stage, system):
        if not objective.completion:
            yield _budget(objective, _answers(seen, objective, censor), on)
        elif seen.audited is None or seen.audited:
            yield _budget(objective, _completions(seen, objective, censor), on)


def _answers(seen: Seen, objective: Objective, censor: Censor) -> list[tuple[int, bool]]:
    """(intended start, whether it was bad) of every request."""
    return [
        (i.intended_ns, bad_in(i, objective.within_ms)[1])
        for i in seen.invocations
        if i.operation == objective.operation and not censor.hides(i.intended_ns, objective.within_ms)
    ]


def _completions(seen: Seen, objective: Objective, censor: Censor) -> list[tuple[int, bool]]:
    completion = next(c for c in seen.stage.operation(objective.operation).completions if c.name == objective.name)
    found = waited(seen, objective.operation, completion, [_FOR_EVER], censor)
    return [(w.invocation.intended_ns, w.late) for w in found]


def _budget(objective: Objective, requests: Sequence[tuple[int, bool]], on: Windows) -> Budget:
    counted: dict[str, list[int]] = {fault: [0, 0] for fault in (*on.faults, NO_FAULT)}
    for intended_ns, bad in requests:
        row = counted[on.fault(intended_ns, objective.within_ms)]
        row[0] += 1
        row[1] += bad
    return Budget(
        objective=objective,
        n=len(requests),
        bad=sum(bad for _, bad in requests),
        by_fault=tuple(Spent(fault=fault, n=n, bad=bad) for fault, (n, bad) in counted.items() if n),
    )


def worst_faults(budget: Budget) -> Mapping[str, int]:
    """Bad requests by what they met, most first; only those that met some."""
    found = sorted((s for s in budget.by_fault if s.bad), key=lambda s: -s.bad)
    return {s.fault: s.bad for s in found}
