"""Which requests count, and which are bad."""

from __future__ import annotations

import pytest

from stages.check.counting import Censor, Counts, Outstanding, Span, bad_in, count
from stages.history import Invocation, Outcome, Unsent
from stages.testing import SHOP, invocation, ns, small, stall, steady

BROWSE = small(SHOP, "browse")  # its SLO is 500 ms
SPAN = Span(start_ns=ns(10), end_ns=ns(20))
NO_STALL = Censor([])


def counted(*invocations: Invocation, **more: object) -> Counts:
    more = {"outstanding": (), "censor": NO_STALL, **more}
    return count(BROWSE, SPAN, invocations, **more)["browse"].counts  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "strict", "lenient"),
    [
        (invocation(latency_ms=500), False, False),
        (invocation(latency_ms=501), True, True),
        (invocation(outcome=Outcome.FAIL), True, True),
        (invocation(outcome=Outcome.UNKNOWN), True, True),
        (invocation(degraded=True), True, False),
    ],
    ids=["in-time", "late", "fail", "unknown", "fallback"],
)
def test_bad_means_late_or_wrong_and_strictly_also_from_a_fallback(
    request_: Invocation, strict: bool, lenient: bool
) -> None:
    assert bad_in(request_, 500) == (strict, lenient)


def test_latency_counts_from_the_intended_start() -> None:
    late_start = invocation(latency_ms=600, lag_ms=590)
    assert bad_in(late_start, 500) == (True, True)


def test_only_requests_whose_slo_ended_within_the_span_count() -> None:
    at = [invocation(at_s=s) for s in (9.999, 10.0, 19.499, 19.5, 25)]
    assert counted(*at) == Counts(n=2)


def test_a_request_without_answer_is_bad_once_its_slo_is_over() -> None:
    waiting = [Outstanding(operation="browse", intended_ns=ns(s)) for s in (12, 19.6)]
    assert counted(outstanding=waiting) == Counts(n=1, strict_bad=1, lenient_bad=1)


def test_an_answer_that_came_meanwhile_is_not_counted_twice() -> None:
    waiting = [Outstanding(operation="browse", intended_ns=ns(12))]
    assert counted(invocation(at_s=12), outstanding=waiting) == Counts(n=1)


def test_where_nobody_knows_what_is_out_requests_count_only_after_the_clients_timeout() -> None:
    at = [invocation(at_s=s) for s in (16.7, 16.8)]
    assert counted(*at, outstanding=None) == Counts(n=1)


def test_arrivals_that_the_generator_lost_are_censored_and_those_without_an_order_are_not() -> None:
    lost = [Unsent(operation="browse", intended_ns=ns(12), reason=r) for r in ("pool full", "no socket (EMFILE)")]
    idle = [Unsent(operation="browse", intended_ns=ns(12), reason="no order to cancel")]
    assert counted(invocation(at_s=12), unsent=[*lost, *idle]) == Counts(n=1, censored=2, not_ready=1)


def test_operations_that_the_stage_does_not_have_are_ignored() -> None:
    assert counted(invocation("home", 12)) == Counts()


@pytest.mark.parametrize(
    ("at_s", "hidden"),
    [(14.48, False), (14.49, True), (15.1, True), (15.4, True), (15.41, False)],
)
def test_a_stall_hides_what_was_in_flight_and_what_queued_up_behind_it(at_s: float, hidden: bool) -> None:
    # 200 ms from 15.0: from 10 ms + SLO before its start until 100 ms + half of it after its end, 14.49 to 15.4
    censor = Censor([stall(15.0, 15.2)])
    assert censor.hides(ns(at_s), 500) is hidden


def test_censoring_looks_at_time_only_never_at_the_outcome() -> None:
    good = steady(["browse"], 14.6, 15.2)
    bad = steady(["browse"], 14.6, 15.2, bad_every=1)
    censor = Censor([stall(15.0, 15.2)])
    assert counted(*good, censor=censor) == counted(*bad, censor=censor) == Counts(censored=6)


def test_a_stall_too_short_to_make_a_request_late_hides_nothing() -> None:
    assert not Censor([stall(15.0, 15.09)]).hides(ns(15.0), 500)
    assert Censor([stall(15.0, 15.09)]).hides(ns(15.0), 250)


def test_short_stalls_in_a_row_and_on_several_cores_are_one() -> None:
    row = [stall(15.0 + n * 0.08, 15.06 + n * 0.08, f"core-{n % 2}") for n in range(5)]
    assert Censor(row).hides(ns(15.1), 500)


def test_a_long_stall_hides_its_aftermath_even_if_a_short_one_follows() -> None:
    censor = Censor([stall(10.0, 14.0), stall(14.2, 14.35)])
    assert censor.hides(ns(15.9), 500)


def test_seconds_hold_the_same_requests_as_the_counts() -> None:
    sample = count(BROWSE, SPAN, steady(["browse"], 10, 20, bad_every=5), outstanding=(), censor=NO_STALL)["browse"]
    assert sample.counts == Counts(n=95, strict_bad=19, lenient_bad=19)
    assert sample.seconds == {**dict.fromkeys(range(9), (10, 2, 2)), 9: (5, 1, 1)}


def test_the_censored_share_is_of_all_that_were_due() -> None:
    assert Counts(n=3, censored=1).censored_share == 0.25
    assert Counts().censored_share == 0.0
    assert Counts(n=1, strict_bad=1) + Counts(n=2, censored=1) == Counts(n=3, strict_bad=1, censored=1)
