"""Which resources do the six leaf services offer? Each endpoint turns a request into a message for the inbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI
from fastapi.responses import Response

from workloads.api import bodies
from workloads.api.bodies import Id, Key
from workloads.messages import (
    AccountRegistered,
    AccountWithdrawn,
    BookShipment,
    CancelShipment,
    CapturePayment,
    FindEntry,
    ListProducts,
    Message,
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
)
from workloads.ports import Inbox
from workloads.web import answer


async def _accept(inbox: Inbox, message: Message) -> Response:
    reply = await inbox.accept(message)
    return answer(reply.body, 201 if reply.created else 200)


def inventory(app: FastAPI, inbox: Inbox) -> None:
    """Products, stock and reservations."""

    @app.get("/products")
    async def list_products() -> Response:
        """The catalogue with what is left of each product."""
        return await _accept(inbox, ListProducts())

    @app.put("/reservations/{order_id}")
    async def reserve(order_id: Id, body: bodies.Reservation, key: Key) -> Response:
        """Hold units for an order: 201, or 200 if they are held already."""
        message = ReserveStock(order_id=order_id, key=key, product=body.product, quantity=body.quantity)
        return await _accept(inbox, message)

    @app.delete("/reservations/{order_id}")
    async def release(order_id: Id, key: Key) -> Response:
        """Put the units back; a reservation that comes later is refused."""
        return await _accept(inbox, ReleaseStock(order_id=order_id, key=key))


def payments(app: FastAPI, inbox: Inbox) -> None:
    """Captures and refunds."""

    @app.post("/captures")
    async def capture(body: bodies.Capture, key: Key) -> Response:
        """Take the money for an order: 201, or 200 if it is taken already."""
        message = CapturePayment(order_id=body.order_id, key=key, amount_cents=body.amount_cents)
        return await _accept(inbox, message)

    @app.put("/refunds/{order_id}")
    async def refund(order_id: Id, key: Key) -> Response:
        """Give the money back; a capture that comes later is refused."""
        return await _accept(inbox, RefundPayment(order_id=order_id, key=key))


def shipping(app: FastAPI, inbox: Inbox) -> None:
    """Shipments."""

    @app.put("/shipments/{order_id}")
    async def book(order_id: Id, body: bodies.Reservation, key: Key) -> Response:
        """Book the shipment of an order: 201, or 200 if it is booked already."""
        message = BookShipment(order_id=order_id, key=key, product=body.product, quantity=body.quantity)
        return await _accept(inbox, message)

    @app.delete("/shipments/{order_id}")
    async def cancel(order_id: Id, key: Key) -> Response:
        """Cancel the shipment; a booking that comes later is refused."""
        return await _accept(inbox, CancelShipment(order_id=order_id, key=key))


def consumer(app: FastAPI, inbox: Inbox) -> None:
    """What happened elsewhere, as resources: every consumer of the shop's events offers the same four."""

    @app.put("/confirmed-orders/{order_id}")
    async def order_confirmed(order_id: Id, body: bodies.Confirmation, key: Key) -> Response:
        """Learn of a confirmed order: 201, or 200 if it is known already."""
        message = OrderConfirmed(
            order_id=order_id,
            key=key,
            product=body.product,
            quantity=body.quantity,
            amount_cents=body.amount_cents,
            email=body.email,
        )
        return await _accept(inbox, message)

    @app.delete("/confirmed-orders/{order_id}")
    async def order_withdrawn(order_id: Id, key: Key) -> Response:
        """Take back what was done for an order that does not hold."""
        return await _accept(inbox, OrderWithdrawn(order_id=order_id, key=key))

    @app.put("/registered-accounts/{account_id}")
    async def account_registered(account_id: Id, body: bodies.Account, key: Key) -> Response:
        """Learn of a new account: 201, or 200 if it is known already."""
        message = AccountRegistered(account_id=account_id, key=key, name=body.name, email=body.email)
        return await _accept(inbox, message)

    @app.delete("/registered-accounts/{account_id}")
    async def account_withdrawn(account_id: Id, key: Key) -> Response:
        """Take back what was done for an account that does not hold."""
        return await _accept(inbox, AccountWithdrawn(account_id=account_id, key=key))


def analytics(app: FastAPI, inbox: Inbox) -> None:
    """Sales figures, fed by events."""
    consumer(app, inbox)

    @app.get("/insights")
    async def insights() -> Response:
        """Running totals of orders, revenue and users."""
        return await _accept(inbox, ReadInsights())


def cache(app: FastAPI, inbox: Inbox) -> None:
    """The read model: the last known catalogue, sales figures, orders and accounts."""
    consumer(app, inbox)

    @app.put("/catalogue")
    async def store(body: bodies.Copy) -> Response:
        """Remember the catalogue; the last one wins."""
        return await _accept(inbox, StoreCatalogue(document=body.document))

    @app.get("/catalogue")
    async def read() -> Response:
        """The last known catalogue."""
        return await _accept(inbox, ReadCatalogue())

    @app.put("/insights")
    async def store_insights(body: bodies.Copy) -> Response:
        """Remember the sales figures; the last ones win."""
        return await _accept(inbox, StoreInsights(document=body.document))

    @app.get("/insights")
    async def read_insights() -> Response:
        """The last known sales figures."""
        return await _accept(inbox, ReadLastInsights())

    @app.get("/entries/{subject}")
    async def find(subject: Id) -> Response:
        """The last known order or account."""
        return await _accept(inbox, FindEntry(subject=subject))


MOUNTS: Mapping[str, Callable[[FastAPI, Inbox], None]] = {
    "inventory": inventory,
    "payments": payments,
    "shipping": shipping,
    "email": consumer,
    "analytics": analytics,
    "cache": cache,
}
"""Which function adds a service's resources."""
