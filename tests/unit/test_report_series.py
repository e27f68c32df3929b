"""History records become figures per second, windows and distributions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from stages.history import FaultEvent, FaultStep, Invocation, Outcome, Phase, Record, Stall, Unsent
from suite.report.axis import axis_for
from suite.report.charts import BINS_MOST, merged
from suite.report.series import EMPTY, Bin, Span, Window, percentile, summarize

T0 = 5_000_000_000_000


def ns(seconds: float) -> int:
    return T0 + round(seconds * 1e9)


def call(
    at_s: float, ms: float, outcome: Outcome = Outcome.OK, *, lag_ms: float = 0.0, degraded: bool = False
) -> Invocation:
    start = ns(at_s)
    return Invocation(
        operation="browse",
        key=f"r-{at_s}",
        intended_ns=start,
        started_ns=start + round(lag_ms * 1e6),
        ended_ns=start + round(ms * 1e6),
        outcome=outcome,
        degraded=degraded,
    )


def step(which: FaultStep, at_s: float, detail: str = "") -> FaultEvent:
    return FaultEvent(fault="payments-killed", step=which, at_ns=ns(at_s), detail=detail)


def test_no_history_is_no_series() -> None:
    assert summarize([], {}) == EMPTY


def test_a_second_counts_what_was_intended_in_it_and_late_is_bad() -> None:
    records: list[Record] = [
        Phase(name="baseline", at_ns=ns(0)),
        call(0.1, 10),
        call(0.9, 1200, lag_ms=300),  # ends in second 2, belongs to second 0
        call(2.0, 20, Outcome.UNKNOWN),
        call(2.5, 30, degraded=True),
    ]
    assert summarize(records, {"browse": 500}).bins["browse"] == (
        Bin(second=0, count=2, bad=1, degraded=0, p50_ms=10, p95_ms=1200, p99_ms=1200),
        Bin(second=2, count=2, bad=1, degraded=1, p50_ms=20, p95_ms=30, p99_ms=30),
    )


def test_without_an_objective_only_outcomes_are_bad() -> None:
    records = [call(0, 9000), call(0.5, 1, Outcome.FAIL)]
    assert [b.bad for b in summarize(records, {}).bins["browse"]] == [1]


def test_a_fault_injected_twice_has_two_windows() -> None:
    records: list[Record] = [
        Phase(name="warm-up", at_ns=ns(0)),
        step(FaultStep.INTENT, 1),
        step(FaultStep.INJECTED, 1.5),
        step(FaultStep.SEEN, 1.6, "pid 7 is gone"),
        step(FaultStep.UNDOING, 6),
        step(FaultStep.UNDONE, 6.5),
        step(FaultStep.RECOVERED, 7),
        step(FaultStep.INTENT, 9),
        step(FaultStep.REFUSED, 9.1, "not ours"),
    ]
    assert summarize(records, {}).windows == (
        Window(
            fault="payments-killed",
            intent_s=1,
            injected_s=1.5,
            seen_s=1.6,
            undoing_s=6,
            undone_s=6.5,
            recovered_s=7,
            seen_by="pid 7 is gone",
        ),
        Window(fault="payments-killed", intent_s=9, trouble="not ours"),
    )


def test_phases_end_where_the_next_begins_and_the_last_with_the_history() -> None:
    records: list[Record] = [
        Phase(name="warm-up", at_ns=ns(0)),
        Phase(name="baseline", at_ns=ns(4)),
        call(5, 2000),
        Stall(source="core-1", start_ns=ns(4.5), end_ns=ns(4.75)),
        Unsent(operation="browse", intended_ns=ns(4.6), reason="pool full"),
    ]
    found = summarize(records, {})
    assert found.phases == (Span(name="warm-up", start_s=0, end_s=4), Span(name="baseline", start_s=4, end_s=7))
    assert found.stalls == (Span(name="core-1", start_s=4.5, end_s=4.75),)
    assert (found.unsent, found.length_s) == (1, 7)


def test_distribution_holds_the_baseline_only() -> None:
    records: list[Record] = [
        Phase(name="warm-up", at_ns=ns(0)),
        call(1, 900),
        Phase(name="baseline", at_ns=ns(2)),
        *(call(2 + n / 100, n + 1) for n in range(100)),
        Phase(name="fault:payments-killed", at_ns=ns(4)),
        call(5, 800),
    ]
    found = summarize(records, {}).baseline["browse"]
    assert found.n == 100
    assert {share: ms for ms, share in found.points}[0.99] == 99
    assert found.points[-1] == (100, 1.0)
    assert all(a[0] <= b[0] for a, b in pairwise(found.points))


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4), (0.01, 1)])
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile([1, 2, 3, 4], share) == expected


def test_merging_bins_keeps_counts_and_the_worst_second() -> None:
    bins = [
        Bin(second=n, count=10, bad=n % 2, degraded=0, p50_ms=5, p95_ms=10, p99_ms=900 if n == 77 else 20)
        for n in range(BINS_MOST * 2)
    ]
    found = merged(bins, float(BINS_MOST * 2 - 1))
    assert len(found) == BINS_MOST
    assert sum(b.count for b in found) == 10 * len(bins)
    assert sum(b.bad for b in found) == BINS_MOST
    assert max(b.p99_ms for b in found) == 900


def test_wide_ranges_get_a_logarithmic_axis_and_narrow_ones_start_at_zero() -> None:
    wide, narrow = axis_for([3, 1500]), axis_for([80, 230])
    assert (wide.logarithmic, wide.low_ms, wide.high_ms, wide.ticks_ms) == (True, 2, 2000, (10, 100, 1000))
    assert (narrow.logarithmic, narrow.low_ms, narrow.ticks_ms) == (False, 0, (0, 100, 200, 300))
    assert (wide.place(1), wide.place(9999)) == (0, 1)
