"""How does an order complete where its commands are messages? Each step is one transaction: record and outbox.

    POST --tx--> pending + (ReserveStock, CapturePayment) --relay--> queues ... StepDone --tx--> what comes next

Nothing is called and nobody waits: what an order becomes is decided in `order_states`, and whether its
messages leave is the relay's business. What this process knows of an order is in the database before it
acts on it, so it may die at any moment. `ask_again` finds orders that nobody has answered by an index over
the few that wait, not over all that ever were.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from workloads import domain, problems
from workloads.domain import Record
from workloads.handlers import order_states
from workloads.handlers.order_states import Moved
from workloads.handlers.steps import UNFINISHED
from workloads.messages import AccountRegistered, Answer, PlaceOrder, RegisterAccount, Sent, StepDone, StepRefused
from workloads.ports import Repository, Unit
from workloads.problems import ProblemError

log = structlog.get_logger()

BATCH = 20
"""Orders asked about per transaction: others wait for the database some milliseconds only."""
OVERTAKEN_NS = 500_000_000
"""Commands asked for this much later and already answered have overtaken one: queues are only roughly in order."""
OTHER_CLOCK_NS = int(10 * order_states.ASKS_AT_LEAST_EVERY_S * 1e9)
"""An order that is due later than this from now was written by another clock: nothing here waits that long."""


class AsyncOrders:
    """Accepts, cancels and finds orders, and carries them on with every answer."""

    def __init__(self, repository: Repository, clock_ns: Callable[[], int]) -> None:
        """`clock_ns` is CLOCK_MONOTONIC, nanoseconds."""
        self._repository = repository
        self._clock_ns = clock_ns
        self._answered_up_to: dict[str, int] = {}
        """Step -> when the latest of the commands answered so far was asked for; not known after a restart."""

    async def find(self, order_id: str) -> Record:
        """Raise ProblemError(NOT_FOUND) for an order that never was."""
        return _existing(await self._repository.read(lambda unit: unit.get("order", order_id)), order_id)

    async def place(self, command: PlaceOrder) -> Record:
        """Accept an order; return it pending. It is sure to come to an end, and that is all that is sure.

        A repeated command gets the same answer, however far its order is by now. Raise ProblemError:
        UNKNOWN_PRODUCT, KEY_REUSED; what the repository raises.
        """
        now_ns = self._clock_ns()
        order = order_states.accepted(domain.new_order(command, now_ns), now_ns)
        return await self._repository.write(lambda unit: _accept(unit, order))

    async def cancel(self, order_id: str) -> Record:
        """Have an order undone; return it cancelling, or cancelled if it is already.

        Raise ProblemError: NOT_FOUND, NOT_CANCELLABLE; what the repository raises.
        """
        now_ns = self._clock_ns()

        def work(unit: Unit) -> Record:
            order = _existing(unit.get("order", order_id, lock=True), order_id)
            return _move(unit, order, order_states.cancel(order, now_ns))

        return await self._repository.write(work)

    async def on_reply(self, reply: Answer) -> None:
        """Carry an order on; a reply that is late or repeated changes nothing. Raise what the repository raises."""
        now_ns = self._clock_ns()

        def work(unit: Unit) -> Record | None:
            order = unit.get("order", reply.order_id, lock=True)
            if order is None:
                return None
            _move(unit, order, order_states.answered(order, reply, now_ns))
            return order

        order = await self._repository.write(work)
        if order is None:
            log.warning("reply-about-no-order", order=reply.order_id, step=reply.step)
        else:
            asked_ns = order_states.asked_ns(order)
            self._answered_up_to[reply.step] = max(asked_ns, self._answered_up_to.get(reply.step, asked_ns))

    async def handle(self, message: Sent) -> None:
        """`on_reply` for whoever delivers messages; of any other kind is a defect of the wiring: TypeError."""
        if not isinstance(message, StepDone | StepRefused):
            raise TypeError(f"orders takes replies, not {type(message).__name__}")
        await self.on_reply(message)

    async def ask_again(self) -> bool:
        """Ask again about at most BATCH orders that are due; return whether there may be more.

        Raise what the repository raises: then nothing was asked.
        """
        now_ns = self._clock_ns()

        def find(unit: Unit) -> list[Record]:
            return unit.due("order", now_ns, now_ns + OTHER_CLOCK_NS, BATCH)

        due = await self._repository.read(find)
        if due:
            given_up = await self._repository.write(
                lambda unit: _ask_about(unit, [o.id for o in due], now_ns, self._overtaken)
            )
            log.info("asked-again", orders=len(due), given_up=given_up)
        return len(due) == BATCH

    def _overtaken(self, order: Record) -> bool:
        """Whether commands asked for later than this order's have been answered."""
        awaited = [type(command).__name__ for command in order_states.outstanding(order)]
        asked_ns = order_states.asked_ns(order)
        return any(self._answered_up_to.get(step, 0) > asked_ns + OVERTAKEN_NS for step in awaited)

    async def unfinished(self) -> int:
        """How many orders are not at their end."""
        return await self._repository.read(lambda unit: unit.count("order", UNFINISHED))


