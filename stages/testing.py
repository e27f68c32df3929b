"""Histories by hand, for tests: what a run would have seen, in a few words.

Times are seconds from an origin; a finished healthy shop is `books(...)`, and tests then spoil it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import replace
from time import process_time

from stages.catalogue import SYNC
from stages.check.policy import Credential, PolicyTry
from stages.history import Audit, Invocation, Outcome, Stall
from stages.mesh import allowed
from stages.model import Stage

SECOND_NS = 1_000_000_000

RUN_ID = "run-1"

SLO_MS = {"register": 1000, "place-order": 1000, "cancel-order": 1000}

SHOP = replace(SYNC, operations=tuple(replace(o, latency_slo_ms=SLO_MS.get(o.name, 500)) for o in SYNC.operations))
"""Stage sync with SLOs of its own: expected counts in tests do not move when the catalogue's limits do."""

OPERATIONS = tuple(o.name for o in SYNC.operations)


def ns(seconds: float) -> int:
    """Seconds from the origin as nanoseconds."""
    return round(seconds * SECOND_NS)


def invocation(
    operation: str = "browse",
    at_s: float = 0.0,
    *,
    latency_ms: float = 20.0,
    outcome: Outcome = Outcome.OK,
    degraded: bool = False,
    key: str = "",
    subject: str | None = None,
    lag_ms: float = 0.0,
) -> Invocation:
    """One request; without a key it gets one that no other time has."""
    return Invocation(
        operation=operation,
        key=key or f"{RUN_ID}-{operation}-{at_s}",
        intended_ns=ns(at_s),
        started_ns=ns(at_s + lag_ms / 1000),
        ended_ns=ns(at_s + latency_ms / 1000),
        outcome=outcome,
        degraded=degraded,
        subject=subject,
    )


def steady(
    operations: Iterable[str],
    begin_s: float,
    end_s: float,
    *,
    rate: float = 10.0,
    bad_every: int = 0,
    degraded: bool = False,
    latency_ms: float = 20.0,
) -> list[Invocation]:
    """`rate` requests per second of each operation, every `bad_every`-th of them failing (0: none)."""
    count = round((end_s - begin_s) * rate)
    return [
        invocation(
            operation,
            begin_s + n / rate,
            latency_ms=latency_ms,
            outcome=Outcome.FAIL if bad_every and n % bad_every == 0 else Outcome.OK,
            degraded=degraded,
        )
        for operation in operations
        for n in range(count)
    ]


def stall(begin_s: float, end_s: float, source: str = "core-0") -> Stall:
    """The machine stood still from one time to another."""
    return Stall(source=source, start_ns=ns(begin_s), end_ns=ns(end_s))


def order_effects(
    key: str, order: str, *, state: str = "confirmed", at_s: float = 1.0, cents: int = 4200
) -> list[Audit]:
    """All that the services record about one order that ended in `state`, as it should be."""
    at_ns = ns(at_s)
    held = {"confirmed": "reserved", "cancelled": "released", "rejected": "released"}[state]
    money = {"confirmed": "captured", "cancelled": "refunded", "rejected": "void"}[state]
    shipment = {"confirmed": "booked", "cancelled": "cancelled", "rejected": "cancelled"}[state]
    kept = state != "rejected"
    common = {"id": order, "subject": order, "key": key, "at_ns": at_ns}
    rows = [
        ("orders", "order", state, cents),
        ("inventory", "reservation", held, 2),
        ("payments", "capture", money, cents if kept else 0),
        ("shipping", "shipment", shipment, 0),
        ("email", "mail", "confirmation" if kept else "retracted", 0),
        ("analytics", "event", "present" if kept else "removed", 0),
        ("cache", "entry", "present" if kept else "removed", 0),
    ]
    return [
        Audit(
            service=service,
            kind=kind,
            state=ended,
            quantity=quantity,
            detail={"product": "p-01"} if kind == "reservation" else {},
            **common,  # type: ignore[arg-type]
        )
        for service, kind, ended, quantity in rows
    ]


