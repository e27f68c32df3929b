"""Everything seen so far in one stage's run, sorted by kind, kept up to date from the writers' files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.history import FaultEvent, FaultStep, Invocation, Phase, Record, Stall, Unsent, Usage
from suite.tail import Tail

STALL_ECHO_NS = 2_000_000_000
"""What a stall delayed may still be late this long after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The part of the history that a judge of one fault looks at."""

    invocations: Sequence[Invocation]
    unsent: Sequence[Unsent]
    stalls: Sequence[Stall]


class Gathered:
    """Grows with `refresh`; a judge reads the lists."""

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []
        self.unsent: list[Unsent] = []
        self.stalls: list[Stall] = []
        self.usages: list[Usage] = []
        self.events: list[FaultEvent] = []
        self.phases: list[Phase] = []
        self.others: list[Record] = []
        self._lists: dict[type[Any], list[Any]] = {
            Invocation: self.invocations,
            Unsent: self.unsent,
            Stall: self.stalls,
            Usage: self.usages,
            FaultEvent: self.events,
            Phase: self.phases,
        }
        self._tail = Tail(())

    def follow(self, paths: Iterable[Path]) -> None:
        """Read these files too, from their beginning."""
        for path in paths:
            self._tail.follow(path)

    def refresh(self) -> None:
        """Take in what the writers have appended."""
        for record in self._tail.new():
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in one record of our own."""
        into: list[Any] = self._lists.get(type(record), self.others)
        into.append(record)

    def since(self, start_ns: int) -> Recent:
        """What was due at or after an instant; a stall a little before it still hides what it delayed."""
        first = len(self.invocations)
        # Records arrive when requests end: nothing older than the longest wait for an answer hides further up.
        while first and self.invocations[first - 1].ended_ns >= start_ns:
            first -= 1
        return Recent(
            invocations=[i for i in self.invocations[first:] if i.intended_ns >= start_ns],
            unsent=[u for u in self.unsent if u.intended_ns >= start_ns],
            stalls=[s for s in self.stalls if s.end_ns >= start_ns - STALL_ECHO_NS],
        )

    def step(self, fault: str, step: FaultStep, *, since_ns: int) -> FaultEvent | None:
        """The latest event of a fault's step at or after an instant."""
        found = [e for e in self.events if e.fault == fault and e.step is step and e.at_ns >= since_ns]
        return found[-1] if found else None

    def records(self) -> list[Record]:
        """All of it, unsorted."""
        return [*self.invocations, *self.unsent, *self.stalls, *self.usages, *self.events, *self.phases, *self.others]
