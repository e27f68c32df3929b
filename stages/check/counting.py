"""Which requests count, and which of them were bad?

A request counts by its intended start, once the time it had to be good in (its wait) has passed: never only those
answered so far, since good answers come first. Requests near a stall of the machine are censored by time, never by
outcome. Two senses of bad:

    lenient     error, or answered later than the operation's SLO, or not answered at all
    strict      the same, or answered by a fallback
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stages.history import Invocation, Outcome, Stall, Unsent
from stages.model import Stage

SECOND_NS = 1_000_000_000
MS_NS = 1_000_000

BEFORE_STALL_NS = 10 * MS_NS
"""One period of the heartbeat: the stall may have begun that much earlier."""

AFTER_STALL_NS = 100 * MS_NS
"""What queued up during a stall needs this long, plus half the stall, to be worked off."""

SHORTEST_STALL = 0.2
"""A stall shorter than this share of an operation's SLO cannot make its requests late: 50 ms at an SLO of 250 ms,
where thresholds from 20 to 200 ms made no difference in simulation."""

CENSORED_MAX = 0.25
"""Above this share of censored requests a window gives no verdict."""

ANSWER_WAIT_S = 3.25
"""Where nobody says which requests are still out: after this time each has its answer or met its client's timeout of
3 s, and the history file has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time, start <= t < end, nanoseconds on the history's clock."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """A request that was sent and has no answer yet."""

    operation: str
    intended_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One operation's requests in a stretch of time."""

    n: int = 0
    """Counted: not censored."""
    strict_bad: int = 0
    lenient_bad: int = 0
    censored: int = 0
    """Left out because of a stall, or never sent through the generator's fault."""
    not_ready: int = 0
    """Arrivals without a request, such as a cancellation with no order to cancel. They say nothing either way."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            n=self.n + other.n,
            strict_bad=self.strict_bad + other.strict_bad,
            lenient_bad=self.lenient_bad + other.lenient_bad,
            censored=self.censored + other.censored,
            not_ready=self.not_ready + other.not_ready,
        )

    @property
    def censored_share(self) -> float:
        """Of all requests that were due, 0 without any."""
        due = self.n + self.censored
        return self.censored / due if due else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The counts, and the same by the second for comparison with what others saw at the time."""

    counts: Counts = Counts()
    seconds: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    """Second since the start of the span -> (n, strict bad, lenient bad)."""


def generators_fault(unsent: Unsent) -> bool:
    """Whether an arrival was lost because the generator could not send it, not because there was nothing to ask for.

    Reasons of the second kind begin with 'no order' ('no order to cancel'); whatever else is read as the generator's.
    """
    return not unsent.reason.startswith("no order")


