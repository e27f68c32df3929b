"""Which load is put on the shop: named shapes as data.

A *mix* weighs operations against each other with whole numbers (they are the cards of a deck, see `arrivals`). A
*profile* is a mix and a rate under a name. Rates are totals, over all generators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.catalogue import OPERATIONS

WEIGHT_MAX = 1000
"""Keeps a deck short enough that its exactness shows within seconds."""


class ProfileError(ValueError):
    """A mix that cannot be used; the message lists all that is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A load shape that experiments and people refer to by name."""

    name: str
    summary: str
    rate_per_s: float
    """Arrivals per second over all operations, > 0."""
    mix: Mapping[str, int]
    """Weight by operation name; operations that are left out do not occur."""


EQUAL = {operation.name: operation.weight for operation in OPERATIONS}
"""The model's weights: almost equal, since experiments leave rare operations undecided."""

STOCK = {"place-order": 1}
"""Orders only: fills the shop with something to track and cancel before anything is measured."""

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="experiment",
            summary="every operation often enough for a verdict; what `stages verify` drives",
            rate_per_s=60,
            mix=EQUAL,
        ),
        Profile(
            name="realistic",
            summary="many look, few buy, hardly anyone cancels: rare operations stay undecided in short windows",
            rate_per_s=60,
            mix={"browse": 60, "track-order": 15, "insights": 8, "register": 7, "place-order": 8, "cancel-order": 2},
        ),
        Profile(
            name="checkout",
            summary="a sale: the order saga and what follows it, hardly any browsing",
            rate_per_s=30,
            mix={"place-order": 5, "track-order": 3, "browse": 1, "cancel-order": 1},
        ),
        Profile(name="smoke", summary="a trickle of everything, to see that it works", rate_per_s=5, mix=EQUAL),
        Profile(name="stock", summary="orders only, to fill the shop", rate_per_s=20, mix=STOCK),
    )
}
"""By name."""


def mix_problems(mix: Mapping[str, int]) -> list[str]:
    """All that is wrong with a mix, as sentences; empty if it can be used."""
    known = [operation.name for operation in OPERATIONS]
    problems = [f"mix names operation {name!r}, known are {', '.join(known)}" for name in mix if name not in known]
    problems += [
        f"mix gives {name!r} the weight {weight!r}; a weight is a whole number from 0 to {WEIGHT_MAX}"
        for name, weight in mix.items()
        if type(weight) is not int or not 0 <= weight <= WEIGHT_MAX
    ]
    if not problems and not any(mix.values()):
        problems.append("mix weighs no operation: nothing would arrive")
    return problems


def parse_mix(text: str) -> dict[str, int]:
    """A mix from what a user typed: a profile's name, or weights as in 'browse=2,place-order=1'.

    Raises ProfileError with all problems at once.
    """
    if text in PROFILES:
        return dict(PROFILES[text].mix)
    mix: dict[str, int] = {}
    problems: list[str] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, weight = part.partition("=")
        if equals and weight.strip().isdecimal():
            mix[name.strip()] = int(weight)
        else:
            problems.append(f"{part!r} is neither a profile ({', '.join(PROFILES)}) nor operation=weight")
    problems += mix_problems(mix) if mix or not problems else []
    if problems:
        raise ProfileError(f"mix {text!r}: {'; '.join(problems)}")
    return mix
