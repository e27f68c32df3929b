"""The order saga and the registration: all of it or nothing, whatever fails in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import deadline, problems
from workloads.domain import Record
from workloads.handlers.compensator import Undoing
from workloads.handlers.saga import ORPHANED_AFTER_S
from workloads.messages import PlaceOrder, RegisterAccount
from workloads.ports import CallFailed, PublishFailed
from workloads.problems import ProblemError, ProblemType
from workloads.testing import MemoryShop

ORDER = PlaceOrder(key="k-1", product="p-01", quantity=2, email="a@b")
ACCOUNT = RegisterAccount(key="k-2", name="Ann", email="a@b")
DONE = {
    "order": ["confirmed"],
    "reservation": ["reserved"],
    "capture": ["captured"],
    "shipment": ["booked"],
    "mail": ["confirmation"],
    "event": ["present"],
    "entry": ["present"],
}
CHAIN = ("inventory", "payments", "shipping", "email", "analytics", "cache")
HARMLESS = {
    "order": {"rejected"},
    "reservation": {"released"},
    "capture": {"refunded", "void"},
    "shipment": {"cancelled"},
    "mail": {"retracted"},
    "event": {"removed"},
    "entry": {"removed"},
}


async def refused(shop: MemoryShop, command: PlaceOrder = ORDER) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await shop.saga.place(command)
    return caught.value


def nothing_is_left(shop: MemoryShop) -> None:
    for kind, states in shop.states().items():
        assert set(states) <= HARMLESS[kind], (kind, states)
    assert shop.missing_units() == 0


async def test_an_order_takes_effect_everywhere() -> None:
    shop = MemoryShop()
    order = await shop.saga.place(ORDER)
    assert order.state == "confirmed"
    assert shop.states() == DONE
    assert shop.missing_units() == 2
    assert all(r.key == "k-1" for r in [*shop.records("payments", "capture"), *shop.records("email", "mail")])


async def test_an_order_says_when_it_came_to_its_end_and_when_it_was_cancelled() -> None:
    now = [7]
    shop = MemoryShop(now_ns=lambda: now[0])
    order = await shop.saga.place(ORDER)
    assert order.detail["completed_ns"] == "7"
    now[0] = 9
    cancelled = await shop.saga.cancel(order.id)
    assert (cancelled.detail["completed_ns"], cancelled.detail["cancelled_ns"]) == ("7", "9")
    assert "cancelled_ns" not in (await shop.saga.place(ORDER)).detail


@pytest.mark.parametrize("disabled", [frozenset[str](), frozenset({"compensation"})])
async def test_an_order_that_failed_was_completed_when_it_was_rejected(disabled: frozenset[str]) -> None:
    now = [7]
    shop = MemoryShop(now_ns=lambda: now[0], disabled=disabled)
    shop.caller.broken["payments"] = "refused"
    await refused(shop)
    shop.caller.broken.clear()
    now[0] = 7 if disabled else 11
    await shop.undo_all()
    (order,) = shop.records("orders", "order")
    assert (order.state, order.detail["completed_ns"]) == ("rejected", str(now[0]))
    assert "cancelled_ns" not in order.detail


@pytest.mark.parametrize("how", ["refused", "timeout"])
@pytest.mark.parametrize("callee", CHAIN)
async def test_a_step_that_fails_undoes_all_before_it_and_itself(callee: str, how: str) -> None:
    shop = MemoryShop()
    shop.caller.broken[callee] = how
    problem = await refused(shop)
    assert (problem.kind, problem.kind.definite) == (problems.DEPENDENCY_UNAVAILABLE, True)
    shop.caller.broken.clear()
    await shop.undo_all()
    nothing_is_left(shop)


async def test_undo_runs_in_reverse_order_and_includes_the_step_in_doubt() -> None:
    shop = MemoryShop()
    shop.caller.broken["analytics"] = "timeout"
    await refused(shop)
    shop.caller.broken.clear()
    shop.caller.sent.clear()
    await shop.undo_all()
    assert [callee for callee, _ in shop.caller.sent] == ["analytics", "email", "shipping", "payments", "inventory"]


async def test_undo_that_fails_goes_on_where_it_stopped() -> None:
    shop = MemoryShop()
    shop.caller.broken["email"] = "timeout"
    await refused(shop)
    shop.caller.broken = {"payments": "refused"}
    work = Undoing(shop.handed_over[0].subject)
    with pytest.raises(CallFailed):
        await shop.saga.undo(work)
    assert work.done == {"publish", "book"}
    shop.caller.broken.clear()
    await shop.saga.undo(work)
    nothing_is_left(shop)


async def test_a_business_refusal_keeps_its_name_and_undoes_what_was_before() -> None:
    shop = MemoryShop()
    shelf = shop.repositories["inventory"].records["stock", "p-01"]
    shop.repositories["inventory"].records["stock", "p-01"] = replace(shelf, quantity=1)
    assert (await refused(shop)).kind is problems.OUT_OF_STOCK
    assert shop.states() == {"order": ["rejected"]}
    assert not shop.handed_over


async def test_a_repeated_key_gets_the_same_answer_and_no_second_effect() -> None:
    shop = MemoryShop()
    first = await shop.saga.place(ORDER)
    await shop.saga.cancel(first.id)
    assert await shop.saga.place(ORDER) == first
    assert len(shop.records("payments", "capture")) == 1


async def test_a_repeated_key_of_a_failed_order_gets_the_same_refusal() -> None:
    shop = MemoryShop()
    shop.caller.broken["payments"] = "refused"
    first = await refused(shop)
    shop.caller.broken.clear()
    assert (await refused(shop)).document() == first.document()
    assert shop.states()["order"] == ["compensating"]


async def test_a_repeated_key_with_another_body_is_refused() -> None:
    shop = MemoryShop()
    await shop.saga.place(ORDER)
    assert (await refused(shop, replace(ORDER, quantity=3))).kind is problems.KEY_REUSED


async def test_a_repeated_key_that_overtakes_its_original_is_told_to_wait() -> None:
    shop = MemoryShop()
    hold = asyncio.Event()

    async def slow(_callee: str, _message: object) -> None:
        await hold.wait()

    shop.caller.before = slow
    first = asyncio.ensure_future(shop.saga.place(ORDER))
    await asyncio.sleep(0)
    assert (await refused(shop)).kind is problems.IN_PROGRESS
    with pytest.raises(ProblemError) as caught:
        await shop.saga.cancel(shop.records("orders", "order")[0].id)
    assert caught.value.kind is problems.NOT_CANCELLABLE
    hold.set()
    assert (await first).state == "confirmed"


async def test_cancel_undoes_shipment_money_and_stock_but_not_the_mail() -> None:
    shop = MemoryShop()
    order = await shop.saga.place(ORDER)
    for _ in range(2):
        assert (await shop.saga.cancel(order.id)).state == "cancelled"
    assert shop.states() == {
        **DONE,
        "order": ["cancelled"],
        "reservation": ["released"],
        "capture": ["refunded"],
        "shipment": ["cancelled"],
    }
    assert shop.missing_units() == 0


@pytest.mark.parametrize("callee", ["inventory", "payments", "shipping"])
async def test_a_cancel_that_fails_half_way_is_completed_later(callee: str) -> None:
    shop = MemoryShop()
    order = await shop.saga.place(ORDER)
    shop.caller.broken[callee] = "timeout"
    with pytest.raises(ProblemError) as caught:
        await shop.saga.cancel(order.id)
    assert caught.value.kind is problems.COMPLETION_PENDING
    assert not caught.value.kind.definite
    shop.caller.broken.clear()
    await shop.undo_all()
    assert shop.states()["order"] == ["cancelled"]
    assert shop.missing_units() == 0


async def test_what_cannot_be_cancelled_is_refused() -> None:
    shop = MemoryShop()
    shop.caller.broken["inventory"] = "refused"
    order_id = (await refused(shop)).more["subject"]
    expected: dict[str, ProblemType] = {order_id: problems.NOT_CANCELLABLE, "o-none": problems.NOT_FOUND}
    for subject, kind in expected.items():
        with pytest.raises(ProblemError) as caught:
            await shop.saga.cancel(subject)
        assert caught.value.kind is kind


async def test_an_order_left_pending_by_a_crash_is_undone_once_it_is_surely_orphaned() -> None:
    now_ns = 10**9
    shop = MemoryShop(now_ns=lambda: now_ns)

    async def dies_at_shipping(callee: str, _message: object) -> None:
        if callee == "shipping":
            raise KeyboardInterrupt

    shop.caller.before = dies_at_shipping
    with pytest.raises(KeyboardInterrupt):
        await shop.saga.place(ORDER)
    shop.caller.before = None
    shop.handed_over.clear()  # the memory of the process is gone
    assert shop.states()["order"] == ["pending"]
    assert await shop.saga.unfinished(10) == []
    now_ns += int(ORPHANED_AFTER_S * 1e9)
    await shop.undo_all()
    nothing_is_left(shop)


async def test_an_order_undone_under_a_living_saga_is_not_confirmed() -> None:
    shop = MemoryShop()

    async def adopted_meanwhile(callee: str, _message: object) -> None:
        if callee == "shipping":
            shop.caller.before = None
            await shop.saga.undo(Undoing(shop.records("orders", "order")[0].id))

    shop.caller.before = adopted_meanwhile
    assert (await refused(shop)).kind.definite
    await shop.undo_all()
    nothing_is_left(shop)


async def test_without_its_database_orders_refuses_and_forgets_nothing() -> None:
    shop = MemoryShop()
    orders = shop.repositories["orders"]

    async def database_goes(callee: str, _message: object) -> None:
        orders.locked = callee == "shipping"

    shop.caller.before = database_goes
    assert (await refused(shop)).kind is problems.DATABASE_UNAVAILABLE
    orders.locked = False
    shop.caller.before = None
    await shop.undo_all()
    nothing_is_left(shop)


async def test_a_confirmed_order_that_cannot_be_given_up_yet_is_not_called_definite() -> None:
    shop = MemoryShop()
    orders = shop.repositories["orders"]

    async def both_go(callee: str, _message: object) -> None:
        if callee == "analytics":
            orders.locked = True
            raise CallFailed(callee, "refused", definite=True)

    shop.caller.before = both_go
    assert (await refused(shop)).kind is problems.COMMIT_UNKNOWN
    orders.locked = False
    shop.caller.before = None
    await shop.undo_all()
    nothing_is_left(shop)


async def test_a_deadline_that_passes_under_way_undoes_the_order() -> None:
    shop = MemoryShop()

    async def slow(callee: str, _message: object) -> None:
        if callee == "shipping":
            await asyncio.sleep((deadline.remaining_s() or 0) + 0.001)

    shop.caller.before = slow
    with deadline.within(0.02):
        problem = await refused(shop)
    shop.caller.before = None
    assert problem.kind.definite
    await shop.undo_all()
    nothing_is_left(shop)


async def test_the_variant_without_compensation_keeps_the_money_of_a_failed_order() -> None:
    shop = MemoryShop(disabled=frozenset({"compensation"}))
    shop.caller.broken["email"] = "refused"
    await refused(shop)
    await shop.undo_all()
    assert shop.states()["order"] == ["rejected"]
    assert shop.states()["capture"] == ["captured"]


async def test_the_variant_without_idempotency_takes_the_money_twice_and_gives_it_back_once() -> None:
    shop = MemoryShop(disabled=frozenset({"idempotency"}))
    order = await shop.saga.place(ORDER)
    sent = next(message for callee, message in shop.caller.sent if callee == "payments")
    await shop.caller.call(sent)
    await shop.saga.cancel(order.id)
    assert sorted(shop.states()["capture"]) == ["captured", "refunded"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(CHAIN), st.sampled_from(["refused", "timeout"]), max_size=3),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_fails_in_the_end_money_stock_and_shipments_match_the_orders(
    history: list[tuple[dict[str, str], bool, bool]],
) -> None:
    asyncio.run(_live_through(history))


async def _live_through(history: list[tuple[dict[str, str], bool, bool]]) -> None:
    shop = MemoryShop()
    for number, (broken, cancels, repeats) in enumerate(history):
        shop.caller.broken = dict(broken)
        for _ in range(1 + repeats):
            try:
                order = await shop.saga.place(replace(ORDER, key=f"k-{number}"))
                if cancels:
                    await shop.saga.cancel(order.id)
            except ProblemError:
                continue
    shop.caller.broken = {}
    await shop.undo_all()
    confirmed = {r.id: r for r in shop.records("orders", "order") if r.state == "confirmed"}
    assert {r.state for r in shop.records("orders", "order")} <= {"confirmed", "rejected", "cancelled"}
    assert _in_state(shop, "payments", "capture", "captured") == set(confirmed)
    assert _in_state(shop, "shipping", "shipment", "booked") == set(confirmed)
    assert _in_state(shop, "inventory", "reservation", "reserved") == set(confirmed)
    assert shop.missing_units() == 2 * len(confirmed)
    assert set(confirmed) <= _in_state(shop, "email", "mail", "confirmation")


def _in_state(shop: MemoryShop, service: str, kind: str, state: str) -> set[str]:
    records: list[Record] = shop.records(service, kind)
    return {record.subject for record in records if record.state == state}


async def test_an_account_becomes_known_everywhere_once() -> None:
    shop = MemoryShop()
    first = await shop.registration.register(ACCOUNT)
    assert await shop.registration.register(ACCOUNT) == first
    assert shop.states() == {"user": ["active"], "mail": ["welcome"], "event": ["present"], "entry": ["present"]}


@pytest.mark.parametrize("how", ["refused", "timeout"])
@pytest.mark.parametrize("callee", ["email", "analytics", "cache"])
async def test_a_registration_that_fails_is_taken_back(callee: str, how: str) -> None:
    shop = MemoryShop()
    shop.caller.broken[callee] = how
    with pytest.raises(ProblemError) as caught:
        await shop.registration.register(ACCOUNT)
    assert caught.value.kind is problems.DEPENDENCY_UNAVAILABLE
    if shop.handed_over and how == "timeout":
        with pytest.raises(PublishFailed):
            await shop.registration.undo(shop.handed_over[0])
    shop.caller.broken.clear()
    await shop.undo_all()
    states = shop.states()
    assert states.pop("user") == ["rejected"]
    assert all(found in (["retracted"], ["removed"]) for found in states.values())
    with pytest.raises(ProblemError) as caught:
        await shop.registration.register(ACCOUNT)
    assert caught.value.kind is problems.DEPENDENCY_UNAVAILABLE


async def test_another_account_with_the_same_key_is_refused() -> None:
    shop = MemoryShop()
    await shop.registration.register(ACCOUNT)
    with pytest.raises(ProblemError) as caught:
        await shop.registration.register(replace(ACCOUNT, name="Bob"))
    assert caught.value.kind is problems.KEY_REUSED


async def test_figures_count_each_event_once_and_withdrawals_back() -> None:
    shop = MemoryShop()
    order = await shop.saga.place(ORDER)
    await shop.registration.register(ACCOUNT)
    shop.caller.broken["cache"] = "timeout"
    await refused(shop, replace(ORDER, key="k-9"))
    shop.caller.broken.clear()
    await shop.undo_all()
    figures = {r.id: r.quantity for r in shop.records("analytics", "figure")}
    assert figures == {"orders": 1, "revenue_cents": order.quantity, "users": 1}