class AsyncRegistration:
    """Opens and finds accounts; whoever listens hears of them later."""

    def __init__(self, repository: Repository, clock_ns: Callable[[], int]) -> None:
        """`clock_ns` is CLOCK_MONOTONIC, nanoseconds."""
        self._repository = repository
        self._clock_ns = clock_ns

    async def find(self, account_id: str) -> Record:
        """Raise ProblemError(NOT_FOUND) for an account that never was."""
        account = await self._repository.read(lambda unit: unit.get("user", account_id))
        if account is None:
            raise ProblemError(problems.NOT_FOUND, f"no account {account_id!r}")
        return account

    async def register(self, command: RegisterAccount) -> Record:
        """Open the account; a repeated command gets the same answer.

        Raise ProblemError: KEY_REUSED; what the repository raises.
        """
        account = domain.new_account(command, self._clock_ns())
        return await self._repository.write(lambda unit: _open(unit, account))


def _accept(unit: Unit, wanted: Moved) -> Record:
    existing = unit.get("order", wanted.order.id, lock=True)
    if existing is not None:
        domain.repeated(existing, wanted.order)
        return wanted.order
    unit.insert(wanted.order)
    _send(unit, wanted)
    return wanted.order


def _move(unit: Unit, order: Record, moved: Moved | None) -> Record:
    if moved is None:
        return order
    unit.update(moved.order)
    _send(unit, moved)
    return moved.order


def _send(unit: Unit, moved: Moved) -> None:
    for message in moved.messages:
        unit.enqueue(message, subject=moved.order.id)


def _ask_about(unit: Unit, order_ids: list[str], now_ns: int, overtaken: Callable[[Record], bool]) -> int:
    """Return how many orders were given up."""
    given_up = 0
    for order_id in order_ids:
        order = _existing(unit.get("order", order_id, lock=True), order_id)
        if order.due_ns > now_ns + OTHER_CLOCK_NS or 0 < order.due_ns <= now_ns:  # else it was answered meanwhile
            moved = order_states.unheard(order, now_ns, unsent=unit.is_waiting(order_id), overtaken=overtaken(order))
            given_up += _move(unit, order, moved).state != order.state
    return given_up


def _open(unit: Unit, account: Record) -> Record:
    existing = unit.get("user", account.id, lock=True)
    if existing is not None:
        domain.repeated(existing, account)
        return existing
    unit.insert(account)
    announcement = AccountRegistered(
        account_id=account.id, key=account.key, name=account.detail["name"], email=account.detail["email"]
    )
    unit.enqueue(announcement, subject=account.id)
    return account


def _existing(order: Record | None, order_id: str) -> Record:
    if order is None:
        raise ProblemError(problems.NOT_FOUND, f"no order {order_id!r}")
    return order
