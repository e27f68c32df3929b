"""What does the shop decide? Pure functions of the records it has: no I/O, no clock, no randomness.

Everything a service keeps is a Record, one per effect. A record is never deleted: an undo changes its
state, and an undo that comes before its original leaves a record of its own (a tombstone), which is
what refuses the late original.

    nothing --apply--> applied --undo--> undone        apply again: same answer, no second effect
       \\------------------undo-------------^          apply on undone: refused
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from workloads import problems
from workloads.messages import OrderConfirmed, PlaceOrder, RegisterAccount
from workloads.problems import ProblemError

UNITS_PER_PRODUCT = 1_000_000
"""What the shop opens with: so many that load never sells a product out by itself."""
QUANTITY_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """Something for sale."""

    id: str
    name: str
    price_cents: int


_ADJECTIVES = ("Quiet", "Brave", "Amber", "Swift", "Plain")
_NOUNS = ("Lamp", "Kettle", "Chair", "Radio")
PRODUCTS: Mapping[str, Product] = {
    product.id: product
    for product in (
        Product(
            id=f"p-{n + 1:02d}",
            name=f"{_ADJECTIVES[n % len(_ADJECTIVES)]} {_NOUNS[n // len(_ADJECTIVES)]}",
            price_cents=999 + 250 * n,
        )
        for n in range(20)
    )
}
"""The catalogue, by id: the same in every run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One effect, or one piece of state, of a service."""

    kind: str
    """'order', 'user', 'stock', 'reservation', 'capture', 'shipment', 'mail', 'event', 'entry', and for
    the service's own use 'figure' and 'catalogue'."""
    id: str
    """Unique within its kind."""
    subject: str
    """Id of the order, account or product it belongs to."""
    key: str
    """Idempotency key of the user's operation that caused it, '' where none did."""
    state: str
    quantity: int = 0
    """Units of a reservation or stock, cents of an order or capture, a count of a figure."""
    initial: int = 0
    """Units that a stock opened with."""
    at_ns: int = 0
    """When it was first recorded, CLOCK_MONOTONIC nanoseconds."""
    due_ns: int = 0
    """When its service has to look at it again of its own accord, CLOCK_MONOTONIC nanoseconds; 0: never."""
    detail: Mapping[str, str] = field(default_factory=dict)


def identity(prefix: str, key: str) -> str:
    """The id of what a key creates: equal keys can only ever create one.

    >>> identity("o", "run-1-7")
    'o-9197d4ce4763eea258ed'
    """
    return f"{prefix}-{hashlib.sha256(f'{prefix}:{key}'.encode()).hexdigest()[:20]}"


def fingerprint(*values: object) -> str:
    """Tells whether a repeated key came with the same content."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def product(product_id: str) -> Product:
    """Raise ProblemError(UNKNOWN_PRODUCT) for one that is not sold."""
    try:
        return PRODUCTS[product_id]
    except KeyError:
        raise ProblemError(problems.UNKNOWN_PRODUCT, f"no product {product_id!r} in the catalogue") from None


def new_order(command: PlaceOrder, now_ns: int) -> Record:
    """The pending order that a command asks for. Raise ProblemError(UNKNOWN_PRODUCT)."""
    order_id = identity("o", command.key)
    return Record(
        kind="order",
        id=order_id,
        subject=order_id,
        key=command.key,
        state="pending",
        quantity=product(command.product).price_cents * command.quantity,
        at_ns=now_ns,
        detail={
            "product": command.product,
            "units": str(command.quantity),
            "email": command.email,
            "fingerprint": fingerprint(command.product, command.quantity, command.email),
        },
    )


def new_account(command: RegisterAccount, now_ns: int) -> Record:
    """The active account that a command asks for."""
    account_id = identity("a", command.key)
    return Record(
        kind="user",
        id=account_id,
        subject=account_id,
        key=command.key,
        state="active",
        at_ns=now_ns,
        detail={
            "name": command.name,
            "email": command.email,
            "fingerprint": fingerprint(command.name, command.email),
        },
    )


def ended(order: Record, state: str, now_ns: int) -> Record:
    """An order that has come to 'confirmed', 'rejected' or 'cancelled'; its detail says when, the first time."""
    times = {"completed_ns": str(now_ns)}
    if state == "cancelled":
        times["cancelled_ns"] = str(now_ns)
    return replace(order, state=state, due_ns=0, detail={**times, **order.detail})


def confirmation(order: Record) -> OrderConfirmed:
    """The event that tells of a confirmed order."""
    return OrderConfirmed(
        order_id=order.id,
        key=order.key,
        product=order.detail["product"],
        quantity=int(order.detail["units"]),
        amount_cents=order.quantity,
        email=order.detail["email"],
    )


def stock() -> tuple[Record, ...]:
    """The shelves on opening day."""
    return tuple(
        Record(
            kind="stock",
            id=product.id,
            subject=product.id,
            key="",
            state="on-hand",
            quantity=UNITS_PER_PRODUCT,
            initial=UNITS_PER_PRODUCT,
        )
        for product in PRODUCTS.values()
    )


def taken(shelf: Record, units: int) -> Record:
    """A shelf without some units. Raise ProblemError(OUT_OF_STOCK) if it holds fewer."""
    if shelf.quantity < units:
        raise ProblemError(problems.OUT_OF_STOCK, f"{units} of {shelf.id} wanted, {shelf.quantity} left")
    return replace(shelf, quantity=shelf.quantity - units)


def must_apply(existing: Record | None, wanted: Record) -> bool:
    """Whether a wanted effect is still to be recorded; False when it already is.

    Raise ProblemError: ALREADY_UNDONE where a tombstone stands, KEY_REUSED where the same effect was
    recorded with other content.
    """
    if existing is None:
        return True
    if existing.state != wanted.state:
        raise ProblemError(problems.ALREADY_UNDONE, f"{wanted.kind} {wanted.id} is already {existing.state}")
    if (existing.quantity, existing.detail) != (wanted.quantity, wanted.detail):
        raise ProblemError(problems.KEY_REUSED, f"{wanted.kind} {wanted.id} exists with other content")
    return False


def repeated(existing: Record, wanted: Record) -> None:
    """Raise ProblemError(KEY_REUSED) unless a repeated key came with the same content."""
    if existing.key != wanted.key or existing.detail["fingerprint"] != wanted.detail["fingerprint"]:
        raise ProblemError(
            problems.KEY_REUSED, f"key {wanted.key!r} already belongs to {existing.id}, asked for with another body"
        )
