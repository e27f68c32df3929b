"""What comes of one delivery? It is handled, it is dead, it comes again, or this service cannot work at all now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from workloads import deadline, problems
from workloads.broker.envelope import FAILED, Envelope, Unreadable
from workloads.broker.ports import Delivery, Parcel
from workloads.broker.post import Post
from workloads.messages import Travelling
from workloads.problems import ProblemError
from workloads.settings import Redelivery
from workloads.telemetry import Telemetry

log = structlog.get_logger()

TRANSIENT = frozenset(
    {
        problems.DATABASE_UNAVAILABLE,
        problems.COMMIT_UNKNOWN,
        problems.OVERLOADED,
        problems.NOT_READY,
        problems.DEADLINE_EXCEEDED,
        problems.DEPENDENCY_UNAVAILABLE,
        problems.OUTCOME_UNKNOWN,
        problems.COMPLETION_PENDING,
        problems.IN_PROGRESS,
    }
)
"""Refusals that say something about this service's situation, nothing about the message."""

Handle = Callable[[Travelling], Awaitable[Travelling | None]]
"""Applies a message, once however often it comes; returns the reply to send, None for none.

Raise a ProblemError of TRANSIENT to be asked again as soon as possible, anything else if this message failed.
"""


@dataclass(frozen=True, slots=True)
class Handled:
    """It has taken effect."""

    reply: Parcel | None = None
    to: str = ""
    """Where the reply goes."""


@dataclass(frozen=True, slots=True)
class Dead:
    """It never will."""

    reason: str
    """One of envelope.REASONS."""
    detail: str


class Held(Exception):
    """Nothing can be worked on now; says nothing about the message."""


class Attempts:
    """The handling of single deliveries."""

    def __init__(
        self,
        handle: Handle,
        read: Callable[[str], Envelope],
        post: Post,
        telemetry: Telemetry,
        inbound: Redelivery,
    ) -> None:
        """`read(body)` is `unseal` for this service."""
        self._handle = handle
        self._read = read
        self._post = post
        self._telemetry = telemetry
        self._inbound = inbound

    async def one(self, delivery: Delivery, *, first: bool) -> Handled | Dead | None:
        """Handle a delivery; None: it failed and may succeed when it comes again. Raise Held.

        `first`: of several attempts at the same delivery only that one logs a defect.
        """
        try:
            envelope = self._read(delivery.body)
        except Unreadable as error:
            return Dead(error.reason, error.detail)
        try:
            return await self._apply(envelope)
        except ProblemError as error:
            if error.kind in TRANSIENT:
                raise Held(str(error)) from error
            return self._failed(delivery, error)
        except Exception as error:
            # the border of a worker loop: whatever a handler raises is a failed delivery
            if first:
                log.exception("handler-failed", message=type(envelope.message).__name__, id=envelope.id)
            return self._failed(delivery, error)

    async def _apply(self, envelope: Envelope) -> Handled:
        message = envelope.message
        with self._telemetry.consuming(type(message).__name__, envelope.traceparent, envelope.sent_ns) as traceparent:
            with deadline.within(self._inbound.visibility_timeout_s):
                reply = await self._handle(message)
            if reply is None:
                return Handled()
            return Handled(self._post.reply(reply, traceparent()), self._post.address(type(reply)))

    def _failed(self, delivery: Delivery, error: Exception) -> Dead | None:
        self._telemetry.messages("failed")
        if delivery.receives < self._inbound.max_receives:
            return None
        return Dead(FAILED, f"{type(error).__name__} at delivery {delivery.receives}: {error}")
