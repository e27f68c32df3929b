"""What a service answers to what it is sent, and how orders are asked about again and again."""

from __future__ import annotations

import asyncio
import random

import pytest

from workloads import problems
from workloads.adapters.memory import MemoryRepository
from workloads.handlers.asking import Asking
from workloads.handlers.deliveries import REFUSED, Handle, answering
from workloads.handlers.inbox import TransactionalInbox
from workloads.handlers.leaves import HANDLERS
from workloads.messages import (
    BookShipment,
    CancelShipment,
    CapturePayment,
    OrderConfirmed,
    OrderWithdrawn,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
    Sent,
    StepDone,
    StepRefused,
)
from workloads.problems import DATABASE_UNAVAILABLE, ProblemError

CAPTURE = CapturePayment(order_id="o-1", key="k-1", amount_cents=500)
CONFIRMED = OrderConfirmed(order_id="o-1", key="k-1", product="p-01", quantity=1, amount_cents=999, email="a@b")


def handle_of(service: str) -> Handle:
    return answering(TransactionalInbox(MemoryRepository(), HANDLERS[service], lambda: 0))


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("inventory", ReleaseStock(order_id="o-1", key="k-1")),
        ("payments", CAPTURE),
        ("payments", RefundPayment(order_id="o-1", key="k-1")),
        ("shipping", BookShipment(order_id="o-1", key="k-1", product="p-01", quantity=1)),
        ("shipping", CancelShipment(order_id="o-1", key="k-1")),
    ],
)
async def test_a_command_is_answered_alike_however_often_it_comes(service: str, command: Sent) -> None:
    handle = handle_of(service)
    answers = [await handle(command) for _ in range(3)]
    assert answers == 3 * [StepDone(order_id="o-1", key="k-1", step=type(command).__name__)]


async def test_a_command_that_comes_after_its_undo_is_refused_for_good() -> None:
    handle = handle_of("payments")
    await handle(RefundPayment(order_id="o-1", key="k-1"))
    answer = await handle(CAPTURE)
    assert isinstance(answer, StepRefused)
    assert (answer.step, answer.problem) == ("CapturePayment", "already-undone")


async def test_a_product_that_nobody_sells_is_refused_and_leaves_nothing() -> None:
    handle = handle_of("inventory")
    answer = await handle(ReserveStock(order_id="o-1", key="k-1", product="none", quantity=1))
    assert answer == StepRefused(
        order_id="o-1",
        key="k-1",
        step="ReserveStock",
        problem="unknown-product",
        detail="no product 'none' on the shelves",
    )


def test_only_problems_that_stay_are_answers() -> None:
    assert all(kind.definite for kind in REFUSED)
    assert not {problems.DATABASE_UNAVAILABLE, problems.COMMIT_UNKNOWN, problems.DEADLINE_EXCEEDED} & REFUSED


async def test_an_event_is_heard_without_an_answer_and_one_that_was_withdrawn_is_passed_over() -> None:
    handle = handle_of("email")
    assert await handle(CONFIRMED) is None
    withdrawn = handle_of("email")
    assert await withdrawn(OrderWithdrawn(order_id="o-1", key="k-1")) is None
    assert await withdrawn(CONFIRMED) is None


async def test_orders_are_asked_about_again_whatever_went_wrong_before() -> None:
    asked = asyncio.Event()
    outcomes: list[Exception | bool] = [ProblemError(DATABASE_UNAVAILABLE, "locked"), KeyError("defect"), True, False]

    async def ask() -> bool:
        outcome = outcomes.pop(0)
        if not outcomes:
            asked.set()
            outcomes.append(False)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    asking = Asking(ask, random.Random(7), every_s=0.001)
    asking.start()
    async with asyncio.timeout(5):
        await asked.wait()
    for _ in range(2):
        await asking.stop()
