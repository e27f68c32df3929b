"""What keeps a load generator on time on a busy machine?

Each step is taken where the machine allows it and left out where not: the generator reports its lag in any case.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource

IN_FLIGHT_MAX = 3500
"""Requests in flight at once, at most: what 1,000 per second amount to while none is answered for 3 s, and some."""

_FILES_SPARE = 100
"""Descriptors kept for everything that is not a connection to the shop."""

_NICE = -10


def in_flight_max() -> int:
    """Raise the limit of open files as far as allowed, and say how many requests in flight it carries."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IN_FLIGHT_MAX + _FILES_SPARE
    if 0 <= soft < wanted:
        soft = wanted if hard < 0 else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return IN_FLIGHT_MAX if soft < 0 else max(1, min(IN_FLIGHT_MAX, soft - _FILES_SPARE))


def go_first() -> None:
    """Ask the scheduler to run this process before its neighbours; only privileged users get it."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def calm_collector() -> None:
    """Call when all is imported: what exists now is never looked at again, and collections become rare and short.

    A full collection over Locust's 100,000 objects takes some 50 ms, in which no arrival is sent.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)
