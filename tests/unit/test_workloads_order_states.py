"""What an order becomes: every order of answers, repetitions, late answers, cancellations, refusals and silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import pytest

from workloads import domain
from workloads.domain import Record
from workloads.handlers import order_states
from workloads.handlers.order_states import ASKS_AFTER_S, ASKS_AT_LEAST_EVERY_S, GIVES_UP_AFTER_S, Moved
from workloads.messages import Answer, OrderCancelled, OrderConfirmed, PlaceOrder, Sent, StepDone, StepRefused
from workloads.problems import ProblemError

S = 1_000_000_000
T0 = 1000 * S
DOING = ("ReserveStock", "CapturePayment", "BookShipment")
UNDOING = ("ReleaseStock", "RefundPayment", "CancelShipment")
ENDS = {"confirmed", "rejected", "cancelled"}


def new(now_ns: int = T0) -> Moved:
    command = PlaceOrder(key="k-1", product="p-01", quantity=2, email="a@b")
    return order_states.accepted(domain.new_order(command, now_ns), now_ns)


def done(order: Record, step: str) -> StepDone:
    return StepDone(order_id=order.id, key=order.key, step=step)


def refused(order: Record, step: str) -> StepRefused:
    return StepRefused(order_id=order.id, key=order.key, step=step, problem="out-of-stock", detail="2 left")


def names(messages: tuple[Sent, ...]) -> list[str]:
    return [type(message).__name__ for message in messages]


def answered(order: Record, *replies: Answer, now_ns: int = T0) -> Moved:
    """The order after some answers that each change it."""
    moved = Moved(order)
    for reply in replies:
        found = order_states.answered(moved.order, reply, now_ns)
        assert found is not None, (moved.order.state, reply)
        moved = found
    return moved


def completed(order: Record) -> Record:
    return answered(order, *(done(order, step) for step in DOING)).order


def cancelled(order: Record) -> Moved:
    found = order_states.cancel(order, T0)
    assert found is not None
    return found


def events(order: Record) -> Iterator[Moved | None]:
    """What becomes of an order with everything that can happen to it."""
    for step in (*DOING, *UNDOING):
        yield order_states.answered(order, done(order, step), T0)
        yield order_states.answered(order, refused(order, step), T0)
    if order.state not in {"compensating", "rejected"}:
        yield order_states.cancel(order, T0)
    yield order_states.unheard(order, T0 + int(GIVES_UP_AFTER_S * S), unsent=False)


def reachable() -> list[Record]:
    """Every state there is, whatever happens in whatever order."""
    begin = new().order
    seen = {repr(begin): begin}
    todo = [begin]
    while todo:
        for moved in events(todo.pop()):
            if moved is None:
                continue
            # how often was asked does not change what can happen next
            order = replace(moved.order, detail={k: v for k, v in moved.order.detail.items() if k != "asks"}, due_ns=1)
            if repr(order) not in seen:
                seen[repr(order)] = order
                todo.append(order)
    return list(seen.values())


def test_an_accepted_order_asks_for_stock_and_money_at_once() -> None:
    moved = new()
    assert (moved.order.state, names(moved.messages)) == ("pending", ["ReserveStock", "CapturePayment"])
    assert moved.order.due_ns == T0 + int(ASKS_AFTER_S * S)


@pytest.mark.parametrize("first", [("ReserveStock", "CapturePayment"), ("CapturePayment", "ReserveStock")])
def test_shipping_is_asked_once_both_have_answered_in_either_order(first: tuple[str, str]) -> None:
    order = new().order
    one = answered(order, done(order, first[0]))
    assert one.messages == ()
    both = answered(one.order, done(order, first[1]), now_ns=T0 + S)
    assert names(both.messages) == ["BookShipment"]
    assert both.order.due_ns == T0 + S + int(ASKS_AFTER_S * S)


def test_the_booked_order_is_confirmed_and_announced_and_needs_no_more_attention() -> None:
    order = new().order
    moved = answered(order, *(done(order, step) for step in DOING), now_ns=T0 + 7)
    assert (moved.order.state, moved.order.due_ns) == ("confirmed", 0)
    assert moved.messages == (
        OrderConfirmed(order_id=order.id, key="k-1", product="p-01", quantity=2, amount_cents=1998, email="a@b"),
    )
    assert moved.order.detail["completed_ns"] == str(T0 + 7)
    assert not {"done", "asks"} & moved.order.detail.keys()


@pytest.mark.parametrize("before", [(), ("ReserveStock",), ("CapturePayment",), ("ReserveStock", "CapturePayment")])
@pytest.mark.parametrize("step", DOING)
def test_a_refusal_undoes_all_three_steps(step: str, before: tuple[str, ...]) -> None:
    order = new().order
    order = answered(order, *(done(order, each) for each in before)).order
    if step not in names(order_states.outstanding(order)):
        assert order_states.answered(order, refused(order, step), T0) is None
        return
    moved = answered(order, refused(order, step))
    assert (moved.order.state, names(moved.messages)) == ("compensating", list(UNDOING))
    assert (moved.order.detail["problem"], moved.order.detail["why"]) == ("out-of-stock", "2 left")


@pytest.mark.parametrize("undone", list(permutations(UNDOING)))
def test_all_three_undone_in_any_order_is_the_end(undone: tuple[str, ...]) -> None:
    order = new().order
    rejected = answered(answered(order, refused(order, "ReserveStock")).order, *(done(order, step) for step in undone))
    assert (rejected.order.state, rejected.messages) == ("rejected", ())
    given_back = answered(cancelled(completed(order)).order, *(done(order, step) for step in undone), now_ns=T0 + 9)
    assert (given_back.order.state, names(given_back.messages)) == ("cancelled", ["OrderCancelled"])
    assert (given_back.order.detail["completed_ns"], given_back.order.detail["cancelled_ns"]) == (str(T0), str(T0 + 9))


@pytest.mark.parametrize("before", [(), ("ReserveStock",), ("CapturePayment",), ("ReserveStock", "CapturePayment")])
def test_a_pending_order_is_cancelled_wherever_it_stands_and_nobody_hears_of_it(before: tuple[str, ...]) -> None:
    order = new().order
    moved = cancelled(answered(order, *(done(order, step) for step in before)).order)
    assert (moved.order.state, names(moved.messages)) == ("cancelling", list(UNDOING))
    ended = answered(moved.order, *(done(order, step) for step in UNDOING), now_ns=T0 + 5)
    assert (ended.order.state, ended.messages) == ("cancelled", ())
    assert ended.order.detail["completed_ns"] == ended.order.detail["cancelled_ns"] == str(T0 + 5)


def test_cancelling_again_changes_nothing_and_what_was_rejected_cannot_be_cancelled() -> None:
    order = new().order
    cancelling = cancelled(order).order
    assert order_states.cancel(cancelling, T0) is None
    gone = answered(cancelling, *(done(order, step) for step in UNDOING)).order
    assert order_states.cancel(gone, T0) is None
    compensating = answered(order, refused(order, "CapturePayment")).order
    rejected = answered(compensating, *(done(order, step) for step in UNDOING)).order
    for state in (compensating, rejected):
        with pytest.raises(ProblemError, match=f"is {state.state}"):
            order_states.cancel(state, T0)


def test_silence_is_asked_about_ever_less_often() -> None:
    order = new().order
    waits = []
    for _ in range(5):
        now_ns = order.due_ns
        moved = order_states.unheard(order, now_ns, unsent=False)
        assert moved is not None
        assert names(moved.messages) == ["ReserveStock", "CapturePayment"]
        order = moved.order
        waits.append((order.due_ns - now_ns) / S)
    assert waits == [3, 6, 12, ASKS_AT_LEAST_EVERY_S, ASKS_AT_LEAST_EVERY_S]


def test_only_who_has_not_answered_is_asked_again() -> None:
    order = new().order
    order = answered(order, done(order, "ReserveStock")).order
    moved = order_states.unheard(order, order.due_ns, unsent=False)
    assert moved is not None
    assert names(moved.messages) == ["CapturePayment"]
    undoing = answered(cancelled(order).order, done(order, "RefundPayment")).order
    moved = order_states.unheard(undoing, undoing.due_ns, unsent=False)
    assert moved is not None
    assert names(moved.messages) == ["ReleaseStock", "CancelShipment"]


def test_what_has_not_even_left_is_not_said_twice() -> None:
    order = new().order
    moved = order_states.unheard(order, order.due_ns, unsent=True)
    assert moved is not None
    assert (moved.messages, moved.order.due_ns) == ((), order.due_ns + int(ASKS_AFTER_S * S))


@pytest.mark.parametrize("age_s", [GIVES_UP_AFTER_S, 10 * GIVES_UP_AFTER_S, -1])
@pytest.mark.parametrize("unsent", [False, True])
def test_a_pending_order_that_is_too_old_or_of_another_clock_is_undone(age_s: float, unsent: bool) -> None:
    order = new().order
    moved = order_states.unheard(order, T0 + int(age_s * S), unsent=unsent)
    assert moved is not None
    assert (moved.order.state, names(moved.messages)) == ("compensating", list(UNDOING))
    assert "ReserveStock, CapturePayment" in moved.order.detail["why"]


def test_an_order_is_looked_at_when_its_time_is_up_and_undoing_never_gives_up() -> None:
    order = new().order
    while order.state == "pending":
        assert order.due_ns <= T0 + GIVES_UP_AFTER_S * S
        moved = order_states.unheard(order, order.due_ns, unsent=False)
        assert moved is not None
        order = moved.order
    for hours in range(1, 4):
        moved = order_states.unheard(order, T0 + hours * 3600 * S, unsent=False)
        assert moved is not None
        assert (moved.order.state, names(moved.messages)) == ("compensating", list(UNDOING))
        order = moved.order


def test_every_state_there_is_can_come_to_an_end_and_an_end_is_for_good() -> None:
    states = reachable()
    assert {order.state for order in states} == ENDS | {"pending", "compensating", "cancelling"}
    for order in states:
        if order.state in ENDS - {"confirmed"}:
            assert all(moved is None for moved in events(order)), order
        on_its_way = order
        while on_its_way.state not in ENDS:  # each answer that is awaited brings it nearer
            awaited = order_states.outstanding(on_its_way)
            assert awaited, on_its_way
            on_its_way = answered(on_its_way, done(order, names(awaited)[0])).order


def test_an_answer_that_is_not_awaited_changes_nothing() -> None:
    for order in reachable():
        awaited = names(order_states.outstanding(order))
        for step in (*DOING, *UNDOING):
            if step not in awaited:
                assert order_states.answered(order, done(order, step), T0) is None
                assert order_states.answered(order, refused(order, step), T0) is None


def test_an_undo_that_is_refused_is_asked_for_again() -> None:
    order = cancelled(new().order).order
    assert all(order_states.answered(order, refused(order, step), T0) is None for step in UNDOING)


def test_only_an_order_that_was_confirmed_is_announced_as_cancelled() -> None:
    for order in reachable():
        for moved in events(order):
            if moved is not None and any(isinstance(message, OrderCancelled) for message in moved.messages):
                assert "completed_ns" in order.detail
