"""How long will the caller still wait? The deadline of the request at work, handed from hop to hop.

It travels as the milliseconds that remain (clocks of two machines need not agree) and lives in a context
variable, so that code between two hops does not carry it along. Work that is begun after its deadline is
wasted, or worse: it takes effect when nobody expects it any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from workloads.problems import DEADLINE_EXCEEDED, ProblemError

_until: ContextVar[float | None] = ContextVar("deadline", default=None)


def current() -> float | None:
    """The instant on time.monotonic() at which the caller gives up, None if it waits for ever."""
    return _until.get()


def remaining_s() -> float | None:
    """Seconds left, negative once it has passed, None without a deadline."""
    until = _until.get()
    return None if until is None else until - time.monotonic()


def check(until: float | None) -> None:
    """Raise ProblemError(DEADLINE_EXCEEDED) once an instant has passed: the work has not been begun."""
    if until is not None and (late_s := time.monotonic() - until) > 0:
        raise ProblemError(DEADLINE_EXCEEDED, f"the caller stopped waiting {late_s * 1000:.0f} ms ago")


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Everything inside shares a deadline of so many seconds from now; None: it waits for ever."""
    token = _until.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)
