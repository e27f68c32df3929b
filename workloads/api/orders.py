"""Which resources does the orders service offer? Orders and their cancellation; the saga does the rest."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.responses import Response

from workloads.api import bodies
from workloads.api.bodies import Id, Key
from workloads.domain import Record
from workloads.messages import PlaceOrder
from workloads.web import answer


class Orders(Protocol):
    """Whoever runs the orders: one chain of calls, or messages."""

    async def place(self, command: PlaceOrder) -> Record:
        """The order: confirmed, or pending if it completes later."""
        ...

    async def find(self, order_id: str) -> Record: ...

    async def cancel(self, order_id: str) -> Record:
        """The order: cancelled, or cancelling if that completes later."""
        ...


def document(order: Record) -> dict[str, Any]:
    """What others may know of an order."""
    return {
        "id": order.id,
        "state": order.state,
        "product": order.detail["product"],
        "quantity": int(order.detail["units"]),
        "amount_cents": order.quantity,
    }


def mount(app: FastAPI, handler: Orders) -> None:
    """Add the resources."""

    @app.post("/orders")
    async def place(body: bodies.Order, key: Key) -> Response:
        """Place an order: 201 and Location once all of it is done, 202 and Location if it is accepted for later."""
        command = PlaceOrder(key=key, product=body.product, quantity=body.quantity, email=body.email)
        order = await handler.place(command)
        status = 202 if order.state == "pending" else 201
        return answer(document(order), status, headers={"Location": f"/orders/{order.id}"})

    @app.get("/orders/{order_id}")
    async def find(order_id: Id) -> Response:
        """The order as it stands now."""
        return answer(document(await handler.find(order_id)))

    @app.put("/orders/{order_id}/cancellation")
    async def cancel(order_id: Id) -> Response:
        """Cancel an order: 200 once shipment, money and stock are undone, 202 if that follows later."""
        order = await handler.cancel(order_id)
        return answer(document(order), 200 if order.state == "cancelled" else 202)
