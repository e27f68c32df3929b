"""What becomes of an order when an answer, a cancellation or silence arrives? (pure)

    (accepted) --> pending --reserved and captured, then booked--> confirmed ---cancel---> cancelling
                     |  \\_______________________________cancel_______________________________/|
                     | a refusal, or no end within GIVES_UP_AFTER_S                             | all three undone
                     v                                                                          v
                compensating --all three undone--> rejected                                 cancelled

Each function takes an order and what has happened, and gives the order as it is then together with the
messages to send, or None where nothing changes. All that it needs to know later is in the record. Commands
are sent again when nobody answers: receivers know them by the order, and an undo wins over its late original,
so answers may come twice, too late or in any order. Undoing goes on for ever, because there is no other end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workloads import domain, problems
from workloads.domain import Record
from workloads.handlers.steps import BOOK, CAPTURE, RESERVE, STEPS, UNFINISHED
from workloads.messages import Answer, Command, OrderCancelled, Sent, StepRefused
from workloads.problems import ProblemError

ASKS_AFTER_S = 1.5
"""How long to wait for an answer before asking again the first time: far above what an answer takes (50 ms), and
short enough that an order whose command was lost still completes in time. Doubled for each further one."""
ASKS_AT_LEAST_EVERY_S = 15.0
"""How often to ask again when nobody is answered: then the receiver is away, and what was sent waits in its queue."""
GIVES_UP_AFTER_S = 60.0
"""A pending order older than this is undone: longer than any fault that a shop should outlast."""
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Moved:
    """An order after something has happened, and what is to be sent about it."""

    order: Record
    messages: tuple[Sent, ...] = ()


def accepted(order: Record, now_ns: int) -> Moved:
    """A new pending order: what is asked for at once."""
    return _ask(order, "", now_ns)


def answered(order: Record, reply: Answer, now_ns: int) -> Moved | None:
    """A receiver has answered a command."""
    awaited = outstanding(order)
    if reply.step not in _names(awaited):  # late, repeated, or about what is being undone by now
        return None
    if isinstance(reply, StepRefused):
        return _compensate(order, reply.problem, reply.detail, now_ns) if order.state == "pending" else None
    done = replace(order, detail={**order.detail, "done": ",".join([*_done(order), reply.step])})
    if len(awaited) > 1:
        return Moved(done)
    if outstanding(done):
        return _ask(done, done.detail["done"], now_ns)
    return _end(done, now_ns)


def cancel(order: Record, now_ns: int) -> Moved | None:
    """Somebody wants the order cancelled. Raise ProblemError(NOT_CANCELLABLE) if it does not hold any more."""
    if order.state in {"cancelling", "cancelled"}:
        return None
    if order.state not in {"pending", "confirmed"}:
        raise ProblemError(problems.NOT_CANCELLABLE, f"order {order.id} is {order.state}", state=order.state)
    return _ask(replace(order, state="cancelling"), "", now_ns)


def unheard(order: Record, now_ns: int, *, unsent: bool = False, overtaken: bool = True) -> Moved | None:
    """The order is due: nobody has answered for a while.

    `unsent`: its messages have not even left yet. `overtaken`: commands that were sent later have been answered, so
    that its own are probably lost. Otherwise everybody waits, and asking again would only lengthen the queue.
    """
    if order.state not in UNFINISHED:
        return None
    # an age below zero comes from another clock (a reboot, another machine): how old it is, nobody knows
    if order.state == "pending" and not 0 <= now_ns - order.at_ns < GIVES_UP_AFTER_S * _S:
        missing = ", ".join(_names(outstanding(order)))
        why = f"no answer to {missing} within {GIVES_UP_AFTER_S:.0f} s"
        return _compensate(order, problems.DEPENDENCY_UNAVAILABLE.name, why, now_ns)
    asks = int(order.detail.get("asks", "0"))
    if unsent:  # saying it twice would not make it leave sooner
        return Moved(_due(order, asks, now_ns))
    if not overtaken and 0 <= now_ns - asked_ns(order) < ASKS_AT_LEAST_EVERY_S * (asks + 1) * _S:
        return Moved(_due(order, 0, now_ns, asks))
    return Moved(_due(order, asks + 1, now_ns), outstanding(order))


def asked_ns(order: Record) -> int:
    """When what the order waits for was asked for the first time."""
    return int(order.detail.get("asked_ns", order.at_ns))


def outstanding(order: Record) -> tuple[Command, ...]:
    """The commands that the order waits for, in the order in which they are sent."""
    if order.state not in UNFINISHED:
        return ()
    if order.state != "pending":
        return _not_done(order, [step.undo(order) for step in STEPS])
    return _not_done(order, [RESERVE.do(order), CAPTURE.do(order)]) or _not_done(order, [BOOK.do(order)])


def _compensate(order: Record, problem: str, why: str, now_ns: int) -> Moved:
    detail = {**order.detail, "problem": problem, "why": why}
    return _ask(replace(order, state="compensating", detail=detail), "", now_ns)


def _ask(order: Record, done: str, now_ns: int) -> Moved:
    asking = _due(replace(order, detail={**order.detail, "done": done, "asked_ns": str(now_ns)}), 0, now_ns)
    return Moved(asking, outstanding(asking))


def _due(order: Record, waits: int, now_ns: int, asks: int | None = None) -> Record:
    """The order, to be looked at again when the wait after so many repetitions is over; `asks`: so many there were."""
    wait_s = min(ASKS_AFTER_S * 2 ** min(waits, 10), ASKS_AT_LEAST_EVERY_S)
    due_ns = now_ns + int(wait_s * _S)
    if order.state == "pending":
        due_ns = min(due_ns, order.at_ns + int(GIVES_UP_AFTER_S * _S))
    return replace(order, due_ns=due_ns, detail={**order.detail, "asks": str(waits if asks is None else asks)})


def _end(order: Record, now_ns: int) -> Moved:
    ends = {"pending": "confirmed", "compensating": "rejected", "cancelling": "cancelled"}
    rest = {name: value for name, value in order.detail.items() if name not in {"done", "asks", "asked_ns"}}
    at_its_end = domain.ended(replace(order, detail=rest), ends[order.state], now_ns)
    if at_its_end.state == "confirmed":
        return Moved(at_its_end, (domain.confirmation(at_its_end),))
    if at_its_end.state == "cancelled" and "completed_ns" in order.detail:  # nobody has heard of it otherwise
        return Moved(at_its_end, (OrderCancelled(order_id=order.id, key=order.key),))
    return Moved(at_its_end)


def _done(order: Record) -> list[str]:
    return [name for name in order.detail.get("done", "").split(",") if name]


def _not_done(order: Record, commands: Sequence[Command]) -> tuple[Command, ...]:
    done = _done(order)
    return tuple(command for command in commands if type(command).__name__ not in done)


def _names(commands: Sequence[Command]) -> list[str]:
    return [type(command).__name__ for command in commands]
