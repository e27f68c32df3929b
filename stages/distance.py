"""How far apart may systems be? Predicted: the round trips an answer waits for. Measured: latency against distance.

    place-order, sync    storefront - orders --1--> inventory --2--> payments ... --6--> cache    6 round trips
    place-order, async   storefront - orders                      (messages are sent after the answer)    0

An operation that waits for k exchanges between systems, one after the other, answers k round trips later: the slope of
its latency over the added round-trip time is k, whatever the machine. `fit` measures that slope from blocks of
requests, each at one distance, and judges it against k.

The estimate is Theil and Sen's: the median of the slopes of all pairs of blocks at different distances. A block stands
for itself with its lower quartile: queues, retries and a busy machine only ever add, and the round trips are in every
request. Blocks, not requests, are the units: requests of one block share the machine's mood at the time, so an interval
from thousands of them would be far too sure of itself. The interval is the exact one that belongs to the estimate
(Kendall's rank test under ties): it asks of the disturbances only that they do not depend on the distance, which
whoever orders the blocks has to see to.

Blocks without any added distance are shown but not fitted: there nothing rests on the way. To rest costs something by
itself, a timer and a wake-up (0.7 ms were seen), the same at every distance; compared with 0 it would look like slope.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from statistics import median

from stages.check.verdict import Verdict
from stages.messaging import talkers
from stages.model import Channel, Kind, Stage

BROKER = "broker"
"""The other end of every talking service's wire for messages."""

CONFIDENCE = 0.95
"""Of the interval around a slope, at least; it is exact, so with few blocks it is more."""

TOLERANCE = 0.5
"""Round trips come whole: a slope nearer than this to a whole number means that number."""

FEWEST_REQUESTS = 8
"""A block with fewer plain answers has no lower quartile worth the name."""

LEFT_OUT_MAX = 0.1
"""Share of requests at one distance that may fail, fall back or stay unsent: beyond, those that are left are a
selection. (What a stall hides is hidden by its time, not by its outcome: that only makes them fewer.)"""

LAG_MAX = 0.1
"""Round trips that the generator's own lag may feign, at most: a fifth of the tolerance. A block that was sent later
than that is left out."""

LAGGING_MAX = 0.25
"""Share of blocks that may be left out for their lag; beyond, the load was not what it claimed to be."""


def round_trips(stage: Stage) -> dict[str, int]:
    """Exchanges between different systems, one after the other, that each operation's answer waits for, by name.

    Calls of equal step run in parallel and count as the longest of them. Nobody waits for a message, for a channel
    that is not essential, nor, while all is well, for a fallback. Users are no system: their way in counts nothing.

    >>> from stages.catalogue import SYNC
    >>> round_trips(SYNC)["place-order"]
    6
    """
    return {o.name: _behind(stage, o.name, o.entry, frozenset({o.entry})) for o in stage.operations}


def wires_between_systems(stage: Stage) -> tuple[str, ...]:
    """Names of the wires that grow longer when systems move apart, in the stage's order.

    Calls between services of different systems; and each service's wire to the broker, which is the region's and in
    nobody's system, so that messages pay for the distance too.
    """
    calls = [c for c in stage.channels if c.kind is Kind.CALL and _between_systems(stage, c)]
    return (*(c.name for c in calls), *(f"{service}-{BROKER}" for service in talkers(stage)))


def _behind(stage: Stage, operation: str, service: str, above: frozenset[str]) -> int:
    total = 0
    for _, together in groupby(stage.channels_from(service, operation), key=lambda c: c.step):
        total += max((_exchange(stage, operation, c, above) for c in together if c.callee not in above), default=0)
    return total


def _exchange(stage: Stage, operation: str, channel: Channel, above: frozenset[str]) -> int:
    spare = any(c.fallback == channel.name for c in stage.channels)
    if channel.kind is not Kind.CALL or spare or not channel.essential:
        return 0
    return _between_systems(stage, channel) + _behind(stage, operation, channel.callee, above | {channel.callee})


