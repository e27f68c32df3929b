"""How does a service record an effect, and take it back? The handlers of the six leaf services.

A handler is a plain function of (message, unit, scene): it runs inside one transaction, so an effect and
the memory that it was applied can never come apart. `HANDLERS`, at the bottom, is the whole wiring.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from workloads import domain, problems
from workloads.domain import Record
from workloads.messages import (
    AccountRegistered,
    AccountWithdrawn,
    BookShipment,
    CancelShipment,
    CapturePayment,
    FindEntry,
    ListProducts,
    OrderCancelled,
    OrderConfirmed,
    OrderWithdrawn,
    ReadCatalogue,
    ReadInsights,
    ReadLastInsights,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
    StoreCatalogue,
    StoreInsights,
    Travelling,
    subject_of,
)
from workloads.ports import Reply, Unit
from workloads.problems import ProblemError

FIGURES = ("orders", "revenue_cents", "users")
"""Running totals kept by analytics, so that reading them does not count every event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a handler may know besides its message."""

    now_ns: int
    """CLOCK_MONOTONIC, nanoseconds."""
    disabled: frozenset[str] = frozenset()
    """Guarantees left out on purpose."""


_CANCELLED: Mapping[str, str] = {"cancelled": "true"}
"""Detail of an entry about an order that was confirmed and then cancelled."""

_COPIES: Mapping[type, str] = {
    StoreCatalogue: "catalogue",
    ReadCatalogue: "catalogue",
    StoreInsights: "insights",
    ReadLastInsights: "insights",
}
"""Which copy a message is about: the kind of its one record."""

Handler = Callable[[Any, Unit, Scene], Reply]


def _effect(
    kind: str,
    state: str,
    message: Travelling,
    scene: Scene,
    *,
    quantity: int = 0,
    detail: Mapping[str, str] | None = None,
) -> Record:
    """The record of what a message does, or of its undoing: one of a kind per order or account."""
    subject = subject_of(message)
    return Record(
        kind=kind,
        id=subject,
        subject=subject,
        key=message.key,
        state=state,
        quantity=quantity,
        at_ns=scene.now_ns,
        detail=detail or {},
    )


def _apply(unit: Unit, wanted: Record) -> bool:
    """Record an effect unless it already is; return whether it was recorded now."""
    if not domain.must_apply(unit.get(wanted.kind, wanted.id, lock=True), wanted):
        return False
    unit.insert(wanted)
    return True


def _undo(unit: Unit, tombstone: Record, undone: str) -> Record | None:
    """Take an effect back, or leave the tombstone if there is none yet. Return the record it undid now, if any."""
    existing = unit.get(tombstone.kind, tombstone.id, lock=True)
    if existing is None:
        unit.insert(tombstone)
        return None
    if existing.state in {undone, tombstone.state}:
        return None
    unit.update(replace(existing, state=undone))
    return existing


def _state(kind: str, subject: str, state: str) -> dict[str, Any]:
    return {kind: subject, "state": state}


# --- inventory ----------------------------------------------------------------------------------


def list_products(_message: ListProducts, unit: Unit, _scene: Scene) -> Reply:
    shelves = {shelf.id: shelf.quantity for shelf in unit.page(("stock",), ("", ""), len(domain.PRODUCTS))}
    return Reply(
        {
            "products": [
                {"id": p.id, "name": p.name, "price_cents": p.price_cents, "available": shelves.get(p.id, 0)}
                for p in domain.PRODUCTS.values()
            ]
        }
    )


def reserve(message: ReserveStock, unit: Unit, scene: Scene) -> Reply:
    reservation = _effect(
        "reservation", "reserved", message, scene, quantity=message.quantity, detail={"product": message.product}
    )
    created = _apply(unit, reservation)
    if created:
        shelf = unit.get("stock", message.product, lock=True)
        if shelf is None:
            raise ProblemError(problems.UNKNOWN_PRODUCT, f"no product {message.product!r} on the shelves")
        unit.update(domain.taken(shelf, message.quantity))
    return Reply(_state("reservation", message.order_id, "reserved"), created)


def release(message: ReleaseStock, unit: Unit, scene: Scene) -> Reply:
    tombstone = _effect("reservation", "released", message, scene)
    undone = _undo(unit, tombstone, "released")
    if undone is not None:
        shelf = unit.get("stock", undone.detail["product"], lock=True)
        assert shelf is not None  # it was there when the units were taken, and shelves are never removed
        unit.update(replace(shelf, quantity=shelf.quantity + undone.quantity))
    return Reply(_state("reservation", message.order_id, "released"))


# --- payments -----------------------------------------------------------------------------------


def capture(message: CapturePayment, unit: Unit, scene: Scene) -> Reply:
    taken = _effect("capture", "captured", message, scene, quantity=message.amount_cents)
    if "idempotency" not in scene.disabled:
        return Reply(_state("capture", message.order_id, "captured"), _apply(unit, taken))
    if unit.get(taken.kind, taken.id) is not None:  # the broken shop takes the money once per request
        taken = replace(taken, id=f"{message.order_id}.{uuid4().hex[:8]}")
    unit.insert(taken)
    return Reply(_state("capture", message.order_id, "captured"), True)


def refund(message: RefundPayment, unit: Unit, scene: Scene) -> Reply:
    tombstone = _effect("capture", "void", message, scene)
    undone = _undo(unit, tombstone, "refunded")
    return Reply(_state("capture", message.order_id, "refunded" if undone else "settled"))


# --- shipping -----------------------------------------------------------------------------------


def book(message: BookShipment, unit: Unit, scene: Scene) -> Reply:
    shipment = _effect(
        "shipment", "booked", message, scene, detail={"product": message.product, "units": str(message.quantity)}
    )
    return Reply(_state("shipment", message.order_id, "booked"), _apply(unit, shipment))


def cancel_shipment(message: CancelShipment, unit: Unit, scene: Scene) -> Reply:
    tombstone = _effect("shipment", "cancelled", message, scene)
    _undo(unit, tombstone, "cancelled")
    return Reply(_state("shipment", message.order_id, "cancelled"))


# --- email, analytics, cache: consumers of the same two pairs of events ---------------------------


def send_mail(message: OrderConfirmed | AccountRegistered, unit: Unit, scene: Scene) -> Reply:
    subject = subject_of(message)
    mail = _effect(
        "mail",
        "confirmation" if isinstance(message, OrderConfirmed) else "welcome",
        message,
        scene,
        detail={"to": message.email},
    )
    return Reply(_state("mail", subject, mail.state), _apply(unit, mail))


def retract_mail(message: OrderWithdrawn | AccountWithdrawn, unit: Unit, scene: Scene) -> Reply:
    """A mail cannot be unsent: a correction follows, and the record says so."""
    _undo(unit, _effect("mail", "retracted", message, scene), "retracted")
    return Reply(_state("mail", subject_of(message), "retracted"))


def record_event(message: OrderConfirmed | AccountRegistered, unit: Unit, scene: Scene) -> Reply:
    subject = subject_of(message)
    ordered = isinstance(message, OrderConfirmed)
    event = _effect(
        "event",
        "present",
        message,
        scene,
        detail={"type": "order-confirmed", "cents": str(message.amount_cents)}
        if isinstance(message, OrderConfirmed)
        else {"type": "account-registered", "cents": "0"},
    )
    created = _apply(unit, event)
    if created:
        _count(unit, ordered=ordered, cents=int(event.detail["cents"]), sign=1)
    return Reply(_state("event", subject, "present"), created)


def remove_event(message: OrderWithdrawn | AccountWithdrawn, unit: Unit, scene: Scene) -> Reply:
    undone = _undo(unit, _effect("event", "removed", message, scene), "removed")
    if undone is not None:
        ordered = isinstance(message, OrderWithdrawn)
        _count(unit, ordered=ordered, cents=int(undone.detail["cents"]), sign=-1)
    return Reply(_state("event", subject_of(message), "removed"))


def _count(unit: Unit, *, ordered: bool, cents: int, sign: int) -> None:
    changes = {"orders": 1, "revenue_cents": cents} if ordered else {"users": 1}
    for name, change in changes.items():
        figure = unit.get("figure", name, lock=True)
        if figure is None:
            unit.insert(Record(kind="figure", id=name, subject=name, key="", state="total", quantity=sign * change))
        else:
            unit.update(replace(figure, quantity=figure.quantity + sign * change))


def read_insights(_message: ReadInsights, unit: Unit, _scene: Scene) -> Reply:
    found = {figure.id: figure.quantity for figure in unit.page(("figure",), ("", ""), len(FIGURES))}
    return Reply({name: found.get(name, 0) for name in FIGURES})


def put_entry(message: OrderConfirmed | AccountRegistered, unit: Unit, scene: Scene) -> Reply:
    """An order that is cancelled stays so, even if its confirmation comes late or again."""
    subject = subject_of(message)
    document = (
        {"product": message.product, "quantity": message.quantity, "amount_cents": message.amount_cents}
        if isinstance(message, OrderConfirmed)
        else {"name": message.name}
    )
    entry = _effect("entry", "present", message, scene, detail={"document": json.dumps(document, sort_keys=True)})
    existing = unit.get("entry", subject, lock=True)
    if existing is not None and _CANCELLED.items() <= existing.detail.items():
        unit.update(replace(existing, detail={**entry.detail, **_CANCELLED}))
        return Reply(_state("entry", subject, "present"))
    return Reply(_state("entry", subject, "present"), _apply(unit, entry))


def cancel_entry(message: OrderCancelled, unit: Unit, scene: Scene) -> Reply:
    """The entry stays, and says from now on that its order is cancelled."""
    existing = unit.get("entry", message.order_id, lock=True)
    if existing is not None:
        unit.update(replace(existing, detail={**existing.detail, **_CANCELLED}))
        return Reply(_state("entry", message.order_id, existing.state))
    entry = _effect("entry", "present", message, scene, detail=_CANCELLED)
    unit.insert(entry)
    return Reply(_state("entry", message.order_id, "present"), True)


def remove_entry(message: OrderWithdrawn | AccountWithdrawn, unit: Unit, scene: Scene) -> Reply:
    _undo(unit, _effect("entry", "removed", message, scene), "removed")
    return Reply(_state("entry", subject_of(message), "removed"))


def find_entry(message: FindEntry, unit: Unit, _scene: Scene) -> Reply:
    entry = unit.get("entry", message.subject)
    if entry is None or entry.state != "present":
        raise ProblemError(problems.NOT_FOUND, f"no entry about {message.subject!r}")
    cancelled = {name: True for name in _CANCELLED if name in entry.detail}
    return Reply({"subject": message.subject, **json.loads(entry.detail.get("document", "{}")), **cancelled})


def store_copy(message: StoreCatalogue | StoreInsights, unit: Unit, scene: Scene) -> Reply:
    kind = _COPIES[type(message)]
    wanted = Record(
        kind=kind,
        id="last",
        subject=kind,
        key="",
        state="present",
        at_ns=scene.now_ns,
        detail={"document": message.document},
    )
    existing = unit.get(wanted.kind, wanted.id, lock=True)
    (unit.insert if existing is None else unit.update)(wanted)
    return Reply({"state": "present"}, existing is None)


def read_copy(message: ReadCatalogue | ReadLastInsights, unit: Unit, _scene: Scene) -> Reply:
    kind = _COPIES[type(message)]
    last = unit.get(kind, "last")
    if last is None:
        raise ProblemError(problems.NOT_FOUND, f"no {kind} has been stored yet")
    return Reply({"document": last.detail["document"]})


HANDLERS: Mapping[str, Mapping[type, Handler]] = {
    "inventory": {ListProducts: list_products, ReserveStock: reserve, ReleaseStock: release},
    "payments": {CapturePayment: capture, RefundPayment: refund},
    "shipping": {BookShipment: book, CancelShipment: cancel_shipment},
    "email": {
        OrderConfirmed: send_mail,
        AccountRegistered: send_mail,
        OrderWithdrawn: retract_mail,
        AccountWithdrawn: retract_mail,
    },
    "analytics": {
        OrderConfirmed: record_event,
        AccountRegistered: record_event,
        OrderWithdrawn: remove_event,
        AccountWithdrawn: remove_event,
        ReadInsights: read_insights,
    },
    "cache": {
        OrderConfirmed: put_entry,
        AccountRegistered: put_entry,
        OrderWithdrawn: remove_entry,
        OrderCancelled: cancel_entry,
        AccountWithdrawn: remove_entry,
        FindEntry: find_entry,
        StoreCatalogue: store_copy,
        ReadCatalogue: read_copy,
        StoreInsights: store_copy,
        ReadLastInsights: read_copy,
    },
}
"""By service, then by type of message. A type that changes nothing is in QUERIES."""

QUERIES = frozenset({ListProducts, ReadInsights, FindEntry, ReadCatalogue, ReadLastInsights})

AUDITED = ("user", "order", "stock", "reservation", "capture", "shipment", "mail", "event", "entry")
"""Kinds that others may judge; figures and what the cache has copied are derived from them."""
