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
    assert found.shared_added == ("registry", "gateway")
    assert len(found.services_moved) == len(MESH.services)
    assert Moved(name="payments", before=None, after="team-money") in found.owners_changed
    assert "payments moves from cluster shop to cluster payments" in found.sentences()
    assert "system payments is owned by team-money, before by nobody" in found.sentences()
    assert (
        ChannelChange(name="storefront-analytics", fields=(("via", "none", "registry, gateway"),))
        in found.channels_changed
    )


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
