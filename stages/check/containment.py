"""Did a fault stay where the model said it would? One verdict per operation, and one for all the unaffected together.

    history --count--> samples --evidence--> measured class --compare with the prediction--> cell

`judge_fault` is a pure function of what was seen until `now_ns`: called every half second while the fault is on, it
says when enough was seen; called once more afterwards, it gives the verdicts. Worse than predicted is a leak (invalid),
better is valid and flagged, undecided is unknown. No such rule sees a leak that begins only after its window, or a
burst too short and rare for a request to meet it: the claim is about the share of bad requests during the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.blast_radius import Effect, Prediction
from stages.check.cells import UNKNOWN, Cell, Measuring, Pooled, judge_cell, judge_pooled, unproven
from stages.check.counting import ANSWER_WAIT_S, SECOND_NS, Censor, Counts, Outstanding, Span, count
from stages.check.verdict import Verdict
from stages.history import Invocation, Stall, Unsent
from stages.model import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """How the shop did while it was well."""

    by_operation: Mapping[str, Counts] = field(default_factory=dict)
    seconds: float = 0.0
    """Length of all healthy spans together."""

    @classmethod
    def of(
        cls,
        stage: Stage,
        invocations: Sequence[Invocation],
        spans: Iterable[Span],
        *,
        stalls: Iterable[Stall] = (),
        unsent: Sequence[Unsent] = (),
    ) -> Baseline:
        """Count the healthy spans: the baseline phase, and clean time after recoveries.

        Each span must be over for as long as an answer may take, so that the history knows all its requests.
        Requests whose SLO reaches past a span's end are left out: a fault may have begun there.
        """
        censor = Censor(stalls)
        total: dict[str, Counts] = {o.name: Counts() for o in stage.operations}
        seconds = 0.0
        for span in spans:
            seconds += (span.end_ns - span.start_ns) / SECOND_NS
            counted = count(stage, span, invocations, outstanding=(), unsent=unsent, censor=censor)
            total = {name: total[name] + sample.counts for name, sample in counted.items()}
        return cls(by_operation=total, seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultJudgement:
    """What is known about one fault so far, or in the end."""

    fault: str
    cells: tuple[Cell, ...]
    """One per operation, in the stage's order."""
    pooled: Pooled
    decided: bool
    """Nothing more is to be expected: every cell and the pool are decided, or the cap is reached."""
    reinject: bool
    """Decided, but something got worse without a clean control: inject again and pass this as `repeat_of`."""

    @property
    def undecided(self) -> tuple[str, ...]:
        """Operations whose class is still unknown: where more load would help."""
        return tuple(c.operation for c in self.cells if c.measured == UNKNOWN)


