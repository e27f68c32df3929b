"""What does a fault do to each operation? Predicted from the graph of a stage alone.

A fault is given by its impact: what no longer answers, which channels are cut, how much slower others
are. The walk starts at an operation's entry and follows its channels:

    users --> storefront --call--> orders --call--> payments      a dead callee fails the whole chain,
                         --call--> inventory                      unless a fallback answers (degraded)
                                        orders --command--> ...   or the work was accepted for later (delayed)

It leaves out how long the healthy shop takes and how loaded it is: a delay that only together with
these exceeds a limit is predicted harmless, and the measurement has the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from stages.lateness import first_late
from stages.model import Channel, Kind, Operation, Stage

USERS = "users"
"""The caller of every entry; 'users-storefront' names the edge in `Impact.cut` and `Impact.delay_ms`."""


class Effect(StrEnum):
    """What users notice of a fault, ordered: unaffected < degraded < delayed < failing."""

    UNAFFECTED = "unaffected"
    DEGRADED = "degraded"
    """A fallback answers, such as a stale catalogue."""
    DELAYED = "delayed"
    """Accepted in time; the completion waits for the fault's end, nothing is lost."""
    FAILING = "failing"

    @property
    def rank(self) -> int:
        """0 for unaffected to 3 for failing."""
        return _RANKS[self.value]

    def __lt__(self, other: str) -> bool:
        return self.rank < Effect(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Effect(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Effect(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Effect(other).rank


_RANKS = {"unaffected": 0, "degraded": 1, "delayed": 2, "failing": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """A fault as the graph feels it."""

    down: frozenset[str] = frozenset()
    """Services and shared parts that do not answer, for whatever reason (dead, frozen, database locked)."""
    cut: frozenset[str] = frozenset()
    """Names of channels over which nothing gets through; 'users-<entry>' for the edge."""
    delay_ms: Mapping[str, int] = field(default_factory=dict)
    """Channel name -> added delay of one exchange (a call), or of one message until it is received, milliseconds."""
    crashed: frozenset[str] = frozenset()
    """Services that died in mid-request: opens the gaps of the stage that wait for their death."""
    poisoned: frozenset[str] = frozenset()
    """Queues in which messages become unreadable: these are dead letters that the fault accounts for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a fault does to one operation."""

    effect: Effect
    because: str
    """A sentence that names the path."""
    path: tuple[str, ...]
    """The services from the entry to the one where it breaks; just the entry where nothing does."""
    gaps: tuple[str, ...] = ()
    """Names of the stage's gaps that the fault may open for this operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """What a service gets out of one channel, or a user out of a service."""

    effect: Effect = Effect.UNAFFECTED
    added_ms: int = 0
    """By how much the answer comes later."""
    path: tuple[Channel, ...] = ()
    """Channels that lead to the break."""
    why: str = ""
    """How it ends: 'payments does not answer'."""


_FINE = _Reached()


def predict(stage: Stage, impact: Impact) -> dict[str, Prediction]:
    """The effect of a fault on every operation, by name, in the stage's order.

    Names in `impact` that the stage does not have change nothing.
    """
    return {o.name: _predict(stage, impact, o) for o in stage.operations}


def blast_radius(stage: Stage, predictions: Mapping[str, Mapping[str, Prediction]]) -> float:
    """Share of (fault, operation) cells that are not unaffected, weighted by traffic, in [0, 1].

    `predictions` is fault name -> what `predict` returned. Without any fault the radius is 0.
    """
    weights = {o.name: o.weight for o in stage.operations}
    touched = total = 0
    for by_operation in predictions.values():
        for operation, prediction in by_operation.items():
            total += weights[operation]
            touched += weights[operation] if prediction.effect is not Effect.UNAFFECTED else 0
    return touched / total if total else 0.0


def _predict(stage: Stage, impact: Impact, operation: Operation) -> Prediction:
    reached = _at_the_edge(stage, impact, operation)
    gaps = tuple(g for g in stage.gaps if g.operation == operation.name and g.crash_of in impact.crashed)
    because = _sentence(operation, reached)
    for gap in gaps:
        because += f"; {gap.crash_of} dying in mid-request may lose {gap.effect} (known gap {gap.name!r})"
    return Prediction(
        effect=reached.effect,
        because=because,
        path=(operation.entry, *(c.callee for c in reached.path)),
        gaps=tuple(g.name for g in gaps),
    )


def _at_the_edge(stage: Stage, impact: Impact, operation: Operation) -> _Reached:
    edge = f"{USERS}-{operation.entry}"
    if operation.entry in impact.down:
        return _Reached(effect=Effect.FAILING, why=f"{operation.entry} does not answer")
    if edge in impact.cut:
        return _Reached(effect=Effect.FAILING, why=f"nothing gets from users to {operation.entry}")
    reached = _walk(stage, impact, operation, operation.entry, frozenset({operation.entry}))
    added_ms = reached.added_ms + impact.delay_ms.get(edge, 0)
    if reached.effect is not Effect.FAILING and added_ms >= operation.latency_slo_ms:
        why = f"the answer comes {added_ms} ms later than its {operation.latency_slo_ms} ms allow"
        return replace(reached, effect=Effect.FAILING, added_ms=added_ms, why=why)
    if reached.effect < Effect.DELAYED and (late := first_late(stage, operation, impact.delay_ms)):
        completion, done = late
        limit = f"past the {completion.within_ms} ms of {completion.name}"
        why = f"its messages take {done.added_ms} ms longer in all, {limit}"
        return _Reached(effect=Effect.DELAYED, added_ms=added_ms, path=done.path, why=why)
    return replace(reached, added_ms=added_ms)


def _walk(stage: Stage, impact: Impact, operation: Operation, service: str, above: frozenset[str]) -> _Reached:
    """What `service` can answer: its channels step by step, equal steps at the same time."""
    total_ms = 0
    worst, slowest = _FINE, _FINE
    for _, together in groupby(stage.channels_from(service, operation.name), key=lambda c: c.step):
        ends = [_follow(stage, impact, operation, c, above) for c in together if c.callee not in above]
        if not ends:
            continue
        worst = max(worst, *ends, key=lambda r: r.effect.rank)
        if worst.effect is Effect.FAILING:
            return worst
        late = max(ends, key=lambda r: r.added_ms)
        total_ms += late.added_ms
        slowest = max(slowest, late, key=lambda r: r.added_ms)
    if worst.effect is Effect.UNAFFECTED:
        worst = slowest
    return replace(worst, added_ms=total_ms)


def _follow(stage: Stage, impact: Impact, operation: Operation, channel: Channel, above: frozenset[str]) -> _Reached:
    if channel.kind is not Kind.CALL:
        return _send(stage, impact, operation, channel, above)
    if not channel.essential:
        return _FINE  # its failure is ignored, and nobody waits for it
    answer = _call(stage, impact, operation, channel, above)
    if answer.effect is not Effect.FAILING or channel.fallback is None:
        return answer
    return _fall_back(stage, impact, operation, channel, answer, above)


def _call(stage: Stage, impact: Impact, operation: Operation, channel: Channel, above: frozenset[str]) -> _Reached:
    """One synchronous call: broken on the way, broken behind the callee, too slow, or fine."""
    broken = _broken(impact, channel)
    if broken:
        return _Reached(effect=Effect.FAILING, path=(channel,), why=broken)
    behind = _walk(stage, impact, operation, channel.callee, above | {channel.callee})
    added_ms = behind.added_ms + impact.delay_ms.get(channel.name, 0)
    path = (channel, *behind.path)
    if behind.effect is not Effect.FAILING and channel.timeout_ms is not None and added_ms >= channel.timeout_ms:
        why = f"the answer comes {added_ms} ms later, past the timeout of {channel.timeout_ms} ms"
        return _Reached(effect=Effect.FAILING, path=path, why=why)
    touched = behind.effect is not Effect.UNAFFECTED or added_ms > 0
    return replace(behind, added_ms=added_ms, path=path if touched else ())


def _fall_back(
    stage: Stage, impact: Impact, operation: Operation, channel: Channel, failed: _Reached, above: frozenset[str]
) -> _Reached:
    instead = next((c for c in stage.channels if c.name == channel.fallback), None)
    if instead is None:
        return failed
    answer = _call(stage, impact, operation, instead, above)
    if answer.effect is Effect.FAILING:
        return replace(failed, why=f"{failed.why}, nor can {instead.callee} answer instead ({answer.why})")
    # An open breaker answers at once; without one every request first waits out its attempts.
    waited_ms = 0 if channel.breaker else channel.reaction_ms
    return _Reached(
        effect=Effect.DEGRADED,
        added_ms=waited_ms + answer.added_ms,
        path=failed.path,
        why=f"{failed.why}, so {instead.callee} answers instead",
    )


def _send(stage: Stage, impact: Impact, operation: Operation, channel: Channel, above: frozenset[str]) -> _Reached:
    """A message: the sender has stored it (outbox), so at worst it waits, and only that matters which is waited for."""
    behind = _FINE
    broken = _broken(impact, channel)
    if not broken:
        behind = _walk(stage, impact, operation, channel.callee, above | {channel.callee})
        broken = behind.why if behind.effect >= Effect.DELAYED else ""
    if not broken or not _awaited(stage, operation, channel, above):
        return _FINE
    return _Reached(effect=Effect.DELAYED, path=(channel, *behind.path), why=broken)


def _broken(impact: Impact, channel: Channel) -> str:
    """Why nothing comes back over a channel, or ''."""
    lost = [part for part in channel.via if part in impact.down]
    if lost:
        return f"the {' and the '.join(lost)} between them {'does' if len(lost) == 1 else 'do'} not answer"
    if channel.name in impact.cut:
        return f"nothing gets through between {channel.caller} and {channel.callee}"
    if channel.callee in impact.down:
        return f"{channel.callee} does not answer"
    return ""


def _awaited(stage: Stage, operation: Operation, channel: Channel, above: frozenset[str]) -> bool:
    """Whether the operation is complete only after this message: a command is part of its work, an event
    only where a completion shows at its consumer or behind it."""
    if channel.kind is Kind.COMMAND or any(c.at == channel.callee for c in operation.completions):
        return True
    beyond = [c for c in stage.channels_from(channel.callee, operation.name) if c.callee not in above]
    return any(_awaited(stage, operation, c, above | {channel.callee}) for c in beyond)


_VERBS = {
    Effect.UNAFFECTED: "is unaffected",
    Effect.DEGRADED: "is degraded",
    Effect.DELAYED: "is delayed",
    Effect.FAILING: "fails",
}


def _sentence(operation: Operation, reached: _Reached) -> str:
    if reached.effect is Effect.UNAFFECTED:
        if reached.added_ms:
            return f"{operation.name} is unaffected: {reached.added_ms} ms more stay within its limits"
        return f"{operation.name} is unaffected: nothing it waits for is touched"
    route = _route(reached.path)
    return f"{operation.name} {_VERBS[reached.effect]} because {route + ', and ' if route else ''}{reached.why}"


def _route(path: Iterable[Channel]) -> str:
    """'storefront calls orders and orders calls payments synchronously'."""
    parts = []
    for kind, together in groupby(path, key=lambda c: c.kind):
        verb = {Kind.CALL: "calls", Kind.COMMAND: "commands", Kind.EVENT: "tells"}[kind]
        hops = [f"{c.caller} {verb} {c.callee}" for c in together]
        parts.append(" and ".join(hops) + (" synchronously" if kind is Kind.CALL else " by message"))
    return ", and ".join(parts)
