"""What is wrong with a version that is broken on purpose? Two ways to be bad, for a canary to show them.

failing   half of the requests are answered 500 and nothing else is done about them
slow      every request waits before it is looked at
"""

from __future__ import annotations

import asyncio
import random

from workloads import problems
from workloads.problems import ProblemError

FAILING_SHARE = 0.5
SLOW_S = 0.6
"""Longer than any caller waits for one of the services that call nobody."""


class Defect:
    """The defect of one process; '' has none."""

    def __init__(self, kind: str, rng: random.Random) -> None:
        """`kind`: one of settings.DEFECTS."""
        self._kind = kind
        self._rng = rng

    async def strike(self) -> None:
        """What happens to one request before it is looked at. Raise ProblemError(INTERNAL) to refuse it."""
        if self._kind == "slow":
            await asyncio.sleep(SLOW_S)
        elif self._kind == "failing" and self._rng.random() < FAILING_SHARE:
            raise ProblemError(problems.INTERNAL, "this version fails on purpose")
