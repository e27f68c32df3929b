"""How long is a part left alone that does not do its work? The log hears of it when it goes and when it is back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

SPOKEN_OF_AFTER = 3
"""Failures in a row; a throttled call or two is nothing to talk about."""
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
"""Low, so that little time is lost after the broker is back; ten waiting services are ten calls a second."""


class Outage:
    """The failures in a row of one kind of work."""

    def __init__(self, what: str, rng: random.Random, clock: Callable[[], float] = time.monotonic) -> None:
        """`what` names it in the log. `clock` gives seconds and is only for the log."""
        self.what = what
        self._rng = rng
        self._clock = clock
        self._failures = 0
        self._since = 0.0

    @property
    def on(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    def failed(self, why: object) -> float:
        """Count a failure; return how long to wait, seconds: doubling up to BACKOFF_MAX_S, half of it jitter."""
        if not self._failures:
            self._since = self._clock()
        self._failures += 1
        if self._failures == SPOKEN_OF_AFTER:
            log.warning("away", what=self.what, error=str(why))
        backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * float(2 ** min(self._failures - 1, 10)))
        return backoff_s * self._rng.uniform(0.5, 1.0)

    def over(self) -> None:
        """Count a success."""
        if self._failures >= SPOKEN_OF_AFTER:
            away_s = round(self._clock() - self._since, 2)
            log.info("back", what=self.what, failures=self._failures, away_s=away_s)
        self._failures = 0
