"""Arrivals come at random moments, in the exact mix, and can be told again from their seed."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from loadtests.arrivals import Arrivals, take

MIX = {"browse": 2, "place-order": 3, "cancel-order": 1}


def arrivals(seed: str = "7", rate_per_s: float = 50, mix: dict[str, int] | None = None) -> Arrivals:
    return Arrivals(rate_per_s=rate_per_s, mix=mix or MIX, seed=seed)


def test_equal_seeds_give_equal_arrivals_and_others_do_not() -> None:
    assert take(arrivals("7"), 200) == take(arrivals("7"), 200)
    assert take(arrivals("7"), 200) != take(arrivals("8"), 200)


def test_every_deck_has_the_exact_mix_in_another_order() -> None:
    dealt = [arrival.operation for arrival in take(arrivals(), 60)]
    decks = [tuple(dealt[n : n + 6]) for n in range(0, 60, 6)]
    assert all(Counter(deck) == MIX for deck in decks)
    assert len(set(decks)) > 1


def test_gaps_are_exponential_as_in_a_poisson_process() -> None:
    offsets = [arrival.offset_ns for arrival in take(arrivals(rate_per_s=50), 20_000)]
    gaps = [(b - a) / 1e9 for a, b in itertools.pairwise(offsets)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(1 / 50, rel=0.03), "seed 7"
    assert deviation == pytest.approx(mean, rel=0.03), "an exponential gap deviates as much as it lasts; seed 7"


def test_the_mix_does_not_move_the_moments() -> None:
    one = [a.offset_ns for a in take(arrivals(mix={"browse": 1}), 100)]
    other = [a.offset_ns for a in take(arrivals(mix={"browse": 5, "insights": 2}), 100)]
    assert one == other


def test_a_new_rate_holds_from_its_moment_on_and_withdraws_the_arrival_that_was_to_come() -> None:
    source = arrivals(rate_per_s=0.001)
    waiting = next(source)
    source.change(at_ns=1_000, rate_per_s=1000)
    after = take(source, 1000)
    assert waiting.offset_ns > 1e9
    assert 1_000 < after[0].offset_ns < 1e9
    assert after[-1].offset_ns / 1e9 == pytest.approx(1.0, rel=0.2), "seed 7"


def test_a_withdrawn_operation_returns_to_the_deck() -> None:
    source = arrivals()
    first = take(source, 3)
    source.change(at_ns=first[-1].offset_ns - 1, rate_per_s=10)
    dealt = [a.operation for a in [*first[:2], *take(source, 4)]]
    assert Counter(dealt) == MIX


def test_a_new_mix_starts_a_fresh_deck() -> None:
    source = arrivals()
    take(source, 2)
    source.change(at_ns=10**9, mix={"insights": 1})
    assert {a.operation for a in take(source, 10)} == {"insights"}


@pytest.mark.parametrize("mix", [{}, {"browse": 0}])
def test_a_mix_of_nothing_is_refused(mix: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="weighs no operation"):
        Arrivals(rate_per_s=1, mix=mix, seed="7")


@pytest.mark.parametrize("rate_per_s", [0, -1, float("nan")])
def test_a_rate_that_never_arrives_is_refused(rate_per_s: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        arrivals(rate_per_s=rate_per_s)
