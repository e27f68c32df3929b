"""How much later is an operation's work done when its channels are slower? From the graph of a stage alone. (pure)

    place-order   storefront --call--> orders --command, answered--> inventory     each way of a command counts,
                                              --command, answered--> shipping      step after step: orders is done;
                                              --event--> email                     one more: email

Steps of a service follow each other; a call or a command has to be answered before the next step, an event does not.
Channels whose failure is ignored are nobody's work; a fallback is one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from stages.model import Channel, Completion, Kind, Operation, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """When a service has done its part of an operation, compared with a shop that nothing slows down."""

    added_ms: int = 0
    path: tuple[Channel, ...] = ()
    """From the entry to the service, and on to the slowest that it waits for."""
    by_messages: bool = False
    """Whether any of the delay is one of messages: they hold up the work, not the answer."""


def added_ms(stage: Stage, operation: Operation, delay_ms: Mapping[str, int]) -> dict[str, int]:
    """By how much later each completion of an operation is there, by name; 0 for one that nothing slows down.

    `delay_ms` is channel name -> delay of one exchange (a call) or of one message. Completions at services that
    the operation does not reach are left out.
    """
    done = _Walk(stage, operation, delay_ms).done
    return {c.name: done[c.at].added_ms for c in operation.completions if c.at in done}


def first_late(stage: Stage, operation: Operation, delay_ms: Mapping[str, int]) -> tuple[Completion, Done] | None:
    """The first completion that messages bring past its deadline; None if all come in time."""
    done = _Walk(stage, operation, delay_ms).done
    for completion in operation.completions:
        when = done.get(completion.at)
        if when is not None and when.by_messages and when.added_ms >= completion.within_ms:
            return completion, when
    return None


class _Walk:
    """One walk through an operation; `done` is filled in at once."""

    def __init__(self, stage: Stage, operation: Operation, delay_ms: Mapping[str, int]) -> None:
        self._stage = stage
        self._operation = operation.name
        self._delay_ms = delay_ms
        self.done: dict[str, Done] = {}
        """By service, the last time where it is reached in several ways."""
        self._from(operation.entry, Done(), frozenset({operation.entry}))

    def _from(self, service: str, reached: Done, above: frozenset[str]) -> Done:
        now = reached
        for _, together in groupby(self._stage.channels_from(service, self._operation), key=lambda c: c.step):
            ends = [self._over(c, now, reached.path, above) for c in together if c.callee not in above and c.essential]
            now = max([now, *ends], key=lambda d: d.added_ms)
        self.done[service] = max(self.done.get(service, now), now, key=lambda d: d.added_ms)
        return now

    def _over(self, channel: Channel, start: Done, path: tuple[Channel, ...], above: frozenset[str]) -> Done:
        """When the next step may begin after what was started over a channel at `start`."""
        delay_ms = self._delay_ms.get(channel.name, 0)
        there = Done(
            added_ms=start.added_ms + delay_ms,
            path=(*path, channel),
            by_messages=start.by_messages or (channel.kind is not Kind.CALL and delay_ms > 0),
        )
        behind = self._from(channel.callee, there, above | {channel.callee})
        match channel.kind:
            case Kind.EVENT:
                return start
            case Kind.COMMAND:
                return replace(behind, added_ms=behind.added_ms + delay_ms)
            case Kind.CALL:
                return behind
