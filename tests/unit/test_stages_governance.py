"""Who answers for what, and where the error budget of a run went."""

from __future__ import annotations

from dataclasses import replace

from stages.catalogue import ASYNC, MESH
from stages.check import Seen
from stages.governance import NO_FAULT, Budget, Spent, Windows, governance, governed, worst_faults
from stages.history import Audit, FaultEvent, FaultStep, Invocation, Outcome, Stall

SECOND_NS = 1_000_000_000


def request(
    at_s: float, operation: str = "browse", *, key: str = "", took_s: float = 0.02, **more: object
) -> Invocation:
    start_ns = int(at_s * SECOND_NS)
    return Invocation(
        operation=operation,
        key=key or f"run-{operation}-{at_s}",
        intended_ns=start_ns,
        started_ns=start_ns,
        ended_ns=start_ns + int(took_s * SECOND_NS),
        **{"outcome": Outcome.OK, **more},  # type: ignore[arg-type]
    )


def event(fault: str, step: FaultStep, at_s: float) -> FaultEvent:
    return FaultEvent(fault=fault, step=step, at_ns=int(at_s * SECOND_NS))


HELD = (
    event("inventory-killed", FaultStep.INTENT, 100),
    event("inventory-killed", FaultStep.RECOVERED, 110),
    event("payments-killed", FaultStep.INTENT, 120),
    event("payments-killed", FaultStep.RECOVERED, 130),
)


def seen(*requests: Invocation, audits: tuple[Audit, ...] = (), audited: frozenset[str] | None = None) -> Seen:
    return Seen(stage=MESH, run_id="run", invocations=requests, audits=audits, audited=audited, fault_events=HELD)


def budget(found: Seen, name: str, stalls: tuple[Stall, ...] = ()) -> Budget:
    return next(b for system in governance(found, stalls) for b in system.budgets if b.objective.name == name)


def test_every_system_of_the_mesh_says_who_answers_for_what() -> None:
    assert [(g.system, g.owner, g.cluster, g.network, [o.name for o in g.objectives]) for g in governed(MESH)] == [
        (
            "commerce",
            "team-storefront",
            "commerce",
            "10.1.0.0/16",
            ["register", "place-order", "track-order", "cancel-order"],
        ),
        ("fulfilment", "team-warehouse", "fulfilment", "10.2.0.0/16", ["browse", "order-cancelled"]),
        ("payments", "team-money", "payments", "10.3.0.0/16", ["order-completed"]),
        (
            "engagement",
            "team-growth",
            "engagement",
            "10.4.0.0/16",
            ["insights", "user-visible-in-analytics", "email-sent"],
        ),
    ]


def test_an_objective_has_the_limit_and_share_of_what_it_names() -> None:
    by_name = {o.name: o for g in governed(MESH) for o in g.objectives}
    assert (by_name["browse"].within_ms, by_name["browse"].share, by_name["browse"].completion) == (800, 0.99, False)
    email = by_name["email-sent"]
    assert (email.operation, email.within_ms, email.completion) == ("place-order", 3000, True)


def test_a_stage_in_which_nobody_answers_has_no_governance() -> None:
    assert governed(ASYNC) == ()
    assert governance(replace(seen(), stage=ASYNC), ()) == ()


def test_the_budget_is_spent_by_the_fault_in_whose_time_a_request_began() -> None:
    found = seen(
        *(request(t) for t in range(50)),
        request(60, outcome=Outcome.FAIL),
        *(request(100 + t, outcome=Outcome.FAIL) for t in range(3)),
        request(105),
        request(111),
        request(121, took_s=0.9),
    )
    assert budget(found, "browse") == Budget(
        objective=governed(MESH)[1].objectives[0],
        n=57,
        bad=5,
        by_fault=(
            Spent(fault="inventory-killed", n=4, bad=3),
            Spent(fault="payments-killed", n=1, bad=1),
            Spent(fault=NO_FAULT, n=52, bad=1),
        ),
    )
    assert worst_faults(budget(found, "browse")) == {"inventory-killed": 3, "payments-killed": 1, NO_FAULT: 1}


def test_the_budget_is_the_share_that_may_be_bad() -> None:
    found = budget(seen(*(request(t / 10) for t in range(199)), request(30, outcome=Outcome.UNKNOWN)), "browse")
    assert round(found.allowed, 6) == 2
    assert found.spent is not None
    assert round(found.spent, 6) == 0.5


def test_without_requests_nothing_is_known_to_be_spent() -> None:
    found = budget(seen(), "browse")
    assert (found.n, found.bad, found.spent) == (0, 0, None)


def test_an_answer_from_a_fallback_spends_nothing() -> None:
    assert budget(seen(request(101, degraded=True)), "browse").bad == 0


def test_what_a_stall_delayed_is_left_out() -> None:
    stall = Stall(source="core-0", start_ns=101 * SECOND_NS, end_ns=102 * SECOND_NS)
    assert budget(seen(request(101, outcome=Outcome.FAIL), request(105)), "browse", (stall,)).n == 1


def test_a_request_that_a_fault_met_on_its_way_is_the_faults() -> None:
    on = Windows(HELD)
    assert on.fault(99 * SECOND_NS, 800) == NO_FAULT
    assert on.fault(int(99.5 * SECOND_NS), 800) == "inventory-killed"
    assert on.fault(110 * SECOND_NS, 800) == NO_FAULT


def test_a_fault_without_recovery_is_on_for_ever() -> None:
    on = Windows(HELD[:-1])
    assert on.fault(9_999 * SECOND_NS, 800) == "payments-killed"


def test_a_fault_that_a_guard_refused_was_never_on() -> None:
    on = Windows((event("payments-killed", FaultStep.INTENT, 10), event("payments-killed", FaultStep.REFUSED, 11)))
    assert (on.faults, on.fault(12 * SECOND_NS, 800)) == ((), NO_FAULT)


def test_a_completion_that_came_late_or_never_spends_the_budget_of_who_answers_for_it() -> None:
    def order(key: str, completed_s: float | None) -> Audit:
        detail = {} if completed_s is None else {"completed_ns": str(int(completed_s * SECOND_NS))}
        return Audit(service="orders", kind="order", id=key, subject=key, key=key, state="confirmed", detail=detail)

    placed = [request(t, "place-order", key=f"run-{t}") for t in (90, 121, 122)]
    found = seen(*placed, audits=(order("run-90", 91), order("run-121", 131), order("run-122", None)))
    spent = budget(found, "order-completed")
    assert (spent.n, spent.bad) == (3, 2)
    assert worst_faults(spent) == {"payments-killed": 2}


def test_without_audits_nobody_knows_of_completions() -> None:
    names = [b.objective.name for g in governance(seen(audited=frozenset()), ()) for b in g.budgets]
    assert names == ["register", "place-order", "track-order", "cancel-order", "browse", "insights"]
