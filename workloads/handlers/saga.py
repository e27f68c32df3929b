"""How does an order become several effects or none? The saga, orchestrated in one chain of calls.

    commit pending -> reserve -> capture -> book -> commit confirmed -> publish -> answer
                         \\________ a step fails: commit compensating, answer, undo in reverse, commit rejected

The state is committed before the step it announces, so a crash leaves a trace: orders found `pending`
are undone by whoever starts next. Orders found `confirmed` are believed to be done. In a stage where
publishing means calling consumers one by one, a crash between the commit and the last call loses the
rest: a dual write, which this code does not hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from workloads import deadline, domain, problems
from workloads.domain import Record
from workloads.handlers.compensator import Effects, Undoing
from workloads.handlers.steps import STEPS, UNFINISHED
from workloads.messages import OrderWithdrawn, PlaceOrder
from workloads.ports import Caller, CallFailed, CallRefused, Publisher, PublishFailed, Repository, Unit
from workloads.problems import ProblemError

log = structlog.get_logger()

ORPHANED_AFTER_S = 3.6
"""An order still pending after this long has no living saga: twice the longest wait a caller is configured with."""
_ALL = tuple(step.name for step in STEPS)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a chain ended early, and what it may have done until then."""

    answer: ProblemError
    begun: tuple[str, ...] = ()
    """Names of the steps that took effect or may have."""
    told: tuple[str, ...] = ()
    """Consumers that know, or may know, of the confirmation."""


class OrderSaga:
    """Places, cancels and finds orders."""

    def __init__(self, repository: Repository, caller: Caller, publisher: Publisher, effects: Effects) -> None:
        self._repository = repository
        self._caller = caller
        self._publisher = publisher
        self._clock_ns = effects.clock_ns
        self._hand_over = effects.hand_over
        self._disabled = effects.disabled
        self._placing: set[str] = set()
        self._cancelling: set[str] = set()
        self._owed: dict[str, Record] = {}
        """Orders given up while the database was away: what is still to be committed."""

    async def find(self, order_id: str) -> Record:
        """Raise ProblemError(NOT_FOUND) for an order that never was."""
        return _existing(await self._repository.read(lambda unit: unit.get("order", order_id)), order_id)

    async def place(self, command: PlaceOrder) -> Record:
        """Run the whole chain; return the confirmed order.

        A repeated command gets the same answer. Raise ProblemError: DEPENDENCY_UNAVAILABLE or a business
        refusal once the order is sure to be undone; IN_PROGRESS, KEY_REUSED; what the repository raises.
        """
        order = domain.new_order(command, self._clock_ns())
        existing = await self._repository.write(lambda unit: _begin(unit, order))
        if existing is not None:
            return _repeat(existing, order)
        self._placing.add(order.id)
        try:
            return await self._complete(order)
        except ProblemError:
            raise
        except BaseException:  # a defect or the end of the process: nobody else will finish this order
            self._hand_over(order.id, ())
            raise
        finally:
            self._placing.discard(order.id)

    async def _complete(self, order: Record) -> Record:
        failure = await self._act(order)
        confirmed = domain.ended(order, "confirmed", self._clock_ns())
        failure = failure or await self._confirm(confirmed) or await self._announce(confirmed)
        if failure is None:
            return confirmed
        committed = await self._give_up(order, failure)
        if failure.told and not committed:  # a crash now would leave a confirmed order that was refused
            raise ProblemError(problems.COMMIT_UNKNOWN, failure.answer.detail, subject=order.id)
        raise failure.answer

    async def _act(self, order: Record) -> Failure | None:
        begun: list[str] = []
        for step in STEPS:
            try:
                await self._caller.call(step.do(order))
            except CallRefused as error:
                if not error.definite:
                    begun.append(step.name)
                return Failure(_refusal(order, error), tuple(begun))
            except CallFailed as error:
                if not error.definite:
                    begun.append(step.name)
                return Failure(_unavailable(order, f"{step.name}: {error.detail}"), tuple(begun))
            begun.append(step.name)
        return None

    async def _confirm(self, confirmed: Record) -> Failure | None:
        try:
            moved = await self._repository.write(lambda unit: _move(unit, confirmed, ("pending",)))
        except ProblemError as error:
            return Failure(error, _ALL)
        if moved is None:  # somebody believed this saga dead and undoes the order
            return Failure(_unavailable(confirmed, "the order took too long and is being undone"), _ALL)
        return None

    async def _announce(self, order: Record) -> Failure | None:
        try:
            await self._publisher.publish(domain.confirmation(order))
        except PublishFailed as error:
            return Failure(_unavailable(order, error.cause), _ALL, error.told)
        return None

    async def _give_up(self, order: Record, failure: Failure) -> bool:
        """Commit that the order is to be undone, and hand it over; return whether it could be committed now."""
        log.warning("order-failed", order=order.id, begun=failure.begun, told=failure.told, why=failure.answer.detail)
        undone = "compensation" in self._disabled or not (failure.begun or failure.told)
        given_up = replace(
            order,
            state="compensating",
            detail={
                **order.detail,
                "begun": ",".join(failure.begun),
                "told": ",".join(failure.told),
                "problem": failure.answer.kind.name,
                "why": failure.answer.detail,
            },
        )
        if undone:
            given_up = domain.ended(given_up, "rejected", self._clock_ns())
        committed = True
        try:
            with deadline.within(None):  # however late it is: what was begun must not be forgotten
                await self._repository.write(lambda unit: _move(unit, given_up, ("pending", "confirmed")))
        except ProblemError as error:
            log.warning("give-up-not-committed", order=order.id, error=str(error))
            self._owed[order.id] = given_up
            committed = False
        if not (undone and committed):
            self._hand_over(order.id, ())
        return committed

    async def cancel(self, order_id: str) -> Record:
        """Undo a confirmed order within the request; cancelling a cancelled one changes nothing.

        Raise ProblemError: NOT_FOUND, NOT_CANCELLABLE; COMPLETION_PENDING when the intent is recorded but
        a step failed, so that the compensator completes it.
        """
        if order_id in self._placing:
            raise ProblemError(problems.NOT_CANCELLABLE, f"order {order_id} is being placed", state="pending")
        order = await self._repository.write(lambda unit: _begin_cancel(unit, order_id))
        if order.state == "cancelled":
            return order
        work = Undoing(order_id)
        self._cancelling.add(order_id)
        try:
            return await self._undo_steps(order, work, "cancelled")
        except (CallFailed, CallRefused, ProblemError) as error:
            self._hand_over(order_id, sorted(work.done))
            raise ProblemError(
                problems.COMPLETION_PENDING, f"order {order_id} will be cancelled: {error}", subject=order_id
            ) from error
        finally:
            self._cancelling.discard(order_id)

    async def unfinished(self, limit: int) -> list[str]:
        """Orders that no request is working on and that are not at their end."""
        found = await self._repository.read(lambda unit: unit.in_state("order", UNFINISHED, limit))
        busy = self._placing | self._cancelling
        return [order.id for order in found if order.id not in busy and not self._young(order)]

    def _young(self, order: Record) -> bool:
        # a clock that ran backwards means that the machine was restarted: nobody is working on it then
        age_s = (self._clock_ns() - order.at_ns) / 1e9
        return order.state == "pending" and 0 <= age_s < ORPHANED_AFTER_S

    async def undo(self, work: Undoing) -> None:
        """Bring one unfinished order to its end; raise what the ports raise if it is not there yet."""
        if (owed := self._owed.get(work.subject)) is not None:
            await self._repository.write(lambda unit: _move(unit, owed, ("pending", "confirmed")))
            del self._owed[work.subject]
        order = await self._repository.write(lambda unit: self._adopt(unit, work.subject))
        if order is None:
            return
        if order.state == "cancelling":
            await self._undo_steps(order, work, "cancelled")
            return
        told = [name for name in order.detail.get("told", "").split(",") if name]
        if told and "publish" not in work.done:
            await self._publisher.publish(OrderWithdrawn(order_id=order.id, key=order.key), to=told)
            work.done.add("publish")
        work.done.update(set(_ALL) - set(order.detail.get("begun", "").split(",")))
        await self._undo_steps(order, work, "rejected")

    def _adopt(self, unit: Unit, order_id: str) -> Record | None:
        order = unit.get("order", order_id, lock=True)
        if order is None or order.state not in UNFINISHED:
            return None
        if order.state != "pending":
            return order
        why = {"begun": ",".join(_ALL), "problem": problems.DEPENDENCY_UNAVAILABLE.name, "why": "found unfinished"}
        broken = "compensation" in self._disabled
        adopted = replace(order, state="compensating", detail={**order.detail, "told": "", **why})
        if broken:
            adopted = domain.ended(adopted, "rejected", self._clock_ns())
        unit.update(adopted)
        return None if broken else adopted

    async def _undo_steps(self, order: Record, work: Undoing, end: str) -> Record:
        for step in reversed(STEPS):
            if step.name not in work.done:
                await self._caller.call(step.undo(order))
                work.done.add(step.name)
        ended = domain.ended(order, end, self._clock_ns())
        await self._repository.write(lambda unit: _move(unit, ended, (order.state,)))
        return ended


