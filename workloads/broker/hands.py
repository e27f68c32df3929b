"""Which messages does this consumer have in hand, and how do they stay hidden while it works? A heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from workloads.broker.ports import Broker, BrokerUnavailable, Delivery

RENEW_AFTER = 0.3
"""Share of the visibility timeout after which a message is hidden anew: two renewals may fail, or be slow."""


class Hands:
    """Deliveries taken and not yet let go."""

    def __init__(self, broker: Broker, visibility_timeout_s: int) -> None:
        """Each renewal hides for the whole timeout again."""
        self._broker = broker
        self._timeout_s = visibility_timeout_s
        self._held: dict[str, tuple[Delivery, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """Begin to keep deliveries hidden."""
        now = asyncio.get_running_loop().time()
        self._held.update((each.receipt, (each, now)) for each in deliveries)

    def release(self, delivery: Delivery) -> None:
        """Keep it hidden no longer; releasing it again changes nothing."""
        self._held.pop(delivery.receipt, None)

    async def beat(self) -> None:
        """Renew what is due, until cancelled."""
        while True:
            await asyncio.sleep(self._timeout_s * RENEW_AFTER / 4)
            await self._renew(asyncio.get_running_loop().time())

    async def _renew(self, now: float) -> None:
        due = [each for each, since in self._held.values() if now - since >= self._timeout_s * RENEW_AFTER]
        if not due:
            return
        for each in due:
            self._held[each.receipt] = (each, now)
        try:
            await self._broker.extend(due, self._timeout_s)
        except BrokerUnavailable:  # then they come again, which is harmless; whoever receives speaks of the outage
            return
