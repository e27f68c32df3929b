"""How do tests run the asynchronous shop without a broker, in any order they like? Messages in flight are a list.

shop = MessageShop()
order = await shop.orders.place(command)
shop.collect()                   # the relay: outbox -> shop.flying
await shop.deliver(0, keep=True) # a delivery whose deletion is lost: it comes again
await shop.settle()              # whatever is left, in order, until nothing flies
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workloads import domain
from workloads.adapters.memory import MemoryRepository
from workloads.adapters.routes import RECEIVERS
from workloads.domain import Record
from workloads.handlers.deliveries import Handle, answering
from workloads.handlers.inbox import TransactionalInbox
from workloads.handlers.leaves import HANDLERS
from workloads.handlers.orchestrator import AsyncOrders, AsyncRegistration
from workloads.messages import AccountRegistered, OrderCancelled, OrderConfirmed, Sent

LISTENERS: Mapping[type, tuple[str, ...]] = {
    OrderConfirmed: ("email", "analytics", "cache"),
    OrderCancelled: ("cache",),
    AccountRegistered: ("email", "analytics", "cache"),
}
KINDS = {
    "order": "orders",
    "user": "accounts",
    "reservation": "inventory",
    "capture": "payments",
    "shipment": "shipping",
    "mail": "email",
    "event": "analytics",
    "entry": "cache",
}
"""Kind of record -> the service that keeps it."""


@dataclass(frozen=True, slots=True)
class Flying:
    """A message on its way."""

    to: str
    message: Sent


class MessageShop:
    """Orders, accounts and the six leaf services, wired by messages that arrive when the test says so."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.repositories = {name: MemoryRepository() for name in KINDS.values()}
        self.repositories["inventory"].records.update({(r.kind, r.id): r for r in domain.stock()})
        self.orders = AsyncOrders(self.repositories["orders"], self._clock_ns)
        self.accounts = AsyncRegistration(self.repositories["accounts"], self._clock_ns)
        self.flying: list[Flying] = []
        self._handles: dict[str, Handle] = {
            name: answering(TransactionalInbox(self.repositories[name], handlers, self._clock_ns))
            for name, handlers in HANDLERS.items()
        }
        self._handles["orders"] = self.orders.handle

    def _clock_ns(self) -> int:
        return self.now_ns

    def restart_orders(self) -> None:
        """What orders had in memory is gone."""
        self.orders = AsyncOrders(self.repositories["orders"], self._clock_ns)
        self._handles["orders"] = self.orders.handle

    def collect(self) -> None:
        """Publish what waits in the outboxes."""
        for name in ("orders", "accounts"):
            repository = self.repositories[name]
            waiting, repository.outbox = repository.outbox, []
            for outgoing in waiting:
                for to in self._receivers(outgoing.message):
                    self.flying.append(Flying(to, outgoing.message))

    def _receivers(self, message: Sent) -> tuple[str, ...]:
        return LISTENERS.get(type(message)) or (RECEIVERS[type(message)],)

    async def deliver(self, number: int, *, keep: bool = False) -> Flying:
        """Hand over one message in flight; its answer flies then. `keep`: it stays in flight, and comes again."""
        flying = self.flying[number] if keep else self.flying.pop(number)
        await self.hear(flying.to, flying.message)
        return flying

    async def hear(self, service: str, message: Sent) -> None:
        """Hand a message to a service; its answer flies then."""
        reply = await self._handles[service](message)
        if reply is not None:
            self.flying.append(Flying("orders", reply))

    async def settle(self) -> None:
        """Deliver everything, in the order in which it was sent."""
        self.collect()
        while self.flying:
            await self.deliver(0)
            self.collect()

    async def be_silent(self, seconds: float) -> None:
        """Let time pass, and let orders ask again whoever has not answered."""
        self.now_ns += int(seconds * 1e9)
        while await self.orders.ask_again():
            pass

    def records(self, kind: str) -> list[Record]:
        """All records of a kind, in order of id."""
        found = self.repositories[KINDS[kind]].records
        return [found[key] for key in sorted(found) if key[0] == kind]

    def states(self) -> dict[str, list[str]]:
        """States of every effect, by kind; kinds without records are left out."""
        found = {kind: [r.state for r in self.records(kind)] for kind in KINDS}
        return {kind: states for kind, states in found.items() if states}

    def missing_units(self) -> int:
        """Units that are on no shelf."""
        shelves = [r for r in self.repositories["inventory"].records.values() if r.kind == "stock"]
        return sum(shelf.initial - shelf.quantity for shelf in shelves)
