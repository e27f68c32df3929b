"""How is an event published where there is no broker? By calling every consumer, one after the other.

This is the synchronous stage's binding of the Publisher port, and its lesson: the producer must know
its consumers, waits for each, and fails with any of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from workloads.messages import AccountRegistered, AccountWithdrawn, Event, OrderConfirmed, OrderWithdrawn
from workloads.ports import CallFailed, CallRefused, PublishFailed

CONSUMERS: Mapping[type, tuple[str, ...]] = {
    OrderConfirmed: ("email", "analytics", "cache"),
    AccountRegistered: ("email", "analytics", "cache"),
    OrderWithdrawn: ("cache", "analytics", "email"),
    AccountWithdrawn: ("cache", "analytics", "email"),
}
"""Who is told, in this order; a withdrawal goes the other way round."""

Send = Callable[[str, Any], Awaitable[dict[str, Any]]]


class FanOutPublisher:
    """The Publisher port over calls to named consumers."""

    def __init__(self, send: Send) -> None:
        """`send(consumer, event)` raises CallFailed or CallRefused as Caller.call does."""
        self._send = send

    async def publish(self, event: Event, to: Collection[str] | None = None) -> None:
        """See ports.Publisher."""
        told: list[str] = []
        for consumer in CONSUMERS[type(event)]:
            if to is not None and consumer not in to:
                continue
            try:
                await self._send(consumer, event)
            except (CallFailed, CallRefused) as error:
                if not error.definite:
                    told.append(consumer)
                raise PublishFailed(tuple(told), str(error)) from error
            told.append(consumer)
