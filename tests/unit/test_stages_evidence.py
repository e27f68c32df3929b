"""The evidence agrees with the nine worked examples that were computed apart from this code."""

from __future__ import annotations

from math import comb, isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.evidence import (
    REFUTED,
    Block,
    binomial_tail,
    e_base,
    e_conc,
    e_iso,
    leaked,
    requests_for_isolation,
    wilson,
)

CELLS = 72


def blocks(*rows: tuple[int, int, int, int]) -> list[Block]:
    return [Block(n=n, bad=bad, pool_n=pool_n, pool_bad=pool_bad) for n, bad, pool_n, pool_bad in rows]


@pytest.mark.parametrize(
    ("bad", "n", "margin", "evidence", "isolated"),
    [
        (0, 62, 0.05, 19.07, False),
        (0, 63, 0.05, 20.02, True),
        (1, 142, 0.05, 20.70, True),
        (0, 321, 0.01, 19.87, False),
        (0, 322, 0.01, 20.06, True),
        (1, 160, 0.02, 0.971, False),
        (1, 358, 0.02, 20.04, True),
        (0, 160, 0.02, 20.00, True),
        (2, 160, 0.02, 0.270, False),
    ],
)
def test_examples_1_2_and_8_isolation(bad: int, n: int, margin: float, evidence: float, isolated: bool) -> None:
    found = e_iso(n, bad, margin)
    assert found == pytest.approx(evidence, rel=5e-4)
    assert (found >= REFUTED) is isolated


@pytest.mark.parametrize(
    ("fault", "baseline", "rows", "base", "conc", "leaks"),
    [
        ((5, 50), (0, 750), [(25, 3, 75, 0), (25, 2, 75, 0)], 3.722e4, 510.1, True),
        ((2, 25), (0, 750), [(25, 2, 75, 0)], 40.37, 10.23, False),
        ((6, 50), (0, 750), [(25, 6, 75, 18), (25, 0, 75, 0)], 6.655e5, 0.1044, False),
        ((3, 250), (4, 750), [*[(25, 1, 75, 0)] * 3, *[(25, 0, 75, 0)] * 7], 0.0229, 34.86, False),
        ((25, 50), (0, 750), [(25, 13, 75, 37), (25, 12, 75, 38)], 5.133e31, 0.0262, False),
    ],
    ids=["3-leak", "4-too-few", "5-missed-stall", "6-own-errors", "7-all-leak"],
)
def test_examples_3_to_7_leaks(
    fault: tuple[int, int],
    baseline: tuple[int, int],
    rows: list[tuple[int, int, int, int]],
    base: float,
    conc: float,
    leaks: bool,
) -> None:
    found = e_base(*fault, *baseline), e_conc(blocks(*rows))
    assert found == (pytest.approx(base, rel=5e-3), pytest.approx(conc, rel=2e-3))
    assert leaked(*found, CELLS) is leaks


def test_example_4_is_no_leak_even_with_a_single_promised_cell() -> None:
    assert not leaked(e_base(2, 25, 0, 750), e_conc(blocks((25, 2, 75, 0))), 1)


def test_no_request_is_no_evidence() -> None:
    assert e_iso(0, 0, 0.05) == pytest.approx(1.0)
    assert e_base(0, 0, 0, 0) == 0.0
    assert e_conc([]) == pytest.approx(1.0)


def test_without_a_baseline_nothing_is_worse_than_it() -> None:
    assert e_base(50, 50, 0, 0) <= 1.0


def test_without_a_pool_nothing_is_worse_than_it() -> None:
    assert e_conc(blocks((25, 25, 0, 0))) == pytest.approx(1.0)


@given(n=st.integers(0, 10**6), share=st.floats(0, 1), base_n=st.integers(0, 10**6), base_share=st.floats(0, 1))
def test_evidence_is_finite_whatever_the_counts(n: int, share: float, base_n: int, base_share: float) -> None:
    bad, base_bad = int(n * share), int(base_n * base_share)
    assert isfinite(e_iso(n, bad, 0.05))
    assert isfinite(e_base(bad, n, base_bad, base_n))


@given(n=st.integers(0, 60), bad=st.integers(0, 60), pool_n=st.integers(0, 200), pool_bad=st.integers(0, 200))
def test_concurrent_evidence_is_finite_and_not_negative(n: int, bad: int, pool_n: int, pool_bad: int) -> None:
    found = e_conc(blocks(*[(n, min(bad, n), pool_n, min(pool_bad, pool_n))] * 30))
    assert isfinite(found)
    assert found >= 0


@given(n=st.integers(1, 40), margin=st.sampled_from([0.01, 0.05, 0.2]))
def test_isolation_is_a_fair_bet_at_the_margin(n: int, margin: float) -> None:
    expected = sum(comb(n, k) * margin**k * (1 - margin) ** (n - k) * e_iso(n, k, margin) for k in range(n + 1))
    assert expected == pytest.approx(1.0)


@pytest.mark.parametrize(("margin", "bad", "n"), [(0.01, 0, 322), (0.01, 1, 720), (0.02, 3, 565), (0.05, 2, 184)])
def test_requests_for_isolation_match_the_published_table(margin: float, bad: int, n: int) -> None:
    assert requests_for_isolation(margin, bad) == n


def test_wilson_contains_the_share_and_admits_ignorance() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(0, 100)
    assert (low, high) == (0.0, pytest.approx(0.037, abs=0.001))


@given(n=st.integers(1, 60), bad=st.integers(0, 60), share=st.floats(0.001, 0.999))
def test_the_binomial_tail_is_exact(n: int, bad: int, share: float) -> None:
    exact = sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(bad, n + 1))
    assert binomial_tail(bad, n, share) == pytest.approx(exact, abs=1e-9)
