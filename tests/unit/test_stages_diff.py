"""What a step changes is said completely, and nothing is said of equal stages."""

from __future__ import annotations

from dataclasses import replace

from stages.blast_radius import Effect, Impact
from stages.catalogue import ASYNC, MESH, SYNC
from stages.diff import ChannelChange, Moved, diff

PAYMENTS_DOWN = Impact(down=frozenset({"payments"}))


def test_equal_stages_do_not_differ() -> None:
    assert diff(SYNC, SYNC, {"payments-killed": (PAYMENTS_DOWN, PAYMENTS_DOWN)}).sentences() == []


def test_the_step_to_async_turns_calls_into_messages_and_failures_into_delays() -> None:
    found = diff(SYNC, ASYNC, {"payments-killed": (PAYMENTS_DOWN, PAYMENTS_DOWN)})
    assert found.sentences() == [
        "shared part added: broker",
        "accounts-email was a call over rest, now an event over sns",
        "accounts-analytics was a call over rest, now an event over sns",
        "accounts-cache was a call over rest, now an event over sns",
        "orders-inventory was a call over rest, now a command over sqs",
        "orders-payments was a call over rest, now a command over sqs",
        "orders-shipping was a call over rest, now a command over sqs",
        "orders-email was a call over rest, now an event over sns",
        "orders-analytics was a call over rest, now an event over sns",
        "orders-cache was a call over rest, now an event over sns",
        "gap 'lost-email' is closed",
        "gap 'unannounced-user' is closed",
        "payments-killed: place-order was failing, now delayed",
        "payments-killed: cancel-order was failing, now delayed",
    ]
    assert found.change == ASYNC.change
    assert [(m.operation, m.before, m.after) for m in found.failure_modes] == [
        ("place-order", Effect.FAILING, Effect.DELAYED),
        ("cancel-order", Effect.FAILING, Effect.DELAYED),
    ]


def test_the_step_to_mesh_moves_every_system_and_gives_it_an_owner() -> None:
    found = diff(ASYNC, MESH)
    assert found.clusters_added == ("commerce", "fulfilment", "payments", "engagement")
    assert found.clusters_removed == ("shop",)
    assert found.shared_added == ("registry", "fulfilment-gateway", "engagement-gateway")
    assert len(found.services_moved) == len(MESH.services)
    assert Moved(name="payments", before=None, after="team-money") in found.owners_changed
    assert "payments moves from cluster shop to cluster payments" in found.sentences()
    assert "system payments is owned by team-money, before by nobody" in found.sentences()
    assert (
        ChannelChange(
            name="storefront-analytics",
            fields=(("fallback", "none", "storefront-cache"), ("via", "none", "engagement-gateway")),
        )
        in found.channels_changed
    )
    assert found.sidecars_added == tuple(s.name for s in MESH.services)
    assert found.sentences()[-8:] == [
        "system commerce answers for register, place-order, track-order, cancel-order, before for nothing",
        "system fulfilment answers for browse, order-cancelled, before for nothing",
        "system payments answers for order-completed, before for nothing",
        "system engagement answers for insights, email-sent, user-visible-in-analytics, before for nothing",
        (
            "a sidecar beside each of storefront, accounts, orders, inventory, shipping, payments, email, analytics, "
            "cache: mTLS with an identity of its own, and only the calls of the model get through"
        ),
        "storefront-inventory goes through fulfilment-gateway",
        "storefront-cache carries insights too, goes through engagement-gateway",
        "storefront-analytics falls back to storefront-cache, goes through engagement-gateway",
    ]


def test_the_mesh_answers_insights_otherwise_when_analytics_dies() -> None:
    down = Impact(down=frozenset({"analytics"}))
    found = diff(ASYNC, MESH, {"analytics-killed": (down, down)})
    assert [(m.operation, m.before, m.after) for m in found.failure_modes] == [
        ("insights", Effect.FAILING, Effect.DEGRADED)
    ]
    assert found.sentences()[-1] == "analytics-killed: insights was failing, now degraded"


def test_the_way_back_opens_what_the_way_there_closed() -> None:
    there, back = diff(SYNC, ASYNC), diff(ASYNC, SYNC)
    assert back.gaps_opened == there.gaps_closed == ("lost-email", "unannounced-user")
    assert back.shared_removed == there.shared_added
    assert "orders-email was an event over sns, now a call over rest" in back.sentences()


def test_services_and_channels_that_come_and_go_are_named() -> None:
    fewer = replace(SYNC, services=SYNC.services[:-1], channels=SYNC.channels[:-1], name="fewer")
    assert diff(SYNC, fewer).sentences() == ["service removed: cache", "channel removed: orders-cache"]
    assert diff(fewer, SYNC).services_added == ("cache",)


def test_a_changed_value_is_said_with_both_values() -> None:
    slow = tuple(replace(c, timeout_ms=900) if c.name == "orders-payments" else c for c in SYNC.channels)
    assert diff(SYNC, replace(SYNC, channels=slow)).sentences() == [
        "orders-payments changes timeout_ms from 500 to 900"
    ]
