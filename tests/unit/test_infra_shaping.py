"""When may bytes go on under latency and limited bandwidth? On a fake clock."""

from __future__ import annotations

import random

import pytest

from infra.local.faultspec import Fault
from infra.local.shaping import BURST_S, Bucket, Delay, Shape, combine


def _latency(delay_ms: int, jitter_ms: int = 0, seed: int = 0) -> Fault:
    numbers = {"delay_ms": delay_ms, "jitter_ms": jitter_ms, "seed": seed}
    return Fault.from_json({"kind": "latency", "wire": "w", **numbers})


def _simple(kind: str, **numbers: int) -> Fault:
    return Fault.from_json({"kind": kind, "wire": "w", **numbers})


def test_no_fault_is_calm() -> None:
    assert combine([]).calm


@pytest.mark.parametrize("kind", ["refuse", "reset", "blackhole"])
def test_a_fault_without_numbers_only_sets_its_flag(kind: str) -> None:
    effect = combine([_simple(kind)])
    assert (effect.refuse, effect.reset, effect.blackhole) == (kind == "refuse", kind == "reset", kind == "blackhole")
    assert not effect.shaped
    assert not effect.calm


def test_delay_without_jitter_is_exact_in_both_directions() -> None:
    effect = combine([_latency(80)])
    assert effect.up.due(10, 1.0) == pytest.approx(1.08)
    assert effect.down.due(10, 1.0) == pytest.approx(1.08)


def test_jitter_stays_in_its_range_and_repeats_with_its_seed() -> None:
    draws = [[combine([_latency(50, 20, seed)]).up.due(1, 0.0) for _ in range(1)] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    shape = combine([_latency(50, 20, 9)]).up
    seen = [shape.due(1, 0.0) for _ in range(500)]
    assert 0.030 <= min(seen) < 0.034, "seed 9"
    assert 0.066 < max(seen) <= 0.070, "seed 9"


def test_delays_of_two_leases_add_up_and_the_narrowest_link_counts() -> None:
    effect = combine(
        [_latency(10), _latency(20), _simple("bandwidth", bytes_per_s=500), _simple("bandwidth", bytes_per_s=100)]
    )
    assert effect.up.bucket is not None
    assert effect.up.bucket.bytes_per_s == 100
    assert sum(delay.draw() for delay in effect.up.delays) == pytest.approx(0.03)


def test_a_limited_link_carries_its_rate_and_no_more() -> None:
    bucket = Bucket(1000)
    assert [bucket.carry(100, 5.0) for _ in range(4)] == pytest.approx([5.08, 5.18, 5.28, 5.38])
    assert bucket.carry(100, 100.0) == pytest.approx(100 + 0.1 - BURST_S), "unused capacity is saved up only a little"


def test_a_limited_link_hands_on_small_pieces_and_loses_none() -> None:
    shape = Shape(bucket=Bucket(1000))
    pieces = shape.pieces(bytes(range(250)))
    assert b"".join(pieces) == bytes(range(250))
    assert {len(piece) for piece in pieces} == {20, 10}
    assert Shape(delays=[Delay(0.1, 0, random.Random(1))]).pieces(b"x" * 250) == [b"x" * 250]


def test_a_fault_of_something_else_is_no_fault_of_a_wire() -> None:
    with pytest.raises(ValueError, match="'kill' is no fault of a wire"):
        combine([Fault("kill", "s")])
