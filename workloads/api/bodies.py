"""Which values does a service accept? The types of everything that comes in over REST.

Strict: a number is not a string, text has no control characters, identifiers have only characters that
need no quoting in a URL. What breaks a rule is answered with 422 before any code of the service sees it.
"""

from __future__ import annotations

from typing import Annotated

import pydantic.v1  # noqa: F401  # FastAPI asks for it with the first route; so it is imported once, before any fork
from fastapi import Header, Path
from pydantic import BaseModel, ConfigDict, Field

from workloads.domain import QUANTITY_MAX

_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""No dots: an identifier becomes a path segment of other requests, and '..' would lead elsewhere."""

Id = Annotated[str, Path(pattern=_ID)]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="New per intent; repeating a request with the same key repeats the answer, not the effect.",
    ),
]
ProductId = Annotated[str, Field(pattern=_ID)]
Units = Annotated[int, Field(ge=1, le=QUANTITY_MAX)]
Cents = Annotated[int, Field(ge=1, le=10_000_000)]
Email = Annotated[str, Field(pattern=r"^[^\x00-\x20\x7f-\xa0@]+@[^\x00-\x20\x7f-\xa0@]+$", max_length=255)]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=100)]


class Body(BaseModel):
    """Members beyond those named are ignored, so that a newer caller can say more."""

    model_config = ConfigDict(strict=True)


class Order(Body):
    """An order: one product."""

    product: ProductId
    quantity: Units
    email: Email


class Account(Body):
    """An account to open."""

    name: Name
    email: Email


class Reservation(Body):
    """Units to hold."""

    product: ProductId
    quantity: Units


class Capture(Body):
    """Money to take."""

    order_id: Annotated[str, Field(pattern=_ID)]
    amount_cents: Cents


class Confirmation(Body):
    """What consumers learn of a confirmed order."""

    product: ProductId
    quantity: Units
    amount_cents: Cents
    email: Email


class Copy(Body):
    """A copy of what another service answered."""

    document: Annotated[str, Field(min_length=2, max_length=8000, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
