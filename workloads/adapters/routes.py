"""Which resource does a message become over REST? One row per kind of message, read by callers and services alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from workloads.messages import (
    AccountRegistered,
    AccountWithdrawn,
    BookShipment,
    CancelOrder,
    CancelShipment,
    CapturePayment,
    FindAccount,
    FindEntry,
    FindOrder,
    ListProducts,
    Message,
    OrderConfirmed,
    OrderWithdrawn,
    PlaceOrder,
    ReadCatalogue,
    ReadInsights,
    ReadLastInsights,
    RefundPayment,
    RegisterAccount,
    ReleaseStock,
    ReserveStock,
    StoreCatalogue,
    StoreInsights,
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message goes."""

    receiver: str
    """The one service that acts on it; '' for an event, which has many."""
    method: str
    path: str
    """With the fields that identify the resource in braces; `key` travels as Idempotency-Key, the rest in the body."""

    @property
    def reads(self) -> bool:
        """A request that only reads surely has no effect, whatever becomes of it."""
        return self.method == "GET"


_ORDER = "/confirmed-orders/{order_id}"
_ACCOUNT = "/registered-accounts/{account_id}"

ROUTES: Mapping[type, Route] = {
    PlaceOrder: Route("orders", "POST", "/orders"),
    FindOrder: Route("orders", "GET", "/orders/{order_id}"),
    CancelOrder: Route("orders", "PUT", "/orders/{order_id}/cancellation"),
    RegisterAccount: Route("accounts", "POST", "/accounts"),
    FindAccount: Route("accounts", "GET", "/accounts/{account_id}"),
    ListProducts: Route("inventory", "GET", "/products"),
    ReserveStock: Route("inventory", "PUT", "/reservations/{order_id}"),
    ReleaseStock: Route("inventory", "DELETE", "/reservations/{order_id}"),
    CapturePayment: Route("payments", "POST", "/captures"),
    RefundPayment: Route("payments", "PUT", "/refunds/{order_id}"),
    BookShipment: Route("shipping", "PUT", "/shipments/{order_id}"),
    CancelShipment: Route("shipping", "DELETE", "/shipments/{order_id}"),
    OrderConfirmed: Route("", "PUT", _ORDER),
    OrderWithdrawn: Route("", "DELETE", _ORDER),
    AccountRegistered: Route("", "PUT", _ACCOUNT),
    AccountWithdrawn: Route("", "DELETE", _ACCOUNT),
    ReadInsights: Route("analytics", "GET", "/insights"),
    StoreCatalogue: Route("cache", "PUT", "/catalogue"),
    ReadCatalogue: Route("cache", "GET", "/catalogue"),
    StoreInsights: Route("cache", "PUT", "/insights"),
    ReadLastInsights: Route("cache", "GET", "/insights"),
    FindEntry: Route("cache", "GET", "/entries/{subject}"),
}
RECEIVERS: Mapping[type, str] = {kind: route.receiver for kind, route in ROUTES.items() if route.receiver}

_IN_BODY: Mapping[type, tuple[str, ...]] = {
    kind: tuple(f.name for f in fields(kind) if f.name != "key" and f"{{{f.name}}}" not in route.path)
    for kind, route in ROUTES.items()
}
_IN_PATH: Mapping[type, tuple[str, ...]] = {
    kind: tuple(f.name for f in fields(kind) if f"{{{f.name}}}" in route.path) for kind, route in ROUTES.items()
}


def path_of(message: Message) -> str:
    """The path of a message's resource. Identifiers are of URL-safe characters, so nothing is quoted."""
    kind = type(message)
    template = ROUTES[kind].path
    for name in _IN_PATH[kind]:
        template = template.replace(f"{{{name}}}", getattr(message, name))
    return template


def body_of(message: Message) -> dict[str, Any] | None:
    """The JSON body of a message, None where everything is in the path and the key."""
    names = _IN_BODY[type(message)]
    return {name: getattr(message, name) for name in names} if names else None
