"""Do the services' books agree with each other? Stock, money, mails, registrations, and nothing out of nowhere."""

from __future__ import annotations

from collections import defaultdict

from stages.check.seen import Findings, Seen, cents, conclude
from stages.check.verdict import Check
from stages.history import Audit, Outcome


def stock_conserved(seen: Seen) -> Check:
    """Per product: units at the start = units on hand + units reserved; and only confirmed orders hold any.

    Needs the audits of inventory and orders. Reservations of other runs count: the shelf is shared.
    """
    findings = Findings()
    shelves = [a for a in seen.audits if (a.service, a.kind) == ("inventory", "stock")]
    held = _held(seen)
    for shelf in shelves:
        gone = shelf.initial - shelf.quantity
        if gone != held[shelf.subject]:
            findings.add(
                f"product {shelf.subject}: {shelf.initial} units at first, {shelf.quantity} on hand and "
                f"{held[shelf.subject]} reserved leave {gone - held[shelf.subject]} unaccounted for"
            )
    for order in seen.orders():
        reserved = seen.found("inventory", "reservation", order.key, "reserved")
        if order.state == "confirmed" and not reserved:
            findings.add(f"order {order.id} is confirmed but holds no stock")
        if order.state in ("rejected", "cancelled") and reserved:
            findings.add(f"order {order.id} is {order.state} but still holds {reserved[0].quantity} units")
    return conclude(
        "stock-conserved",
        findings,
        shown=len(shelves) if seen.ok("place-order") else 0,
        what="products",
        evidence={"initial": sum(s.initial for s in shelves), "on_hand": sum(s.quantity for s in shelves)}
        | {"reserved": sum(held.values()), "foreign": seen.foreign},
    )


def _held(seen: Seen) -> defaultdict[str, int]:
    """Units reserved per product."""
    held: defaultdict[str, int] = defaultdict(int)
    for audit in seen.audits:
        if (audit.service, audit.kind, audit.state) == ("inventory", "reservation", "reserved"):
            held[audit.detail.get("product", "unknown")] += audit.quantity
    return held


def money_conserved(seen: Seen) -> Check:
    """Money is kept for confirmed orders, exactly their price, and for nothing else.

    Needs the audits of payments and orders. Orders that have not ended are another check's business.
    """
    findings = Findings()
    kept_cents = 0
    ordered = set()
    for order in seen.orders():
        ordered.add(order.key)
        captured = sum(c.quantity for c in seen.found("payments", "capture", order.key, "captured"))
        kept_cents += captured
        if order.state == "confirmed" and captured != order.quantity:
            findings.add(f"order {order.id} costs {cents(order.quantity)}, but {cents(captured)} were kept")
        if order.state in ("rejected", "cancelled") and captured:
            findings.add(f"order {order.id} is {order.state}, but {cents(captured)} were kept")
    for key in seen.of("payments", "capture"):
        captured = sum(c.quantity for c in seen.found("payments", "capture", key, "captured"))
        if key not in ordered and captured:
            findings.add(f"{cents(captured)} were taken for key {key}, for which there is no order")
    confirmed = [o for o in seen.orders() if o.state == "confirmed"]
    return conclude(
        "money-conserved",
        findings,
        shown=len(seen.orders()) if seen.ok("place-order") else 0,
        what="orders",
        evidence={"confirmed": len(confirmed), "kept_cents": kept_cents}
        | {"due_cents": sum(o.quantity for o in confirmed), "foreign": seen.foreign},
    )


def one_email_per_confirmed_order(seen: Seen) -> Check:
    """A confirmed order has exactly one confirmation, a cancelled one at most one, a rejected one none that stands.

    Needs the audits of email and orders.
    """
    findings = Findings()
    confirmed = 0
    for order in seen.orders():
        mails = seen.found("email", "mail", order.key, "confirmation")
        if len(mails) > 1:
            findings.add(f"order {order.id} was confirmed by {len(mails)} mails")
        elif order.state == "confirmed" and not mails:
            findings.add(
                f"order {order.id} is confirmed, but {_no_mail(seen, order)}", seen.gap("place-order", order.at_ns)
            )
        elif order.state == "rejected" and mails:
            findings.add(f"order {order.id} is rejected, but its confirmation was sent and never corrected")
        confirmed += order.state == "confirmed"
    return conclude(
        "one-email-per-confirmed-order",
        findings,
        shown=confirmed,
        what="confirmed orders",
        evidence={"orders": len(seen.orders()), "confirmed": confirmed, "foreign": seen.foreign},
    )


