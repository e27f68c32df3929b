"""The shop's three stages as data, each built from the one before.

`sync` is written out; `async` and `mesh` say only what their step changes. A stage is never edited
in place: to teach something else, derive another stage with `dataclasses.replace`.
"""

from __future__ import annotations

from dataclasses import replace

from stages.model import (
    Channel,
    Cluster,
    Completion,
    Delivery,
    Gap,
    Kind,
    Mesh,
    Operation,
    Service,
    SharedPart,
    Stage,
    System,
    Transport,
    Variant,
)

CALL_TIMEOUT_MS = 500
"""One attempt at a leaf service: above the stalls of a busy host (350 ms were seen), and two attempts with their
backoff stay under the 2 s that the verdict leaves out at a window's start (tau)."""

BROWSE_TIMEOUT_MS = 400
"""One attempt plus the fallback stays within browse's SLO; two attempts without a breaker do not."""

CHAIN_TIMEOUT_MS = 1800
"""The storefront's wait for a service that itself calls others: above the longest failing chain of those
(two attempts and backoff), so that a slow leaf is reported by its caller and not mistaken for the caller's death."""

COMPLETION_MS = 3000
"""Deadline of every completion: twice the tightest that its answer allows, so that a busy host does not look late; and
short enough that a fault held for some 6 s shows which completions wait for its end."""

OPERATIONS = (
    Operation(
        name="browse",
        summary="list the catalogue with prices and availability",
        entry="storefront",
        latency_slo_ms=800,
        weight=2,
    ),
    Operation(
        name="register",
        summary="open an account; a welcome mail follows",
        entry="storefront",
        latency_slo_ms=1500,
        weight=2,
        completions=(Completion(name="user-visible-in-analytics", at="analytics", within_ms=COMPLETION_MS),),
    ),
    Operation(
        name="place-order",
        summary="reserve stock, take the money, ship, confirm",
        entry="storefront",
        latency_slo_ms=1500,
        weight=3,
        completions=(
            Completion(name="order-completed", at="orders", within_ms=COMPLETION_MS),
            Completion(name="email-sent", at="email", within_ms=COMPLETION_MS),
        ),
    ),
    Operation(
        name="track-order",
        summary="read the state of an order",
        entry="storefront",
        latency_slo_ms=800,
        weight=2,
    ),
    Operation(
        name="cancel-order",
        summary="undo an order: shipment, money, stock",
        entry="storefront",
        latency_slo_ms=1500,
        weight=2,
        completions=(Completion(name="order-cancelled", at="orders", within_ms=COMPLETION_MS),),
    ),
    Operation(
        name="insights",
        summary="read the sales figures",
        entry="storefront",
        latency_slo_ms=800,
        weight=2,
    ),
)
"""An equal mix but for place-order, which has to supply the orders that cancel-order uses up."""

SERVICES = (
    Service(name="storefront", summary="the edge: hypermedia API for users", system="commerce", database=False),
    Service(name="accounts", summary="registration", system="commerce"),
    Service(name="orders", summary="orders and the saga that completes them", system="commerce"),
    Service(name="inventory", summary="products, stock, reservations", system="fulfilment"),
    Service(name="shipping", summary="shipments", system="fulfilment"),
    Service(name="payments", summary="captures and refunds", system="payments"),
    Service(name="email", summary="welcome and confirmation mails", system="engagement"),
    Service(name="analytics", summary="sales figures", system="engagement"),
    Service(name="cache", summary="read model: the last known catalogue, orders and users", system="engagement"),
)


def _systems(cluster: str | None, owners: dict[str, str]) -> tuple[System, ...]:
    names = ("commerce", "fulfilment", "payments", "engagement")
    return tuple(System(name=n, cluster=cluster or n, owner=owners.get(n)) for n in names)


def _call(caller: str, callee: str, *operations: str, timeout_ms: int = CALL_TIMEOUT_MS, **more: object) -> Channel:
    return replace(
        Channel(caller=caller, callee=callee, operations=operations, timeout_ms=timeout_ms, attempts=2),
        **more,  # type: ignore[arg-type]  # replace() checks the names at run time
    )


_EDGE = (
    _call(
        "storefront",
        "inventory",
        "browse",
        timeout_ms=BROWSE_TIMEOUT_MS,
        fallback="storefront-cache",
    ),
    _call("storefront", "cache", "browse", timeout_ms=300, attempts=1, essential=False),
    _call("storefront", "accounts", "register", timeout_ms=CHAIN_TIMEOUT_MS, attempts=1),
    _call(
        "storefront",
        "orders",
        "place-order",
        "track-order",
        "cancel-order",
        timeout_ms=CHAIN_TIMEOUT_MS,
        attempts=1,
    ),
    _call("storefront", "analytics", "insights"),
)

