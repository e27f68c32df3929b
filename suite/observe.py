"""One fault, from injection to recovery: inject -> watch until decided -> undo -> wait until all is good again.

load    ------------------------------------------------------------------------------>
fault        intent  injected  seen ................ release  undoing  undone
looks                           |<- tau ->|   |   |   |                      |  |  recovered
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stages.blast_radius import Effect, Prediction
from stages.check import HELD_LONGER_S, Baseline, FaultJudgement, judge_fault, recovery, sends_messages, unseen
from stages.deployment import Deployment
from stages.history import FaultEvent, FaultStep
from stages.model import Stage
from suite.gathered import Gathered
from suite.plan import Plan, StagePlan
from suite.ports import Backlog, Clock, FaultPlan, Faults, Load

LOOK_EVERY_S = 0.5
"""Time between two looks at the evidence; looking often costs nothing, the evidence is anytime-valid."""

INJECT_S = 20.0
"""A fault that no probe saw bite this long after it was ordered is given up as not injected."""

UNDO_S = 30.0
"""An undo that takes longer is trouble of its own; the recovery is waited for all the same."""

ANSWERS_S = 10.0
"""Longest wait for requests that met a fault: three times what a client waits for an answer."""

STOCK_S = 12.0
"""For so long cancellations must not run out of orders while none can be placed: about the time a fault is held."""

STOCK_LEAST = 40
"""Orders that are always there to be tracked and cancelled."""

SPARED = 2
"""While a fault is on, operations that it is to break get this much less of the load than those that it must not
touch: the former show in a few requests, the latter need many, and each failing request costs the shop retries."""

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What became of one fault."""

    fault: FaultPlan
    judgement: FaultJudgement
    bit: bool
    """The fault was on and a probe saw it bite."""
    seen_by: str
    trouble: str
    """What went wrong with injecting or undoing it, '' if nothing did."""
    held_s: float | None
    """From the sight of the fault to the order to undo it, None if it was never seen."""
    recovered_s: float | None
    """From the undo to the start of the first good span, None if it never came."""
    intent_ns: int
    """When it was ordered."""
    begin_ns: int
    """When it was seen to bite, or ordered if it never was."""
    end_ns: int
    """When the undo was ordered: requests due from `begin_ns` to here met the fault."""
    over_ns: int
    """When the shop was well again, or was given up: what happened in between is the fault's doing."""


def healthy_mix(stage: Stage) -> dict[str, int]:
    """The mix of operations while nothing is broken."""
    return {o.name: o.weight for o in stage.operations}


def fault_mix(stage: Stage, predictions: Mapping[str, Prediction]) -> dict[str, int]:
    """The mix while a fault is on: where the evidence is needed.

    >>> from stages.catalogue import SYNC
    >>> from stages.blast_radius import Impact, predict
    >>> fault_mix(SYNC, predict(SYNC, Impact(down=frozenset({"analytics"}))))
    {'browse': 4, 'register': 2, 'place-order': 2, 'track-order': 4, 'cancel-order': 4, 'insights': 2}
    """
    needed = {name: p.effect < Effect.FAILING for name, p in predictions.items()}
    if len(set(needed.values())) == 1:
        return healthy_mix(stage)
    return {name: 2 * SPARED if wanted else 2 for name, wanted in needed.items()}


def stock_needed(stage: Stage, predictions: Mapping[str, Prediction], rate: float) -> int:
    """How many confirmed orders to have before a fault: those cancelled meanwhile, if no new ones come.

    >>> from stages.catalogue import SYNC
    >>> from stages.blast_radius import Impact, predict
    >>> stock_needed(SYNC, predict(SYNC, Impact(down=frozenset({"email"}))), rate=60)
    144
    >>> stock_needed(SYNC, predict(SYNC, Impact()), rate=60)
    40
    """
    mix = fault_mix(stage, predictions)
    if predictions["place-order"].effect < Effect.FAILING:
        return STOCK_LEAST
    return max(STOCK_LEAST, round(rate * mix["cancel-order"] / sum(mix.values()) * STOCK_S))


