"""Which resources does the orders service offer? Orders and their cancellation; the saga does the rest."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from workloads.api import bodies
from workloads.api.bodies import Id, Key
from workloads.domain import Record
from workloads.handlers.saga import OrderSaga
from workloads.messages import PlaceOrder
from workloads.web import answer


def document(order: Record) -> dict[str, Any]:
    """What others may know of an order."""
    return {
        "id": order.id,
        "state": order.state,
        "product": order.detail["product"],
        "quantity": int(order.detail["units"]),
        "amount_cents": order.quantity,
    }


def mount(app: FastAPI, saga: OrderSaga) -> None:
    """Add the resources."""

    @app.post("/orders")
    async def place(body: bodies.Order, key: Key) -> Response:
        """Place an order and wait until all of it is done: 201 and Location."""
        command = PlaceOrder(key=key, product=body.product, quantity=body.quantity, email=body.email)
        order = await saga.place(command)
        return answer(document(order), 201, headers={"Location": f"/orders/{order.id}"})

    @app.get("/orders/{order_id}")
    async def find(order_id: Id) -> Response:
        """The order as it stands now."""
        return answer(document(await saga.find(order_id)))

    @app.put("/orders/{order_id}/cancellation")
    async def cancel(order_id: Id) -> Response:
        """Cancel a confirmed order: 200 once shipment, money and stock are undone."""
        return answer(document(await saga.cancel(order_id)))
