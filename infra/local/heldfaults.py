"""Which faults does a host process hold for the daemon, and until when?

A fault ends when it is undone or when its lease runs out, also if the daemon is dead by then. What it has
done is counted: the evidence that it bites.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.local.control import Message
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
    """How often it was done."""
    expiry: asyncio.TimerHandle | None = None


class HeldFaults:
    """The faults of one host; several may be on at once. False while none is."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._on: list[Held] = []

    def __bool__(self) -> bool:
        return bool(self._on)

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

    def of(self, kind: str) -> list[Held]:
        """Those of a kind that are on."""
        return [held for held in self._on if held.fault.kind == kind] if self._on else []

    def handle(self, message: Message) -> Message | None:
        """Answer what the daemon asks about faults: fault, renew, undo. None if it asks for something else."""
        match message["cmd"]:
            case "fault":
                self.begin(message["lease"], Fault.from_json(message["fault"]), float(message["ttl_s"]))
            case "renew":
                self.renew(message["lease"], float(message["ttl_s"]))
            case "undo":
                self.end(message["lease"])
            case _:
                return None
        return {}