def user_effects(key: str, user: str, *, at_s: float = 1.0) -> list[Audit]:
    """All that the services record about one account."""
    rows = [
        ("accounts", "user", "active"),
        ("email", "mail", "welcome"),
        ("analytics", "event", "present"),
        ("cache", "entry", "present"),
    ]
    return [
        Audit(service=service, kind=kind, id=user, subject=user, key=key, state=state, at_ns=ns(at_s))
        for service, kind, state in rows
    ]


def shelf(product: str = "p-01", *, initial: int = 1000, on_hand: int = 1000) -> Audit:
    """One product's stock."""
    return Audit(
        service="inventory",
        kind="stock",
        id=product,
        subject=product,
        key="",
        state="on-hand",
        quantity=on_hand,
        initial=initial,
    )


def books() -> tuple[list[Invocation], list[Audit]]:
    """A small run in which all is well: one order confirmed, one cancelled, one rejected, one account."""
    invocations = [
        invocation("place-order", 1.0, key="run-1-1", subject="o-1"),
        invocation("place-order", 2.0, key="run-1-2", subject="o-2"),
        invocation("place-order", 3.0, key="run-1-3", subject="o-3", outcome=Outcome.FAIL),
        invocation("cancel-order", 4.0, key="run-1-4", subject="o-2"),
        invocation("register", 5.0, key="run-1-5", subject="a-1"),
    ]
    audits = [
        shelf(on_hand=998),
        *order_effects("run-1-1", "o-1"),
        *order_effects("run-1-2", "o-2", state="cancelled"),
        *order_effects("run-1-3", "o-3", state="rejected"),
        *user_effects("run-1-5", "a-1"),
    ]
    return invocations, audits


def changed(audits: Iterable[Audit], service: str, kind: str, key: str, **fields: object) -> list[Audit]:
    """The same audits with one record changed: the one way in which a test spoils them."""
    return [
        replace(a, **fields)  # type: ignore[arg-type]  # replace() checks the names at run time
        if (a.service, a.kind, a.key) == (service, kind, key)
        else a
        for a in audits
    ]


def without(audits: Iterable[Audit], service: str, kind: str, key: str) -> list[Audit]:
    """The same audits with one record missing."""
    return [a for a in audits if (a.service, a.kind, a.key) != (service, kind, key)]


def small(stage: Stage, *operations: str) -> Stage:
    """A stage with only some of its operations."""
    return replace(stage, operations=tuple(o for o in stage.operations if o.name in operations))


def placed(key: str, at_s: float, complete_ms: float | None) -> tuple[Invocation, list[Audit]]:
    """An order accepted at once, and what the services recorded of it `complete_ms` later (None: it was lost)."""
    order = f"o-{key}"
    request = invocation("place-order", at_s, key=key, subject=order)
    if complete_ms is None:
        return request, [a for a in order_effects(key, order, at_s=at_s) if a.kind == "order"]
    done_s = at_s + complete_ms / 1000
    times = {"completed_ns": str(ns(done_s))}
    effects = order_effects(key, order, at_s=done_s)
    return request, [replace(a, detail=times) if a.kind == "order" else a for a in effects]


def tries_as_modelled(stage: Stage) -> list[PolicyTry]:
    """What a mesh that does as modelled answers, where the last service lends its certificate to everybody."""
    names = [s.name for s in stage.services]
    tries = []
    for caller in names:
        for callee in names:
            for credential in Credential if caller != callee else ():
                shown = {Credential.OTHER: names[-1], Credential.PLAINTEXT: ""}.get(credential, caller)
                through = credential in (Credential.OWN, Credential.OTHER) and (shown, callee) in allowed(stage)
                answer = "allowed" if through else "denied: rbac 403"
                tries.append(
                    PolicyTry(
                        caller=caller, callee=callee, credential=credential, shown=shown, allowed=through, answer=answer
                    )
                )
    return tries


def cpu_s(work: Callable[[], object]) -> float:
    """CPU time of a piece of work, for ratios between sizes of it.

    Nothing is collected meanwhile: a full collection costs what all other tests have left on the heap.
    """
    gc.collect()
    gc.disable()
    try:
        began_s = process_time()
        work()
        return process_time() - began_s
    finally:
        gc.enable()
