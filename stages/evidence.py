"""How strong is the evidence that an operation is isolated from a fault, or that the fault leaks into it?

Three e-values: bets against a claim, fair if the claim holds, so that a capital of 20 refutes it at 5 %. They may be
looked at as often as one likes (anytime-valid): a verdict is given when the evidence is there, not after a
fixed window. All of it is computed in log space and capped, so it never overflows.

    e_iso    against "the bad share is at least the margin": large = isolated
    e_base   against "no worse than the baseline": large = worse than before the fault
    e_conc   against "no worse than the other operations at the same time": large = it is not the machine

Sources: e_iso, betting on a Bernoulli mean (arXiv 2010.09686); e_base, universal inference in mixture form;
e_conc, a hypergeometric likelihood ratio per block. A leak needs e_base and e_conc together: the first alone
takes a stall of the machine for a leak, the second alone takes an operation's own errors for one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, lgamma, log, log1p, sqrt

REFUTED = 20.0
"""Evidence from which a claim is refuted: 1 / alpha at alpha = 5 %."""

LARGEST = 1e300
"""E-values are capped here: still a finite JSON number."""

_BETS = ((0.2, 0.125), (0.2, 0.4))
"""Weight and fraction of the bets that survive bad requests; the other 0.6 bets on none at all."""

_PSIS = (2.0, 8.0, 32.0, 256.0)
"""Odds ratios that e_conc bets on, equally."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What happened in one second, in the operation under test and in its control pool."""

    n: int
    bad: int
    pool_n: int
    pool_bad: int


def e_iso(n: int, bad: int, margin: float) -> float:
    """Evidence against a bad share of `margin` or more, from n requests of which `bad` were bad.

    It is absolute: a bad baseline buys nothing. `margin` in (0, 1).

    >>> round(e_iso(63, 0, 0.05), 2)
    20.02
    """
    none_bad = [log(0.6) - n * log1p(-margin)] if bad == 0 else []
    bets = [log(w) + bad * log(f) + (n - bad) * (log1p(-f * margin) - log1p(-margin)) for w, f in _BETS]
    return _exp(_log_sum([*none_bad, *bets]))


def e_base(bad: int, n: int, base_bad: int, base_n: int) -> float:
    """Evidence that the bad share is higher than in the baseline; 0 where it is not even higher by count.

    >>> round(e_base(2, 25, 0, 750), 2)
    40.37
    """
    if bad * base_n <= base_bad * n:
        return 0.0
    bads, total = bad + base_bad, n + base_n
    null = _x_log(bads, bads / total) + _x_log(total - bads, 1 - bads / total)
    fault = _log_beta(0.5 + bad, 0.5 + n - bad) - _log_beta(0.5, 0.5)
    before = _log_beta(0.5 + base_bad, 50 + base_n - base_bad) - _log_beta(0.5, 50)
    return _exp(fault + before - null)


def e_conc(blocks: Iterable[Block]) -> float:
    """Evidence that the operation gets more than its share of the bad requests of each second.

    1 where there is no pool: without a control there is nothing to tell.
    """
    logs = [0.0] * len(_PSIS)
    for block in blocks:
        if block.bad + block.pool_bad > 0 and block.pool_n > 0 and block.n > 0:
            for i, gain in enumerate(_block(block.n, block.bad, block.pool_n, block.pool_bad)):
                logs[i] += gain
    return _exp(_log_sum(logs) - log(len(_PSIS)))


@lru_cache(maxsize=4096)
def _block(n: int, bad: int, pool_n: int, pool_bad: int) -> tuple[float, ...]:
    """Log gain of each bet on one block. The same blocks are seen again at every look, hence the cache."""
    bads = bad + pool_bad
    shares = range(max(0, bads - pool_n), min(n, bads) + 1)
    pmf = [_log_choose(n, j) + _log_choose(pool_n, bads - j) - _log_choose(n + pool_n, bads) for j in shares]
    return tuple(
        bad * log(psi) - _log_sum([p + j * log(psi) for j, p in zip(shares, pmf, strict=True)]) for psi in _PSIS
    )


def leaked(base: float, conc: float, cells: int, refuted: float = REFUTED) -> bool:
    """Whether both kinds of evidence together show a leak, among `cells` promised cells (Bonferroni)."""
    return (base + conc) / 2 >= refuted * max(1, cells) and min(base, conc) >= refuted


@lru_cache(maxsize=256)
def requests_for_isolation(margin: float, bad: int = 0) -> int:
    """How many requests, `bad` of them bad, it takes to call an operation isolated: to plan the load.

    >>> requests_for_isolation(0.05), requests_for_isolation(0.01)
    (63, 322)
    """
    n = bad + 1
    while e_iso(n, bad, margin) < REFUTED:
        n += 1
    return n


def wilson(bad: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share, for display only: no verdict rests on it. (0, 1) without requests."""
    if n == 0:
        return 0.0, 1.0
    share, spread = bad / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def binomial_tail(bad: int, n: int, share: float) -> float:
    """Exact chance of `bad` or more bad requests among n, if each is bad with probability `share` in (0, 1)."""
    if bad <= 0:
        return 1.0
    terms = [_log_choose(n, k) + k * log(share) + (n - k) * log1p(-share) for k in range(bad, n + 1)]
    return min(1.0, _exp(_log_sum(terms)))


def _log_sum(logs: list[float]) -> float:
    top = max(logs, default=-inf)
    return top if top == -inf else top + log(sum(exp(x - top) for x in logs))


def _exp(x: float) -> float:
    return min(LARGEST, exp(min(x, 700.0)))


def _x_log(count: int, p: float) -> float:
    return 0.0 if count == 0 else count * log(p)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
