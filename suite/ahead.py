"""How does the next stage come up while the one before it still drains? In a thread, to be taken over or taken away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from stages.deployment import Deployment
from suite.ports import SuiteError


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """A deployment on its way."""

    name: str
    run_id: str
    future: Future[tuple[Deployment, float]]
    """Its record, and how long it took, seconds; or the SuiteError that ended it."""


class Ahead:
    """At most one deployment that nobody has asked for yet."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="deploying ahead")
        self._coming: dict[str, Coming] = {}

    def start(self, stage: str, name: str, run_id: str, up: Callable[[str, str], tuple[Deployment, float]]) -> None:
        """Begin; `up(name, run_id)` deploys."""
        self._coming[stage] = Coming(name=name, run_id=run_id, future=self._pool.submit(up, name, run_id))

    def take(self, stage: str) -> Coming | None:
        """What is on its way for a stage; from now on the taker answers for it."""
        return self._coming.pop(stage, None)

    def close(self, down: Callable[[str], None]) -> None:
        """Wait for what is under way and take away what nobody took. Idempotent."""
        for stage in list(self._coming):
            coming = self._coming.pop(stage)
            with suppress(SuiteError):
                coming.future.result()
            down(coming.name)
        self._pool.shutdown()