SYNC = Stage(
    name="sync",
    title="Synchronous calls in one cluster",
    previous=None,
    change="everything is a call within the user's request",
    reason="the simplest thing that works: one chain, one answer, and every dependency in everyone's blast radius",
    operations=OPERATIONS,
    services=SERVICES,
    systems=_systems("shop", {}),
    clusters=(Cluster(name="shop", network="10.0.0.0/16"),),
    channels=(
        *_EDGE,
        _call("accounts", "email", "register", step=1),
        _call("accounts", "analytics", "register", step=2),
        _call("accounts", "cache", "register", step=3),
        _call("orders", "inventory", "place-order", "cancel-order", step=1),
        _call("orders", "payments", "place-order", "cancel-order", step=2),
        _call("orders", "shipping", "place-order", "cancel-order", step=3),
        _call("orders", "email", "place-order", step=4),
        _call("orders", "analytics", "place-order", step=5),
        _call("orders", "cache", "place-order", step=6),
    ),
    gaps=(
        Gap(
            name="lost-email",
            effect="email-sent",
            operation="place-order",
            crash_of="orders",
            reason="orders commits the confirmation, then calls email, analytics and cache: a dual write without an "
            "outbox, so whoever is told last is never told when the process dies in between",
        ),
        Gap(
            name="unannounced-user",
            effect="user-visible-in-analytics",
            operation="register",
            crash_of="accounts",
            reason="accounts commits the user, then calls email, analytics and cache: the same dual write",
        ),
    ),
)


def _message(
    caller: str,
    callee: str,
    kind: Kind,
    transport: Transport,
    *operations: str,
    messages: tuple[str, ...],
    step: int = 0,
) -> Channel:
    return Channel(
        caller=caller,
        callee=callee,
        kind=kind,
        transport=transport,
        delivery=Delivery.AT_LEAST_ONCE,
        operations=operations,
        breaker=False,
        step=step,
        via=("broker",),
        messages=messages,
    )


def _command(callee: str, *messages: str, step: int) -> Channel:
    return _message(
        "orders", callee, Kind.COMMAND, Transport.SQS, "place-order", "cancel-order", messages=messages, step=step
    )


def _event(producer: str, consumer: str, operation: str, *messages: str, step: int = 0) -> Channel:
    return _message(producer, consumer, Kind.EVENT, Transport.SNS, operation, messages=messages, step=step)


ASYNC = replace(
    SYNC,
    name="async",
    title="Commands and events in the same cluster",
    previous="sync",
    change="orders and registrations are accepted at once; commands and events do the rest",
    reason="accept now, complete later: a callee's failure delays the order instead of losing it",
    channels=(
        *_EDGE,
        *(
            _event("accounts", consumer, "register", "AccountRegistered")
            for consumer in ("email", "analytics", "cache")
        ),
        _command("inventory", "ReserveStock", "ReleaseStock", step=1),
        _command("payments", "CapturePayment", "RefundPayment", step=1),
        _command("shipping", "BookShipment", "CancelShipment", step=2),
        _event("orders", "email", "place-order", "OrderConfirmed", step=3),
        _event("orders", "analytics", "place-order", "OrderConfirmed", step=3),
        # The read model shows an order's latest state, so it alone must hear of its events in their order.
        replace(
            _event("orders", "cache", "place-order", "OrderConfirmed", "OrderCancelled", step=3),
            operations=("place-order", "cancel-order"),
        ),
    ),
    shared=(SharedPart(name="broker", summary="queues and topics of the region"),),
    gaps=(),
)

_OWNED = {
    "commerce": ("team-storefront", ("register", "place-order", "track-order", "cancel-order")),
    "fulfilment": ("team-warehouse", ("browse", "order-cancelled")),
    "payments": ("team-money", ("order-completed",)),
    "engagement": ("team-growth", ("insights", "email-sent", "user-visible-in-analytics")),
}
"""System -> its owner, and the operations and completions that the owner answers for."""


def _separated(channel: Channel) -> Channel:
    """A channel as it is once systems are apart: what leaves a cluster enters the other one through its gateway."""
    homes = {s.name: s.system for s in SERVICES}
    home, there = homes[channel.caller], homes[channel.callee]
    if channel.kind is not Kind.CALL or home == there:
        return channel
    apart = replace(channel, via=(*channel.via, f"{there}-gateway"))
    if channel.name == "storefront-analytics":
        return replace(apart, fallback="storefront-cache")
    if channel.name == "storefront-cache":
        return replace(apart, operations=(*channel.operations, "insights"))
    return apart


