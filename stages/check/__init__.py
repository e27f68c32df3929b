"""What follows from what was seen: pure functions from a run's history to verdicts.

verdict         what a check can say, and how verdicts merge
counting        which requests count, and which were bad
cells           one fault x operation cell, and all promised cells together
containment     judge_fault: did a fault stay where the model said it would
recovery        when was the shop well again
radius          how far the faults reached
service_levels  does each operation keep its promise while nothing is broken
generator       was the load what it claimed to be
seen            a finished run, indexed for the checks of its effects
orders, ledgers, messages  the checks of its effects; invariants is the table of them all
completion      was what came after the answer in time; the class `delayed`
afterwards      did every fault end, and is nothing left
policy          do the calls that the model allows work, and no others
"""

from stages.check.afterwards import nothing_left_behind, recovered_after_every_fault
from stages.check.cells import UNKNOWN, Cell, Pooled
from stages.check.completion import HELD_LONGER_S, CompletionLevel, Held, completion_levels, with_completions
from stages.check.containment import Baseline, FaultJudgement, judge_fault
from stages.check.counting import Counts, Outstanding, Span
from stages.check.generator import generator_honest
from stages.check.invariants import INVARIANTS, invariants
from stages.check.messages import sends_messages
from stages.check.policy import Credential, PolicyCell, PolicyTry, policy_as_modelled, policy_cells
from stages.check.radius import MeasuredRadius, measured_radius
from stages.check.recovery import recovery, unseen
from stages.check.seen import Seen
from stages.check.service_levels import ServiceLevel, service_levels
from stages.check.verdict import Check, Verdict, guarded, worst

__all__ = [
    "HELD_LONGER_S",
    "INVARIANTS",
    "UNKNOWN",
    "Baseline",
    "Cell",
    "Check",
    "CompletionLevel",
    "Counts",
    "Credential",
    "FaultJudgement",
    "Held",
    "MeasuredRadius",
    "Outstanding",
    "PolicyCell",
    "PolicyTry",
    "Pooled",
    "Seen",
    "ServiceLevel",
    "Span",
    "Verdict",
    "completion_levels",
    "generator_honest",
    "guarded",
    "invariants",
    "judge_fault",
    "measured_radius",
    "nothing_left_behind",
    "policy_as_modelled",
    "policy_cells",
    "recovered_after_every_fault",
    "recovery",
    "sends_messages",
    "service_levels",
    "unseen",
    "with_completions",
    "worst",
]
