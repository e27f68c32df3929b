"""What follows from what was seen: pure functions from a run's history to verdicts.

verdict       what a check can say, and how verdicts merge
counting      which requests count, and which were bad
cells         one fault x operation cell, and all promised cells together
containment   judge_fault: did a fault stay where the model said it would
recovery      when was the shop well again
radius        how far the faults reached
"""

from stages.check.cells import UNKNOWN, Cell, Pooled
from stages.check.containment import Baseline, FaultJudgement, judge_fault
from stages.check.counting import Counts, Outstanding, Span
from stages.check.radius import MeasuredRadius, measured_radius
from stages.check.recovery import recovery
from stages.check.verdict import Check, Verdict, guarded, worst

__all__ = [
    "UNKNOWN",
    "Baseline",
    "Cell",
    "Check",
    "Counts",
    "FaultJudgement",
    "MeasuredRadius",
    "Outstanding",
    "Pooled",
    "Span",
    "Verdict",
    "guarded",
    "judge_fault",
    "measured_radius",
    "recovery",
    "worst",
]
