"""When a shop counts as well again, whether all of it ended, and how it did while it was well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stages.check import (
    Outstanding,
    ServiceLevel,
    Span,
    nothing_left_behind,
    recovered_after_every_fault,
    recovery,
    service_levels,
    unseen,
)
from stages.history import FaultEvent, FaultStep, Invocation, Outcome
from stages.testing import OPERATIONS, SHOP, invocation, ns, small, stall, steady

GOOD = steady(OPERATIONS, 10, 20)


def recovered_s(history: Sequence[Invocation], *, now_s: float = 30.0, **more: object) -> float | None:
    """The undo was done at 10 s."""
    stalls = more.pop("stalls", ())
    found = recovery(SHOP, history, ns(10), ns(now_s), stalls, **more)  # type: ignore[arg-type]
    return None if found is None else found / 1e9


def test_a_shop_that_is_well_at_once_recovered_at_the_undo() -> None:
    assert recovered_s(GOOD) == 10.0


def test_recovery_starts_after_the_last_bad_requests() -> None:
    sick = [
        replace(i, outcome=Outcome.FAIL) if i.operation == "register" and i.intended_ns < ns(13) else i for i in GOOD
    ]
    assert recovered_s(sick) == pytest.approx(13.0, abs=0.3)


def test_an_answer_from_a_fallback_is_not_yet_recovery() -> None:
    stale = [replace(i, degraded=True) if i.operation == "browse" and i.intended_ns < ns(13) else i for i in GOOD]
    assert recovered_s(stale) == pytest.approx(13.0, abs=0.3)


def test_it_takes_a_whole_span_and_its_answers_to_know() -> None:
    assert recovered_s(GOOD, now_s=11.9) is None


def test_who_knows_what_is_still_out_need_not_wait_for_it() -> None:
    assert recovered_s([i for i in GOOD if i.ended_ns < ns(12.1)], now_s=12.1, outstanding=()) == 10.0


def test_a_request_without_an_answer_is_not_yet_good() -> None:
    out = [Outstanding(operation="register", intended_ns=ns(11.9 + n / 100)) for n in range(5)]
    assert recovered_s([i for i in GOOD if i.ended_ns < ns(12.1)], now_s=12.1, outstanding=out) is None


def test_a_shop_that_stays_sick_never_recovers() -> None:
    assert recovered_s(steady(OPERATIONS, 10, 20, bad_every=3)) is None


def test_silence_is_not_recovery() -> None:
    assert recovered_s([]) is None
    assert recovered_s([i for i in GOOD if i.operation != "cancel-order"]) is None


def test_operations_that_are_not_under_load_can_be_left_out() -> None:
    history = [i for i in GOOD if i.operation != "cancel-order"]
    rest = [o for o in OPERATIONS if o != "cancel-order"]
    assert recovered_s(history, operations=rest) == 10.0


def test_a_slow_operation_needs_a_few_requests_too() -> None:
    rest = [o for o in OPERATIONS if o != "insights"]
    slow = [*steady(rest, 10, 20), *steady(["insights"], 10, 20, rate=0.5)]
    assert recovered_s(slow, now_s=14.0) is None
    assert recovered_s(slow, now_s=20.0) == 10.0


def test_a_request_that_hangs_is_not_recovery() -> None:
    hanging = [Outstanding(operation="track-order", intended_ns=ns(10 + n / 10)) for n in range(30)]
    history = [i for i in GOOD if i.operation != "track-order" or i.intended_ns >= ns(13)]
    assert recovered_s(history, outstanding=hanging) == pytest.approx(13.0, abs=0.3)


def test_a_stall_of_the_machine_does_not_delay_recovery() -> None:
    late = [replace(i, ended_ns=i.ended_ns + ns(1.5)) if ns(10.9) < i.intended_ns < ns(11.2) else i for i in GOOD]
    assert recovered_s(late, stalls=[stall(11.0, 11.3)]) == 10.0


def test_a_shop_that_nobody_could_watch_is_not_said_to_have_stayed_sick() -> None:
    standing = [stall(10 + n, 10.7 + n) for n in range(9)]
    sick = [replace(i, outcome=Outcome.FAIL) for i in GOOD]
    assert "near a stall" in unseen(SHOP, sick, ns(10), ns(20), standing)
    assert unseen(SHOP, sick, ns(10), ns(20), standing[:1]) == ""
    found = recovered_after_every_fault(events(*INJECTED, ("kill", FaultStep.UNSEEN, 9)))
    assert (found.verdict, found.because) == ("unknown", "kill: whether the shop recovered was not to be seen: why")


def events(*steps: tuple[str, FaultStep, float]) -> list[FaultEvent]:
    return [FaultEvent(fault=fault, step=step, at_ns=ns(at_s), detail="why") for fault, step, at_s in steps]


INJECTED = ("kill", FaultStep.INTENT, 0), ("kill", FaultStep.INJECTED, 1), ("kill", FaultStep.UNDONE, 5)


def test_a_fault_that_was_undone_and_followed_by_good_answers_is_over() -> None:
    found = recovered_after_every_fault(events(*INJECTED, ("kill", FaultStep.RECOVERED, 6.5)))
    assert (found.verdict, found.evidence) == ("valid", {"faults": {"kill": "recovered 1.5 s after the undo"}})


def test_a_shop_that_did_not_recover_is_invalid_even_if_another_fault_is_unclear() -> None:
    history = events(*INJECTED, ("kill", FaultStep.NOT_RECOVERED, 9), ("lock", FaultStep.REFUSED, 10))
    found = recovered_after_every_fault(history)
    assert (found.verdict, found.because) == ("invalid", "kill: not recovered: why")


@pytest.mark.parametrize(
    "history",
    [
        events(),
        events(*INJECTED),
        events(("kill", FaultStep.REFUSED, 1)),
        events(("kill", FaultStep.FAILED, 1)),
        events(*INJECTED, ("kill", FaultStep.RECOVERED, 6), ("kill", FaultStep.INTENT, 7)),
    ],
    ids=["no-fault", "no-word-of-recovery", "refused", "failed", "second-injection-open"],
)
def test_no_word_of_recovery_is_unknown(history: list[FaultEvent]) -> None:
    assert recovered_after_every_fault(history).verdict == "unknown"


def test_what_is_left_behind_is_named_and_not_looking_is_no_proof() -> None:
    assert nothing_left_behind([]).verdict == "valid"
    assert nothing_left_behind(None).verdict == "unknown"
    found = nothing_left_behind(["process 4711 (orders) still runs"])
    assert (found.verdict, found.because) == ("invalid", "1 left behind: process 4711 (orders) still runs")


BROWSE = small(SHOP, "browse")
SPANS = [Span(start_ns=0, end_ns=ns(10)), Span(start_ns=ns(20), end_ns=ns(30))]


def level(history: list[Invocation], **more: object) -> ServiceLevel:
    return service_levels(BROWSE, history, SPANS, more.get("stalls", ()))[0]  # type: ignore[arg-type]


def test_an_operation_that_keeps_its_promise_is_valid() -> None:
    found = level([invocation(at_s=n / 100, latency_ms=n) for n in range(1, 101)])
    assert found == ServiceLevel(
        operation="browse",
        n=100,
        ok=100,
        bad=0,
        p50_ms=50,
        p95_ms=95,
        p99_ms=99,
        slo_ms=500,
        verdict=found.verdict,
        because="100 of 100 good within 500 ms, promised are 99.0%",
    )
    assert found.verdict == "valid"


@pytest.mark.parametrize(("bad_every", "verdict"), [(0, "valid"), (100, "valid"), (50, "valid"), (20, "invalid")])
def test_only_an_operation_surely_below_its_promise_is_invalid(bad_every: int, verdict: str) -> None:
    # promised are 99 %; 2 % bad of 280 may be bad luck, 5 % cannot
    assert level(steady(["browse"], 0, 30, rate=15, bad_every=bad_every)).verdict == verdict


def test_requests_outside_healthy_time_and_near_stalls_do_not_count() -> None:
    assert level(steady(["browse"], 10, 20, bad_every=1)).verdict == "unknown"
    slow = steady(["browse"], 4.6, 5.3, latency_ms=900)
    good = steady(["browse"], 0, 4) + steady(["browse"], 6, 9)
    assert level(good + slow, stalls=[stall(5.0, 5.5)]).bad == 0


def test_an_operation_never_answered_well_is_not_valid() -> None:
    assert level([]).verdict == "unknown"
    assert level([invocation(outcome=Outcome.UNKNOWN)]).verdict != "valid"
