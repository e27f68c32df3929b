"""What stands between a call and a failing callee? A timeout per attempt, a breaker, a retry.

    retry( breaker( timeout( attempt )))

The retry is stamina's, the breaker's states are purgatory's. Stamina lets the backoff be given, so it is
drawn from the generator passed in; purgatory reads the wall clock itself, so only its threshold and
opening time can be set, and what it lacks is added here: one trial at a time while half-open, and no
attention to answers of calls that began before its state changed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina
from purgatory.domain.messages.events import ContextChanged
from purgatory.domain.model import CLOSED, HALF_OPENED, Context, OpenedState

from workloads import deadline
from workloads.ports import CallFailed, CallRefused
from workloads.problems import ProblemError
from workloads.settings import Peer

T = TypeVar("T")

OPENS_AFTER = 5
"""Consecutive failures that open a breaker."""
HALF_OPENS_AFTER_S = 1
"""How long an open breaker keeps calls away before it lets one try, seconds."""
TIMEOUT = "timeout"
"""Reason of an attempt that was not answered in the time it was given."""
BACKOFF_S = 0.05
"""Mean wait before the second attempt, doubled for each further one; jitter of +-50 %."""

STATES = {"closed": 0, "half-opened": 1, "opened": 2}
"""Breaker states as the gauge shows them."""


class AttemptFailed(Exception):
    """One attempt did not succeed."""

    def __init__(
        self, reason: str, *, definite: bool, counts: bool, again: bool = True, problem: ProblemError | None = None
    ) -> None:
        """`definite`: surely not applied. `counts`: the breaker takes it as the callee's failure.

        `again`: worth a retry. `problem`: what the callee said.
        """
        super().__init__(reason)
        self.reason = reason
        self.definite = definite
        self.counts = counts
        self.again = again
        self.problem = problem


class Breaker:
    """Leaves a callee alone that keeps failing."""

    def __init__(
        self,
        callee: str,
        changed: Callable[[str, str], None],
        opens_after: int = OPENS_AFTER,
        half_opens_after_s: float = HALF_OPENS_AFTER_S,
    ) -> None:
        """`changed(callee, state)` is told every new state, one of STATES."""
        self._callee = callee
        self._changed = changed
        self._context = Context(callee, opens_after, half_opens_after_s)
        self._epoch = 0
        self._trying = False

    @property
    def state(self) -> str:
        """One of STATES."""
        return self._context.state

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run an attempt and learn from it. Raise AttemptFailed('breaker-open') without running it while open."""
        epoch = self._enter()
        trial = self.state == HALF_OPENED
        self._trying = self._trying or trial
        try:
            result = await attempt()
        except AttemptFailed as error:
            self._learn(epoch, error if error.counts else None)
            raise
        except CallRefused:
            self._learn(epoch, None)
            raise
        else:
            self._learn(epoch, None)
            return result
        finally:
            if trial:
                self._trying = False

    def _enter(self) -> int:
        if self._trying:
            raise AttemptFailed("breaker-open", definite=True, counts=False, again=False)
        try:
            self._context.handle_new_request()
        except OpenedState:
            raise AttemptFailed("breaker-open", definite=True, counts=False, again=False) from None
        self._tell()
        return self._epoch

    def _learn(self, epoch: int, failure: AttemptFailed | None) -> None:
        if epoch != self._epoch:
            return
        if failure is None:
            self._context.handle_end_request()
        else:
            self._context.handle_exception(failure)
        self._tell()

    def _tell(self) -> None:
        events, self._context.messages = self._context.messages, []
        for event in events:
            if isinstance(event, ContextChanged):
                self._epoch += 1
                self._changed(self._callee, event.state)


@dataclass(slots=True)
class _Doubt:
    """Whether an earlier attempt of the same call may have taken effect."""

    any: bool = False


class Guard:
    """Everything that stands between this service and one callee."""

    def __init__(
        self,
        callee: str,
        peer: Peer,
        breaker: Breaker | None,
        *,
        rng: random.Random,
        backoff_s: float = BACKOFF_S,
    ) -> None:
        """Timeout and attempts are the peer's; no breaker means that the callee is never left alone."""
        self._callee = callee
        self._peer = peer
        self._rng = rng
        self._backoff_s = backoff_s
        self._breaker = breaker

    async def run(self, attempt: Callable[[float | None], Awaitable[T]], *, repeatable: bool) -> T:
        """Run `attempt(seconds it may take)` until it succeeds or nothing more may be tried.

        `repeatable`: a second attempt does no harm, so it may be made. Raise CallFailed, whose `definite`
        covers all attempts, or CallRefused as soon as the callee says no.
        """
        doubt = _Doubt()
        try:
            try:
                return await self._once(attempt, doubt)
            except AttemptFailed as first:
                if not repeatable or self._peer.attempts == 1 or not first.again:
                    raise
                return await self._repeat(attempt, doubt, first)
        except AttemptFailed as error:
            raise CallFailed(self._callee, error.reason, definite=not doubt.any, problem=error.problem) from error

    async def _repeat(self, attempt: Callable[[float | None], Awaitable[T]], doubt: _Doubt, first: AttemptFailed) -> T:
        """Let stamina pace what follows a first attempt. It is asked only now: most calls need no second one."""
        number = 0

        def wait_s(error: Exception) -> float | bool:
            if not isinstance(error, AttemptFailed) or not error.again:
                return False
            backoff_s = self._backoff_s * 2 ** (number - 1) * self._rng.uniform(0.5, 1.5)
            left_s = deadline.remaining_s()
            return backoff_s if left_s is None or left_s > backoff_s else False

        async for each in stamina.retry_context(on=wait_s, attempts=self._peer.attempts, timeout=None):
            with each:
                number += 1
                if number == 1:
                    raise first
                return await self._once(attempt, doubt)
        raise AssertionError("stamina ends with a result or an exception")

    async def _once(self, attempt: Callable[[float | None], Awaitable[T]], doubt: _Doubt) -> T:
        limit_s, cut_short = self._limit_s()

        async def limited() -> T:
            try:
                return await attempt(limit_s)
            except AttemptFailed as error:
                if cut_short:  # a caller in a hurry is no proof against the callee
                    error.counts = error.counts and error.reason != TIMEOUT
                raise

        half_open = self._breaker is not None and self._breaker.state != CLOSED
        try:
            return await (limited() if self._breaker is None else self._breaker.run(limited))
        except AttemptFailed as error:
            doubt.any = doubt.any or not error.definite
            if half_open:  # a trial that failed says enough
                error.again = False
            raise
        except CallRefused as error:
            if doubt.any:
                raise CallRefused(error.callee, error.problem, definite=False) from error
            raise

    def _limit_s(self) -> tuple[float | None, bool]:
        """How long an attempt may take, and whether that is less than the callee was promised."""
        left_s = deadline.remaining_s()
        own_s = None if self._peer.timeout_ms is None else self._peer.timeout_ms / 1000
        if left_s is None:
            return own_s, False
        if left_s <= 0:
            raise AttemptFailed("deadline", definite=True, counts=False, again=False)
        return (left_s, True) if own_s is None or left_s < own_s else (own_s, False)


def monotonic_ns() -> int:
    """The clock of everything that is recorded: shared by all processes of a machine."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
