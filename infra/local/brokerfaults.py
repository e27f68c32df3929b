"""What can a broker do wrong? Be slow, refuse, forget a deletion, spoil a message; held here until the time is over."""

from __future__ import annotations

import asyncio
from typing import Any

from infra.local.heldfaults import Held, HeldFaults


class BrokerFaults(HeldFaults):
    """The faults of one broker: it counts requests delayed or refused, deletions dropped, messages cut."""

    async def delay(self) -> None:
        """Wait as long as the faults want: once on a request's way in, once on its answer's way out."""
        for held in self.of("broker-slow"):
            held.count += 1
            try:
                await asyncio.wait_for(held.over.wait(), held.fault.numbers["delay_ms"] / 1000)
            except TimeoutError:
                continue

    def throttle(self) -> bool:
        """Whether to refuse this request."""
        return any(self._hits(held) for held in self.of("broker-throttle"))

    def keep(self, message: dict[str, Any] | None) -> bool:
        """Whether to keep a message that is to be deleted: at most once per message."""
        if message is None or message.get("kept_by_fault"):
            return False
        if not any(self._hits(held) for held in self.of("broker-duplicate")):
            return False
        message["kept_by_fault"] = True
        return True

    def cut(self, queue: str, body: str) -> str:
        """A message's body, or half of it."""
        for held in self.of("broker-poison"):
            if held.fault.target == queue and held.count < held.fault.numbers["count"]:
                held.count += 1
                body = body[: len(body) // 2]
        return body

    @staticmethod
    def _hits(held: Held) -> bool:
        hit = held.chance.random() < held.fault.numbers["share"]
        held.count += hit
        return hit