def _no_mail(seen: Seen, order: Audit) -> str:
    retracted = seen.found("email", "mail", order.key, "retracted")
    return "its confirmation was taken back" if retracted else "no mail was sent"


def registrations_reach_every_consumer(seen: Seen) -> Check:
    """An account that was opened is active and known to each service that accounts tells; a rejected one to none.

    Needs the audits of accounts and of those services.
    """
    findings = Findings()
    consumers = told_of_accounts(seen)
    opened = seen.ok("register")
    for invocation in opened:
        if not seen.found("accounts", "user", invocation.key, "active"):
            findings.add(f"an account was answered as opened (key {invocation.key}), but accounts has no active user")
    users = [u for found in seen.of("accounts", "user").values() for u in found]
    for user in users:
        for consumer in consumers:
            times = len(heard(seen, consumer, user.key))
            if user.state == "active" and times == 0:
                findings.add(f"user {user.id} is unknown to {consumer}", seen.gap("register", user.at_ns))
            elif user.state == "active" and times > 1:
                findings.add(f"user {user.id} reached {consumer} {times} times")
            elif user.state == "rejected" and times:
                findings.add(f"user {user.id} was rejected, but {consumer} still has it")
            elif user.state == "compensating" and consumer == consumers[0]:
                findings.add(f"user {user.id} is still compensating")
    return conclude(
        "registrations-reach-every-consumer",
        findings,
        shown=len(opened),
        what="opened accounts",
        evidence={"users": len(users), "consumers": list(consumers), "foreign": seen.foreign},
    )


_PRESENCE = {
    "email": ("mail", "welcome", "confirmation"),
    "analytics": ("event", "present"),
    "cache": ("entry", "present"),
}
"""Consumer -> kind and states of the record that shows it knows of an account or order."""


def told_of_accounts(seen: Seen) -> tuple[str, ...]:
    """The services that accounts tells of a new user, in this stage."""
    callees = {c.callee for c in seen.stage.channels if c.caller == "accounts" and "register" in c.operations}
    return tuple(name for name in _PRESENCE if name in callees)


def heard(seen: Seen, consumer: str, key: str) -> list[Audit]:
    """The records that show that a consumer knows of an account or order."""
    kind, *states = _PRESENCE[consumer]
    return seen.found(consumer, kind, key, *states)


def no_effect_without_operation(seen: Seen) -> Check:
    """Nothing happened that no user asked for, nor anything a user was told did not happen.

    Needs all audits. An order that is rejected or was never accepted leaves no shipment, event or entry behind.
    """
    findings = Findings()
    checked = 0
    reported: set[str] = set()
    for (service, kind), by_key in seen.effects.items():
        for key, found in by_key.items():
            checked += len(found)
            if key not in seen.tried and key not in reported:
                reported.add(key)
                findings.add(f"{service} has {_a(kind)} for key {key}, which nobody sent")
    _denied(seen, findings)
    _left_over(seen, findings)
    return conclude(
        "no-effect-without-operation",
        findings,
        shown=checked if any(i.outcome is Outcome.OK for i in seen.invocations) else 0,
        what="effects",
        evidence={"operations": len(seen.tried), "foreign": seen.foreign},
    )


def _denied(seen: Seen, findings: Findings) -> None:
    """Users were told that it surely failed, and yet it stands."""
    for service, kind, state in (("orders", "order", "confirmed"), ("accounts", "user", "active")):
        for key in seen.of(service, kind):
            tried = seen.tried.get(key)
            if tried is not None and tried.outcome is Outcome.FAIL:
                findings.surely += [
                    f"{kind} {a.id} is {state}, but the user was told that it failed ({tried.error or tried.status})"
                    for a in seen.found(service, kind, key, state)
                ]


def _left_over(seen: Seen, findings: Findings) -> None:
    """Effects of orders that came to nothing, beyond the stock, money and mails that other checks look at."""
    orders = {o.key: o for o in seen.orders()}
    kinds = (
        ("shipping", "shipment", "booked", ("rejected", "cancelled")),
        ("analytics", "event", "present", ("rejected",)),
        ("cache", "entry", "present", ("rejected",)),
    )
    users = seen.of("accounts", "user")
    for service, kind, state, ended in kinds:
        for key in seen.of(service, kind):
            order = orders.get(key)
            if order is None and key in users:
                continue  # registrations-reach-every-consumer looks at these
            if (order is None or order.state in ended) and seen.found(service, kind, key, state):
                whose = f"order {order.id}, which is {order.state}" if order else f"key {key}, which has no order"
                findings.add(f"{service} still has {_a(kind)} of {whose}")


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
