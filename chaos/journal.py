"""What did an experiment really do? A journal's outcome by evidence, never by its status or an exit code.

Chaos Toolkit calls a run 'completed' whose action failed, and one whose method was never played (measured;
the table is in the tests). So the reader asks for each thing by itself: the method was played and not
dry, each of its activities succeeded, the fault was seen to bite, every rollback succeeded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chaos.steps import REFUSAL, func_of, what_failed


class Done(StrEnum):
    """What became of the fault."""

    INJECTED = "injected"
    """It was on; `Outcome.bit` says whether that was seen."""
    REFUSED = "refused"
    """A guard, or a dry run, kept it from being injected; surely nothing was done."""
    FAILED = "failed"
    """It was not injected, or nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a journal proves."""

    done: Done
    bit: bool
    """A probe saw it bite, while its holder said that it was on."""
    seen_by: str
    """What that probe saw; '' if there was none."""
    undone: bool
    """Its undo succeeded; True if there was nothing to undo."""
    recovered_s: float | None
    """From the undo to the first time that all operations were unaffected; None if nobody looked or they never were."""
    problems: tuple[str, ...]
    """Everything that was not as it should be, as sentences; () for a run without blemish."""


def outcome(journal: Mapping[str, Any]) -> Outcome:
    """Read a journal; a key that is missing is a problem, never an exception."""
    runs: Sequence[Mapping[str, Any]] = journal.get("run") or []
    rollbacks: Sequence[Mapping[str, Any]] = journal.get("rollbacks") or []
    inject, bites = _named(runs, "inject"), _named(runs, "fault_bites")
    done = _done(journal, inject)
    seen = _output(bites)
    return Outcome(
        done=done,
        bit=done is Done.INJECTED and _succeeded(bites) and seen.get("bit") is True,
        seen_by=str(seen.get("seen_by", "")),
        undone=done is Done.REFUSED or _succeeded(_named(rollbacks, "undo")),
        recovered_s=_recovered_s(_named(rollbacks, "recovered")),
        problems=tuple(_problems(journal, runs, rollbacks)),
    )


def _done(journal: Mapping[str, Any], inject: Mapping[str, Any] | None) -> Done:
    if inject is not None and REFUSAL in what_failed(inject) and not _succeeded(inject):
        return Done.REFUSED
    if _is_dry(journal) or _output(inject).get("state") == "dry":
        return Done.REFUSED
    if _succeeded(inject) and _output(inject).get("state") == "on":
        return Done.INJECTED
    return Done.FAILED


def _problems(
    journal: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], rollbacks: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    if _is_dry(journal):
        yield "a dry run proves nothing"
    if not journal.get("experiment", {}).get("method"):
        yield "the experiment has no method"
    steady = journal.get("steady_states") or {}
    yield from _unsteady("before the method", steady.get("before"))
    if not runs:
        yield "the method was not played"
    yield from _unsuccessful(runs)
    if (bites := _named(runs, "fault_bites")) is not None and _output(bites).get("bit") is not True:
        yield f"the fault was not seen to bite: {_output(bites).get('seen_by', what_failed(bites))}"
    yield from _unsteady("while the fault was on", steady.get("after"))
    if not rollbacks:
        yield "no rollback was played"
    yield from _unsuccessful(rollbacks)
    if _output(_named(rollbacks, "recovered")).get("recovered") is False:
        yield f"not recovered: {'; '.join(_output(_named(rollbacks, 'recovered')).get('not_steady', []))}"


def _unsteady(when: str, state: Mapping[str, Any] | None) -> Iterator[str]:
    """What a hypothesis found; nothing for one that was not asked."""
    if not state or state.get("steady_state_met"):
        return
    for probe in state.get("probes", ()):
        found = _output(probe).get("not_steady") or [what_failed(probe)]
        yield f"{when}: {'; '.join(found)}"


def _unsuccessful(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for run in runs:
        if not _succeeded(run):
            yield f"{run.get('activity', {}).get('name', 'an activity')}: {what_failed(run)}"


def _named(runs: Sequence[Mapping[str, Any]], func: str) -> Mapping[str, Any] | None:
    return next((run for run in runs if func_of(run.get("activity", {})) == func), None)


def _succeeded(run: Mapping[str, Any] | None) -> bool:
    return run is not None and run.get("status") == "succeeded"


def _output(run: Mapping[str, Any] | None) -> Mapping[str, Any]:
    output = (run or {}).get("output")
    return output if isinstance(output, Mapping) else {}


def _recovered_s(run: Mapping[str, Any] | None) -> float | None:
    output = _output(run)
    return float(output["after_s"]) if output.get("recovered") is True else None


def _is_dry(journal: Mapping[str, Any]) -> bool:
    return bool(journal.get("experiment", {}).get("dry"))
