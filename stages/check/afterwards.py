"""Did every fault end, and is nothing of the run left?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stages.check.seen import OFFENDERS_SHOWN
from stages.check.verdict import Check, Verdict
from stages.history import FaultEvent, FaultStep

RECOVERED = "recovered-after-every-fault"
NOTHING_LEFT = "nothing-left-behind"

SECOND_NS = 1_000_000_000


def recovered_after_every_fault(events: Iterable[FaultEvent]) -> Check:
    """Every fault that was injected was undone, and all operations were good again afterwards.

    A fault that may have been injected (intent written) and says nothing more is unknown; so is a run without faults,
    and one in which a fault was refused or failed.
    """
    by_fault: dict[str, list[FaultEvent]] = {}
    for event in sorted(events, key=lambda e: e.at_ns):
        by_fault.setdefault(event.fault, []).append(event)
    judged = {fault: _recovery(mine) for fault, mine in by_fault.items()}
    evidence: dict[str, Any] = {"faults": {fault: said for fault, (_, said) in judged.items()}}
    for verdict in (Verdict.INVALID, Verdict.UNKNOWN):
        found = [f"{fault}: {said}" for fault, (v, said) in judged.items() if v is verdict]
        if found:
            return Check(name=RECOVERED, verdict=verdict, evidence=evidence, because="; ".join(found))
    if not judged:
        return Check(name=RECOVERED, verdict=Verdict.UNKNOWN, evidence=evidence, because="no fault was injected")
    because = f"all operations were good again after each of {len(judged)} faults"
    return Check(name=RECOVERED, verdict=Verdict.VALID, evidence=evidence, because=because)


def _recovery(events: Sequence[FaultEvent]) -> tuple[Verdict, str]:
    """One fault, judged by its last injection."""
    verdict, said = Verdict.UNKNOWN, "it was never injected"
    undone_ns = 0
    for event in events:
        if event.step is FaultStep.UNDONE:
            undone_ns = event.at_ns
        if event.step is FaultStep.NOT_RECOVERED:
            return Verdict.INVALID, f"not recovered: {event.detail}"
        if event.step is FaultStep.UNSEEN:
            return Verdict.UNKNOWN, f"whether the shop recovered was not to be seen: {event.detail}"
        if event.step is FaultStep.RECOVERED:
            verdict, said = (
                Verdict.VALID,
                f"recovered {max(0, event.at_ns - undone_ns) / SECOND_NS:.1f} s after the undo",
            )
        elif event.step in (FaultStep.REFUSED, FaultStep.FAILED):
            verdict, said = Verdict.UNKNOWN, f"{event.step}: {event.detail}"
        elif event.step in (FaultStep.INTENT, FaultStep.INJECTED):
            verdict, said = Verdict.UNKNOWN, "nothing says that the shop recovered"
    return verdict, said


def nothing_left_behind(residue: Sequence[str] | None) -> Check:
    """No process, port, file or fault of the run is left; None means that nobody looked."""
    if residue is None:
        because = "nobody looked for what is left"
        return Check(name=NOTHING_LEFT, verdict=Verdict.UNKNOWN, because=because)
    evidence = {"left": len(residue), "first": list(residue[:OFFENDERS_SHOWN])}
    if residue:
        because = f"{len(residue)} left behind: {'; '.join(residue[:OFFENDERS_SHOWN])}"
        return Check(name=NOTHING_LEFT, verdict=Verdict.INVALID, evidence=evidence, because=because)
    because = "no process, port, file or fault of the run is left"
    return Check(name=NOTHING_LEFT, verdict=Verdict.VALID, evidence=evidence, because=because)
