"""Where does each service stand on the system map?

Layers from left to right, as Sugiyama draws graphs: systems are put in columns by who calls whom, services
inside a system likewise, and the order within a column is the barycentre of the neighbours, so that few lines
cross. A line that skips a column gets a lane of its own there. Deterministic: equal stages give equal maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stages.model import Stage

SWEEPS = 8
"""Rounds of ordering, left to right and back; more changes nothing on graphs of this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One place in the grid: a service, or the lane of a line that passes by."""

    name: str
    """The service, or for a lane 'caller>callee>column'."""
    column: int
    system: str
    """'' for a lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The grid, column by column from left to right, each from top to bottom."""

    columns: tuple[tuple[Spot, ...], ...]
    routes: Mapping[str, tuple[str, ...]]
    """By channel name: the spots that its line visits, in order."""

    def spots(self) -> dict[str, Spot]:
        """By name."""
        return {spot.name: spot for column in self.columns for spot in column}


def lay_out(stage: Stage) -> Layout:
    """Put every service of a stage into the grid. A cycle among services is cut at the call that closes it."""
    column = _columns(stage)
    system = {s.name: s.system for s in stage.services}
    routes = {
        c.name: _route(c.caller, c.callee, column) for c in stage.channels if {c.caller, c.callee} <= column.keys()
    }
    spots = [Spot(name=n, column=column[n], system=system[n]) for n in column]
    spots += [
        Spot(name=name, column=int(name.rsplit(">", 1)[1]), system="")
        for name in dict.fromkeys(name for route in routes.values() for name in route if name not in column)
    ]
    grid = [[s for s in spots if s.column == n] for n in range(max(column.values(), default=0) + 1)]
    return Layout(columns=tuple(tuple(c) for c in _ordered(grid, routes, stage)), routes=routes)


def _columns(stage: Stage) -> dict[str, int]:
    """The column of each service: that of its system, plus its depth within."""
    system = {s.name: s.system for s in stage.services}
    pairs = [(c.caller, c.callee) for c in stage.channels if c.caller in system and c.callee in system]
    across = [(system[a], system[b]) for a, b in pairs if system[a] != system[b]]
    inside = _depths([s.name for s in stage.services], [(a, b) for a, b in pairs if system[a] == system[b]])
    names = list(dict.fromkeys(system.values()))
    width = {name: 1 + max(inside[s] for s in system if system[s] == name) for name in names}
    start = _depths(names, across, width)
    return {service: start[system[service]] + inside[service] for service in system}


def _depths(
    nodes: Sequence[str], edges: Iterable[tuple[str, str]], width: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Longest way to each node from a node that nobody points to, cutting the edges that close a cycle."""
    above: dict[str, list[str]] = {n: [] for n in nodes}
    for a, b in dict.fromkeys(edges):
        if not _reaches(b, a, above):
            above[b].append(a)
    depth: dict[str, int] = {}

    def of(node: str) -> int:
        if node not in depth:
            depth[node] = max((of(a) + (width or {}).get(a, 1) for a in above[node]), default=0)
        return depth[node]

    return {n: of(n) for n in nodes}


def _reaches(start: str, goal: str, above: Mapping[str, Sequence[str]]) -> bool:
    """Whether `start` is already an ancestor of `goal` by the edges kept so far, or the same."""
    todo, seen = [goal], set[str]()
    while todo:
        node = todo.pop()
        if node == start:
            return True
        if node not in seen:
            seen.add(node)
            todo += above[node]
    return False


def _route(caller: str, callee: str, column: Mapping[str, int]) -> tuple[str, ...]:
    lanes = (f"{caller}>{callee}>{n}" for n in range(column[caller] + 1, column[callee]))
    return (caller, *lanes, callee)


def _ordered(grid: list[list[Spot]], routes: Mapping[str, tuple[str, ...]], stage: Stage) -> list[list[Spot]]:
    """Sort each column by the mean position of its neighbours, keeping the services of a system together."""
    near: dict[str, set[str]] = {spot.name: set() for column in grid for spot in column}
    for route in routes.values():
        for a, b in pairwise(route):
            near[a].add(b)
            near[b].add(a)
    best, fewest = grid, crossings(grid, routes)
    for sweep in range(SWEEPS):
        order = range(len(grid)) if sweep % 2 == 0 else range(len(grid) - 1, -1, -1)
        for n in order:
            grid = [*grid[:n], _sorted(grid[n], grid, near), *grid[n + 1 :]]
        found = crossings(grid, routes)
        if found < fewest:
            best, fewest = grid, found
    return best


def _sorted(column: list[Spot], grid: list[list[Spot]], near: Mapping[str, set[str]]) -> list[Spot]:
    place = {spot.name: (row + 0.5) / len(c) for c in grid for row, spot in enumerate(c)}
    here = {spot.name for spot in column}

    def pull(spot: Spot) -> float:
        others = [place[n] for n in near[spot.name] if n not in here]
        return sum(others) / len(others) if others else place[spot.name]

    groups: dict[str, list[Spot]] = {}
    for spot in column:
        groups.setdefault(spot.system or spot.name, []).append(spot)
    mean = {key: sum(map(pull, members)) / len(members) for key, members in groups.items()}
    return [spot for key in sorted(groups, key=lambda k: mean[k]) for spot in sorted(groups[key], key=pull)]


def crossings(grid: Sequence[Sequence[Spot]], routes: Mapping[str, tuple[str, ...]]) -> int:
    """How many pairs of lines cross between neighbouring columns."""
    row = {spot.name: (spot.column, n) for column in grid for n, spot in enumerate(column)}
    segments = {(row[a], row[b]) for r in routes.values() for a, b in pairwise(r)}
    ordered = sorted(segments)
    return sum(
        a[0] == c[0] and b[0] == d[0] and (a[1] - c[1]) * (b[1] - d[1]) < 0
        for n, (a, b) in enumerate(ordered)
        for c, d in ordered[n + 1 :]
    )
