"""No event lost, no outbox left full, no dead letter unexplained: each way of breaking it is caught by its check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from stages.catalogue import ASYNC
from stages.check import Check, Seen, invariants
from stages.history import Audit, DeadLetter, FaultEvent, FaultStep
from stages.testing import RUN_ID, books, ns

REQUESTS, BOOKS = books()
OUTBOXES = [
    Audit(service=s, kind="outbox", id="outbox", subject="", key="", state="drained") for s in ("accounts", "orders")
]
POISON = (
    FaultEvent(fault="payments-poisoned", step=FaultStep.INTENT, at_ns=ns(5)),
    FaultEvent(fault="payments-poisoned", step=FaultStep.RECOVERED, at_ns=ns(15)),
)
LETTER = DeadLetter(queue="payments-commands", id="m-1", reason="malformed", detail="no JSON", at_ns=ns(7), receives=1)


def judged(
    audits: Iterable[Audit] = (*BOOKS, *OUTBOXES), letters: Sequence[DeadLetter] | None = ()
) -> dict[str, Check]:
    seen = Seen(
        stage=ASYNC,
        run_id=RUN_ID,
        invocations=list(REQUESTS),
        audits=list(audits),
        fault_events=POISON,
        poisoned={"payments-poisoned": frozenset({"payments-commands"})},
        dead_letters=letters,
    )
    return {check.name: check for check in invariants(seen)}


def test_books_that_agree_keep_the_promises_about_messages() -> None:
    checks = judged()
    for name in ("no-event-lost", "outbox-drained", "dead-letters-accounted-for"):
        assert checks[name].verdict == "valid", checks[name].because


@pytest.mark.parametrize(("service", "kind"), [("email", "mail"), ("analytics", "event"), ("cache", "entry")])
def test_an_event_that_a_consumer_never_heard_of_is_lost(service: str, kind: str) -> None:
    confirmed = next(a for a in BOOKS if (a.kind, a.state) == ("order", "confirmed"))
    kept = [a for a in BOOKS if not (a.kind == kind and a.key == confirmed.key)]
    found = judged([*kept, *OUTBOXES])["no-event-lost"]
    assert found.verdict == "invalid"
    assert f"{service} never heard of OrderConfirmed of {confirmed.id}" in found.because


def test_an_event_acted_on_twice_is_no_better() -> None:
    entry = next(a for a in BOOKS if (a.kind, a.state) == ("entry", "present"))
    assert judged([*BOOKS, *OUTBOXES, replace(entry, id="again")])["no-event-lost"].verdict == "invalid"


def test_a_message_still_in_the_outbox_is_found() -> None:
    full = [replace(o, state="pending", quantity=3) if o.service == "orders" else o for o in OUTBOXES]
    found = judged([*BOOKS, *full])["outbox-drained"]
    assert (found.verdict, found.because) == ("invalid", "3 messages still wait in the outbox of orders")


def test_an_outbox_that_nobody_read_proves_nothing() -> None:
    assert judged(BOOKS)["outbox-drained"].verdict == "unknown"
    assert judged(letters=None)["dead-letters-accounted-for"].verdict == "unknown"


def test_a_letter_that_a_fault_made_is_accounted_for() -> None:
    found = judged(letters=[LETTER])["dead-letters-accounted-for"]
    assert (found.verdict, found.evidence["explained"]) == ("valid", 1)


@pytest.mark.parametrize(
    ("letter", "told"),
    [
        (replace(LETTER, reason="", receives=5), "dead without a reason, after 5 deliveries"),
        (replace(LETTER, at_ns=ns(20)), "no fault of this run explains it"),
        (replace(LETTER, queue="email-events"), "no fault of this run explains it"),
    ],
    ids=["moved by the broker", "after the fault", "another queue"],
)
def test_a_letter_that_nothing_explains_is_found(letter: DeadLetter, told: str) -> None:
    found = judged(letters=[LETTER, letter])["dead-letters-accounted-for"]
    assert found.verdict == "invalid"
    assert told in found.because


def test_letters_from_before_the_run_are_somebody_elses() -> None:
    began_ns = min(i.intended_ns for i in REQUESTS)
    assert judged(letters=[replace(LETTER, at_ns=began_ns - 1)])["dead-letters-accounted-for"].verdict == "valid"
