"""Which promises does the shop make about a whole run? The table of all checks over its effects.

The shop must have drained before: lost and late cannot be told apart otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from stages.check import ledgers, messages, orders
from stages.check.seen import Seen, unread
from stages.check.verdict import Check, guarded

Invariant = Callable[[Seen], Check]

INVARIANTS: Mapping[str, tuple[Invariant, tuple[str, ...]]] = {
    "every-accepted-order-terminates": (orders.every_accepted_order_terminates, ("orders",)),
    "no-order-lost": (orders.no_order_lost, ("orders", "shipping")),
    "no-order-applied-twice": (orders.no_order_applied_twice, ("orders", "payments", "shipping", "inventory")),
    "stock-conserved": (ledgers.stock_conserved, ("inventory", "orders")),
    "money-conserved": (ledgers.money_conserved, ("payments", "orders")),
    "one-email-per-confirmed-order": (ledgers.one_email_per_confirmed_order, ("email", "orders")),
    "registrations-reach-every-consumer": (
        ledgers.registrations_reach_every_consumer,
        ("accounts", "email", "analytics", "cache"),
    ),
    "no-effect-without-operation": (
        ledgers.no_effect_without_operation,
        ("accounts", "orders", "inventory", "shipping", "payments", "email", "analytics", "cache"),
    ),
    "no-event-lost": (messages.no_event_lost, ("orders", "accounts", "email", "analytics", "cache")),
    "outbox-drained": (messages.outbox_drained, ("orders", "accounts")),
    "dead-letters-accounted-for": (messages.dead_letters_accounted_for, ()),
}
"""Name -> the check, and the services whose audits it needs."""

OF_MESSAGES = frozenset({"no-event-lost", "outbox-drained", "dead-letters-accounted-for"})
"""Promises that only a stage with messages makes."""


def invariants(seen: Seen) -> tuple[Check, ...]:
    """Run them all, each on its own: one that fails to run is unknown and hides none of the others."""
    promised = [name for name in INVARIANTS if name not in OF_MESSAGES or messages.sends_messages(seen.stage)]
    return tuple(guarded(name, partial(_run, name, seen)) for name in promised)


def _run(name: str, seen: Seen) -> Check:
    check, needs = INVARIANTS[name]
    return unread(name, seen, needs) or check(seen)