class Observer:
    """Injects the faults of one stage's run one after the other and watches each."""

    def __init__(
        self,
        *,
        plan: Plan,
        stage_plan: StagePlan,
        deployment: Deployment,
        gathered: Gathered,
        load: Load,
        faults: Faults,
        clock: Clock,
        backlog: Callable[[Deployment], Backlog],
    ) -> None:
        self._backlog = backlog
        self._timings = plan.timings
        self._rate = plan.rate
        self._stage_plan = stage_plan
        self._stage = stage_plan.stage
        self._deployment = deployment
        self._gathered = gathered
        self._load = load
        self._faults = faults
        self._clock = clock

    def observe(self, fault: FaultPlan, baseline: Baseline) -> Observation:
        """Inject a fault, a second time if its control was not clean, and wait for recovery each time."""
        first = self._once(fault, baseline, repeat_of=None)
        if first.judgement.reinject and first.recovered_s is not None:
            return self._once(fault, baseline, repeat_of=first.judgement)
        return first

    def _once(self, fault: FaultPlan, baseline: Baseline, repeat_of: FaultJudgement | None) -> Observation:
        predictions = self._stage_plan.predictions[fault.name]
        self._load.restock(stock_needed(self._stage, predictions, self._rate))
        usual = self._waiting()
        intent_ns = self._clock.now_ns()
        self._load.phase(f"fault:{fault.name}")
        self._load.mix(fault_mix(self._stage, predictions))
        self._faults.begin(fault.name, self._deployment, hold_s=self._timings.cap_s)
        seen = self._wait_until_seen(fault.name, intent_ns)
        judgement = self._watch(fault, baseline, seen, intent_ns, repeat_of)
        self._faults.release()
        self._load.phase(f"undo:{fault.name}")
        trouble = self._wait_until_undone()
        undoing = self._gathered.step(fault.name, FaultStep.UNDOING, since_ns=intent_ns)
        undone = self._gathered.step(fault.name, FaultStep.UNDONE, since_ns=intent_ns)
        self._load.mix(healthy_mix(self._stage))
        self._load.phase(f"recovery:{fault.name}")
        undone_ns = undone.at_ns if undone else self._clock.now_ns()
        recovered_ns = self._wait_until_recovered(fault.name, undone_ns, usual)
        # Once more with every answer known: nothing that met the fault is still out.
        end_ns = undoing.at_ns if undoing else undone_ns
        self._wait_for_answers(end_ns)
        judgement = self._judge(fault, baseline, seen, end_ns, previous=judgement, repeat_of=repeat_of, final=True)
        return Observation(
            fault=fault,
            judgement=judgement,
            bit=seen is not None,
            seen_by=seen.detail if seen else "",
            trouble=trouble or self._trouble(fault.name, intent_ns),
            held_s=(end_ns - seen.at_ns) / SECOND_NS if seen else None,
            recovered_s=None if recovered_ns is None else (recovered_ns - undone_ns) / SECOND_NS,
            intent_ns=intent_ns,
            begin_ns=seen.at_ns if seen else intent_ns,
            end_ns=end_ns,
            over_ns=self._clock.now_ns() if recovered_ns is None else recovered_ns,
        )

    def _wait_until_seen(self, fault: str, intent_ns: int) -> FaultEvent | None:
        deadline_ns = intent_ns + int(INJECT_S * SECOND_NS)
        while self._clock.now_ns() < deadline_ns:
            self._gathered.refresh()
            if seen := self._gathered.step(fault, FaultStep.SEEN, since_ns=intent_ns):
                return seen
            if self._faults.finished() is not None:
                return None
            self._clock.sleep(0.1)
        return None

    def _watch(
        self,
        fault: FaultPlan,
        baseline: Baseline,
        seen: FaultEvent | None,
        intent_ns: int,
        repeat_of: FaultJudgement | None,
    ) -> FaultJudgement:
        judgement = self._judge(fault, baseline, seen, intent_ns, previous=None, repeat_of=repeat_of, final=False)
        least_ns = (seen.at_ns if seen else intent_ns) + round(self._least_s(fault) * SECOND_NS)
        while seen is not None and self._faults.finished() is None:
            if judgement.decided and self._clock.now_ns() >= least_ns:
                break
            self._clock.sleep(LOOK_EVERY_S)
            judgement = self._judge(
                fault, baseline, seen, self._clock.now_ns(), previous=judgement, repeat_of=repeat_of, final=False
            )
        return judgement

    def _judge(
        self,
        fault: FaultPlan,
        baseline: Baseline,
        seen: FaultEvent | None,
        now_ns: int,
        *,
        previous: FaultJudgement | None,
        repeat_of: FaultJudgement | None,
        final: bool,
    ) -> FaultJudgement:
        # What is out is asked first: an answer that arrives in between is then found in the history.
        outstanding = () if final else self._load.outstanding()
        self._gathered.refresh()
        begin_ns = seen.at_ns if seen else now_ns
        recent = self._gathered.since(begin_ns)
        return judge_fault(
            stage=self._stage,
            fault=fault.name,
            predictions=self._stage_plan.predictions[fault.name],
            invocations=recent.invocations,
            unsent=recent.unsent,
            outstanding=outstanding,
            baseline=baseline,
            seen_ns=begin_ns,
            now_ns=now_ns,
            stalls=recent.stalls,
            promised_cells=self._stage_plan.promised_cells,
            bit=seen is not None,
            seen_by=seen.detail if seen else "no probe saw it bite",
            final=final,
            previous=previous,
            repeat_of=repeat_of,
            tau_s=self._timings.tau_s,
            min_s=self._timings.min_s,
            cap_s=self._timings.cap_s,
            margin=self._timings.margin,
            pooled_margin=self._timings.pooled_margin,
        )

    def _least_s(self, fault: FaultPlan) -> float:
        """For how long to hold a fault at least: what it delays must have had the time to come too late."""
        predictions = self._stage_plan.predictions[fault.name]
        within_ms = [
            completion.within_ms
            for operation in self._stage.operations
            for completion in operation.completions
            if predictions[operation.name].effect is Effect.DELAYED
        ]
        return max(within_ms) / 1000 + HELD_LONGER_S if within_ms else 0.0

    def _wait_until_undone(self) -> str:
        deadline_ns = self._clock.now_ns() + int(UNDO_S * SECOND_NS)
        while (ended := self._faults.finished()) is None:
            if self._clock.now_ns() > deadline_ns:
                return f"the undo did not end within {UNDO_S:g} s"
            self._clock.sleep(0.05)
        self._gathered.refresh()
        return ended

    def _wait_until_recovered(self, fault: str, undone_ns: int, usual: int) -> int | None:
        was_behind = False
        deadline_ns = undone_ns + int(self._timings.recover_s * SECOND_NS)
        while True:
            outstanding = self._load.outstanding()
            self._gathered.refresh()
            recent, now_ns = self._gathered.since(undone_ns), self._clock.now_ns()
            good_ns = recovery(
                self._stage,
                recent.invocations,
                undone_ns,
                now_ns,
                recent.stalls,
                outstanding=outstanding,
                good_span_s=self._timings.good_span_s,
            )
            behind = self._behind(usual) if good_ns is not None else ""
            if good_ns is not None and not behind:
                well_ns = now_ns if was_behind else good_ns
                self._gathered.add(FaultEvent(fault=fault, step=FaultStep.RECOVERED, at_ns=well_ns))
                return well_ns
            if now_ns > deadline_ns:
                why = unseen(self._stage, recent.invocations, undone_ns, now_ns, recent.stalls)
                step = FaultStep.UNSEEN if why else FaultStep.NOT_RECOVERED
                detail = why or behind or "its operations were not good again in time"
                self._gathered.add(FaultEvent(fault=fault, step=step, at_ns=now_ns, detail=detail))
                return None
            was_behind = was_behind or bool(behind)
            self._clock.sleep(0.2)

    def _wait_for_answers(self, end_ns: int) -> None:
        """Until every request that was due before has its end; each client gives up in time."""
        deadline_ns = self._clock.now_ns() + int(ANSWERS_S * SECOND_NS)
        while any(o.intended_ns < end_ns for o in self._load.outstanding()) and self._clock.now_ns() < deadline_ns:
            self._clock.sleep(0.1)

    def _waiting(self) -> int:
        """Accepted work that is not done yet; 0 where everything is done with the answer."""
        return self._backlog(self._deployment).total if sends_messages(self._stage) else 0

    def _behind(self, usual: int) -> str:
        """Says so, if more waits than before the fault: its backlog is not worked off yet."""
        now, most = self._waiting(), 2 * usual + round(self._rate)
        return f"{now} orders and messages still wait, {usual} did before the fault" if now > most else ""

    def _trouble(self, fault: str, intent_ns: int) -> str:
        for step in (FaultStep.REFUSED, FaultStep.FAILED):
            if event := self._gathered.step(fault, step, since_ns=intent_ns):
                return f"{step}: {event.detail}"
        return ""
