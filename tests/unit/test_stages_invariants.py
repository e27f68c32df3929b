"""The checks of a run's effects: books that agree pass, each way of spoiling them is caught by the right check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from stages.catalogue import ASYNC, SYNC
from stages.check import INVARIANTS, Check, Seen, invariants
from stages.check.invariants import OF_MESSAGES
from stages.history import Audit, FaultEvent, FaultStep, Invocation, Outcome
from stages.model import Stage
from stages.testing import RUN_ID, books, changed, cpu_s, invocation, ns, order_effects, shelf, user_effects, without


def judged(
    audits: Iterable[Audit],
    invocations: Iterable[Invocation] | None = None,
    *,
    stage: Stage = SYNC,
    fault_events: Iterable[FaultEvent] = (),
    crashed: dict[str, frozenset[str]] | None = None,
    audited: frozenset[str] | None = None,
) -> dict[str, Check]:
    seen = Seen(
        stage=stage,
        run_id=RUN_ID,
        invocations=list(books()[0] if invocations is None else invocations),
        audits=list(audits),
        fault_events=list(fault_events),
        crashed=crashed or {},
        audited=audited,
    )
    return {check.name: check for check in invariants(seen)}


def invalid(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.because for name, check in checks.items() if check.verdict == "invalid"}


REQUESTS, BOOKS = books()


def test_books_that_agree_are_valid_in_every_respect() -> None:
    checks = judged(BOOKS)
    promised = [name for name in INVARIANTS if name not in OF_MESSAGES]
    assert {name: check.verdict for name, check in checks.items()} == dict.fromkeys(promised, "valid")
    assert checks["every-accepted-order-terminates"].evidence == {
        "states": {"confirmed": 1, "cancelled": 1, "rejected": 1},
        "foreign": 0,
        "checked": 3,
        "offenders": 0,
    }


def test_an_empty_run_is_unknown_in_every_respect() -> None:
    assert {check.verdict.value for check in judged([], []).values()} == {"unknown"}


def test_a_run_without_a_single_success_is_not_valid_for_what_did_not_happen() -> None:
    failed = [replace(i, outcome=Outcome.FAIL) for i in REQUESTS if i.operation == "place-order"]
    rejected = [a for key in ("run-1-1", "run-1-2", "run-1-3") for a in order_effects(key, key, state="rejected")]
    checks = judged([shelf(), *rejected], failed)
    assert invalid(checks) == {}
    for name in ("no-order-lost", "no-order-applied-twice", "stock-conserved", "money-conserved"):
        assert checks[name].verdict == "unknown"


def test_an_audit_that_was_not_read_is_unknown_where_it_is_needed() -> None:
    everything = frozenset(s.name for s in SYNC.services)
    checks = judged(BOOKS, audited=everything - {"payments"})
    assert {n for n, c in checks.items() if c.verdict == "unknown"} == {
        "no-order-applied-twice",
        "money-conserved",
        "no-effect-without-operation",
    }
    assert checks["money-conserved"].because == "the audit of payments was not read, so nothing can be said"


SPOILED: dict[str, tuple[list[Audit], dict[str, str]]] = {
    "an order that never ends": (
        changed(BOOKS, "orders", "order", "run-1-1", state="pending"),
        {"every-accepted-order-terminates": "order o-1 is still pending"},
    ),
    "an order that is still being undone": (
        changed(BOOKS, "orders", "order", "run-1-3", state="compensating"),
        {"every-accepted-order-terminates": "order o-3 is still compensating"},
    ),
    "an order that vanished": (
        without(BOOKS, "orders", "order", "run-1-1"),
        {
            "no-order-lost": "an order was answered as placed (key run-1-1), but orders does not know it",
            "money-conserved": "4200 cents were taken for key run-1-1, for which there is no order",
            "no-effect-without-operation": "shipping still has a shipment of key run-1-1, which has no order "
            "(and 2 more)",
        },
    ),
    "an order that was never shipped": (
        without(BOOKS, "shipping", "shipment", "run-1-1"),
        {"no-order-lost": "order o-1 is confirmed but has no shipment"},
    ),
    "a cancellation that had no effect": (
        [a for a in BOOKS if a.key != "run-1-2"] + [*order_effects("run-1-2", "o-2"), shelf("p-02")],
        {
            "no-order-lost": "order o-2 is confirmed, though its cancellation was answered as done",
            "stock-conserved": "product p-01: 1000 units at first, 998 on hand and 4 reserved leave -2 unaccounted for",
        },
    ),
    "an order cancelled by nobody": (
        [a for a in BOOKS if a.key != "run-1-1"] + order_effects("run-1-1", "o-1", state="cancelled"),
        {
            "no-order-lost": "order o-1 is cancelled, but nobody asked for that",
            "stock-conserved": "product p-01: 1000 units at first, 998 on hand and 0 reserved leave 2 unaccounted for",
        },
    ),
    "two orders of one key": (
        [*BOOKS, *(replace(a, id="o-1b", subject="o-1b") for a in BOOKS if a.key == "run-1-1" and a.kind == "order")],
        {"no-order-applied-twice": "key run-1-1 made 2 orders: o-1, o-1b"},
    ),
    "a double charge": (
        [*BOOKS, *(replace(a, id="o-1.x") for a in BOOKS if a.key == "run-1-1" and a.kind == "capture")],
        {
            "no-order-applied-twice": "order o-1 was charged twice: 2 x 4200 cents",
            "money-conserved": "order o-1 costs 4200 cents, but 8400 cents were kept",
        },
    ),
    "a double charge of which one was paid back": (
        [
            *BOOKS,
            *(replace(a, id="o-2.x", state="captured") for a in BOOKS if (a.key, a.kind) == ("run-1-2", "capture")),
        ],
        {
            "no-order-applied-twice": "order o-2 was charged twice: 2 x 4200 cents, 1 of 2 paid back",
            "money-conserved": "order o-2 is cancelled, but 4200 cents were kept",
        },
    ),
    "two shipments": (
        [*BOOKS, *(replace(a, id="s-2") for a in BOOKS if a.key == "run-1-1" and a.kind == "shipment")],
        {"no-order-applied-twice": "order o-1 has 2 shipments"},
    ),
    "units that vanished from the shelf": (
        changed(BOOKS, "inventory", "stock", "", quantity=990),
        {"stock-conserved": "product p-01: 1000 units at first, 990 on hand and 2 reserved leave 8 unaccounted for"},
    ),
    "stock held for a rejected order": (
        [
            shelf(on_hand=996),
            *(a for a in changed(BOOKS, "inventory", "reservation", "run-1-3", state="reserved") if a.kind != "stock"),
        ],
        {"stock-conserved": "order o-3 is rejected but still holds 2 units"},
    ),
    "money kept for a rejected order": (
        changed(BOOKS, "payments", "capture", "run-1-3", state="captured", quantity=4200),
        {"money-conserved": "order o-3 is rejected, but 4200 cents were kept"},
    ),
    "the wrong price": (
        changed(BOOKS, "payments", "capture", "run-1-1", quantity=4199),
        {"money-conserved": "order o-1 costs 4200 cents, but 4199 cents were kept"},
    ),
    "no mail": (
        without(BOOKS, "email", "mail", "run-1-1"),
        {"one-email-per-confirmed-order": "order o-1 is confirmed, but no mail was sent"},
    ),
    "a mail taken back": (
        changed(BOOKS, "email", "mail", "run-1-1", state="retracted"),
        {"one-email-per-confirmed-order": "order o-1 is confirmed, but its confirmation was taken back"},
    ),
    "two mails": (
        [*BOOKS, *(replace(a, id="m-2") for a in BOOKS if a.key == "run-1-1" and a.kind == "mail")],
        {"one-email-per-confirmed-order": "order o-1 was confirmed by 2 mails"},
    ),
    "a mail for a rejected order": (
        changed(BOOKS, "email", "mail", "run-1-3", state="confirmation"),
        {
            "one-email-per-confirmed-order": "order o-3 is rejected, but its confirmation was sent and never corrected",
        },
    ),
    "a user whom analytics never met": (
        without(BOOKS, "analytics", "event", "run-1-5"),
        {"registrations-reach-every-consumer": "user a-1 is unknown to analytics"},
    ),
    "a user who got two welcomes": (
        [*BOOKS, *(replace(a, id="m-9") for a in BOOKS if (a.key, a.kind) == ("run-1-5", "mail"))],
        {"registrations-reach-every-consumer": "user a-1 reached email 2 times"},
    ),
    "an account that vanished": (
        [a for a in BOOKS if a.key != "run-1-5"],
        {
            "registrations-reach-every-consumer": "an account was answered as opened (key run-1-5), but accounts has "
            "no active user",
        },
    ),
    "a rejected user who is still in the cache": (
        [
            a
            for a in changed(BOOKS, "accounts", "user", "run-1-5", state="rejected")
            if a.key != "run-1-5" or a.service in ("accounts", "cache")
        ],
        {
            "registrations-reach-every-consumer": "an account was answered as opened (key run-1-5), but accounts has "
            "no active user (and 1 more)",
        },
    ),
    "an effect that nobody asked for": (
        [
            *BOOKS,
            Audit(service="shipping", kind="shipment", id="s-7", subject="o-7", key="run-1-77", state="cancelled"),
        ],
        {"no-effect-without-operation": "shipping has a shipment for key run-1-77, which nobody sent"},
    ),
    "a shipment of a cancelled order": (
        changed(BOOKS, "shipping", "shipment", "run-1-2", state="booked"),
        {"no-effect-without-operation": "shipping still has a shipment of order o-2, which is cancelled"},
    ),
    "an event of a rejected order": (
        changed(BOOKS, "analytics", "event", "run-1-3", state="present"),
        {"no-effect-without-operation": "analytics still has an event of order o-3, which is rejected"},
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_wrong_is_caught_by_its_check_and_named(name: str) -> None:
    audits, expected = SPOILED[name]
    assert invalid(judged(audits)) == expected


def test_a_failure_that_was_applied_after_all_is_caught() -> None:
    requests = [
        replace(i, outcome=Outcome.FAIL, error="dependency-unavailable") if i.key == "run-1-1" else i for i in REQUESTS
    ]
    assert invalid(judged(BOOKS, requests)) == {
        "no-effect-without-operation": "order o-1 is confirmed, but the user was told that it failed "
        "(dependency-unavailable)"
    }


def test_an_unknown_outcome_may_have_been_applied_or_not() -> None:
    requests = [
        *REQUESTS,
        invocation("place-order", 8.0, key="run-1-8", outcome=Outcome.UNKNOWN),
        invocation("place-order", 9.0, key="run-1-9", outcome=Outcome.UNKNOWN),
    ]
    audits = [shelf(on_hand=996), *(a for a in BOOKS if a.kind != "stock"), *order_effects("run-1-8", "o-8")]
    assert invalid(judged(audits, requests)) == {}


def test_a_rejected_order_answered_as_placed_is_lost_only_where_ok_means_done() -> None:
    audits = [
        shelf(on_hand=1000),
        *(a for a in BOOKS if a.kind != "stock" and a.key != "run-1-1"),
        *order_effects("run-1-1", "o-1", state="rejected"),
    ]
    assert invalid(judged(audits)) == {"no-order-lost": "order o-1 was answered as confirmed, but it is rejected"}
    assert invalid(judged(audits, stage=ASYNC)) == {}


def test_records_of_other_runs_are_counted_but_not_judged() -> None:
    theirs = order_effects("run-2-1", "o-x") + user_effects("run-1-steady-99-3", "a-x")
    spoiled = [a for a in theirs if a.kind != "capture"]
    mine = [shelf(on_hand=996), *(a for a in BOOKS if a.kind != "stock")]
    checks = judged([*mine, *spoiled])
    assert invalid(checks) == {}
    assert checks["no-order-lost"].evidence["foreign"] == len(spoiled)


CRASH = [
    FaultEvent(fault="orders-killed", step=FaultStep.INTENT, at_ns=ns(0.5)),
    FaultEvent(fault="orders-killed", step=FaultStep.RECOVERED, at_ns=ns(1.5)),
]
KILLED = {"orders-killed": frozenset({"orders"})}
NO_MAIL = without(BOOKS, "email", "mail", "run-1-1")  # its order was recorded at 1.0 s


def mail_check(**more: object) -> Check:
    return judged(NO_MAIL, **more)["one-email-per-confirmed-order"]  # type: ignore[arg-type]


def test_a_mail_lost_in_the_predicted_gap_is_counted_and_said_but_valid() -> None:
    found = mail_check(fault_events=CRASH, crashed=KILLED)
    assert found.verdict == "valid"
    assert found.evidence["predicted_gaps"] == {
        "lost-email": {"count": 1, "first": ["order o-1 is confirmed, but no mail was sent"]}
    }
    assert "1 in the predicted gap 'lost-email'" in found.because


@pytest.mark.parametrize(
    "more",
    [
        {"fault_events": CRASH},
        {"fault_events": CRASH, "crashed": {"orders-killed": frozenset({"payments"})}},
        {"fault_events": [replace(e, at_ns=e.at_ns + ns(5)) for e in CRASH], "crashed": KILLED},
        {"fault_events": CRASH, "crashed": KILLED, "stage": ASYNC},
    ],
    ids=["nothing-crashed", "another-service", "another-time", "a-stage-without-the-gap"],
)
def test_outside_the_gap_the_same_loss_is_invalid(more: dict[str, object]) -> None:
    assert mail_check(**more).verdict == "invalid"


def test_an_order_that_was_under_way_when_its_service_was_killed_lies_in_the_gap() -> None:
    later = [replace(e, at_ns=e.at_ns + ns(1)) for e in CRASH]  # ordered at 1.5 s, the order was begun at 1.0 s
    assert mail_check(fault_events=later, crashed=KILLED).verdict == "valid"


def test_a_fault_that_never_recovered_keeps_its_gap_open() -> None:
    assert mail_check(fault_events=CRASH[:1], crashed=KILLED).verdict == "valid"


def test_a_gap_excuses_only_what_it_predicts() -> None:
    twice = [*BOOKS, *(replace(a, id="m-2") for a in BOOKS if a.key == "run-1-1" and a.kind == "mail")]
    found = judged(twice, fault_events=CRASH, crashed=KILLED)["one-email-per-confirmed-order"]
    assert found.verdict == "invalid"


def test_a_user_unannounced_in_the_predicted_gap_is_valid() -> None:
    events = [replace(e, fault="accounts-killed") for e in CRASH]
    crashed = {"accounts-killed": frozenset({"accounts"})}
    audits = without(BOOKS, "analytics", "event", "run-1-5")
    assert invalid(judged(audits, fault_events=events, crashed=crashed)) == {}


def test_only_the_first_offenders_are_named_and_all_are_counted() -> None:
    ghosts = [
        Audit(service="shipping", kind="shipment", id=f"s-{n}", subject="o", key=f"run-1-9{n}", state="cancelled")
        for n in range(9)
    ]
    evidence = judged([*BOOKS, *ghosts])["no-effect-without-operation"].evidence
    assert (evidence["offenders"], len(evidence["first"])) == (9, 5)


def test_ten_times_the_orders_do_not_take_a_hundred_times_as_long_to_check() -> None:
    def checking_s(count: int) -> float:
        requests = [invocation("place-order", n / 10, key=f"run-1-{n}", subject=f"o-{n}") for n in range(count)]
        audits = [a for n in range(count) for a in order_effects(f"run-1-{n}", f"o-{n}")]
        found: dict[str, Check] = {}
        taken_s = cpu_s(lambda: found.update(judged([shelf(initial=4 * count, on_hand=2 * count), *audits], requests)))
        assert invalid(found) == {}
        return taken_s

    assert checking_s(5000) < 30 * checking_s(500), "in proportion it takes 10 times as long, by pairs 100 times"
