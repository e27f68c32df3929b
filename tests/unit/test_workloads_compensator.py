"""The background worker that finishes what requests had to give up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from workloads import problems
from workloads.handlers.compensator import WORKERS, Compensator, Undoing
from workloads.problems import ProblemError

SEED = 7
AWAY = ProblemError(problems.DATABASE_UNAVAILABLE, "locked")


async def nothing(_limit: int) -> Sequence[str]:
    return []


async def until(holds: Callable[[], bool], why: str) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  # what is waited for does not know that it is
            await asyncio.sleep(0.005)
    assert holds(), why


async def run(
    undo: Callable[[Undoing], Awaitable[None]],
    until_true: Callable[[], bool],
    *subjects: str,
    scan: Callable[[int], Awaitable[Sequence[str]]] = nothing,
) -> Compensator:
    compensator = Compensator(random.Random(SEED), scan_every_s=0.02)
    for subject in subjects:
        compensator.add(subject)
    compensator.start(undo, scan)
    await until(until_true, f"not finished, seed {SEED}")
    await compensator.stop()
    return compensator


async def test_what_is_handed_over_is_undone_once() -> None:
    undone: list[str] = []

    async def undo(work: Undoing) -> None:
        undone.append(work.subject)

    compensator = await run(undo, lambda: len(undone) == 2, "o-1", "o-2", "o-1")
    assert sorted(undone) == ["o-1", "o-2"]
    assert compensator.backlog == 0


async def test_what_the_scan_finds_is_undone_though_nobody_handed_it_over() -> None:
    undone: list[str] = []

    async def undo(work: Undoing) -> None:
        undone.append(work.subject)

    async def scan(_limit: int) -> Sequence[str]:
        return [] if undone else ["o-9"]

    await run(undo, lambda: undone == ["o-9"], scan=scan)


async def test_what_fails_is_tried_again_with_the_progress_it_had_made() -> None:
    seen: list[tuple[int, set[str]]] = []

    async def undo(work: Undoing) -> None:
        seen.append((work.failures, set(work.done)))
        work.done.add(f"step-{len(seen)}")
        if len(seen) < 3:
            raise AWAY

    compensator = await run(undo, lambda: len(seen) == 3, "o-1")
    assert seen == [(0, set()), (1, {"step-1"}), (2, {"step-1", "step-2"})]
    assert compensator.backlog == 0


async def test_a_defect_in_one_undo_stops_neither_it_nor_the_others() -> None:
    runs: list[str] = []

    async def undo(work: Undoing) -> None:
        runs.append(work.subject)
        if work.subject == "o-bad" and runs.count("o-bad") == 1:
            raise ZeroDivisionError

    await run(undo, lambda: runs.count("o-bad") == 2 and "o-good" in runs, "o-bad", "o-good")


async def test_a_scan_that_fails_is_made_again() -> None:
    scans = 0
    undone: list[str] = []

    async def undo(work: Undoing) -> None:
        undone.append(work.subject)

    async def scan(_limit: int) -> Sequence[str]:
        nonlocal scans
        scans += 1
        if scans == 1:
            raise AWAY
        return ["o-1"]

    await run(undo, lambda: bool(undone), scan=scan)


async def test_no_more_than_a_few_are_undone_at_once() -> None:
    at_once = most = done = 0

    async def undo(_work: Undoing) -> None:
        nonlocal at_once, most, done
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.002)
        at_once -= 1
        done += 1

    await run(undo, lambda: done == 20, *(f"o-{number}" for number in range(20)))
    assert 1 < most <= WORKERS
