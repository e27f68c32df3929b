"""What a `stages verify` will do, decided before anything starts: a pure function from wishes to a plan.

All problems of the wishes are found at once and raised together as BadInput.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.blast_radius import Effect, Prediction, predict
from stages.catalogue import STAGES, VARIANTS
from stages.deployment import Deployment
from stages.model import Stage, Variant
from suite.ports import BadInput, FaultPlan
from suite.wishes import Wishes

RATE_LIMITS = (5.0, 1000.0)
"""Below, no cell is decided before its cap; above, one generator core is no longer honest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long each part of a run may take, seconds."""

    warm_up_s: float = 4.0
    """Mixed load before anything counts: connections open, caches filled."""
    baseline_s: float = 20.0
    tau_s: float = 2.0
    """Left out after the fault bit: the longest reaction (timeouts x attempts, breaker) fits in it."""
    min_s: float = 5.0
    cap_s: float = 20.0
    """A fault is held no longer than this after it was seen."""
    recover_s: float = 20.0
    """All operations must be good again this long after the undo."""
    good_span_s: float = 2.0
    """For so long they must be good to count as recovered."""
    drain_s: float = 30.0
    """Every accepted order must have ended this long after the load."""
    margin: float = 0.05
    """Each operation that a fault should spare loses surely less than this share of its requests."""
    pooled_margin: float = 0.01
    """All of them together."""


QUICK = Timings(
    warm_up_s=1.0,
    baseline_s=6.0,
    min_s=4.0,
    cap_s=15.0,
    good_span_s=1.0,
    drain_s=20.0,
    margin=0.15,
    pooled_margin=0.025,
)
"""A third of the requests decide an operation, on three times the margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage of the run."""

    stage: Stage
    faults: tuple[FaultPlan, ...]
    predictions: Mapping[str, Mapping[str, Prediction]]
    """By fault, then by operation."""

    @property
    def promised_cells(self) -> int:
        """Cells that are not predicted to fail: the number of chances to accuse one wrongly."""
        return sum(p.effect < Effect.FAILING for row in self.predictions.values() for p in row.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run."""

    stages: tuple[StagePlan, ...]
    timings: Timings
    rate: float
    seed: int
    variant: Variant | None


def make_plan(
    wishes: Wishes,
    *,
    catalogue: Mapping[str, Sequence[FaultPlan]],
    cannot: Mapping[str, Sequence[str]],
    use: Deployment | None = None,
) -> Plan:
    """Turn wishes into a plan.

    `catalogue` holds every fault of every stage; `cannot` says why a stage cannot be deployed here
    (absent or empty: it can). Raise BadInput with all problems.
    """
    problems: list[str] = []
    names = _stage_names(wishes, cannot, use, problems)
    variant = _variant(wishes, problems)
    problems += rate_problems(wishes.rate_per_s)
    if use is not None and use.variant != wishes.variant:
        problems.append(
            f"deployment {use.name!r} runs variant {use.variant or 'none'}, not {wishes.variant or 'none'}: "
            "give the same --variant, or leave --use out to deploy one"
        )
    plans = tuple(_stage_plan(STAGES[n], catalogue.get(n, ()), wishes, variant) for n in names)
    if variant is not None:
        problems += [
            f"variant {variant.name!r} shows under the fault {variant.exposed_by!r}, which stage {n!r} does not have: "
            f"say 'stages verify {variant.stage} --variant {variant.name}'"
            for n in names
            if variant.exposed_by not in {f.name for f in catalogue.get(n, ())}
        ]
    known = sorted({f.name for n in names for f in catalogue.get(n, ())})
    problems += [unknown("fault", f, known, "stages list --faults") for f in wishes.faults if names and f not in known]
    if problems:
        raise BadInput(problems)
    return Plan(
        stages=plans,
        timings=QUICK if wishes.quick else Timings(),
        rate=wishes.rate_per_s,
        seed=wishes.seed,
        variant=variant,
    )


def _stage_names(
    wishes: Wishes, cannot: Mapping[str, Sequence[str]], use: Deployment | None, problems: list[str]
) -> list[str]:
    if use is not None:
        if wishes.stages not in ((), (use.stage,)):
            problems.append(
                f"deployment {use.name!r} runs stage {use.stage!r}, not {' '.join(wishes.stages)}: "
                f"say 'stages verify {use.stage} --use {use.name}'"
            )
        return [use.stage] if use.stage in STAGES else []
    variant = VARIANTS.get(wishes.variant or "")
    wanted = wishes.stages or ((variant.stage,) if variant else ())
    for name in wanted:
        if name not in STAGES:
            problems.append(unknown("stage", name, list(STAGES), "stages list"))
        else:
            problems += [f"stage {name!r} cannot run here: {why}" for why in cannot.get(name, ())]
    able = [n for n in STAGES if not cannot.get(n)]
    if not wanted and not able:
        problems += [f"stage {name!r} cannot run here: {why}" for name in STAGES for why in cannot.get(name, ())]
    asked = wanted or tuple(able)
    return [n for n in STAGES if n in asked]


def _variant(wishes: Wishes, problems: list[str]) -> Variant | None:
    if wishes.variant is None:
        return None
    if wishes.variant not in VARIANTS:
        problems.append(unknown("variant", wishes.variant, list(VARIANTS), "stages list --variants"))
        return None
    return VARIANTS[wishes.variant]


def _stage_plan(stage: Stage, faults: Sequence[FaultPlan], wishes: Wishes, variant: Variant | None) -> StagePlan:
    exposing = {variant.exposed_by} if variant else set()
    if wishes.faults:
        chosen = tuple(f for f in faults if f.name in wishes.faults)
    elif wishes.quick:
        chosen = tuple(f for f in faults if f.quick or f.name in exposing)
    else:
        chosen = tuple(faults)
    return StagePlan(stage=stage, faults=chosen, predictions={f.name: predict(stage, f.impact) for f in chosen})


def rate_problems(rate: float) -> list[str]:
    """What is wrong with a rate of requests per second; empty when a run can be honest at it."""
    low, high = RATE_LIMITS
    return [] if low <= rate <= high else [f"--rate {rate:g} is outside {low:g} to {high:g} requests per second"]


def unknown(what: str, name: str, known: Sequence[str], see: str) -> str:
    """The sentence for a name that is not in the catalogue."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {what} {name!r}: {hint}'{see}' shows all {len(known)}"
