"""What can a check say? Valid, invalid, or that it cannot tell; and never less than the evidence for it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """Merged by the worst: invalid > unknown > valid."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    """Not shown either way: no data, a crashed check, a fault that did not bite, a generator that lagged."""


_BADNESS = {Verdict.VALID: 0, Verdict.UNKNOWN: 1, Verdict.INVALID: 2}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several; unknown if there is none, since nothing was shown."""
    return max(verdicts, key=_BADNESS.__getitem__, default=Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise and what became of it."""

    name: str
    """Such as 'no-order-lost'."""
    verdict: Verdict
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Counts and the first few offenders; JSON values only."""
    because: str = ""
    """One sentence."""


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """Run a check; one that raises proves nothing, so it becomes `unknown` with the error as its evidence."""
    try:
        return check()
    except Exception as error:  # the border where a checker's own fault becomes a verdict
        said = f"{type(error).__name__}: {error}"
        trace = traceback.format_exc().splitlines()[-6:]
        evidence = {"error": said, "traceback": trace}
        return Check(name=name, verdict=Verdict.UNKNOWN, evidence=evidence, because=f"the check itself failed: {said}")
