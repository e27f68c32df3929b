"""One fault judged: histories that must pass, that must fail, and that must not be judged at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.blast_radius import Effect, Impact, Prediction, predict
from stages.check import Baseline, Cell, FaultJudgement, Outstanding, Span, judge_fault, measured_radius
from stages.history import Invocation, Stall, Unsent
from stages.testing import OPERATIONS, SHOP, invocation, ns, stall, steady

SEEN_S = 30.0
"""The fault is seen then; 30 s of healthy baseline lie before."""

HEALTHY = steady(OPERATIONS, 0, SEEN_S)
PAYMENTS_DOWN = predict(SHOP, Impact(down=frozenset({"payments"})))
INVENTORY_DOWN = predict(SHOP, Impact(down=frozenset({"inventory"})))
ALL_DOWN = predict(SHOP, Impact(down=frozenset(SHOP.services_in("shop"))))
NOTHING = predict(SHOP, Impact())
BASELINE = Baseline.of(SHOP, HEALTHY, [Span(start_ns=0, end_ns=ns(SEEN_S))])


def judge(
    predictions: dict[str, Prediction],
    during: list[Invocation],
    *,
    at_s: float = 10.0,
    baseline: Baseline = BASELINE,
    stalls: tuple[Stall, ...] = (),
    unsent: tuple[Unsent, ...] = (),
    outstanding: tuple[Outstanding, ...] = (),
    bit: bool = True,
    final: bool = False,
    previous: FaultJudgement | None = None,
    repeat_of: FaultJudgement | None = None,
) -> FaultJudgement:
    """A look `at_s` seconds after the fault was seen, with 72 promised cells in the run."""
    return judge_fault(
        stage=SHOP,
        fault="the-fault",
        predictions=predictions,
        invocations=during,
        unsent=unsent,
        outstanding=outstanding,
        baseline=baseline,
        seen_ns=ns(SEEN_S),
        now_ns=ns(SEEN_S + at_s),
        stalls=stalls,
        promised_cells=72,
        bit=bit,
        seen_by="payments refuses connections",
        final=final,
        previous=previous,
        repeat_of=repeat_of,
    )


def during(
    bad: dict[str, int] | None = None, *, degraded: tuple[str, ...] = (), seconds: float = 30.0
) -> list[Invocation]:
    """The load after the fault was seen; `bad` says that every so-manieth request of an operation fails."""
    bad = bad or {}
    history: list[Invocation] = []
    for o in OPERATIONS:
        history += steady([o], SEEN_S, SEEN_S + 30, bad_every=bad.get(o, 0), degraded=o in degraded)
    return history


def cell(judgement: FaultJudgement, operation: str) -> Cell:
    return next(c for c in judgement.cells if c.operation == operation)


def classes(judgement: FaultJudgement) -> dict[str, str]:
    return {c.operation: c.measured for c in judgement.cells}


def verdicts(judgement: FaultJudgement) -> dict[str, str]:
    return {c.operation: c.verdict.value for c in judgement.cells}


PAYMENTS_FAIL = {"place-order": 1, "cancel-order": 1}


def test_what_happens_as_predicted_is_valid_and_decided() -> None:
    found = judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL), at_s=12)
    assert classes(found) == {
        "browse": "unaffected",
        "register": "unaffected",
        "place-order": "failing",
        "track-order": "unaffected",
        "cancel-order": "failing",
        "insights": "unaffected",
    }
    assert set(verdicts(found).values()) == {"valid"}
    assert (found.pooled.verdict, found.decided, found.reinject) == ("valid", True, False)


def test_a_cell_tells_its_counts_and_its_reason() -> None:
    browse = cell(judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL), at_s=10), "browse")
    # requests from tau = 2 s on whose SLO of 500 ms is over after 10 s
    assert (browse.n, browse.bad, browse.decided_after_s) == (75, 0, 10.0)
    assert browse.because == (
        "browse was unaffected: 0 of 75 requests bad in 8.0 s, surely below 5%. "
        "Prediction: browse is unaffected: nothing it waits for is touched"
    )
    assert browse.evidence["seen_by"] == "payments refuses connections"
    assert browse.evidence["interval"][0] == 0.0


def test_a_leak_into_an_operation_predicted_unaffected_is_invalid() -> None:
    found = judge(PAYMENTS_DOWN, during({**PAYMENTS_FAIL, "track-order": 3}))
    leak = cell(found, "track-order")
    assert (leak.measured, leak.verdict) == ("failing", "invalid")
    assert "worse than predicted (unaffected)" in leak.because
    assert (found.pooled.verdict, found.pooled.because) == ("invalid", "track-order leaked")


def test_a_fallback_where_none_was_predicted_is_a_leak_too() -> None:
    leak = cell(judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL, degraded=("browse",))), "browse")
    assert (leak.measured, leak.verdict) == ("degraded", "invalid")


def test_predicted_fallback_answers_are_valid() -> None:
    found = cell(judge(INVENTORY_DOWN, during(PAYMENTS_FAIL, degraded=("browse",))), "browse")
    assert (found.predicted, found.measured, found.verdict, found.bad) == ("degraded", "degraded", "valid", 0)


def test_a_fallback_that_fails_now_and_then_leaves_open_whether_it_holds() -> None:
    now_and_then = during({**PAYMENTS_FAIL, "browse": 20}, degraded=("browse",))
    found = cell(judge(INVENTORY_DOWN, now_and_then, final=True), "browse")
    assert (found.measured, found.verdict) == ("unknown", "unknown")
    assert f"{found.bad} of {found.n} requests had no answer, not even a fallback's, in 8.0 s: did not" in found.because
    assert 0 < found.bad < found.n / 10


def test_errors_where_a_fallback_was_predicted_are_invalid() -> None:
    found = cell(judge(INVENTORY_DOWN, during({**PAYMENTS_FAIL, "browse": 1})), "browse")
    assert (found.measured, found.verdict) == ("failing", "invalid")


def test_better_than_predicted_is_valid_and_said() -> None:
    found = cell(judge(PAYMENTS_DOWN, during()), "place-order")
    assert (found.measured, found.verdict, found.evidence["better"]) == ("unaffected", "valid", True)
    assert "better than predicted (failing)" in found.because


def test_answers_of_a_delayed_operation_are_not_called_better_before_its_completions_are_known() -> None:
    late = {o: replace(p, effect=Effect.DELAYED) if o == "place-order" else p for o, p in NOTHING.items()}
    found = cell(judge(late, during()), "place-order")
    assert (found.measured, found.verdict, found.evidence["better"]) == ("unaffected", "valid", False)


def test_when_everything_is_to_fail_the_baseline_alone_is_control() -> None:
    found = judge(ALL_DOWN, during(dict.fromkeys(OPERATIONS, 1)), at_s=4.5)
    assert set(classes(found).values()) == {"failing"}
    assert cell(found, "browse").evidence["control"] == "baseline only: the fault is to affect every operation"
    assert (found.pooled.n, found.pooled.verdict, found.decided) == (0, "valid", True)


def test_isolation_is_not_claimed_before_the_shortest_dwell() -> None:
    dense = [i for n in range(5) for i in steady(OPERATIONS, SEEN_S + n / 1000, SEEN_S + 10)]
    assert classes(judge(NOTHING, dense, at_s=4.9))["browse"] == "unknown"
    assert classes(judge(NOTHING, dense, at_s=5.0))["browse"] == "unaffected"


def test_what_happens_before_tau_does_not_count() -> None:
    found = judge(NOTHING, during() + steady(["browse"], SEEN_S, SEEN_S + 2, bad_every=1))
    assert classes(found)["browse"] == "unaffected"


def test_requests_that_hang_are_bad_though_no_answer_came() -> None:
    answered = [i for i in during(PAYMENTS_FAIL) if i.operation != "track-order"]
    hanging = tuple(Outstanding(operation="track-order", intended_ns=ns(SEEN_S + n / 10)) for n in range(100))
    found = cell(judge(PAYMENTS_DOWN, answered, outstanding=hanging), "track-order")
    assert (found.measured, found.verdict, found.bad) == ("failing", "invalid", found.n)


def test_no_request_is_unknown() -> None:
    found = judge(NOTHING, [], at_s=21)
    assert set(verdicts(found).values()) == {"unknown"}
    assert cell(found, "browse").because.startswith("browse is undecided: no request could be counted")
    assert (found.pooled.verdict, found.decided) == ("unknown", True)


def test_a_fault_that_did_not_bite_proves_nothing() -> None:
    found = judge(PAYMENTS_DOWN, during(), bit=False)
    assert set(verdicts(found).values()) == {"unknown"}
    assert found.pooled.verdict == "unknown"
    assert "was not seen to bite" in cell(found, "browse").because
    assert all(c.decided_after_s is None and c.evidence["bit"] is False for c in found.cells)


def test_a_predicted_failure_that_happens_proves_that_the_fault_bit() -> None:
    assert set(verdicts(judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL), bit=False)).values()) == {"valid"}


def test_too_many_censored_requests_give_no_verdict() -> None:
    stalls = tuple(stall(s, s + 0.3) for s in (33.0, 35.0, 37.0, 39.0))
    found = cell(judge(PAYMENTS_DOWN, during({**PAYMENTS_FAIL, "browse": 1}), stalls=stalls), "browse")
    assert (found.measured, found.verdict) == ("unknown", "unknown")
    assert "lie near a stall" in found.because


def test_arrivals_that_the_generator_could_not_send_are_no_proof_of_health() -> None:
    lost = tuple(
        Unsent(operation="browse", intended_ns=ns(SEEN_S + 2 + n / 20), reason="pool full") for n in range(100)
    )
    assert classes(judge(NOTHING, during(), unsent=lost))["browse"] == "unknown"


def test_a_stalled_baseline_buys_nothing() -> None:
    sick = Baseline.of(SHOP, steady(OPERATIONS, 0, SEEN_S, bad_every=10), [Span(start_ns=0, end_ns=ns(SEEN_S))])
    assert classes(judge(NOTHING, during({"browse": 15}), baseline=sick))["browse"] == "unknown"


EVERYTHING_LEAKS = during(dict.fromkeys(OPERATIONS, 2))


def test_a_leak_everywhere_has_no_clean_control_and_is_injected_again() -> None:
    first = judge(NOTHING, EVERYTHING_LEAKS)
    assert set(verdicts(first).values()) == {"unknown"}
    assert (first.decided, first.reinject) == (True, True)
    assert "inject again" in cell(first, "browse").because


def test_what_got_worse_in_both_injections_leaked() -> None:
    second = judge(NOTHING, EVERYTHING_LEAKS, repeat_of=judge(NOTHING, EVERYTHING_LEAKS))
    assert set(classes(second).values()) == {"failing"}
    assert set(verdicts(second).values()) == {"invalid"}
    assert (second.pooled.verdict, second.reinject) == ("invalid", False)


def test_what_got_worse_only_in_the_first_injection_was_the_machine() -> None:
    second = judge(NOTHING, during(), repeat_of=judge(NOTHING, EVERYTHING_LEAKS))
    assert set(verdicts(second).values()) == {"valid"}
    assert second.pooled.verdict == "valid"


def test_a_small_loss_everywhere_shows_only_in_the_pool() -> None:
    # 1 in 34 is below 5 % for each, above 1 % for all together
    first = judge(NOTHING, during(dict.fromkeys(OPERATIONS, 34)), at_s=20)
    assert "invalid" not in verdicts(first).values()
    assert first.pooled.verdict == "unknown"
    assert first.reinject
    second = judge(NOTHING, during(dict.fromkeys(OPERATIONS, 34)), at_s=20, repeat_of=first)
    assert second.pooled.verdict == "invalid"


def test_a_cell_keeps_the_time_at_which_it_was_decided() -> None:
    first = judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL), at_s=9)
    later = judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL), at_s=12, previous=first)
    assert cell(later, "browse").decided_after_s == 9.0
    assert cell(later, "browse").n > cell(first, "browse").n


def test_an_undecided_cell_has_no_time_and_is_named() -> None:
    found = judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL), at_s=5)
    assert cell(found, "browse").decided_after_s is None
    assert "browse" in found.undecided
    assert not found.decided


def test_the_cap_ends_the_waiting() -> None:
    thin = steady(OPERATIONS, SEEN_S, SEEN_S + 30, rate=1)
    assert not judge(NOTHING, thin, at_s=19.9).decided
    assert judge(NOTHING, thin, at_s=20).decided


def test_what_was_decided_when_the_fault_was_ended_survives_the_last_few_requests() -> None:
    last = judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL), at_s=12)
    stray = replace(invocation("browse", SEEN_S + 11.7), degraded=True)
    final = judge(PAYMENTS_DOWN, [*during(PAYMENTS_FAIL), stray], at_s=12.3, previous=last, final=True)
    assert last.decided
    assert cell(final, "browse") == cell(last, "browse")
    alone = judge(PAYMENTS_DOWN, [*during(PAYMENTS_FAIL), stray], at_s=12.3, final=True)
    assert cell(alone, "browse").measured == "unknown"


def test_a_look_before_anything_counts_is_undecided_not_an_error() -> None:
    assert set(classes(judge(PAYMENTS_DOWN, [], at_s=-1)).values()) == {"unknown"}


def test_the_measured_radius_lies_between_what_the_undecided_may_turn_out_to_be() -> None:
    cells = judge(PAYMENTS_DOWN, during(PAYMENTS_FAIL), at_s=12).cells
    whole = measured_radius(SHOP, cells)
    assert (whole.low, whole.measured, whole.high) == (pytest.approx(5 / 13),) * 3
    unsure = [replace(c, measured="unknown") if c.operation in ("browse", "place-order") else c for c in cells]
    found = measured_radius(SHOP, unsure)
    assert (found.low, found.high) == (pytest.approx(2 / 13), pytest.approx(7 / 13))
    assert found.low <= found.measured <= found.high


def test_nothing_measured_is_no_radius() -> None:
    assert (measured_radius(SHOP, []).low, measured_radius(SHOP, []).high) == (0.0, 1.0)
    unsure = [replace(c, measured="unknown") for c in judge(NOTHING, during()).cells]
    assert measured_radius(SHOP, unsure).measured == 0.5
