"""When are orders asked about again? A background loop that looks for those that are due, some at a time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from workloads.problems import ProblemError

log = structlog.get_logger()

LOOK_EVERY_S = 0.5
"""A third of the shortest wait."""
LOOK_AGAIN_S = 0.1
"""Pause between two batches: after an outage hundreds are due at once, and whoever is asked has to answer them."""


class Asking:
    """Calls `ask` until it is stopped."""

    def __init__(self, ask: Callable[[], Awaitable[bool]], rng: random.Random, every_s: float = LOOK_EVERY_S) -> None:
        """`ask` works on one batch and says whether there may be more; `rng` keeps two instances out of step."""
        self._ask = ask
        self._rng = rng
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the running loop; end it with `stop`."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """End between two batches or in one, which is then rolled back; stopping again changes nothing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            pause_s = self._every_s
            try:
                if await self._ask():
                    pause_s = LOOK_AGAIN_S
            except ProblemError as error:  # the database is away; what is due stays due
                log.warning("asking-failed", error=str(error))
            except Exception:
                # the border of a worker loop: a defect in one batch must not end it
                log.exception("asking-crashed")
            await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.5))
