"""What can a broker do wrong? Be slow, refuse, forget a deletion, spoil a message; held here until the time is over.

A fault ends when it is undone or when its lease runs out, also if the daemon is dead by then. What it has
done is counted: the evidence that it bites.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.local.faultspec import Fault


@dataclass(slots=True)
class Held:
    """One fault and its lease."""

    fault: Fault
    chance: random.Random
    over: asyncio.Event = field(default_factory=asyncio.Event)
    state: str = "on"
    """on, undone or expired."""
    count: int = 0
    """Requests delayed or refused, deletions dropped, messages cut."""
    expiry: asyncio.TimerHandle | None = None


class BrokerFaults:
    """The faults of one broker; several may be on at once. False while none is."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._on: list[Held] = []

    def __bool__(self) -> bool:
        return bool(self._on)

    # what the daemon tells

    def begin(self, lease: str, fault: Fault, ttl_s: float) -> None:
        """Have this fault on; one that is on already is renewed."""
        held = self._held.get(lease)
        if held is None or held.state != "on":
            held = self._held[lease] = Held(fault, random.Random(lease))
            self._on.append(held)
        self.renew(lease, ttl_s)

    def renew(self, lease: str, ttl_s: float) -> None:
        held = self._held[lease]
        if held.expiry is not None:
            held.expiry.cancel()
        if held.state == "on":
            held.expiry = asyncio.get_running_loop().call_later(ttl_s, self.end, lease, "expired")

    def end(self, lease: str, state: str = "undone") -> None:
        """Let it be over; who is being delayed goes on at once. Idempotent."""
        held = self._held.get(lease)
        if held is None or held.state != "on":
            return
        held.state = state
        self._on.remove(held)
        held.over.set()
        if held.expiry is not None:
            held.expiry.cancel()

    def seen(self) -> Mapping[str, Any]:
        """State and count per lease."""
        return {lease: {"state": held.state, "count": held.count} for lease, held in self._held.items()}

    # what the broker asks

    async def delay(self) -> None:
        """Wait as long as the faults want: once on a request's way in, once on its answer's way out."""
        for held in self._of("broker-slow"):
            held.count += 1
            try:
                await asyncio.wait_for(held.over.wait(), held.fault.numbers["delay_ms"] / 1000)
            except TimeoutError:
                continue

    def throttle(self) -> bool:
        """Whether to refuse this request."""
        return any(self._hits(held) for held in self._of("broker-throttle"))

    def keep(self, message: dict[str, Any] | None) -> bool:
        """Whether to keep a message that is to be deleted: at most once per message."""
        if message is None or message.get("kept_by_fault"):
            return False
        if not any(self._hits(held) for held in self._of("broker-duplicate")):
            return False
        message["kept_by_fault"] = True
        return True

    def cut(self, queue: str, body: str) -> str:
        """A message's body, or half of it."""
        for held in self._of("broker-poison"):
            if held.fault.target == queue and held.count < held.fault.numbers["count"]:
                held.count += 1
                body = body[: len(body) // 2]
        return body

    def _of(self, kind: str) -> list[Held]:
        return [held for held in self._on if held.fault.kind == kind] if self._on else []

    @staticmethod
    def _hits(held: Held) -> bool:
        hit = held.chance.random() < held.fault.numbers["share"]
        held.count += hit
        return hit
