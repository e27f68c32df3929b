"""What does the user see? The edge: hypermedia documents over the services behind it.

It keeps nothing. Where a deployment gives inventory or analytics a fallback, their last good answer is in the
cache, which the storefront itself writes, at most once a second and off the path of any request; it is
given, marked stale, when they do not answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.responses import Response

from workloads import hal, problems
from workloads.api import bodies
from workloads.api.bodies import Id, Key
from workloads.domain import QUANTITY_MAX
from workloads.hal import Document
from workloads.messages import (
    CancelOrder,
    FindAccount,
    FindOrder,
    ListProducts,
    Message,
    PlaceOrder,
    ReadCatalogue,
    ReadInsights,
    ReadLastInsights,
    RegisterAccount,
    StoreCatalogue,
    StoreInsights,
)
from workloads.ports import Caller, CallFailed, CallRefused
from workloads.problems import ProblemError
from workloads.web import answer

log = structlog.get_logger()

COPY_EVERY_S = 1.0
"""How often an answer is copied to the cache, at most."""
STALE = {"Warning": '110 - "Response is Stale"'}
"""RFC 7234, 5.5.1."""

CANCELLABLE = frozenset({"pending", "confirmed"})
"""States of an order that offer the cancel form. A pending one is only seen where orders complete later."""

_EMAIL = hal.field("email", "E-mail address", type="email", maxLength=255)
HOME = hal.document(
    "/",
    {"title": "The shop"},
    links={"products": "/products", "insights": "/insights", "service-desc": "/openapi.json"},
    templates={
        "register": hal.template(
            "POST", "/accounts", "Open an account", hal.field("name", "Your name", type="text", maxLength=100), _EMAIL
        )
    },
)
_ORDER_FORM = hal.template(
    "POST",
    "/orders",
    "Order a product",
    hal.field("product", "Product", type="text"),
    hal.field("quantity", "Units", type="number", min=1, max=QUANTITY_MAX),
    _EMAIL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """An answer that the cache can stand in for: what to ask, and how to keep and get the copy."""

    ask: Message
    keep: Callable[[str], Message]
    """From the JSON text of a good answer."""
    last: Message


CATALOGUE = Copied(ask=ListProducts(), keep=lambda text: StoreCatalogue(document=text), last=ReadCatalogue())
INSIGHTS = Copied(ask=ReadInsights(), keep=lambda text: StoreInsights(document=text), last=ReadLastInsights())


class Reading:
    """Reading something with a fallback, or without."""

    def __init__(self, caller: Caller, what: Copied, *, fallback: bool) -> None:
        self._caller = caller
        self._what = what
        self._fallback = fallback
        self._copy_at = 0.0
        self._copying: asyncio.Task[None] | None = None

    async def read(self) -> tuple[dict[str, Any], bool]:
        """The answer, and whether it is a stale copy. Raise CallFailed or CallRefused of its giver if there is none."""
        try:
            found = await self._caller.call(self._what.ask)
        except (CallFailed, CallRefused):
            if not self._fallback:
                raise
            copy = await self._last()
            if copy is None:
                raise
            return copy, True
        self._copy(found)
        return found, False

    async def _last(self) -> dict[str, Any] | None:
        try:
            found = await self._caller.call(self._what.last)
        except (CallFailed, CallRefused) as error:
            log.warning("no-fallback", error=str(error))
            return None
        copy: dict[str, Any] = json.loads(found["document"])
        return copy

    def _copy(self, found: dict[str, Any]) -> None:
        now = time.monotonic()
        if self._fallback and now >= self._copy_at:
            self._copy_at = now + COPY_EVERY_S
            self._copying = asyncio.ensure_future(self._store(json.dumps(found, separators=(",", ":"))))

    async def _store(self, document: str) -> None:
        try:
            await self._caller.call(self._what.keep(document))
        except (CallFailed, CallRefused) as error:
            log.debug("copy-failed", error=str(error))  # the next good answer tries again


def order_document(order: dict[str, Any]) -> Document:
    """An order with what can be done about it."""
    href = f"/orders/{order['id']}"
    templates = {"cancel": hal.template("PUT", f"{href}/cancellation", "Cancel the order")}
    return hal.document(
        href,
        order,
        links={"home": "/", "product": f"/products/{order['product']}"},
        templates=templates if order["state"] in CANCELLABLE else None,
    )


def catalogue_document(products: list[dict[str, Any]], *, stale: bool) -> Document:
    """The product list with the form that orders one of them."""
    return hal.document(
        "/products",
        {"stale": stale},
        links={"home": "/"},
        templates={"order": _ORDER_FORM},
        embedded={
            "products": [
                {**product, "_links": {"self": {"href": f"/products/{product['id']}"}}} for product in products
            ]
        },
    )


def mount(app: FastAPI, caller: Caller, *, fallbacks: Collection[str]) -> None:
    """Add the resources. `fallbacks`: the services whose last answer the cache gives when they do not."""
    catalogue = Reading(caller, CATALOGUE, fallback="inventory" in fallbacks)
    figures = Reading(caller, INSIGHTS, fallback="analytics" in fallbacks)

    def hypermedia(document: Document, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        return answer(document, status, media_type=hal.MEDIA_TYPE, headers=headers)

    @app.get("/")
    async def home() -> Response:
        """Where everything begins."""
        return hypermedia(HOME)

    @app.get("/products")
    async def browse() -> Response:
        """The catalogue; marked stale, with a Warning header, when it is a copy."""
        found, stale = await catalogue.read()
        return hypermedia(catalogue_document(found["products"], stale=stale), headers=STALE if stale else None)

    @app.get("/products/{product_id}")
    async def product(product_id: Id) -> Response:
        """One product of the catalogue."""
        found, stale = await catalogue.read()
        for each in found["products"]:
            if each["id"] == product_id:
                document = hal.document(
                    f"/products/{product_id}",
                    {**each, "stale": stale},
                    links={"home": "/", "collection": "/products"},
                    templates={"order": _ORDER_FORM},
                )
                return hypermedia(document, headers=STALE if stale else None)
        raise ProblemError(problems.NOT_FOUND, f"no product {product_id!r}")

    @app.post("/orders")
    async def place(body: bodies.Order, key: Key) -> Response:
        """Place an order: 201 and Location once all of it is done, 202 and Location if it is accepted for later."""
        command = PlaceOrder(key=key, product=body.product, quantity=body.quantity, email=body.email)
        order = await caller.call(command)
        status = 202 if order["state"] == "pending" else 201
        return hypermedia(order_document(order), status, {"Location": f"/orders/{order['id']}"})

    @app.get("/orders/{order_id}")
    async def track(order_id: Id) -> Response:
        """The order as it stands now."""
        return hypermedia(order_document(await caller.call(FindOrder(order_id=order_id))))

    @app.put("/orders/{order_id}/cancellation")
    async def cancel(order_id: Id) -> Response:
        """Cancel an order: 200 once that is done, 202 if it follows later; cancelling again changes nothing."""
        order = await caller.call(CancelOrder(order_id=order_id))
        return hypermedia(order_document(order), 202 if order["state"] == "cancelling" else 200)

    @app.post("/accounts")
    async def register(body: bodies.Account, key: Key) -> Response:
        """Open an account: 201 and Location; everybody knows, or is sure to learn of it."""
        account = await caller.call(RegisterAccount(key=key, name=body.name, email=body.email))
        href = f"/accounts/{account['id']}"
        return hypermedia(hal.document(href, account, links={"home": "/"}), 201, {"Location": href})

    @app.get("/accounts/{account_id}")
    async def account(account_id: Id) -> Response:
        """The account as it stands now."""
        found = await caller.call(FindAccount(account_id=account_id))
        return hypermedia(hal.document(f"/accounts/{account_id}", found, links={"home": "/"}))

    @app.get("/insights")
    async def insights() -> Response:
        """The sales figures; marked stale, with a Warning header, when they are a copy."""
        found, stale = await figures.read()
        document = hal.document("/insights", {**found, "stale": stale}, links={"home": "/"})
        return hypermedia(document, headers=STALE if stale else None)
