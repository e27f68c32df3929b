"""How many round trips does the model say that each answer waits for, and which wires grow with distance?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.distance import round_trips, wires_between_systems
from stages.model import Channel, Kind, Stage

HEALTHY_SYNC = {
    "browse": 1,
    "register": 3,
    "place-order": 6,
    "track-order": 0,
    "cancel-order": 3,
    "insights": 1,
}


def changed(stage: Stage, name: str, **changes: object) -> Stage:
    """The stage with one channel changed."""
    channels = tuple(replace(c, **changes) if c.name == name else c for c in stage.channels)  # type: ignore[arg-type]
    return replace(stage, channels=channels)


def test_in_sync_every_step_of_a_chain_is_a_round_trip() -> None:
    assert round_trips(SYNC) == HEALTHY_SYNC


@pytest.mark.parametrize("stage", [ASYNC, MESH], ids=lambda s: s.name)
def test_where_messages_do_the_work_only_reading_waits(stage: Stage) -> None:
    assert round_trips(stage) == dict.fromkeys(HEALTHY_SYNC, 0) | {"browse": 1, "insights": 1}


def test_steps_taken_at_the_same_time_count_once() -> None:
    together = changed(SYNC, "orders-payments", step=1)
    assert round_trips(together)["place-order"] == 5


def test_what_the_callee_of_a_parallel_step_calls_adds_to_it() -> None:
    deeper = Channel(
        caller="payments", callee="email", kind=Kind.CALL, operations=("place-order",), timeout_ms=100, attempts=1
    )
    stage = changed(SYNC, "orders-payments", step=1)
    stage = replace(stage, channels=(*stage.channels, deeper))
    assert round_trips(stage)["place-order"] == 6


def test_nobody_waits_for_a_channel_that_is_not_essential() -> None:
    assert round_trips(changed(SYNC, "orders-cache", essential=False))["place-order"] == 5


def test_a_fallback_is_not_on_the_way_even_where_it_is_essential() -> None:
    assert round_trips(changed(SYNC, "storefront-cache", essential=True, step=1))["browse"] == 1


def test_calls_within_a_system_cost_no_distance_but_what_lies_behind_them_does() -> None:
    assert "storefront-orders" not in wires_between_systems(SYNC)
    assert round_trips(SYNC)["cancel-order"] == 3


def test_a_circle_of_calls_ends() -> None:
    back = Channel(caller="payments", callee="orders", operations=("place-order",), timeout_ms=100)
    assert round_trips(replace(SYNC, channels=(*SYNC.channels, back)))["place-order"] == 6


def test_in_sync_the_calls_between_systems_grow_longer() -> None:
    wires = wires_between_systems(SYNC)
    systems = {s.name: s.system for s in SYNC.services}
    assert set(wires) == {c.name for c in SYNC.channels if systems[c.caller] != systems[c.callee]}


def test_whoever_sends_or_receives_messages_has_a_way_to_the_broker_that_grows_longer() -> None:
    wires = wires_between_systems(ASYNC)
    assert {w for w in wires if w.endswith("-broker")} == {
        f"{s}-broker"
        for s in ("accounts", "orders", "inventory", "shipping", "payments", "email", "analytics", "cache")
    }
    assert {w for w in wires if not w.endswith("-broker")} == {
        "storefront-inventory",
        "storefront-cache",
        "storefront-analytics",
    }


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda s: s.name)
def test_every_operation_has_a_prediction_and_no_wire_is_named_twice(stage: Stage) -> None:
    assert list(round_trips(stage)) == [o.name for o in stage.operations]
    assert len(set(wires_between_systems(stage))) == len(wires_between_systems(stage))
