"""How large is everything on the system map, and where exactly does it stand? The grid becomes coordinates."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from stages.model import Stage
from suite.report.layout import Layout, Spot

NODE_W = 148.0
GAP_X = 118.0
GAP_Y = 16.0
PORT = 11.0
"""Distance between two lines at a service, so that each can be followed."""
SYSTEM_PAD = 14.0
SYSTEM_HEAD = 36.0
"""Room for two lines: the system, and who owns it."""
CLUSTER_PAD = 12.0
CLUSTER_HEAD = 20.0
MARGIN = 14.0
USERS_W = 54.0


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle: left, top, right, bottom."""

    x1: float
    y1: float
    x2: float
    y2: float

    def grown(self, by: float, head: float) -> Rect:
        return Rect(self.x1 - by, self.y1 - by - head, self.x2 + by, self.y2 + by)

    def meets(self, other: Rect) -> bool:
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < other.y2 and other.y1 < self.y2


@dataclass(frozen=True, slots=True)
class Room:
    """How much is left for what is written on the lines."""

    port: float = PORT
    """Distance between two lines at a service."""
    wider: float = 0.0
    """Added before every column."""


PLAIN, LABELLED = Room(), Room(port=14.0, wider=60.0)
"""For lines without and with words on them."""


def place(stage: Stage, layout: Layout, two_lines: Collection[str] = (), room: Room = PLAIN) -> dict[str, Rect]:
    """Rectangles of services, and of lanes (flat ones); each column is centred on the tallest.

    `two_lines`: services in whose boxes more than their names is written.
    """
    ports = ports_of(layout)
    stacks = [_stack(column, stage, ports, two_lines, room) for column in layout.columns]
    tallest = max(height for _, height in stacks)
    left = MARGIN + USERS_W + SYSTEM_PAD + CLUSTER_PAD + room.wider
    top = MARGIN + SYSTEM_HEAD + SYSTEM_PAD + CLUSTER_HEAD + CLUSTER_PAD
    found: dict[str, Rect] = {}
    for n, (stack, height) in enumerate(stacks):
        x, shift = left + n * (NODE_W + GAP_X + room.wider), top + (tallest - height) / 2
        found |= {name: Rect(x, shift + y1, x + NODE_W, shift + y2) for name, (y1, y2) in stack.items()}
    return found


def _stack(
    column: tuple[Spot, ...],
    stage: Stage,
    ports: dict[str, tuple[list[str], list[str]]],
    two_lines: Collection[str],
    room: Room,
) -> tuple[dict[str, tuple[float, float]], float]:
    """Top and bottom of each spot of a column, and the height of all."""
    y, stack = 0.0, dict[str, tuple[float, float]]()
    for above, spot in zip((None, *column), column, strict=False):
        y += _apart(above, spot, stage) if above is not None else 0.0
        lines = max(map(len, ports[spot.name]))
        height = max(46.0 if spot.name in two_lines else 36.0, (lines + 1) * room.port) if spot.system else 0.0
        stack[spot.name] = (y, y + height)
        y += height
    return stack, y


def _apart(above: Spot, below: Spot, stage: Stage) -> float:
    """Room between two neighbours of a column: for the frames that end and begin between them."""
    if above.system == below.system:
        return GAP_Y if below.system else PORT
    same = bool(above.system and below.system) and stage.cluster_of(above.name) == stage.cluster_of(below.name)
    ends = (SYSTEM_PAD + (0 if same else CLUSTER_PAD)) * bool(above.system)
    begins = (SYSTEM_PAD + SYSTEM_HEAD + (0 if same else CLUSTER_PAD + CLUSTER_HEAD)) * bool(below.system)
    return GAP_Y + ends + begins


def ports_of(layout: Layout) -> dict[str, tuple[list[str], list[str]]]:
    """The spots each spot's lines come from and go to, in the order of their rows, so that none cross at a box."""
    row = {spot.name: (n / len(column), n) for column in layout.columns for n, spot in enumerate(column)}
    found: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in row}
    for route in layout.routes.values():
        for a, b in pairwise(route):
            found[a][1].append(b)
            found[b][0].append(a)
    return {n: (sorted(i, key=lambda s: row[s]), sorted(o, key=lambda s: row[s])) for n, (i, o) in found.items()}
