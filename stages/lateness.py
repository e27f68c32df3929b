"""How much later is an operation's work done when its channels are slower? From the graph of a stage alone. (pure)

    place-order   storefront --call--> orders --command, answered--> inventory        twice the command's delay,
                                              --command, answered--> shipping         and twice the next one's:
                                              --event--> email                        orders is done; one more: email

Steps of a service follow each other; a call or a command has to be answered before the next step, an event does not.
Channels whose failure is ignored, and fallbacks, are nobody's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from stages.model import Channel, Completion, Kind, Operation, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """A completion that the delays push past its deadline."""

    completion: Completion
    added_ms: int
    """By how much later its effect is there."""
    path: tuple[Channel, ...]
    """From the entry to the service where it shows, and on to the slowest that this one waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """When a service has done its part."""

    added_ms: int
    path: tuple[Channel, ...]
    by_messages: bool


def added_ms(stage: Stage, operation: Operation, delay_ms: Mapping[str, int]) -> dict[str, int]:
    """By how much later each completion of an operation is there, by name; 0 for one that nothing slows down.

    `delay_ms` is channel name -> delay of one exchange (a call) or of one message. Completions at services that
    the operation does not reach are left out.
    """
    done = _all_done(stage, operation, delay_ms)
    return {c.name: done[c.at].added_ms for c in operation.completions if c.at in done}


def first_late(stage: Stage, operation: Operation, delay_ms: Mapping[str, int]) -> Late | None:
    """The first completion that messages bring past its deadline; None if all come in time."""
    done = _all_done(stage, operation, delay_ms)
    for completion in operation.completions:
        when = done.get(completion.at)
        if when is not None and when.by_messages and when.added_ms >= completion.within_ms:
            return Late(completion=completion, added_ms=when.added_ms, path=when.path)
    return None


def _all_done(stage: Stage, operation: Operation, delay_ms: Mapping[str, int]) -> dict[str, _Done]:
    found: dict[str, _Done] = {}
    _walk(stage, operation, delay_ms, operation.entry, _Done(added_ms=0, path=(), by_messages=False), found)
    return found


def _walk(
    stage: Stage, operation: Operation, delay_ms: Mapping[str, int], service: str, reached: _Done, found: dict[str, _Done]
) -> _Done:
    """When `service`, reached at `reached`, has done its part; enters all that is done behind it into `found`."""
    above = {operation.entry, *(c.callee for c in reached.path)}
    now = reached
    for _, together in groupby(stage.channels_from(service, operation.name), key=lambda c: c.step):
        answers = [now]
        for channel in together:
            if channel.callee in above or not channel.essential:
                continue
            delay = delay_ms.get(channel.name, 0)
            message = channel.kind is not Kind.CALL
            there = _Done(
                added_ms=now.added_ms + delay,
                path=(*reached.path, channel),
                by_messages=now.by_messages or (message and delay > 0),
            )
            behind = _walk(stage, operation, delay_ms, channel.callee, there, found)
            if channel.kind is Kind.COMMAND:
                answers.append(_Done(added_ms=behind.added_ms + delay, path=behind.path, by_messages=behind.by_messages))
            elif channel.kind is Kind.CALL:
                answers.append(behind)
        now = max(answers, key=lambda d: d.added_ms)
    known = found.get(service)
    if known is None or known.added_ms < now.added_ms:
        found[service] = now
    return now
