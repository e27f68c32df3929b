"""What do the services say to each other? Commands, events and queries, without a word about transport.

A command asks exactly one receiver to act, an event tells whoever listens what has happened, a query
only reads. Each command and event carries `key`, the Idempotency-Key of the user's operation that
caused it: receivers keep it with the effect, so that a checker can trace every effect to its cause.
Receiving one twice is the same as receiving it once; an undo that arrives first wins over its original.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

# --- commands of users --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """To orders: buy a product."""

    key: str
    product: str
    quantity: int
    """Units, 1 to 3."""
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """To orders: undo a confirmed order: shipment, money, stock."""

    order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterAccount:
    """To accounts: open an account."""

    key: str
    name: str
    email: str


# --- commands of the order saga -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStock:
    """To inventory: hold units for an order."""

    order_id: str
    key: str
    product: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStock:
    """To inventory: undo ReserveStock."""

    order_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePayment:
    """To payments: take the money for an order."""

    order_id: str
    key: str
    amount_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundPayment:
    """To payments: undo CapturePayment."""

    order_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BookShipment:
    """To shipping: send the goods of an order."""

    order_id: str
    key: str
    product: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelShipment:
    """To shipping: undo BookShipment."""

    order_id: str
    key: str


# --- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfirmed:
    """An order is confirmed: stock held, money taken, shipment booked."""

    order_id: str
    key: str
    product: str
    quantity: int
    amount_cents: int
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderWithdrawn:
    """The confirmation of an order was premature and does not hold; consumers take back what they did."""

    order_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled:
    """An order that had been confirmed is cancelled: shipment, money and stock are undone."""

    order_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRegistered:
    """An account was opened."""

    account_id: str
    key: str
    name: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountWithdrawn:
    """The registration was premature and does not hold; consumers take back what they did."""

    account_id: str
    key: str


# --- replies to the saga, where its commands are not calls ------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """To orders: a command of the saga has taken effect, now or earlier."""

    order_id: str
    key: str
    step: str
    """Name of the message answered, such as 'ReserveStock'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRefused:
    """To orders: a command of the saga was refused for good; it had no effect and never will."""

    order_id: str
    key: str
    step: str
    """Name of the message answered, such as 'ReserveStock'."""
    problem: str
    """Name of the problem's type, such as 'out-of-stock'."""
    detail: str


# --- queries and the read model -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ListProducts:
    """To inventory: the catalogue with availability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindOrder:
    """To orders: the state of an order."""

    order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FindAccount:
    """To accounts: the state of an account."""

    account_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadInsights:
    """To analytics: the sales figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCatalogue:
    """To cache: remember the catalogue; the last one wins."""

    document: str
    """JSON text of what inventory answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCatalogue:
    """To cache: the last known catalogue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInsights:
    """To cache: remember the sales figures; the last ones win."""

    document: str
    """JSON text of what analytics answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLastInsights:
    """To cache: the last known sales figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindEntry:
    """To cache: the last known order or account of that id."""

    subject: str


Event = OrderConfirmed | OrderWithdrawn | OrderCancelled | AccountRegistered | AccountWithdrawn
Command = (
    PlaceOrder
    | CancelOrder
    | RegisterAccount
    | ReserveStock
    | ReleaseStock
    | CapturePayment
    | RefundPayment
    | BookShipment
    | CancelShipment
    | StoreCatalogue
    | StoreInsights
)
Answer = StepDone | StepRefused
Query = ListProducts | FindOrder | FindAccount | ReadInsights | ReadCatalogue | ReadLastInsights | FindEntry
Sent = Command | Event | Answer
"""What can be sent without waiting for an answer."""
Message = Sent | Query
Travelling = (
    ReserveStock
    | ReleaseStock
    | CapturePayment
    | RefundPayment
    | BookShipment
    | CancelShipment
    | StepDone
    | StepRefused
    | OrderConfirmed
    | OrderWithdrawn
    | OrderCancelled
    | AccountRegistered
    | AccountWithdrawn
)
"""Everything that can travel; users' own commands and queries never do."""

BY_NAME: Mapping[str, type[Sent]] = {kind.__name__: kind for kind in get_args(Sent)}
"""Every kind of message that can be sent, by its name."""


def subject_of(message: Travelling) -> str:
    """The order or account that a message is about: what its order counts within."""
    if isinstance(message, (AccountRegistered, AccountWithdrawn)):
        return message.account_id
    return message.order_id
