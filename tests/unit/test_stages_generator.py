"""A generator that lagged proves nothing; and how verdicts merge."""

from __future__ import annotations

import pytest

from stages.check import Check, Verdict, generator_honest, guarded, worst
from stages.history import Invocation, Phase, Unsent, Usage
from stages.testing import invocation, ns, stall

PHASES = [Phase(name=n, at_ns=ns(s)) for n, s in (("warm-up", 0), ("baseline", 10), ("fault:kill", 20))]


def load(begin_s: float, end_s: float, lag_ms: float = 1.0) -> list[Invocation]:
    return [invocation(at_s=begin_s + n / 20, lag_ms=lag_ms) for n in range(round((end_s - begin_s) * 20))]


def lost(reason: str, at_s: float, count: int = 1) -> list[Unsent]:
    return [Unsent(operation="browse", intended_ns=ns(at_s) + n, reason=reason) for n in range(count)]


def test_requests_sent_on_time_are_honest_in_every_phase() -> None:
    usage = [Usage(at_ns=ns(15), cpu_share=0.4, in_flight=7)]
    found = generator_honest(load(10, 30), [], usage, [], PHASES, slo_ms=250)
    assert found.verdict == "valid"
    assert found.because == "400 requests were sent, on time in every phase"
    assert found.evidence["phases"]["baseline"] == {
        "sent": 200,
        "lag_p99_ms": pytest.approx(1.0),
        "achieved": 1.0,
        "unsent": {},
        "not_ready": 0,
        "stalled": 0,
        "cpu_share_max": 0.4,
        "in_flight_max": 7,
    }


def test_a_lag_in_one_phase_makes_the_run_unknown_and_names_the_phase() -> None:
    found = generator_honest(load(10, 20) + load(20, 30, lag_ms=24), [], [], [], PHASES, slo_ms=250)
    assert (found.verdict, found.because) == (
        "unknown",
        "fault:kill: p99 of the dispatch lag was 24.0 ms, allowed are 20",
    )


def test_a_lag_during_a_stall_is_the_machines() -> None:
    late = [i for i in load(20, 30, lag_ms=100) if ns(22) <= i.intended_ns <= ns(22.3)]
    assert (
        generator_honest(load(10, 22) + load(22.4, 30) + late, [], [], [stall(22, 22.3)], PHASES, slo_ms=250).verdict
        == "valid"
    )


def test_a_run_that_is_mostly_stalls_shows_nothing() -> None:
    stalls = [stall(10 + n, 10.4 + n, "generator") for n in range(20)]
    found = generator_honest(load(10, 30), [], [], stalls, PHASES, slo_ms=250)
    assert found.verdict == "unknown"
    assert "arrivals were due near a stall" in found.because


def test_how_much_lag_is_honest_depends_on_what_was_promised() -> None:
    assert generator_honest(load(10, 30, lag_ms=24), [], [], [], PHASES, slo_ms=800).verdict == "valid"
    assert generator_honest(load(10, 30, lag_ms=80), [], [], [], PHASES, slo_ms=800).verdict == "unknown"


def test_while_services_start_again_the_generator_is_not_judged() -> None:
    phases = [*PHASES, Phase(name="undo:kill", at_ns=ns(30)), Phase(name="recovery:kill", at_ns=ns(40))]
    history = load(10, 30) + load(30, 40, lag_ms=200) + load(40, 50)
    assert generator_honest(history, [], [], [], phases, slo_ms=250).verdict == "valid"


def test_warm_up_is_not_judged() -> None:
    assert generator_honest(load(0, 10, lag_ms=50) + load(10, 30), [], [], [], PHASES, slo_ms=250).verdict == "valid"


def test_an_arrival_lost_by_the_generator_is_never_hidden() -> None:
    found = generator_honest(load(10, 30), lost("pool full", 25), [], [], PHASES, slo_ms=250)
    assert (found.verdict, found.because) == ("unknown", "fault:kill: 1 arrivals were not sent: pool full")


def test_many_lost_arrivals_also_show_as_a_missed_rate() -> None:
    found = generator_honest(load(10, 30), lost("pool full", 25, 10), [], [], PHASES, slo_ms=250)
    assert "fault:kill: only 200 of 210 arrivals were sent" in found.evidence["problems"]


def test_an_arrival_without_an_order_to_cancel_is_not_the_generators_fault() -> None:
    assert (
        generator_honest(load(10, 30), lost("no order to cancel", 25, 50), [], [], PHASES, slo_ms=250).verdict
        == "valid"
    )


def test_no_request_at_all_is_unknown() -> None:
    assert generator_honest([], [], [], [], [], slo_ms=250).verdict == "unknown"


@pytest.mark.parametrize(
    ("several", "merged"),
    [
        ([], "unknown"),
        (["valid"], "valid"),
        (["valid", "unknown"], "unknown"),
        (["unknown", "invalid", "valid"], "invalid"),
    ],
)
def test_verdicts_merge_by_the_worst_and_nothing_is_not_valid(several: list[str], merged: str) -> None:
    assert worst(Verdict(v) for v in several) == merged


def test_a_check_that_crashes_is_unknown_with_its_error() -> None:
    def broken() -> Check:
        raise KeyError("stock")

    found = guarded("stock-conserved", broken)
    assert (found.name, found.verdict, found.evidence["error"]) == ("stock-conserved", "unknown", "KeyError: 'stock'")


def test_a_check_that_works_is_handed_through() -> None:
    check = Check(name="a", verdict=Verdict.VALID)
    assert guarded("a", lambda: check) is check
