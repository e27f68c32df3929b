"""What does a service do with a message that it is sent, and what does it answer?

A command of the saga is answered with StepDone or StepRefused, an event with nothing. Only what is settled
is answered: a database that is away says nothing about the message, so that goes through to whoever holds it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from workloads import problems
from workloads.messages import (
    Answer,
    BookShipment,
    CancelShipment,
    CapturePayment,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
    Sent,
    StepDone,
    StepRefused,
)
from workloads.ports import Inbox
from workloads.problems import ProblemError

log = structlog.get_logger()

Handle = Callable[[Sent], Awaitable[Answer | None]]
"""Acts on a message and returns what to answer, None for nothing; raises what could not be settled."""

REFUSED = frozenset({problems.OUT_OF_STOCK, problems.UNKNOWN_PRODUCT, problems.ALREADY_UNDONE, problems.KEY_REUSED})
"""Problems that stay however often one asks: a command that has one is refused for good."""

_STEPS = ReserveStock | ReleaseStock | CapturePayment | RefundPayment | BookShipment | CancelShipment


def answering(inbox: Inbox) -> Handle:
    """How a service handles commands of the saga, and events, through its inbox."""

    async def handle(message: Sent) -> Answer | None:
        if isinstance(message, _STEPS):
            return await _answer(inbox, message)
        await _hear(inbox, message)
        return None

    return handle


async def _answer(inbox: Inbox, command: _STEPS) -> Answer:
    step = type(command).__name__
    try:
        await inbox.accept(command)
    except ProblemError as error:
        if error.kind not in REFUSED:
            raise
        return StepRefused(
            order_id=command.order_id, key=command.key, step=step, problem=error.kind.name, detail=error.detail
        )
    return StepDone(order_id=command.order_id, key=command.key, step=step)


async def _hear(inbox: Inbox, message: Sent) -> None:
    try:
        await inbox.accept(message)
    except ProblemError as error:
        if error.kind is not problems.ALREADY_UNDONE:
            raise
        log.info("late-event-ignored", message=type(message).__name__, error=str(error))