MESH = replace(
    ASYNC,
    name="mesh",
    title="A cluster per system behind a service mesh",
    previous="async",
    change="every system moves to a cluster of its own, with an owner, discovery, identity and policy",
    reason="the loss of a cluster leaves every other system's operations alone",
    systems=tuple(
        System(name=name, cluster=name, owner=owner, objectives=objectives)
        for name, (owner, objectives) in _OWNED.items()
    ),
    clusters=tuple(Cluster(name=name, network=f"10.{n}.0.0/16") for n, name in enumerate(_OWNED, start=1)),
    channels=tuple(_separated(c) for c in ASYNC.channels),
    shared=(
        *ASYNC.shared,
        SharedPart(name="registry", summary="Cloud Map: who answers for which name"),
        *(
            SharedPart(name=f"{name}-gateway", summary=f"the way into cluster {name} from the others")
            for name in ("fulfilment", "engagement")
        ),
    ),
    mesh=Mesh(),
)

STAGES = {stage.name: stage for stage in (SYNC, ASYNC, MESH)}
"""By name, in the order of the path."""

VARIANTS = {
    v.name: v
    for v in (
        Variant(
            name="no-idempotency",
            disables="idempotency",
            summary="payments ignores the idempotency key: a retried capture takes the money twice",
            stage="sync",
            exposed_by="orders-payments-latency",
            breaks="no-order-applied-twice",
        ),
        Variant(
            name="no-timeout",
            disables="timeout",
            summary="callers wait for ever: requests stuck on a hung payments fill up orders, and tracking fails too",
            stage="sync",
            exposed_by="payments-paused",
            breaks="payments-paused x track-order",
        ),
        Variant(
            name="no-breaker",
            disables="breaker",
            summary="callers never stop calling a hung callee: every browse waits out its attempts before the fallback",
            stage="sync",
            exposed_by="inventory-paused",
            breaks="inventory-paused x browse",
        ),
        Variant(
            name="no-fallback",
            disables="fallback",
            summary="the storefront has no stale answer: browsing fails with inventory",
            stage="sync",
            exposed_by="inventory-killed",
            breaks="inventory-killed x browse",
        ),
        Variant(
            name="no-compensation",
            disables="compensation",
            summary="a failed order keeps what its earlier steps did: money taken and stock held for nothing",
            stage="sync",
            exposed_by="email-killed",
            breaks="money-conserved",
        ),
        Variant(
            name="no-outbox",
            disables="outbox",
            summary="events are published after the commit, from memory: what dies in between is never published",
            stage="async",
            exposed_by="accounts-killed-publishing",
            breaks="no-event-lost",
        ),
        Variant(
            name="no-dlq",
            disables="dead-letters",
            summary="a message that nobody can read has nowhere to go: it blocks its queue and all orders behind it",
            stage="async",
            exposed_by="payments-poisoned",
            breaks="payments-poisoned x place-order",
        ),
        Variant(
            name="no-consumer-idempotency",
            disables="idempotency",
            summary="payments takes every delivery for a new command: a message delivered twice charges twice",
            stage="async",
            exposed_by="broker-duplicates",
            breaks="no-order-applied-twice",
        ),
        Variant(
            name="short-visibility",
            disables="visibility",
            summary="messages reappear while they are worked on, until good ones are taken for dead",
            stage="async",
            exposed_by="broker-slow",
            breaks="dead-letters-accounted-for",
        ),
        Variant(
            name="no-saga-timeout",
            disables="saga-timeout",
            summary="the saga waits for an answer for ever: an order whose command was lost never ends",
            stage="async",
            exposed_by="payments-poisoned",
            breaks="every-accepted-order-terminates",
        ),
        Variant(
            name="permissive-mtls",
            disables="mtls",
            summary="sidecars take plaintext too: whoever gets as far as the port needs no identity",
            stage="mesh",
            exposed_by="payments-killed",
            breaks="policy-as-modelled",
        ),
        Variant(
            name="allow-all-policy",
            disables="policy",
            summary="sidecars let every identity call everything: mails may take money",
            stage="mesh",
            exposed_by="payments-killed",
            breaks="policy-as-modelled",
        ),
        Variant(
            name="shared-database",
            disables="own-database",
            summary="orders and payments keep their tables in one database: a lock of one system stops the other too",
            stage="mesh",
            exposed_by="payments-database-locked",
            breaks="payments-database-locked x track-order",
        ),
        Variant(
            name="no-outlier-detection",
            disables="outlier-detection",
            summary="sidecars never leave a silent callee alone: they go on asking, and every user waits for it",
            stage="mesh",
            exposed_by="storefront-inventory-blackhole",
            breaks="breakers-open-and-close",
        ),
    )
}
"""By name. `stages verify --variant NAME` must end invalid for each of them."""