class Censor:
    """Knows which intended starts lie too near a stall."""

    def __init__(self, stalls: Iterable[Stall]) -> None:
        self._stalls = _merged(stalls)
        self._hidden: dict[int, tuple[list[int], list[int]]] = {}

    def hides(self, intended_ns: int, slo_ms: int) -> bool:
        """Whether a request with this intended start and SLO is censored."""
        starts, ends = self._intervals(slo_ms)
        i = bisect_right(starts, intended_ns) - 1
        return i >= 0 and intended_ns <= ends[i]

    def _intervals(self, slo_ms: int) -> tuple[list[int], list[int]]:
        if slo_ms not in self._hidden:
            starts: list[int] = []
            ends: list[int] = []
            for start, end in self._stalls:
                if end - start < SHORTEST_STALL * slo_ms * MS_NS:
                    continue
                starts.append(start - BEFORE_STALL_NS - slo_ms * MS_NS)
                # a running maximum: a short stall after a long one ends earlier, and bisect looks at the last start
                ends.append(max(ends[-1] if ends else 0, end + AFTER_STALL_NS + (end - start) // 2))
            self._hidden[slo_ms] = starts, ends
        return self._hidden[slo_ms]


def _merged(stalls: Iterable[Stall]) -> list[tuple[int, int]]:
    """Stalls of all sources in order, those joined that begin before the one before is worked off."""
    joined: list[tuple[int, int]] = []
    for stall in sorted(stalls, key=lambda s: s.start_ns):
        if joined and stall.start_ns <= joined[-1][1] + AFTER_STALL_NS:
            joined[-1] = joined[-1][0], max(joined[-1][1], stall.end_ns)
        else:
            joined.append((stall.start_ns, stall.end_ns))
    return joined


def bad_in(invocation: Invocation, slo_ms: int) -> tuple[bool, bool]:
    """Whether a request was bad: (strictly, leniently)."""
    lenient = invocation.outcome is not Outcome.OK or invocation.latency_ms > slo_ms
    return lenient or invocation.degraded, lenient


class _Tally:
    """Counts one operation while the history is read; `sample` is the result."""

    __slots__ = ("censored", "lenient", "n", "not_ready", "seconds", "slo_ms", "strict", "until_ns")

    def __init__(self, slo_ms: int, until_ns: int) -> None:
        self.slo_ms, self.until_ns = slo_ms, until_ns
        self.n = self.strict = self.lenient = self.censored = self.not_ready = 0
        self.seconds: dict[int, list[int]] = {}

    def add(self, second: int, strict: bool, lenient: bool) -> None:
        self.n += 1
        self.strict += strict
        self.lenient += lenient
        row = self.seconds.setdefault(second, [0, 0, 0])
        row[0] += 1
        row[1] += strict
        row[2] += lenient

    def sample(self) -> Sample:
        counts = Counts(
            n=self.n,
            strict_bad=self.strict,
            lenient_bad=self.lenient,
            censored=self.censored,
            not_ready=self.not_ready,
        )
        return Sample(counts=counts, seconds={s: (row[0], row[1], row[2]) for s, row in self.seconds.items()})


def count(
    stage: Stage,
    span: Span,
    invocations: Iterable[Invocation],
    *,
    outstanding: Sequence[Outstanding] | None = None,
    unsent: Iterable[Unsent] = (),
    censor: Censor,
    answer_wait_s: float = ANSWER_WAIT_S,
) -> dict[str, Sample]:
    """Count every operation's requests intended within `span` whose wait ended within it too.

    `outstanding` is complete, and read *before* the invocations so that nothing falls between the two: the wait is
    then the operation's SLO. Pass () for a history that is complete. None means nobody knows: the wait is
    `answer_wait_s`, by which each request must have its answer or its client's timeout.
    """
    tallies = {}
    for operation in stage.operations:
        wait_ns = operation.latency_slo_ms * MS_NS if outstanding is not None else round(answer_wait_s * SECOND_NS)
        tallies[operation.name] = _Tally(operation.latency_slo_ms, span.end_ns - wait_ns)

    def due(operation: str, intended_ns: int) -> _Tally | None:
        tally = tallies.get(operation)
        return tally if tally is not None and span.start_ns <= intended_ns < tally.until_ns else None

    def put(tally: _Tally, intended_ns: int, strict: bool, lenient: bool) -> None:
        if censor.hides(intended_ns, tally.slo_ms):
            tally.censored += 1
        else:
            tally.add((intended_ns - span.start_ns) // SECOND_NS, strict, lenient)

    answered = set()
    for invocation in invocations:
        tally = due(invocation.operation, invocation.intended_ns)
        if tally is not None:
            put(tally, invocation.intended_ns, *bad_in(invocation, tally.slo_ms))
            answered.add((invocation.operation, invocation.intended_ns))
    for waiting in outstanding or ():
        tally = due(waiting.operation, waiting.intended_ns)
        if tally is not None and (waiting.operation, waiting.intended_ns) not in answered:
            put(tally, waiting.intended_ns, True, True)
    for lost in unsent:
        tally = due(lost.operation, lost.intended_ns)
        if tally is not None:
            tally.censored += generators_fault(lost)
            tally.not_ready += not generators_fault(lost)
    return {name: tally.sample() for name, tally in tallies.items()}
