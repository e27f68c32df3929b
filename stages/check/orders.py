"""Was every order that users were promised kept, once, to its end?"""

from __future__ import annotations

from stages.check.seen import Findings, Seen, cents, conclude
from stages.check.verdict import Check
from stages.history import Audit, Outcome

ENDED = ("confirmed", "rejected", "cancelled")


def every_accepted_order_terminates(seen: Seen) -> Check:
    """When all has drained, every order is confirmed, rejected or cancelled. Needs the audit of orders."""
    findings = Findings()
    states: dict[str, int] = {}
    for order in seen.orders():
        states[order.state] = states.get(order.state, 0) + 1
        if order.state not in ENDED:
            findings.add(f"order {order.id} is still {order.state}")
    return conclude(
        "every-accepted-order-terminates",
        findings,
        shown=len(seen.orders()),
        what="orders",
        evidence={"states": states, "foreign": seen.foreign},
    )


def no_order_lost(seen: Seen) -> Check:
    """What users were told happened did happen: an order placed is there and shipped, a cancelled one is cancelled.

    Needs the audits of orders and shipping.
    """
    findings = Findings()
    placed, cancelled = seen.ok("place-order"), seen.ok("cancel-order")
    asked_to_cancel = {i.subject for i in seen.invocations if i.operation == "cancel-order"}
    by_id = {order.id: order for order in seen.orders()}
    for invocation in placed:
        _kept(seen, findings, invocation.key, asked_to_cancel)
    for invocation in cancelled:
        order = by_id.get(invocation.subject or "")
        if order is not None and order.state == "confirmed":
            findings.add(f"order {order.id} is confirmed, though its cancellation was answered as done")
    for order in by_id.values():
        if order.state == "confirmed" and not seen.found("shipping", "shipment", order.key, "booked"):
            findings.add(f"order {order.id} is confirmed but has no shipment")
    return conclude(
        "no-order-lost",
        findings,
        shown=len(placed),
        what="placed orders",
        evidence={"placed": len(placed), "cancelled": len(cancelled), "orders": len(by_id), "foreign": seen.foreign},
    )


def _kept(seen: Seen, findings: Findings, key: str, asked_to_cancel: set[str | None]) -> None:
    """One order that a user was told is placed."""
    found = seen.found("orders", "order", key)
    if not found:
        findings.add(f"an order was answered as placed (key {key}), but orders does not know it")
        return
    order = found[0]
    if order.state == "rejected" and not seen.accepted_later("place-order"):
        findings.add(f"order {order.id} was answered as confirmed, but it is rejected")
    if order.state == "cancelled" and order.id not in asked_to_cancel:
        findings.add(f"order {order.id} is cancelled, but nobody asked for that")


def no_order_applied_twice(seen: Seen) -> Check:
    """Per key one order, per order one charge, one shipment, one reservation.

    Needs the audits of orders, payments, shipping and inventory.
    """
    findings = Findings()
    for key, orders in seen.of("orders", "order").items():
        if len(orders) > 1:
            findings.add(f"key {key} made {len(orders)} orders: {', '.join(o.id for o in orders)}")
    for captures in seen.of("payments", "capture").values():
        taken = [c for c in captures if c.state != "void"]
        if len(taken) > 1:
            findings.add(f"order {taken[0].subject} was charged twice: {_charges(taken)}")
    _twice(seen, findings, "shipping", "shipment", "booked", "has {count} shipments")
    _twice(seen, findings, "inventory", "reservation", "reserved", "holds {count} reservations")
    placed = seen.ok("place-order")
    return conclude(
        "no-order-applied-twice",
        findings,
        shown=len(placed),
        what="placed orders",
        evidence={
            "orders": len(seen.orders()),
            "captures": sum(len(c) for c in seen.of("payments", "capture").values()),
            "unknown_outcomes": sum(i.outcome is Outcome.UNKNOWN for i in seen.invocations),
            "foreign": seen.foreign,
        },
    )


def _twice(seen: Seen, findings: Findings, service: str, kind: str, state: str, says: str) -> None:
    for key in seen.of(service, kind):
        found = seen.found(service, kind, key, state)
        if len(found) > 1:
            findings.add(f"order {found[0].subject} {says.format(count=len(found))}")


def _charges(captures: list[Audit]) -> str:
    """'2 x 4200 cents', or each amount where they differ; what was paid back is said."""
    amounts = {c.quantity for c in captures}
    back = sum(c.state == "refunded" for c in captures)
    total = (
        f"{len(captures)} x {cents(amounts.pop())}"
        if len(amounts) == 1
        else " + ".join(cents(c.quantity) for c in captures)
    )
    return f"{total}, {back} of {len(captures)} paid back" if back else total