def judge_fault(
    *,
    stage: Stage,
    fault: str,
    predictions: Mapping[str, Prediction],
    invocations: Iterable[Invocation],
    unsent: Iterable[Unsent],
    baseline: Baseline,
    seen_ns: int,
    now_ns: int,
    stalls: Iterable[Stall],
    promised_cells: int,
    bit: bool,
    seen_by: str,
    final: bool,
    outstanding: Sequence[Outstanding] | None = None,
    answer_wait_s: float = ANSWER_WAIT_S,
    previous: FaultJudgement | None = None,
    repeat_of: FaultJudgement | None = None,
    tau_s: float = 2.0,
    min_s: float = 5.0,
    cap_s: float = 20.0,
    margin: float = 0.05,
    pooled_margin: float = 0.01,
    alpha: float = 0.05,
) -> FaultJudgement:
    """Judge one fault from what was seen until `now_ns`; when it is over, pass the moment the undo was ordered.

    `seen_ns` is when a probe saw the fault bite (`bit`, `seen_by`); requests count from `tau_s` later. Neither order
    nor completeness of `invocations` before that matters. `outstanding` and `answer_wait_s` are explained at
    `counting.count`: live, what is in flight, or None; afterwards, when all is answered, ().
    `promised_cells` is the number of cells of the run that are promised anything, at least 1.
    `previous` is the last look's result: it keeps the time at which a cell was decided, and for the final look what
    was decided when the fault was ended.
    `repeat_of` is the first injection's result, if this is the second one because of its `reinject`.
    Takes under 20 ms for 2,000 invocations.
    """
    span = Span(start_ns=seen_ns + round(tau_s * SECOND_NS), end_ns=now_ns)
    samples = count(
        stage,
        span,
        invocations,
        outstanding=outstanding,
        unsent=unsent,
        censor=Censor(stalls),
        answer_wait_s=answer_wait_s,
    )
    measuring = Measuring(
        fault=fault,
        samples=samples,
        baseline=baseline.by_operation,
        pool=tuple(name for name, p in predictions.items() if p.effect is Effect.UNAFFECTED),
        elapsed_s=(now_ns - seen_ns) / SECOND_NS,
        exposed_s=max(0.0, (span.end_ns - span.start_ns) / SECOND_NS),
        promised_cells=max(1, promised_cells),
        min_s=min_s,
        margin=margin,
        pooled_margin=pooled_margin,
        refuted=1 / alpha,
        seen_by=seen_by,
        final=final,
        doubted=_doubted(repeat_of),
    )
    cells = tuple(
        _first_decided(judge_cell(measuring, operation.name, predictions[operation.name]), previous)
        for operation in stage.operations
    )
    pooled = judge_pooled(measuring, cells)
    if final and previous is not None and previous.decided:
        cells, pooled = _as_decided(cells, pooled, previous)
    capped = final or measuring.elapsed_s >= cap_s
    if not bit and not any(_shows_the_fault(c) for c in cells):
        cells, pooled = unproven(cells, pooled, seen_by)
        return FaultJudgement(fault=fault, cells=cells, pooled=pooled, decided=capped, reinject=False)
    doubtful = [c.operation for c in cells if _no_clean_control(c.evidence)]
    settled = all(c.measured != UNKNOWN or (c.operation in doubtful and measuring.ripe) for c in cells)
    pool_settled = pooled.verdict is not Verdict.UNKNOWN or (_no_clean_control(pooled.evidence) and measuring.ripe)
    decided = capped or (settled and pool_settled)
    again = bool(doubtful) or _no_clean_control(pooled.evidence)
    return FaultJudgement(
        fault=fault, cells=cells, pooled=pooled, decided=decided, reinject=decided and again and repeat_of is None
    )


def _shows_the_fault(cell: Cell) -> bool:
    """A cell that was to be affected, and is: as good a proof that the fault bit as any probe."""
    return cell.predicted is not Effect.UNAFFECTED and cell.measured in (Effect.DEGRADED, Effect.FAILING)


def _no_clean_control(evidence: Mapping[str, Any]) -> bool:
    return evidence.get("no_clean_control") is True


def _doubted(first: FaultJudgement | None) -> frozenset[str]:
    """What got worse without a clean control when the fault was first injected; '' stands for the pool."""
    if first is None:
        return frozenset()
    cells = {c.operation for c in first.cells if _no_clean_control(c.evidence)}
    return frozenset(cells | ({""} if _no_clean_control(first.pooled.evidence) else set()))


def _as_decided(cells: tuple[Cell, ...], pooled: Pooled, last: FaultJudgement) -> tuple[tuple[Cell, ...], Pooled]:
    """What was decided when the fault was ended stays so, unless what came in since decides otherwise.

    The evidence is valid at the moment of stopping; the few requests after it must not turn an answer into none.
    """
    kept = tuple(
        before if cell.measured == UNKNOWN != before.measured else cell
        for cell, before in zip(cells, last.cells, strict=True)
    )
    undecided = pooled.verdict is Verdict.UNKNOWN and last.pooled.verdict is not Verdict.UNKNOWN
    return kept, last.pooled if undecided else pooled


def _first_decided(cell: Cell, previous: FaultJudgement | None) -> Cell:
    """Keep the time of the first look that came to this result."""
    if previous is None or cell.decided_after_s is None:
        return cell
    before = next((c for c in previous.cells if c.operation == cell.operation), None)
    if before is None or before.measured != cell.measured or before.decided_after_s is None:
        return cell
    return cell.decided_at(before.decided_after_s)
