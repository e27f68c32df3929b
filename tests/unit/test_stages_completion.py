"""What came after the answer: in time, late, lost; and what that makes of a cell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.blast_radius import Effect
from stages.catalogue import ASYNC, SYNC
from stages.check import Cell, Held, Seen, Span, Verdict, completion_levels, with_completions
from stages.history import Audit, FaultEvent, FaultStep, Invocation, Stall
from stages.model import Stage
from stages.testing import RUN_ID, ns, placed

BASELINE = [Span(start_ns=ns(0), end_ns=ns(20))]
HELD = {"payments-killed": Held(fault="payments-killed", seen_ns=ns(30), undo_ns=ns(37))}


def run(
    under_ms: float | None,
    *,
    healthy_ms: float | None = 200.0,
    stage: Stage = ASYNC,
    every: int = 1,
    events: tuple[FaultEvent, ...] = (),
    crashed: dict[str, frozenset[str]] | None = None,
) -> Seen:
    """Orders at 10 a second: healthy ones, and from 30 s on those under a fault, every so-many-th complete so late."""
    requests: list[Invocation] = []
    audits: list[Audit] = []
    for n in range(200):
        add(requests, audits, n / 10, healthy_ms)
    for n in range(70):
        add(requests, audits, 30 + n / 10, under_ms if n % every == 0 else 200.0)
    return Seen(
        stage=stage,
        run_id=RUN_ID,
        invocations=requests,
        audits=audits,
        fault_events=events,
        crashed=crashed or {},
    )


def add(requests: list[Invocation], audits: list[Audit], at_s: float, complete_ms: float | None) -> None:
    request, records = placed(f"{RUN_ID}-{at_s}", at_s, complete_ms)
    requests.append(request)
    audits += records


def cell(predicted: Effect, measured: Effect = Effect.UNAFFECTED) -> Cell:
    return Cell(
        fault="payments-killed",
        operation="place-order",
        predicted=predicted,
        measured=measured.value,
        verdict=Verdict.VALID,
        n=60,
        bad=0,
        decided_after_s=5.0,
        because="place-order was unaffected. Prediction: place-order is delayed because of payments",
    )


def judged(seen: Seen, predicted: Effect, stalls: tuple[Stall, ...] = ()) -> Cell:
    return with_completions([cell(predicted)], seen, HELD, BASELINE, stalls, promised_cells=60)[0]


def test_what_waited_for_the_faults_end_is_delayed() -> None:
    found = judged(run(9000.0), Effect.DELAYED)
    assert (found.measured, found.verdict) == ("delayed", "valid")
    assert found.evidence["completions"]["late"] == found.evidence["completions"]["n"] == 70
    assert found.because.endswith("Prediction: place-order is delayed because of payments")


def test_a_delay_that_was_not_predicted_is_a_leak() -> None:
    found = judged(run(9000.0), Effect.UNAFFECTED)
    assert (found.measured, found.verdict) == ("delayed", "invalid")
    assert "worse than predicted (unaffected)" in found.because


def test_completions_in_time_are_better_than_a_predicted_delay() -> None:
    found = judged(run(200.0), Effect.DELAYED)
    assert (found.measured, found.verdict, found.evidence["better"]) == ("unaffected", "valid", True)


def test_what_is_never_complete_is_lost_and_named() -> None:
    found = judged(run(None, every=70), Effect.DELAYED)
    assert (found.measured, found.verdict) == ("failing", "invalid")
    assert f"o-{RUN_ID}-30.0" in found.because


def test_what_comes_long_after_the_fault_is_not_merely_delayed() -> None:
    found = judged(run(60_000.0), Effect.DELAYED)
    assert (found.measured, found.verdict) == ("failing", "invalid")
    assert "20 s after the fault's end" in found.because


def test_a_few_late_ones_decide_nothing_against_an_unaffected_operation() -> None:
    found = judged(run(9000.0, every=35), Effect.UNAFFECTED)
    assert (found.measured, found.verdict) == ("unknown", "unknown")


def test_a_few_late_ones_are_within_a_predicted_delay() -> None:
    found = judged(run(9000.0, every=35), Effect.DELAYED)
    assert (found.measured, found.verdict) == ("unknown", "valid")


def test_late_completions_in_healthy_time_are_no_evidence_against_a_fault() -> None:
    found = judged(run(9000.0, healthy_ms=9000.0), Effect.UNAFFECTED)
    assert found.measured == "unknown"


def test_stalls_hide_the_requests_near_them() -> None:
    stall = Stall(source="core-0", start_ns=ns(31), end_ns=ns(36))
    assert judged(run(9000.0), Effect.UNAFFECTED, (stall,)).measured == "unknown"


def test_cells_whose_answers_were_bad_stay_as_they_are() -> None:
    bad = cell(Effect.FAILING, Effect.FAILING)
    assert with_completions([bad], run(9000.0), HELD, BASELINE, (), promised_cells=60) == [bad]


def test_a_loss_in_a_predicted_gap_is_no_failure_of_the_cell() -> None:
    """Stage sync: orders dies between its commit and the mail."""
    seen = run(
        200.0,
        stage=SYNC,
        events=(FaultEvent(fault="orders-killed", step=FaultStep.INTENT, at_ns=ns(29)),),
        crashed={"orders-killed": frozenset({"orders"})},
    )
    mails = [a for a in seen.audits if a.kind != "mail" or not a.key.endswith("-30.0")]
    found = judged(replace(seen, audits=mails), Effect.UNAFFECTED)
    assert found.evidence["completions"]["lost"] == 0


def levels(seen: Seen) -> dict[str, str]:
    return {level.completion: str(level.verdict) for level in completion_levels(seen, BASELINE, ())}


def test_levels_of_healthy_time_are_judged_like_any_promise() -> None:
    fine = {level.completion: level for level in completion_levels(run(200.0), BASELINE, ())}
    assert (fine["order-completed"].n, fine["order-completed"].late) == (170, 0)
    assert fine["order-completed"].p50_ms == pytest.approx(200)
    assert levels(run(200.0))["email-sent"] == "valid"
    assert levels(run(200.0, healthy_ms=9000.0))["order-completed"] == "invalid"
    assert levels(run(200.0, healthy_ms=None))["order-completed"] == "invalid"
    assert levels(run(200.0))["user-visible-in-analytics"] == "unknown"


def test_an_order_cancelled_before_it_was_confirmed_is_owed_no_mail() -> None:
    seen = run(200.0)
    audits = [
        replace(a, state="cancelled", detail={"completed_ns": str(a.at_ns), "cancelled_ns": str(a.at_ns)})
        if a.kind == "order"
        else a
        for a in seen.audits
        if a.kind != "mail"
    ]
    found = {level.completion: level for level in completion_levels(replace(seen, audits=audits), BASELINE, ())}
    assert (found["email-sent"].n, found["email-sent"].verdict) == (0, "unknown")
    assert found["order-completed"].verdict == "valid"
