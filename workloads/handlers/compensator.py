"""Who finishes what a request had to give up? A background worker that undoes, with backoff, until it is done.

Work comes from two sides: the saga hands over what it has just failed, and a scan of the database finds
what nobody in this process knows of (left by a crash, or by an instance that was replaced). Progress
within one undo is kept in memory only: after a restart every step is undone again, which is harmless.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from workloads.ports import CallFailed, CallRefused, PublishFailed
from workloads.problems import ProblemError

log = structlog.get_logger()

WORKERS = 4
"""Undos at once: enough to drain a minute of failed orders in seconds, few enough to leave room for requests."""
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 1.5
SCAN_EVERY_S = 1.0
SCAN_LIMIT = 200
"""Rows looked at per scan; the next scan sees the next ones, once these are done."""


@dataclass(slots=True)
class Undoing:
    """One piece of work and how far it got."""

    subject: str
    """Id of the order or account."""
    done: set[str] = field(default_factory=set)
    """Names of the steps that are undone already."""
    failures: int = 0


Undo = Callable[[Undoing], Awaitable[None]]
"""Brings one subject to its end; raises what the ports raise to be asked again later."""
Scan = Callable[[int], Awaitable[Sequence[str]]]
"""Lists at most so many subjects that are not at their end and that no request is working on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What the chains need besides their ports."""

    clock_ns: Callable[[], int]
    """CLOCK_MONOTONIC, nanoseconds."""
    hand_over: Callable[[str, Sequence[str]], None]
    """Gives a subject to the compensator, with the names of the steps that are undone already."""
    disabled: frozenset[str] = frozenset()
    """Guarantees left out on purpose."""


class Compensator:
    """Undoes every subject handed over or found, until that succeeds."""

    def __init__(self, rng: random.Random, scan_every_s: float = SCAN_EVERY_S) -> None:
        """`rng` spreads the backoff; nothing happens before `start`."""
        self._rng = rng
        self._scan_every_s = scan_every_s
        self._known: set[str] = set()
        self._due: list[tuple[float, int, Undoing]] = []
        self._count = 0
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(WORKERS)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def backlog(self) -> int:
        """How many subjects are not undone yet."""
        return len(self._known)

    def add(self, subject: str, done: Sequence[str] = ()) -> None:
        """Hand over a subject, with the names of steps that need no undo; adding one again changes nothing."""
        if subject not in self._known:
            self._known.add(subject)
            self._push(Undoing(subject, set(done)), 0.0)

    def start(self, undo: Undo, scan: Scan) -> None:
        """Begin scanning and undoing in the running loop; end it with `stop`."""
        for job in (self._scanning(scan), self._working(undo)):
            self._spawn(job)

    async def stop(self) -> None:
        """Drop what is under way; a later start, here or elsewhere, takes it up again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _scanning(self, scan: Scan) -> None:
        while True:
            try:
                for subject in await scan(SCAN_LIMIT):
                    self.add(subject)
            except ProblemError as error:  # the database is away; the next scan will see the same rows
                log.warning("scan-failed", error=str(error))
            await asyncio.sleep(self._scan_every_s)

    async def _working(self, undo: Undo) -> None:
        while True:
            await self._slots.acquire()
            self._spawn(self._attempt(undo, await self._next()))

    async def _next(self) -> Undoing:
        while True:
            self._wake.clear()
            wait_s = self._due[0][0] - asyncio.get_running_loop().time() if self._due else None
            if wait_s is not None and wait_s <= 0:
                return heapq.heappop(self._due)[2]
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _attempt(self, undo: Undo, work: Undoing) -> None:
        try:
            await undo(work)
            self._known.discard(work.subject)
        except (ProblemError, CallFailed, CallRefused, PublishFailed) as error:
            self._again(work, str(error))
        except Exception as error:
            # the border of a worker loop: a defect in one undo must not end the others
            log.exception("undo-crashed", subject=work.subject)
            self._again(work, repr(error))
        finally:
            self._slots.release()

    def _again(self, work: Undoing, error: str) -> None:
        work.failures += 1
        backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(work.failures, 10))
        self._push(work, backoff_s * self._rng.uniform(0.5, 1.0))
        if work.failures == 1:
            log.warning("undo-postponed", subject=work.subject, error=error)

    def _push(self, work: Undoing, delay_s: float) -> None:
        self._count += 1
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + delay_s, self._count, work))
        self._wake.set()

    def _spawn(self, job: Awaitable[None]) -> None:
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
