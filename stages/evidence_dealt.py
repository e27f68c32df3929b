"""How strong is the evidence about two versions, where each call is dealt to one of them at random?

With p the chance that a call is dealt to the candidate, let a bad call count 1/p if it met the candidate and -1/(1-p)
if it met the stable version, and a good one 0. Its mean, over how it is dealt, is the candidate's bad share less
the stable version's *at that moment*, whatever the moment is like: a stall of the machine hits both alike and
moves nothing (inverse probability weighting). Bets on that mean are e-values, valid at any stopping time (betting on
the mean of bounded variables, arXiv 2010.09686); each is a mixture of bets that risk more and less.

    e_worse   against "no worse than the stable version": large = worse
    e_close   against "worse by the margin or more": large = not worse by more than the margin
    bounds    of the chance itself: what the number of calls that met the candidate does not refute
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, inf, lgamma, log, log1p

from stages.evidence import LARGEST

_CLOSE = ((0.6, 1.0), (0.2, 0.875), (0.2, 0.6))
"""Weight of a bet and what it loses with a bad call of the candidate; the boldest, which loses all, gains the most."""

_WORSE = ((0.25, 0.02), (0.25, 0.1), (0.25, 0.3), (0.25, 0.9))
"""Weight of a bet and what it loses with a bad call of the stable version."""

_STEPS = 60
"""Halvings of an interval in [0, 1]: below the precision of a float."""


def e_worse(*, bad: int, stable_bad: int, chance: float) -> float:
    """Evidence that the candidate is worse, from bad calls of either version; good ones say nothing here.

    `chance` in (0, 1).

    >>> round(e_worse(bad=2, stable_bad=0, chance=0.1), 1)
    25.4
    >>> e_worse(bad=2, stable_bad=30, chance=0.1) < 1
    True
    """
    odds = (1 - chance) / chance
    return _mixed([(w, bad * log1p(loss * odds) + _times(stable_bad, 1 - loss)) for w, loss in _WORSE])


def e_close(*, n: int, bad: int, stable_bad: int, chance: float, margin: float) -> float:
    """Evidence that the bad shares of candidate and stable version differ by less than `margin`, from `n` calls in all.

    `chance` and `margin` in (0, 1).

    >>> round(e_close(n=700, bad=0, stable_bad=0, chance=0.1, margin=0.05), 1)
    26.0
    """
    boldest = chance / (1 - chance * margin)
    return _mixed(
        [
            (
                weight,
                _times(bad, 1 - loss)
                + stable_bad * log1p(loss * boldest * (margin + 1 / (1 - chance)))
                + (n - bad - stable_bad) * log1p(loss * boldest * margin),
            )
            for weight, loss in _CLOSE
        ]
    )


def bounds(met: int, n: int, refuted: float) -> tuple[float, float]:
    """The chances that `met` of `n` calls do not refute, looked at as often as one likes; (0, 1) without calls.

    A bet with a beta(1/2, 1/2) mixture against each chance; one is refuted when the bet has made `refuted` out of 1.

    >>> [round(b, 3) for b in bounds(70, 700, 100)]
    [0.061, 0.152]
    """
    if n == 0:
        return 0.0, 1.0
    mixture = lgamma(0.5 + met) + lgamma(0.5 + n - met) - lgamma(1 + n) - 2 * lgamma(0.5)

    def agrees(chance: float) -> bool:
        return mixture - _times(met, chance) - _times(n - met, 1 - chance) < log(refuted)

    return _edge(met / n, 0.0, agrees), _edge(met / n, 1.0, agrees)


def _edge(inside: float, outside: float, agrees: Callable[[float], bool]) -> float:
    """Where agreement ends between a point that agrees and the end of the range."""
    if agrees(outside):
        return outside
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if agrees(middle) else (inside, middle)
    return inside


def _times(count: int, factor: float) -> float:
    """Log of a factor in [0, 1] to the power of a count; nothing is lost by what did not happen."""
    if count == 0:
        return 0.0
    return count * log(factor) if factor > 0 else -inf


def _mixed(bets: Sequence[tuple[float, float]]) -> float:
    """The capital of several bets: weights and log gains."""
    top = max(gain for _, gain in bets)
    if top == -inf:
        return 0.0
    return min(LARGEST, exp(min(700.0, top + log(sum(w * exp(gain - top) for w, gain in bets)))))
