"""Delays of messages add up along the way to each completion; what nobody waits for adds nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.blast_radius import Effect, Impact, predict
from stages.catalogue import ASYNC, SYNC
from stages.lateness import added_ms, first_late
from stages.model import Channel, Kind, Stage

PLACE = ASYNC.operation("place-order")


def every_message(delay_ms: int) -> dict[str, int]:
    return {c.name: delay_ms for c in ASYNC.channels if c.kind is not Kind.CALL}


def test_without_delays_nothing_is_late() -> None:
    assert added_ms(ASYNC, PLACE, {}) == {"order-completed": 0, "email-sent": 0}
    assert first_late(ASYNC, PLACE, {}) is None


def test_a_command_counts_both_ways_each_step_once_and_an_event_one_way() -> None:
    # two steps of commands, inventory and payments side by side; then the event for the mail
    assert added_ms(ASYNC, PLACE, every_message(100)) == {"order-completed": 400, "email-sent": 500}


def test_of_commands_side_by_side_the_slowest_counts() -> None:
    delay_ms = {"orders-inventory": 100, "orders-payments": 30}
    assert added_ms(ASYNC, PLACE, delay_ms)["order-completed"] == 200


def test_an_event_holds_up_nothing_but_its_own_effect() -> None:
    assert added_ms(ASYNC, PLACE, {"orders-email": 500}) == {"order-completed": 0, "email-sent": 500}
    assert added_ms(ASYNC, PLACE, {"orders-cache": 500}) == {"order-completed": 0, "email-sent": 0}


def test_the_first_late_completion_is_named_with_the_way_to_the_slowest_that_it_waits_for() -> None:
    within_ms = PLACE.completions[0].within_ms
    late = first_late(ASYNC, PLACE, every_message(within_ms // 4))
    assert late is not None
    completion, done = late
    assert (completion.name, done.added_ms) == ("order-completed", within_ms)
    assert [c.name for c in done.path] == ["storefront-orders", "orders-shipping"]
    assert first_late(ASYNC, PLACE, every_message(within_ms // 5 - 1)) is None


def test_slow_calls_alone_make_the_answer_late_never_its_completion() -> None:
    delay_ms = {c.name: 5000 for c in SYNC.channels}
    assert [first_late(SYNC, o, delay_ms) for o in SYNC.operations] == [None] * len(SYNC.operations)


@pytest.mark.parametrize(("delay_ms", "effect"), [(599, Effect.UNAFFECTED), (600, Effect.DELAYED)])
def test_hops_that_are_each_in_time_are_late_together(delay_ms: int, effect: Effect) -> None:
    assert predict(ASYNC, Impact(delay_ms=every_message(delay_ms)))["place-order"].effect is effect


def test_a_channel_that_nobody_waits_for_and_a_circle_add_nothing() -> None:
    back = Channel(
        caller="email",
        callee="orders",
        kind=Kind.EVENT,
        operations=("place-order",),
        via=("broker",),
        messages=("Back",),
    )
    idle = replace(ASYNC.channel("orders-inventory"), essential=False)
    circle: Stage = replace(ASYNC, channels=(*(idle if c.name == idle.name else c for c in ASYNC.channels), back))
    assert added_ms(circle, PLACE, {"email-orders": 900, "orders-inventory": 900}) == {
        "order-completed": 0,
        "email-sent": 0,
    }
