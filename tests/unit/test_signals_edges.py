"""Golden signals count what happened on an edge in a phase; breakers say when it opened, by what, when it closed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.blast_radius import Impact
from stages.catalogue import MESH
from stages.check import Span, Verdict
from stages.history import FaultEvent, FaultStep, Invocation, Outcome, Phase, Record
from suite.signals import Signals, Window, signals, signals_document, windows
from suite.signals_breakers import Breaker, breakers, breakers_check, breakers_document, check_of, cuts, edge_of
from suite.signals_clock import Offset
from suite.signals_lines import Line, Outlier, Read

S = 1_000_000_000
OFFSET = Offset(offset_ns=1_000 * S, off_by_ns=700)
IMPACTS = {"inventory-killed": Impact(down=frozenset({"inventory"}), crashed=frozenset({"inventory"}))}
TIMES = {
    FaultStep.INTENT: 9.9,
    FaultStep.INJECTED: 10.0,
    FaultStep.SEEN: 10.2,
    FaultStep.UNDOING: 18.0,
    FaultStep.UNDONE: 18.1,
    FaultStep.RECOVERED: 19.0,
}
RUN: list[Record] = [
    Phase(name="warm-up", at_ns=0),
    Phase(name="baseline", at_ns=2 * S),
    Phase(name="fault:inventory-killed", at_ns=int(9.9 * S)),
    *(FaultEvent(fault="inventory-killed", step=step, at_ns=int(at * S)) for step, at in TIMES.items()),
    Phase(name="drain", at_ns=30 * S),
]


def line(at_s: float, ms: float = 5.0, status: int = 200, flags: str = "", **more: object) -> Line:
    known = Line(
        start_ns=int(at_s * S) + OFFSET.offset_ns,
        side="out",
        part="storefront-sidecar",
        edge="storefront-inventory",
        version="v1",
        peer="",
        method="GET",
        path="/products",
        status=status,
        flags=tuple(flags.split(",")) if flags else (),
        duration_ms=ms,
        upstream_ms=None,
        trace_id="",
        parent_id="",
        gateway="fulfilment-gateway",
        attempts=1,
    )
    return replace(known, **more)  # type: ignore[arg-type]


def event(at_s: float, *, ejected: bool, cluster: str = "inventory_v1", enforced: bool = True) -> Outlier:
    return Outlier(
        at_ns=int(at_s * S) + OFFSET.offset_ns,
        part="storefront-sidecar",
        cluster=cluster,
        address="127.0.0.1:22001",
        ejected=ejected,
        why="CONSECUTIVE_5XX",
        times=1,
        enforced=enforced,
    )


def browse(at_s: float, *, degraded: bool) -> Invocation:
    at_ns = int(at_s * S)
    return Invocation(
        operation="browse",
        key=str(at_s),
        intended_ns=at_ns,
        started_ns=at_ns,
        ended_ns=at_ns + 1,
        outcome=Outcome.OK,
        degraded=degraded,
    )


def one(lines: list[Line], events: list[Outlier], answers: list[Invocation] | None = None) -> Breaker:
    (found,) = breakers(
        MESH, IMPACTS, Read(lines=tuple(lines), outliers=tuple(events)), [*RUN, *(answers or [])], OFFSET
    )
    return found


def test_the_signals_of_a_window_are_those_of_requests_that_started_in_it() -> None:
    window = Window(name="baseline", span=Span(start_ns=0, end_ns=2 * S))
    lines = [
        line(-1, ms=1500),
        line(0.1, ms=10),
        line(0.105, ms=20, attempts=2),
        line(0.11, ms=30),
        line(1.0, status=404, ms=2),
        line(1.5, status=503, flags="UO", ms=0.0),
        line(1.6, status=0, flags="UF,URX", ms=400),
        line(2.0, ms=1),
    ]
    assert signals(lines, window, OFFSET) == Signals(
        n=6,
        rate=3.0,
        errors=2,
        p50_ms=10,
        p90_ms=30,
        p99_ms=30,
        error_p50_ms=0.0,
        under_way_most=3,
        under_way_mean=pytest.approx((0.5 + 0.462) / 2, abs=1e-6),  # type: ignore[arg-type]
        overflows=1,
        no_host=0,
        retried=1,
        flags={"UF": 1, "UO": 1, "URX": 1},
    )


def test_an_edge_without_a_request_has_no_latency_and_no_error() -> None:
    found = signals([], Window(name="baseline", span=Span(start_ns=0, end_ns=S)), OFFSET)
    assert (found.n, found.p50_ms, found.error_share, found.under_way_most) == (0, None, 0.0, 0)


def test_a_phase_is_the_baseline_or_a_fault_from_its_sight_to_its_undo() -> None:
    assert windows(RUN) == (
        Window(name="baseline", span=Span(start_ns=2 * S, end_ns=int(9.9 * S))),
        Window(
            name="inventory-killed",
            span=Span(start_ns=int(10.2 * S), end_ns=18 * S),
            injected_ns=10 * S,
            undone_ns=int(18.1 * S),
            recovered_ns=19 * S,
        ),
    )


def test_a_fault_that_nobody_saw_bite_is_no_phase() -> None:
    unseen = [r for r in RUN if not (isinstance(r, FaultEvent) and r.step is FaultStep.SEEN)]
    assert [w.name for w in windows(unseen)] == ["baseline"]


def test_the_document_names_every_edge_of_the_model_and_what_is_none() -> None:
    seen = Read(lines=(line(3), line(11, status=503, flags="UH"), line(4, edge="storefront-moon")), unreadable=2)
    found = signals_document(MESH, seen, RUN, OFFSET)
    edges = {e["edge"]: e for e in found["edges"]}
    assert list(edges) == ["users-storefront", *(c.name for c in MESH.channels if c.kind.value == "call")]
    assert edges["storefront-inventory"]["gateway"] == "fulfilment-gateway"
    assert edges["storefront-inventory"]["phases"]["inventory-killed"]["no_host"] == 1
    assert (found["unknown_edges"], found["unreadable"], found["clock_off_by_ms"]) == (["storefront-moon"], 2, 0.001)


def test_an_edge_opens_with_the_ejection_and_closes_with_the_first_good_answer_after_the_undo() -> None:
    lines = [line(10.05, status=503, flags="UF"), line(10.1, status=503, flags="UF"), line(12, status=503, flags="UH")]
    found = one(
        [*lines, line(18.5, status=503, flags="UH"), line(20.1)],
        [event(10.1, ejected=True), event(20.0, ejected=False)],
        [
            browse(10.05, degraded=False),
            browse(11, degraded=True),
            browse(15, degraded=True),
            browse(21, degraded=False),
        ],
    )
    assert found.opened_s == pytest.approx(0.1)
    assert found.opened_by == "outlier detection"
    assert found.closed_s == pytest.approx(2.005)
    assert (found.ejections, found.returns, found.no_host, found.fallbacks, found.asked) == (1, 1, 1, 2, 2)
    assert found.verdict is Verdict.VALID


def test_a_callee_that_discovery_took_away_first_counts_as_open() -> None:
    found = one([line(10.05, status=503, flags="UF"), line(12, status=503, flags="UH"), line(19)], [])
    assert (found.opened_by, found.verdict) == ("discovery", Verdict.VALID)


def test_failures_in_a_row_without_an_ejection_are_said_plainly() -> None:
    failed = [line(10.5 + n / 10, status=503, flags="URX,UF", attempts=2) for n in range(2)]
    found = one([*failed, line(19)], [event(10.6, ejected=True, enforced=False)])
    assert found.verdict is Verdict.INVALID
    assert found.because == "4 attempts failed in a row and nothing was ejected: the mesh should have opened after 2"
    check = breakers_check([found])
    assert check is not None
    assert check.verdict is Verdict.INVALID


def test_an_attempt_that_the_retry_budget_did_not_repeat_is_a_failure_and_opens_nothing() -> None:
    failed = [line(10.5 + n / 10, status=503, flags="UO,UF") for n in range(5)]
    found = one([*failed, line(19)], [])
    assert (found.opened_by, found.in_a_row, found.overflows) == ("", 5, 0)
    refused = one([line(10.5, status=503, flags="UO"), line(19)], [])
    assert (refused.opened_by, refused.in_a_row, refused.overflows) == ("limit of requests", 0, 1)


@pytest.mark.parametrize(
    ("lines", "verdict", "said"),
    [
        ([], Verdict.UNKNOWN, "nobody called"),
        ([line(10.5, status=504), line(10.6), line(10.7, status=504)], Verdict.VALID, "nothing to open for"),
        ([line(10.5, status=503), line(10.6, status=503)], Verdict.VALID, "nothing to open for"),
        ([line(10.5, status=504), line(10.6, status=504)], Verdict.UNKNOWN, "should have opened"),
        ([line(10.5, status=503, flags="UH")], Verdict.UNKNOWN, "no good answer"),
        ([line(10.5, status=503, flags="UH"), line(20, status=503, flags="UH")], Verdict.INVALID, "no good answer"),
    ],
)
def test_too_little_is_unknown_and_a_services_own_refusal_is_no_failure(
    lines: list[Line], verdict: Verdict, said: str
) -> None:
    found = one(lines, [])
    assert (found.verdict, said in found.because) == (verdict, True)


@pytest.mark.parametrize(("last_call_s", "verdict"), [(19.0, Verdict.UNKNOWN), (23.5, Verdict.INVALID)])
def test_calls_during_an_ejection_do_not_say_that_it_never_ends_later_ones_do(
    last_call_s: float, verdict: Verdict
) -> None:
    """As on an edge that is a fallback: when its callee is taken back, nobody has to call it any more."""
    found = one([line(10.5, status=504), line(last_call_s, status=503, flags="UH")], [event(17, ejected=True)])
    assert (found.verdict, found.closed_s) == (verdict, None)


def test_a_fault_that_takes_no_callee_away_asks_for_no_breaker() -> None:
    found = breakers_document(MESH, {"inventory-killed": Impact()}, Read(lines=(line(11),)), RUN, OFFSET)
    assert (found["verdict"], found["edges"], check_of(found)) == (None, [], None)


def test_the_check_is_the_same_from_the_document_as_from_the_records() -> None:
    seen = Read(lines=(line(10.5, status=503, flags="UH"), line(19)))
    document = breakers_document(MESH, IMPACTS, seen, RUN, OFFSET)
    check = check_of(document)
    assert check == breakers_check(breakers(MESH, IMPACTS, seen, RUN, OFFSET))
    assert check is not None
    assert check.verdict is Verdict.VALID


def test_an_edge_that_opens_unforeseen_is_shown_and_judges_nothing() -> None:
    seen = Read(lines=(line(19),), outliers=(event(11, ejected=True),))
    (found,) = breakers(MESH, {"inventory-killed": Impact()}, seen, RUN, OFFSET)
    assert (found.expected, found.verdict, breakers_check([found])) == (False, Verdict.VALID, None)


@pytest.mark.parametrize(
    ("impact", "expected"),
    [
        (Impact(down=frozenset({"inventory"})), True),
        (Impact(down=frozenset({"fulfilment-gateway"})), True),
        (Impact(cut=frozenset({"storefront-inventory"})), True),
        (Impact(delay_ms={"storefront-inventory": 5000}), True),
        (Impact(delay_ms={"storefront-inventory": 50}), False),
        (Impact(down=frozenset({"inventory", "storefront"})), False),
        (Impact(down=frozenset({"payments"})), False),
    ],
)
def test_a_breaker_is_expected_where_calls_of_a_living_caller_cannot_succeed(impact: Impact, expected: bool) -> None:
    assert cuts(MESH, impact, MESH.channel("storefront-inventory")) is expected


def test_envoys_name_of_a_callee_leads_to_the_edge_of_the_sidecar_that_says_it() -> None:
    assert edge_of(event(1, ejected=True), MESH) == "storefront-inventory"
    assert edge_of(event(1, ejected=True, cluster="moon_v1"), MESH) == ""
