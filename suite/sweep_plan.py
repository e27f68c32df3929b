"""What a `stages sweep distance` will do, decided before anything starts: a pure function from wishes to a plan.

Each distance is visited twice or more, in an order drawn from the seed and then in the same order backwards:

    25  0  50  5  10 | 10  5  50  0  25

so that a machine that grows slower or faster on the way does so for near and far alike, and cannot look like slope.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.blast_radius import Effect, Impact, predict
from stages.catalogue import STAGES
from stages.deployment import Deployment
from stages.distance import round_trips, wires_between_systems
from stages.model import Kind, Stage
from suite.plan import rate_problems, unknown
from suite.ports import BadInput
from suite.wishes import SweepWishes

DELAYS_MS = (0, 5, 10, 25, 50)
QUICK_DELAYS_MS = (5, 25, 50)

DELAY_MS_MAX = 1000
DISTANCES = (3, 12)
"""Fewest besides 0, so that the interval of a slope exists and a line is more than its ends; and most, so that a run
ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTimings:
    """How long each part of a sweep takes, seconds."""

    warm_up_s: float = 3.0
    settle_s: float = 0.5
    """After the distance has changed, before requests count: most of those sent before are answered."""
    block_s: float = 2.0
    """Requests count that are due in so long a stretch; their answers are waited for before the distance changes."""
    linger_s: float = 1.0
    """Where messages do work after the answer: from a block's end until the distance changes, so that what was accepted
    is complete at the same distance."""
    rounds: int = 2
    """There and back: each distance has twice as many blocks. Many short blocks serve better than few long ones: what
    disturbs the machine lasts for seconds and spoils whole blocks."""
    rounds_max: int = 4
    """While an operation is undecided after that, another round follows. Looking that often at intervals of 95 % makes
    them a little less sure; what is told apart with them are whole numbers, many widths away from each other."""
    drain_s: float = 30.0


QUICK_TIMINGS = SweepTimings(warm_up_s=1.0, rounds=1, rounds_max=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSweep:
    """One stage of the sweep."""

    stage: Stage
    wires: tuple[str, ...]
    """Those that grow longer."""
    predicted: Mapping[str, int]
    """Round trips that an answer waits for, by operation."""
    rounds_ms: tuple[tuple[int, ...], ...]
    """One-way delay of each block of each round, in order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """A whole sweep."""

    stages: tuple[StageSweep, ...]
    delays_ms: tuple[int, ...]
    timings: SweepTimings
    rate: float
    seed: int
    quick: bool


def make_sweep(
    wishes: SweepWishes, *, cannot: Mapping[str, Sequence[str]], use: Deployment | None = None, busy: Sequence[str] = ()
) -> SweepPlan:
    """Turn wishes into a plan. Raise BadInput with all problems.

    `cannot` says why a stage cannot be deployed here (absent or empty: it can); `busy` are the faults that are on in
    the deployment to use.
    """
    problems = [
        f"fault {fault!r} is on in deployment {use.name!r}: 'stages heal' undoes it"
        for fault in busy
        if use is not None
    ]
    names = _stage_names(wishes.stages, cannot, use, problems)
    delays = _delays(wishes, problems)
    problems += rate_problems(wishes.rate)
    for name in names:
        problems += _too_far(STAGES[name], delays)
    if problems:
        raise BadInput(problems)
    timings = QUICK_TIMINGS if wishes.quick else SweepTimings()
    return SweepPlan(
        stages=tuple(_stage_sweep(STAGES[name], delays, timings.rounds_max, wishes.seed) for name in names),
        delays_ms=delays,
        timings=timings,
        rate=wishes.rate,
        seed=wishes.seed,
        quick=wishes.quick,
    )


def rounds_of_blocks(delays_ms: Sequence[int], rounds: int, seed: str) -> tuple[tuple[int, ...], ...]:
    """In each round all delays shuffled, and the same backwards.

    >>> (order,) = rounds_of_blocks((0, 25, 50), 1, "7/sync")
    >>> order == order[::-1], sorted(order)
    (True, [0, 0, 25, 25, 50, 50])
    """
    chance = random.Random(seed)
    found = []
    for _ in range(rounds):
        there = list(delays_ms)
        chance.shuffle(there)
        found.append((*there, *reversed(there)))
    return tuple(found)


def _stage_sweep(stage: Stage, delays_ms: tuple[int, ...], rounds: int, seed: int) -> StageSweep:
    return StageSweep(
        stage=stage,
        wires=wires_between_systems(stage),
        predicted=round_trips(stage),
        rounds_ms=rounds_of_blocks(delays_ms, rounds, f"{seed}/{stage.name}"),
    )


def _stage_names(
    asked: Sequence[str], cannot: Mapping[str, Sequence[str]], use: Deployment | None, problems: list[str]
) -> list[str]:
    if use is not None:
        if tuple(asked) not in ((), (use.stage,)):
            problems.append(
                f"deployment {use.name!r} runs stage {use.stage!r}, not {' '.join(asked)}: "
                f"say 'stages sweep distance {use.stage} --use {use.name}'"
            )
        return [use.stage] if use.stage in STAGES else []
    problems += [unknown("stage", name, list(STAGES), "stages list") for name in asked if name not in STAGES]
    able = [name for name in STAGES if not cannot.get(name)]
    wanted = [name for name in STAGES if name in (asked or able or STAGES)]
    problems += [f"stage {name!r} cannot run here: {why}" for name in wanted for why in cannot.get(name, ())]
    return wanted


def _delays(wishes: SweepWishes, problems: list[str]) -> tuple[int, ...]:
    if not wishes.delays.strip():
        return QUICK_DELAYS_MS if wishes.quick else DELAYS_MS
    words = [word.strip() for word in wishes.delays.split(",")]
    wrong = [word for word in words if not (word.isascii() and word.isdecimal() and int(word) <= DELAY_MS_MAX)]
    if wrong:
        said = ", ".join(repr(word) for word in wrong)
        problems.append(f"--delays: {said} is no whole number of milliseconds from 0 to {DELAY_MS_MAX}")
        return ()
    delays = tuple(sorted({int(word) for word in words}))
    low, high = DISTANCES
    if not low <= (others := len(set(delays) - {0})) <= high:
        problems.append(f"--delays names {others} different distances besides 0, {low} to {high} make a line")
    return delays


def _too_far(stage: Stage, delays_ms: Sequence[int]) -> list[str]:
    """Beyond its timeouts a shop does not answer later but not at all: nothing to draw a line through."""
    found = []
    calls = {c.name for c in stage.channels if c.kind is Kind.CALL} & set(wires_between_systems(stage))
    for delay_ms in delays_ms:
        foreseen = predict(stage, Impact(delay_ms=dict.fromkeys(calls, 2 * delay_ms)))
        broken = [p.because for p in foreseen.values() if p.effect is not Effect.UNAFFECTED]
        found += [f"--delays {delay_ms} is too far for stage {stage.name!r}: {why}" for why in broken[:1]]
    return found
