"""What does a history of latencies at several distances say about the number of round trips? Invented histories."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from stages.check import Verdict
from stages.distance import FEWEST_REQUESTS, Block, _cut, _gaussian_binomial, fit, line, points

DELAYS = (0, 5, 10, 25, 50)
ORDER = (25, 0, 50, 5, 10, 10, 5, 50, 0, 25)
SEEDS = range(20)


def history(
    trips: float,
    *,
    seed: int = 1,
    n: int = 25,
    order: Sequence[int] = ORDER,
    extra_ms: Callable[[int, int], float] = lambda number, one_way_ms: 0.0,
    **block: float,
) -> list[Block]:
    """Blocks of a shop that answers in 30 ms (lognormal) and waits for so many round trips."""
    rng = random.Random(seed)
    return [
        Block(
            one_way_ms=one_way_ms,
            latencies_ms=[
                30 * rng.lognormvariate(0, 0.4) + trips * 2 * one_way_ms + extra_ms(number, one_way_ms)
                for _ in range(n)
            ],
            **block,  # type: ignore[arg-type]
        )
        for number, one_way_ms in enumerate(order)
    ]


@pytest.mark.parametrize("trips", [0, 1, 3, 6])
def test_a_shop_that_is_as_predicted_is_valid(trips: int) -> None:
    for seed in SEEDS:
        found = fit(history(trips, seed=seed), trips)
        assert found.verdict is Verdict.VALID, f"seed {seed}: {found.because}"
        assert found.line is not None
        assert found.line.low <= found.line.slope <= found.line.high
        assert found.line.slope == pytest.approx(trips, abs=0.2), f"seed {seed}"
        assert found.line.at_zero_ms == pytest.approx(30, abs=10), f"seed {seed}"


@pytest.mark.parametrize(("trips", "predicted"), [(7, 6), (1, 0), (0, 1), (2, 3)])
def test_one_round_trip_more_or_less_than_predicted_is_invalid(trips: int, predicted: int) -> None:
    for seed in SEEDS:
        found = fit(history(trips, seed=seed), predicted)
        assert found.verdict is Verdict.INVALID, f"seed {seed}: {found.because}"
        assert "predicted" in found.because


def test_a_slope_between_two_numbers_is_unknown() -> None:
    """Half of the requests wait once more: neither number can be told."""
    found = [fit(history(6.5, seed=seed), 6).verdict for seed in SEEDS]
    assert Verdict.VALID not in found, found
    assert Verdict.UNKNOWN in found, found


def test_a_noisy_machine_is_unknown_and_not_invalid() -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        found = fit(history(1, seed=seed, extra_ms=lambda *_: rng.uniform(0, 200)), 1)  # noqa: B023
        assert found.verdict is not Verdict.INVALID, f"seed {seed}: {found.because}"
    assert fit(history(1, extra_ms=lambda number, _: (0, 150)[number % 3 == 0]), 1).verdict is Verdict.UNKNOWN


def test_a_machine_that_grows_slower_all_the_time_does_not_look_like_distance() -> None:
    """Each distance is visited as early as late."""
    for seed in SEEDS:
        found = fit(history(3, seed=seed, extra_ms=lambda number, _: 4.0 * number), 3)
        assert found.line is not None
        assert found.line.slope == pytest.approx(3, abs=0.3), f"seed {seed}: {found.because}"


def test_what_it_costs_to_rest_on_the_way_at_all_is_not_distance() -> None:
    for seed in SEEDS:
        found = fit(history(6, seed=seed, extra_ms=lambda _, one_way_ms: 9.0 if one_way_ms else 0.0), 6)
        assert found.verdict is Verdict.VALID, f"seed {seed}: {found.because}"


def test_without_the_way_back_the_same_drift_would_look_like_distance() -> None:
    """Why the order is mirrored."""
    drifting = history(3, order=sorted(ORDER), extra_ms=lambda number, _: 16.0 * number)
    found = line(drifting)
    assert found is not None
    assert found.slope > 3.5


def test_a_few_requests_that_hang_change_nothing() -> None:
    blocks = history(6)
    hung = [Block(one_way_ms=b.one_way_ms, latencies_ms=[*b.latencies_ms[:-3], 3000, 3000, 2500]) for b in blocks]
    assert fit(hung, 6).verdict is Verdict.VALID


def test_timeouts_at_the_longest_distance_are_unknown_though_the_rest_fits() -> None:
    blocks = [
        b if b.one_way_ms < 50 else Block(one_way_ms=50, latencies_ms=b.latencies_ms, left_out=9) for b in history(6)
    ]
    found = fit(blocks, 6)
    assert found.verdict is Verdict.UNKNOWN
    assert "at 50 ms one way 18 of 68 requests failed" in found.because


def test_a_generator_that_lagged_measured_itself() -> None:
    found = fit(history(1, lag_ms=12.0), 1)
    assert found.verdict is Verdict.UNKNOWN
    assert "generator lagged in 8 of 8 blocks, up to 12.0 ms" in found.because


def test_a_block_that_was_sent_late_is_left_out_and_the_rest_decides() -> None:
    blocks = history(1)
    blocks[2] = replace(blocks[2], latencies_ms=[ms + 500 for ms in blocks[2].latencies_ms], lag_ms=500.0)
    found = fit(blocks, 1)
    assert found.verdict is Verdict.VALID, found.because


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        history(1, n=0),
        history(1, n=FEWEST_REQUESTS - 1),
        history(1, order=(10, 10, 10, 10)),
        history(1, order=(5, 50, 50, 5)),
        history(1, order=(0, 25, 50, 50, 25, 0)),
        history(1, order=(5, 25, 50)),
    ],
    ids=["nothing", "no answers", "few answers", "one distance", "two distances", "two and none", "each once"],
)
def test_too_little_is_unknown(blocks: list[Block]) -> None:
    found = fit(blocks, 1)
    assert found.verdict is Verdict.UNKNOWN
    assert found.line is None
    assert found.because


def test_a_block_without_answers_is_left_out_and_the_rest_decides() -> None:
    blocks = history(1)
    blocks[3] = Block(one_way_ms=blocks[3].one_way_ms, latencies_ms=[])
    assert fit(blocks, 1).verdict is Verdict.VALID


def test_points_are_the_medians_of_all_blocks_at_a_distance() -> None:
    blocks = [
        Block(one_way_ms=5, latencies_ms=[1, 2]),
        Block(one_way_ms=0, latencies_ms=[4]),
        Block(one_way_ms=5, latencies_ms=[9]),
        Block(one_way_ms=9, latencies_ms=[]),
    ]
    assert points(blocks) == [(0, 4, 1), (5, 2, 3)]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Disturbances of whole blocks, from a distribution with a long tail: 95 % of intervals or more hold the slope."""
    hits = 0
    for seed in range(400):
        rng = random.Random(seed)
        disturbed = [30 * rng.lognormvariate(0, 1) for _ in ORDER]
        blocks = [
            Block(one_way_ms=d, latencies_ms=[2 * 2 * d + ms] * FEWEST_REQUESTS)
            for d, ms in zip(ORDER, disturbed, strict=True)
        ]
        found = line(blocks)
        assert found is not None
        hits += found.low <= 2 <= found.high
    assert hits >= 372  # 380 are expected at least; 2 % would be below this by chance


def test_the_null_distribution_is_that_of_all_orders() -> None:
    groups = [0, 0, 1, 1, 1, 2]
    rises = Counter(
        sum(groups[i] < groups[j] and p[i] < p[j] for i in range(6) for j in range(6)) for p in permutations(range(6))
    )
    product = Counter[int]()
    for i, x in enumerate(_gaussian_binomial(5, 3)):
        for j, y in enumerate(_gaussian_binomial(6, 1)):
            product[i + j] += x * y
    assert {k: v * 12 for k, v in product.items()} == dict(rises)


def test_few_blocks_have_no_interval_of_95_percent() -> None:
    assert _cut([2, 2]) is None
    assert _cut([2, 2, 2]) == 0  # 1 of 90 orders rises throughout
    assert _cut([4, 4]) == 0  # 1 of 70
    assert _cut([5]) is None