def _begin(unit: Unit, order: Record) -> Record | None:
    existing = unit.get("order", order.id, lock=True)
    if existing is None:
        unit.insert(order)
    return existing


def _repeat(existing: Record, wanted: Record) -> Record:
    """The answer that the first request with this key got."""
    domain.repeated(existing, wanted)
    if existing.state == "pending":
        raise ProblemError(problems.IN_PROGRESS, f"order {existing.id} is being placed", subject=existing.id)
    if "problem" in existing.detail:
        kind = problems.TYPES[existing.detail["problem"]]
        raise ProblemError(kind, existing.detail["why"], subject=existing.id)
    detail = {name: value for name, value in existing.detail.items() if name != "cancelled_ns"}
    return replace(existing, state="confirmed", detail=detail)


def _begin_cancel(unit: Unit, order_id: str) -> Record:
    order = _existing(unit.get("order", order_id, lock=True), order_id)
    if order.state in {"cancelled", "cancelling"}:
        return order
    if order.state != "confirmed":
        raise ProblemError(problems.NOT_CANCELLABLE, f"order {order_id} is {order.state}", state=order.state)
    cancelling = replace(order, state="cancelling")
    unit.update(cancelling)
    return cancelling


def _move(unit: Unit, order: Record, allowed: Sequence[str]) -> Record | None:
    """Change an order's state if it still is where the mover believes it; None if somebody else moved it."""
    current = unit.get("order", order.id, lock=True)
    if current is None or current.state not in allowed:
        return None
    unit.update(order)
    return order


def _existing(order: Record | None, order_id: str) -> Record:
    if order is None:
        raise ProblemError(problems.NOT_FOUND, f"no order {order_id!r}")
    return order


def _unavailable(order: Record, why: str) -> ProblemError:
    return ProblemError(problems.DEPENDENCY_UNAVAILABLE, why, subject=order.id)


def _refusal(order: Record, error: CallRefused) -> ProblemError:
    return ProblemError(error.problem.kind, error.problem.detail, subject=order.id)
