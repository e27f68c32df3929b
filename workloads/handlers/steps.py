"""Which steps make an order complete, and how is each undone? Shared by both sagas, whoever carries the commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workloads.domain import Record
from workloads.messages import (
    BookShipment,
    CancelShipment,
    CapturePayment,
    Command,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an order and how to undo it."""

    name: str
    do: Callable[[Record], Command]
    undo: Callable[[Record], Command]


RESERVE = Step(
    "reserve",
    lambda o: ReserveStock(order_id=o.id, key=o.key, product=o.detail["product"], quantity=int(o.detail["units"])),
    lambda o: ReleaseStock(order_id=o.id, key=o.key),
)
CAPTURE = Step(
    "capture",
    lambda o: CapturePayment(order_id=o.id, key=o.key, amount_cents=o.quantity),
    lambda o: RefundPayment(order_id=o.id, key=o.key),
)
BOOK = Step(
    "book",
    lambda o: BookShipment(order_id=o.id, key=o.key, product=o.detail["product"], quantity=int(o.detail["units"])),
    lambda o: CancelShipment(order_id=o.id, key=o.key),
)
STEPS = (RESERVE, CAPTURE, BOOK)
"""In the order in which a chain takes them; the first two do not need each other."""
UNFINISHED = ("pending", "compensating", "cancelling")
"""States of an order that somebody has to bring to its end."""
