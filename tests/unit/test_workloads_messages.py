"""The asynchronous shop in memory: in whatever order messages arrive, an order ends whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import problems
from workloads.handlers.order_states import GIVES_UP_AFTER_S
from workloads.messages import (
    CapturePayment,
    OrderCancelled,
    OrderConfirmed,
    PlaceOrder,
    RegisterAccount,
    ReserveStock,
    StepDone,
)
from workloads.problems import ProblemError
from workloads.testing_messages import MessageShop

ORDER = PlaceOrder(key="k-1", product="p-01", quantity=2, email="a@b")
ACCOUNT = RegisterAccount(key="k-2", name="Ann", email="a@b")
CONFIRMED = {
    "order": ["confirmed"],
    "reservation": ["reserved"],
    "capture": ["captured"],
    "shipment": ["booked"],
    "mail": ["confirmation"],
    "event": ["present"],
    "entry": ["present"],
}
UNDONE = {"reservation": ["released"], "shipment": ["cancelled"]}


async def test_an_order_is_accepted_pending_and_completed_by_messages() -> None:
    shop = MessageShop()
    accepted = await shop.orders.place(ORDER)
    assert (accepted.state, shop.states()) == ("pending", {"order": ["pending"]})
    await shop.settle()
    assert shop.states() == CONFIRMED
    assert shop.missing_units() == 2
    assert (await shop.orders.find(accepted.id)).state == "confirmed"


async def test_a_repeated_key_gets_the_same_answer_and_no_second_order() -> None:
    shop = MessageShop()
    first = await shop.orders.place(ORDER)
    await shop.settle()
    shop.now_ns += 5
    again = await shop.orders.place(ORDER)
    assert (again.id, again.state, again.quantity) == (first.id, first.state, first.quantity)
    assert shop.repositories["orders"].outbox == []
    with pytest.raises(ProblemError) as caught:
        await shop.orders.place(replace(ORDER, quantity=3))
    assert caught.value.kind is problems.KEY_REUSED


async def test_a_refused_step_ends_in_a_rejected_order_with_nothing_left() -> None:
    shop = MessageShop()
    shelf = shop.repositories["inventory"].records["stock", "p-01"]
    shop.repositories["inventory"].records["stock", "p-01"] = replace(shelf, quantity=1, initial=1)
    order = await shop.orders.place(ORDER)
    await shop.settle()
    assert shop.states() == {"order": ["rejected"], **UNDONE, "capture": ["refunded"]}
    assert shop.missing_units() == 0
    assert (await shop.orders.find(order.id)).detail["problem"] == "out-of-stock"


async def test_a_confirmed_order_is_cancelled_and_the_read_model_says_so_while_the_mail_stays() -> None:
    shop = MessageShop()
    order = await shop.orders.place(ORDER)
    await shop.settle()
    assert (await shop.orders.cancel(order.id)).state == "cancelling"
    await shop.settle()
    assert shop.states() == {**CONFIRMED, "order": ["cancelled"], **UNDONE, "capture": ["refunded"]}
    assert shop.missing_units() == 0
    assert shop.records("entry")[0].detail["cancelled"] == "true"
    assert (await shop.orders.cancel(order.id)).state == "cancelled"


async def test_a_pending_order_is_cancelled_before_anybody_has_acted() -> None:
    shop = MessageShop()
    order = await shop.orders.place(ORDER)
    await shop.orders.cancel(order.id)
    shop.collect()
    shop.flying.reverse()  # the undo overtakes its original, which then meets a tombstone
    await shop.settle()
    assert shop.states() == {"order": ["cancelled"], **UNDONE, "capture": ["void"]}
    assert shop.missing_units() == 0


@pytest.mark.parametrize("confirmed_first", [True, False])
async def test_the_read_model_ends_cancelled_in_whatever_order_it_hears_and_however_often(
    confirmed_first: bool,
) -> None:
    shop = MessageShop()
    order = await shop.orders.place(ORDER)
    confirmed = OrderConfirmed(
        order_id=order.id, key="k-1", product="p-01", quantity=2, amount_cents=order.quantity, email="a@b"
    )
    cancelled = OrderCancelled(order_id=order.id, key="k-1")
    told = [confirmed, cancelled] if confirmed_first else [cancelled, confirmed]
    for message in (*told, confirmed, cancelled):
        await shop.hear("cache", message)
    (entry,) = shop.records("entry")
    assert (entry.state, entry.detail["cancelled"]) == ("present", "true")
    assert '"quantity": 2' in entry.detail["document"]


async def test_registration_is_announced_to_all_three_and_repeating_it_changes_nothing() -> None:
    shop = MessageShop()
    for _ in range(2):
        account = await shop.accounts.register(ACCOUNT)
    await shop.settle()
    assert shop.states() == {"user": ["active"], "mail": ["welcome"], "event": ["present"], "entry": ["present"]}
    assert (await shop.accounts.find(account.id)) == account
    with pytest.raises(ProblemError) as caught:
        await shop.accounts.register(replace(ACCOUNT, name="Bob"))
    assert caught.value.kind is problems.KEY_REUSED


async def test_a_command_that_was_lost_is_asked_for_again_after_a_restart() -> None:
    shop = MessageShop()
    await shop.orders.place(ORDER)
    shop.collect()
    lost = shop.flying.pop()
    assert isinstance(lost.message, CapturePayment)
    await shop.settle()
    assert shop.states()["order"] == ["pending"]
    shop.restart_orders()
    for _ in range(14):
        await shop.be_silent(1)
    assert shop.repositories["orders"].outbox == []
    for _ in range(4):
        await shop.be_silent(1)
    assert [type(outgoing.message) for outgoing in shop.repositories["orders"].outbox] == [CapturePayment]
    await shop.settle()
    assert shop.states() == CONFIRMED


async def test_a_command_whose_successors_are_answered_is_asked_for_again_at_once() -> None:
    shop = MessageShop()
    await shop.orders.place(ORDER)
    shop.collect()
    lost = shop.flying.pop()
    await shop.settle()
    shop.now_ns += 1_000_000_000
    await shop.orders.place(replace(ORDER, key="k-2"))
    await shop.settle()
    assert sorted(shop.states()["order"]) == ["confirmed", "pending"]
    await shop.be_silent(0.6)
    assert [outgoing.message for outgoing in shop.repositories["orders"].outbox] == [lost.message]
    await shop.settle()
    assert shop.states()["order"] == ["confirmed", "confirmed"]


async def test_while_a_receiver_answers_nobody_its_queue_is_not_made_longer() -> None:
    shop = MessageShop()
    for number in range(5):
        await shop.orders.place(replace(ORDER, key=f"k-{number}"))
        shop.now_ns += 1_000_000_000
    shop.collect()
    shop.flying = [sent for sent in shop.flying if not isinstance(sent.message, CapturePayment)]
    await shop.settle()
    for _ in range(9):
        await shop.be_silent(1)
    assert shop.repositories["orders"].outbox == []


async def test_nothing_is_asked_again_while_it_waits_to_be_published() -> None:
    shop = MessageShop()
    await shop.orders.place(ORDER)
    for _ in range(10):
        await shop.be_silent(2)
    assert [type(outgoing.message) for outgoing in shop.repositories["orders"].outbox] == [ReserveStock, CapturePayment]
    await shop.settle()
    assert shop.states() == CONFIRMED


async def test_an_order_that_nobody_answers_for_a_minute_is_undone() -> None:
    shop = MessageShop()
    await shop.orders.place(ORDER)
    shop.collect()
    shop.flying.clear()
    await shop.be_silent(GIVES_UP_AFTER_S)
    await shop.settle()
    assert shop.states() == {"order": ["rejected"], **UNDONE, "capture": ["void"]}


async def test_a_batch_is_bounded_and_the_next_takes_up_the_rest() -> None:
    shop = MessageShop()
    for number in range(25):
        await shop.orders.place(replace(ORDER, key=f"k-{number}"))
    shop.collect()
    shop.flying.clear()
    shop.now_ns += 16_000_000_000
    assert [await shop.orders.ask_again() for _ in range(3)] == [True, False, False]
    assert len(shop.repositories["orders"].outbox) == 50
    assert await shop.orders.unfinished() == 25


async def test_a_reply_about_no_order_is_passed_over() -> None:
    shop = MessageShop()
    await shop.orders.on_reply(StepDone(order_id="o-none", key="k", step="ReserveStock"))
    assert shop.states() == {}


async def test_a_database_that_is_away_answers_nothing() -> None:
    shop = MessageShop()
    await shop.orders.place(ORDER)
    shop.collect()
    shop.repositories["inventory"].locked = True
    with pytest.raises(ProblemError) as caught:
        await shop.deliver(0)
    assert caught.value.kind is problems.DATABASE_UNAVAILABLE


@settings(deadline=None, max_examples=150)
@given(data=st.data())
async def test_any_interleaving_with_repeated_and_lost_deliveries_ends_whole_or_not_at_all(data: st.DataObject) -> None:
    shop = MessageShop()
    orders = [await shop.orders.place(replace(ORDER, key=f"k-{n}")) for n in range(data.draw(st.integers(1, 2)))]
    poor = data.draw(st.booleans())
    if poor:
        shelf = shop.repositories["inventory"].records["stock", "p-01"]
        shop.repositories["inventory"].records["stock", "p-01"] = replace(shelf, quantity=2, initial=2)
    for _ in range(data.draw(st.integers(0, 25))):
        shop.collect()
        what = data.draw(st.sampled_from(["deliver", "deliver", "repeat", "lose", "cancel", "silence", "restart"]))
        if what in {"deliver", "repeat", "lose"} and shop.flying:
            number = data.draw(st.integers(0, len(shop.flying) - 1))
            if what == "lose" and not isinstance(shop.flying[number].message, OrderConfirmed | OrderCancelled):
                shop.flying.pop(number)
            else:
                await shop.deliver(number, keep=what == "repeat")
        elif what == "cancel":
            with suppress(ProblemError):  # one that is rejected by now
                await shop.orders.cancel(data.draw(st.sampled_from(orders)).id)
        elif what == "silence":
            await shop.be_silent(data.draw(st.sampled_from([0.5, 2.0, 20.0])))
        elif what == "restart":
            shop.restart_orders()
    for _ in range(8):
        await shop.settle()
        await shop.be_silent(GIVES_UP_AFTER_S)
    assert await shop.orders.unfinished() == 0
    _all_or_nothing(shop)


def _all_or_nothing(shop: MessageShop) -> None:
    effects = {kind: {r.subject: r for r in shop.records(kind)} for kind in ("reservation", "capture", "shipment")}
    orders = shop.records("order")
    for order in orders:
        held = order.state == "confirmed"
        assert order.state in {"confirmed", "rejected", "cancelled"}
        assert {kind: found[order.id].state for kind, found in effects.items() if order.id in found} in (
            [{"reservation": "reserved", "capture": "captured", "shipment": "booked"}]
            if held
            else [
                {"reservation": "released", "capture": money, "shipment": "cancelled"} for money in ("refunded", "void")
            ]
        )
        announced = [
            r.state for kind in ("mail", "event", "entry") for r in shop.records(kind) if r.subject == order.id
        ]
        assert announced in (
            [["confirmation", "present", "present"]] if held else [[], ["confirmation", "present", "present"]]
        )
    assert shop.missing_units() == sum(2 for order in orders if order.state == "confirmed")
    for kind in ("reservation", "capture", "shipment", "mail", "event", "entry"):
        subjects = [r.subject for r in shop.records(kind)]
        assert len(subjects) == len(set(subjects)), kind
