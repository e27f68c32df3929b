"""Every rule finds what it is for, names it with its value, and finds nothing in the catalogue."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest

from stages import rules
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.model import Channel, Kind, Service, Stage, Transport
from stages.rules import RULES, problems


@pytest.mark.parametrize("name", STAGES)
def test_the_catalogues_stages_have_no_problems(name: str) -> None:
    assert problems(STAGES[name]) == []


def test_every_rule_is_in_the_table() -> None:
    public = {
        f for n, f in inspect.getmembers(rules, inspect.isfunction) if f.__module__ == rules.__name__ and n[0] != "_"
    }
    assert public - {problems} == set(RULES)


def altered(stage: Stage, channel: str, **fields: object) -> Stage:
    """A stage with one channel changed."""
    return replace(
        stage,
        channels=tuple(
            replace(c, **fields) if c.name == channel else c  # type: ignore[arg-type]
            for c in stage.channels
        ),
    )


def first(things: tuple[object, ...], **fields: object) -> tuple[object, ...]:
    """A tuple with its first element changed."""
    return (replace(things[0], **fields), *things[1:])  # type: ignore[type-var]


def storing(stage: Stage, service: str, keeper: str) -> tuple[Service, ...]:
    """The services, one of which keeps its records with another."""
    return tuple(replace(s, store=keeper) if s.name == service else s for s in stage.services)


def with_channels(stage: Stage, *more: Channel) -> Stage:
    return replace(stage, channels=(*stage.channels, *more))


def call(caller: str, callee: str, *operations: str, **more: object) -> Channel:
    return Channel(caller=caller, callee=callee, operations=operations, timeout_ms=100, **more)  # type: ignore[arg-type]


BROKEN: dict[str, tuple[Stage, str]] = {
    "two services of one name": (
        replace(SYNC, services=(*SYNC.services, SYNC.services[-1])),
        "2 services are named 'cache'",
    ),
    "two channels between the same two": (
        with_channels(SYNC, SYNC.channels[0]),
        "2 channels are named 'storefront-inventory'",
    ),
    "a service of two words": (
        replace(SYNC, services=(*SYNC.services, replace(SYNC.services[-1], name="read-model"))),
        "service 'read-model' is not a plain name such as 'orders'",
    ),
    "a shared part named like a service": (
        replace(ASYNC, shared=(*ASYNC.shared, replace(ASYNC.shared[0], name="email"))),
        "'email' is a service and a shared part",
    ),
    "no reason": (replace(SYNC, reason=" "), "its reason is empty"),
    "a stage before itself": (replace(SYNC, previous="sync"), "it is its own previous stage"),
    "an unknown system": (
        replace(SYNC, services=first(SYNC.services, system="sales")),
        "service 'storefront' belongs to system 'sales'; known systems are commerce, fulfilment, payments, engagement",
    ),
    "a system without services": (
        replace(SYNC, systems=(*SYNC.systems, replace(SYNC.systems[0], name="legal"))),
        "system 'legal' has no service",
    ),
    "an unknown cluster": (
        replace(SYNC, systems=first(SYNC.systems, cluster="moon")),
        "system 'commerce' runs in cluster 'moon'; known clusters are shop",
    ),
    "an empty cluster": (
        replace(SYNC, clusters=(*SYNC.clusters, replace(SYNC.clusters[0], name="spare", network="10.9.0.0/16"))),
        "cluster 'spare' hosts no system",
    ),
    "no owner": (
        replace(MESH, systems=first(MESH.systems, owner=None)),
        "system 'commerce' has no owner, though there are 4 clusters",
    ),
    "no objectives": (
        replace(MESH, systems=first(MESH.systems, objectives=())),
        "system 'commerce' has no objectives, though there are 4 clusters",
    ),
    "an objective that nobody knows": (
        replace(MESH, systems=first(MESH.systems, objectives=(*MESH.systems[0].objectives, "parcel-sent"))),
        "system 'commerce' answers for 'parcel-sent'; known operations and completions are browse, register",
    ),
    "an objective of two owners": (
        replace(MESH, systems=first(MESH.systems, objectives=(*MESH.systems[0].objectives, "browse"))),
        "2 systems answer for 'browse': commerce, fulfilment",
    ),
    "an objective that nobody answers for": (
        replace(MESH, systems=first(MESH.systems, objectives=MESH.systems[0].objectives[1:])),
        "no system answers for 'register'",
    ),
    "a call to another system without fallback": (
        altered(MESH, "storefront-analytics", fallback=None),
        "call 'storefront-analytics' leaves system 'commerce' for 'engagement' without fallback",
    ),
    "a call to another system without anything": (
        altered(MESH, "storefront-inventory", timeout_ms=None, breaker=False, fallback=None),
        (
            "call 'storefront-inventory' leaves system 'commerce' for 'fulfilment' without timeout and breaker "
            "and fallback"
        ),
    ),
    "a database of two systems": (
        replace(MESH, services=storing(MESH, "payments", "orders")),
        "service 'payments' of system 'payments' shares the database of 'orders', which belongs to system 'commerce'",
    ),
    "a database of nobody": (
        replace(SYNC, services=storing(SYNC, "payments", "ledger")),
        "service 'payments' keeps its records with 'ledger'; known services are storefront",
    ),
    "a database where there is none": (
        replace(SYNC, services=storing(SYNC, "orders", "storefront")),
        "service 'orders' keeps its records with 'storefront', which has no database of its own",
    ),
    "clusters without a mesh": (
        replace(MESH, mesh=None),
        "it has 4 clusters (commerce, fulfilment, payments, engagement) and no mesh",
    ),
    "overlapping networks": (
        replace(MESH, clusters=first(MESH.clusters, network="10.2.128.0/17")),
        "clusters 'commerce' (10.2.128.0/17) and 'fulfilment' (10.2.0.0/16) overlap",
    ),
    "no network": (
        replace(SYNC, clusters=first(SYNC.clusters, network="10.0.0.0/64")),
        "cluster 'shop': network '10.0.0.0/64' is no address range",
    ),
    "no operation": (replace(SYNC, operations=()), "it has no operation"),
    "an unknown entry": (
        replace(SYNC, operations=first(SYNC.operations, entry="kiosk")),
        "operation 'browse' enters at 'kiosk'; known services are storefront",
    ),
    "no latency": (
        replace(SYNC, operations=first(SYNC.operations, latency_slo_ms=0)),
        "operation 'browse': latency_slo_ms=0 must be above 0",
    ),
    "a perfect promise": (
        replace(SYNC, operations=first(SYNC.operations, slo_share=1.0)),
        "operation 'browse': slo_share=1.0 must lie between 0 and 1",
    ),
    "no traffic": (
        replace(SYNC, operations=first(SYNC.operations, weight=0)),
        "operation 'browse': weight=0 must be at least 1",
    ),
    "a completion before the answer": (
        replace(SYNC, operations=(*SYNC.operations[:1], replace(SYNC.operations[1], latency_slo_ms=6000))),
        (
            "completion 'user-visible-in-analytics' of 'register': within_ms=3000 is shorter than the answer's "
            "latency_slo_ms=6000"
        ),
    ),
    "a completion nowhere": (
        replace(
            SYNC,
            operations=(
                replace(
                    SYNC.operations[1],
                    completions=(replace(SYNC.operations[1].completions[0], at="press"),),
                ),
            ),
        ),
        "completion 'user-visible-in-analytics' of 'register' shows at 'press'; known services are",
    ),
    "an unknown callee": (
        with_channels(SYNC, call("orders", "tax", "place-order")),
        "channel 'orders-tax': callee 'tax' is unknown; known services are",
    ),
    "an unknown operation": (
        altered(SYNC, "storefront-analytics", operations=("insights", "forecast")),
        "channel 'storefront-analytics': operation 'forecast' is unknown; known operations are",
    ),
    "an unknown shared part": (
        altered(ASYNC, "orders-email", via=("bus",)),
        "channel 'orders-email': via 'bus' is unknown; known shared parts are broker",
    ),
    "a channel without operation": (
        altered(SYNC, "storefront-analytics", operations=()),
        "channel 'storefront-analytics' carries no operation",
    ),
    "a call to itself": (
        with_channels(SYNC, call("orders", "orders", "place-order")),
        "channel 'orders-orders': 'orders' calls itself",
    ),
    "a channel that nothing gets to": (
        with_channels(SYNC, call("email", "shipping", "insights")),
        "channel 'email-shipping' carries 'insights', but that never gets to 'email'",
    ),
    "a call without timeout": (
        altered(SYNC, "orders-payments", timeout_ms=None),
        "call 'orders-payments' has no timeout: it may wait for ever",
    ),
    "a timeout of nothing": (
        altered(SYNC, "orders-payments", timeout_ms=0),
        "call 'orders-payments': timeout_ms=0 must be above 0",
    ),
    "a message with timeout": (
        altered(ASYNC, "orders-payments", timeout_ms=300),
        "command 'orders-payments': timeout_ms=300 means nothing, its sender does not wait",
    ),
    "a message with fallback": (
        altered(ASYNC, "orders-email", fallback="storefront-cache"),
        "event 'orders-email': fallback 'storefront-cache' means nothing, its sender does not wait",
    ),
    "a call over a queue": (
        altered(SYNC, "orders-payments", transport=Transport.SQS),
        "channel 'orders-payments': a call does not travel over sqs, but over rest or grpc",
    ),
    "a message without broker": (
        altered(ASYNC, "orders-payments", via=()),
        "command 'orders-payments' goes through no shared part: name the broker in via",
    ),
    "no attempt": (
        altered(SYNC, "orders-payments", attempts=0),
        "channel 'orders-payments': attempts=0 must be at least 1",
    ),
    "attempts that take too long": (
        altered(SYNC, "storefront-analytics", attempts=6),
        (
            "call 'storefront-analytics': 6 attempts of 500 ms and their backoff (3500 ms) exceed the reaction limit "
            "of 2000 ms"
        ),
    ),
    "attempts that outlast the caller": (
        altered(SYNC, "orders-payments", timeout_ms=900),
        (
            "call 'orders-payments': 2 attempts of 900 ms and their backoff (1900 ms) exceed timeout_ms=1800 of "
            "'storefront-orders'"
        ),
    ),
    "a circle": (
        with_channels(SYNC, call("payments", "orders", "place-order")),
        "operation 'place-order' goes round: orders calls payments calls orders",
    ),
    "a fallback that is no channel": (
        altered(SYNC, "storefront-inventory", fallback="storefront-paper"),
        "call 'storefront-inventory': fallback 'storefront-paper' is no channel",
    ),
    "a fallback of somebody else": (
        altered(SYNC, "storefront-inventory", fallback="orders-shipping"),
        "call 'storefront-inventory': fallback 'orders-shipping' starts at 'orders', not at 'storefront'",
    ),
    "a fallback for another operation": (
        altered(SYNC, "storefront-cache", operations=("insights",)),
        "call 'storefront-inventory': fallback 'storefront-cache' does not carry 'browse'",
    ),
    "a fallback that needs what it replaces": (
        with_channels(SYNC, call("cache", "inventory", "browse")),
        "call 'storefront-inventory': fallback 'storefront-cache' needs 'inventory' too for 'browse'",
    ),
    "a fallback that is the call itself": (
        altered(SYNC, "storefront-inventory", fallback="storefront-inventory"),
        "call 'storefront-inventory': fallback 'storefront-inventory' needs 'inventory' too for 'browse'",
    ),
    "a message as fallback": (
        altered(SYNC, "storefront-cache", kind=Kind.EVENT),
        "call 'storefront-inventory': fallback 'storefront-cache' is no call, so it answers nothing",
    ),
    "a gap of an unknown service": (
        replace(SYNC, gaps=first(SYNC.gaps, crash_of="printer")),
        "gap 'lost-email': crash_of 'printer' is unknown; known services are",
    ),
    "a gap of an unknown operation": (
        replace(SYNC, gaps=first(SYNC.gaps, operation="sell")),
        "gap 'lost-email': operation 'sell' is unknown; known operations are",
    ),
    "a gap of an unknown effect": (
        replace(SYNC, gaps=first(SYNC.gaps, effect="parcel-sent")),
        "gap 'lost-email': 'place-order' has no completion 'parcel-sent'; known completions are order-completed",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stage_is_told_so_with_names_and_values(name: str) -> None:
    stage, finding = BROKEN[name]
    assert [p for p in problems(stage) if p.startswith(f"stage {stage.name!r}: {finding}")], problems(stage)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
def test_every_rule_has_a_stage_that_breaks_it(rule: Callable[[Stage], object]) -> None:
    assert any(list(rule(stage)) for stage, _ in BROKEN.values())  # type: ignore[call-overload]


def test_what_only_replaces_another_needs_no_fallback_itself() -> None:
    stage = altered(MESH, "storefront-cache", breaker=False)
    assert not MESH.channel("storefront-cache").essential
    assert problems(stage) == []


def test_services_of_one_system_may_share_a_database() -> None:
    assert problems(replace(MESH, services=storing(MESH, "accounts", "orders"))) == []


def test_all_problems_are_found_at_once() -> None:
    stage = altered(altered(SYNC, "orders-payments", timeout_ms=None), "orders-email", attempts=0)
    assert len(problems(stage)) == 2