def _between_systems(stage: Stage, channel: Channel) -> bool:
    return stage.service(channel.caller).system != stage.service(channel.callee).system


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One operation's requests during a stretch of time in which the distance did not change."""

    one_way_ms: float
    """Delay added on every wire between systems, each way."""
    latencies_ms: Sequence[float]
    """Of plain answers: good, not from a fallback, not near a stall."""
    left_out: int = 0
    """Requests that were due, not near a stall, and are not among them."""
    lag_ms: float = 0.0
    """Median of how late the generator sent them; latency counts from the intended start, so it is part of it. Single
    requests sent late do no harm to a quartile."""

    @property
    def added_ms(self) -> float:
        """Of one round trip between two systems."""
        return 2 * self.one_way_ms

    @property
    def median_ms(self) -> float:
        """What people are shown."""
        return median(self.latencies_ms)

    @property
    def undisturbed_ms(self) -> float:
        """What the slope is taken from: the lower quartile, nearest rank."""
        return sorted(self.latencies_ms)[(len(self.latencies_ms) - 1) // 4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Latency over added round-trip time."""

    slope: float
    """Round trips."""
    low: float
    high: float
    """Ends of the slope's interval."""
    at_zero_ms: float
    """Median latency at no distance, continued from the others: what it costs to rest on the way is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What an operation's slope says about the round trips its answer waits for."""

    predicted: int
    line: Line | None
    """None where there was too little to draw one."""
    verdict: Verdict
    because: str


def line(blocks: Sequence[Block]) -> Line | None:
    """The line through the blocks of enough requests, sent in time, at any distance but 0; None where they are too few,
    or too alike, to have an interval of CONFIDENCE."""
    far = [b for b in blocks if b.one_way_ms > 0]
    late = _late(far)
    used = [b for b in far if len(b.latencies_ms) >= FEWEST_REQUESTS and b not in late]
    slopes = sorted(
        (b.undisturbed_ms - a.undisturbed_ms) / (b.added_ms - a.added_ms)
        for a, b in combinations(used, 2)
        if a.added_ms != b.added_ms
    )
    cut = _cut(list(Counter(b.added_ms for b in used).values()))
    if cut is None:
        return None
    slope = median(slopes)
    return Line(
        slope=slope,
        low=slopes[cut],
        high=slopes[-1 - cut],
        at_zero_ms=median(b.median_ms - slope * b.added_ms for b in used),
    )


def fit(blocks: Sequence[Block], predicted: int) -> Fit:
    """Judge the slope: valid within TOLERANCE of the prediction, invalid surely outside of it, else unknown.

    Unknown too where the requests cannot carry a verdict: too few, too many left out, or sent late.
    """
    drawn = line(blocks)
    verdict, because = _judge([b for b in blocks if b.one_way_ms > 0], drawn, predicted)
    return Fit(predicted=predicted, line=drawn, verdict=verdict, because=because)


def points(blocks: Iterable[Block]) -> list[tuple[float, float, int]]:
    """(one way ms, median latency ms, requests) of all blocks at a distance together, ascending; none without any."""
    by_distance: dict[float, list[float]] = {}
    for block in blocks:
        by_distance.setdefault(block.one_way_ms, []).extend(block.latencies_ms)
    return [(d, median(found), len(found)) for d, found in sorted(by_distance.items()) if found]


def _judge(blocks: Sequence[Block], drawn: Line | None, predicted: int) -> tuple[Verdict, str]:
    if doubt := _selection(blocks) or _lag(blocks):
        return Verdict.UNKNOWN, doubt
    if drawn is None:
        enough = sum(len(b.latencies_ms) >= FEWEST_REQUESTS for b in blocks)
        return Verdict.UNKNOWN, f"{enough} of {len(blocks)} blocks have the {FEWEST_REQUESTS} requests that it takes"
    said = f"the answer comes {drawn.slope:.2f} ms later per ms of round trip ({drawn.low:.2f} to {drawn.high:.2f})"
    if predicted - TOLERANCE <= drawn.low and drawn.high <= predicted + TOLERANCE:
        return Verdict.VALID, f"{said}, as {_exchanges(predicted)} predict"
    if drawn.high < predicted - TOLERANCE or drawn.low > predicted + TOLERANCE:
        return Verdict.INVALID, f"{said}, but {_exchanges(predicted)} were predicted"
    return Verdict.UNKNOWN, f"{said}: too wide to tell it from other numbers than the predicted {predicted}"


def _exchanges(count: int) -> str:
    return f"{count} exchange{'' if count == 1 else 's'} between systems, one after the other," if count else "no waits"


def _selection(blocks: Sequence[Block]) -> str:
    for distance in sorted({b.one_way_ms for b in blocks}):
        there = [b for b in blocks if b.one_way_ms == distance]
        left_out, used = sum(b.left_out for b in there), sum(len(b.latencies_ms) for b in there)
        if left_out > LEFT_OUT_MAX * (left_out + used):
            return (
                f"at {distance:g} ms one way {left_out} of {left_out + used} requests failed, "
                "fell back or were not sent"
            )
    return ""


def _lag(blocks: Sequence[Block]) -> str:
    late = _late(blocks)
    if len(late) <= LAGGING_MAX * len(blocks):
        return ""
    worst = max(late, key=lambda b: b.lag_ms)
    return (
        f"the generator lagged in {len(late)} of {len(blocks)} blocks, up to {worst.lag_ms:.1f} ms "
        f"at {worst.one_way_ms:g} ms one way, which alone could look like round trips"
    )


def _late(blocks: Sequence[Block]) -> list[Block]:
    """Blocks whose own lag could look like slope."""
    distances = [b.added_ms for b in blocks]
    span_ms = max(distances, default=0.0) - min(distances, default=0.0)
    return [b for b in blocks if b.lag_ms > LAG_MAX * span_ms]


def _cut(groups: Sequence[int]) -> int | None:
    """How many of the lowest and of the highest slopes lie outside the interval; None if no interval is sure enough.

    With disturbances that do not depend on the distance, every order of the blocks is equally likely. The number of
    pairs that then rise has the coefficients of a Gaussian multinomial as its distribution, group sizes given.
    """
    ways = [1]
    total = 0
    for size in groups:
        total += size
        ways = _times(ways, _gaussian_binomial(total, size))
    allowed = sum(ways) * (1 - CONFIDENCE) / 2
    below, cut = 0, -1
    while below + ways[cut + 1] <= allowed:
        cut += 1
        below += ways[cut]
    return cut if cut >= 0 else None


def _gaussian_binomial(n: int, k: int) -> list[int]:
    """Ways to arrange k blocks among n, by the number of rising pairs: coefficients, ascending."""
    rows = [[1]] + [[0]] * k
    for m in range(1, n + 1):
        for j in range(min(m, k), 0, -1):
            rows[j] = _plus(rows[j], [0] * (m - j) + rows[j - 1])
    return rows[k]


def _plus(a: list[int], b: list[int]) -> list[int]:
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    return [x + y for x, y in zip(longer, shorter + [0] * (len(longer) - len(shorter)), strict=True)]


def _times(a: list[int], b: list[int]) -> list[int]:
    product = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return product
