"""Which cases of a long family are played this time, where playing them all takes too long for every change?

    @pytest.mark.drawn(2, of="stage")      # two cases of every stage
    @pytest.mark.parametrize(("stage", "name"), ...)

The seed is the commit: a change plays the same cases on every machine, the next change others. Who names cases
(`-k`, a node id) gets those; `--whole` plays every one.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case of a family."""

    name: str
    family: str
    """Out of which `count` are drawn; a test, or its cases for one value of a parameter."""
    count: int


def left_out(cases: Sequence[Case], seed: str) -> frozenset[str]:
    """Names of the cases that are not drawn; neither their order nor other families change what is.

    >>> left_out([Case(name=n, family="f", count=2) for n in "abc"], seed="1")
    frozenset({'a'})
    """
    families: dict[str, list[Case]] = {}
    for case in cases:
        families.setdefault(case.family, []).append(case)
    out: set[str] = set()
    for family, members in families.items():
        names = sorted(case.name for case in members)
        count = min(members[0].count, len(names))
        out |= {*names} - {*random.Random(f"{seed} {family}").sample(names, count)}
    return frozenset(out)


def commit(root: Path) -> str:
    """The commit that is checked out, 'none' where there is no repository."""
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "none"


def family_of(test: str, parameters: Mapping[str, object], of: str | None = None) -> str:
    """What the cases of a test are drawn from: all of them, or those that agree in the parameter `of`."""
    return test if of is None else f"{test} {of}={parameters[of]}"
