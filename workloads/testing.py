"""What must every implementation of a port do? Conformance suites as functions that take a factory.

    async def test_sql_repository(): await check_repository(make_sqlite)

A factory is an async context manager that yields a fresh instance. Each suite runs on the in-memory fake
and on every real adapter, so a fake never promises what the real one does not keep. `MemoryShop` wires
the whole domain to the fakes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from workloads import deadline, domain, problems
from workloads.adapters.fan_out import FanOutPublisher
from workloads.adapters.memory import MemoryCaller, MemoryRepository
from workloads.adapters.routes import RECEIVERS
from workloads.domain import Record
from workloads.handlers.compensator import Effects, Undoing
from workloads.handlers.inbox import TransactionalInbox
from workloads.handlers.leaves import HANDLERS
from workloads.handlers.registration import Registration
from workloads.handlers.saga import OrderSaga
from workloads.messages import (
    CapturePayment,
    OrderConfirmed,
    OrderWithdrawn,
    RefundPayment,
    ReleaseStock,
    ReserveStock,
)
from workloads.ports import (
    Caller,
    CallFailed,
    CallRefused,
    Conflict,
    Inbox,
    Publisher,
    PublishFailed,
    Repository,
    Unit,
)
from workloads.problems import ProblemError

E = TypeVar("E", bound=Exception)


class MemoryShop:
    """All services but the storefront, wired in memory; failed work is queued and undone when `undo_all` is called."""

    def __init__(self, *, disabled: frozenset[str] = frozenset(), now_ns: Callable[[], int] = lambda: 0) -> None:
        self.repositories = {name: MemoryRepository() for name in (*HANDLERS, "orders", "accounts")}
        self.repositories["inventory"].records.update({(r.kind, r.id): r for r in domain.stock()})
        inboxes = {
            name: TransactionalInbox(self.repositories[name], handlers, now_ns, disabled)
            for name, handlers in HANDLERS.items()
        }
        self.caller = MemoryCaller(inboxes, RECEIVERS)
        self.handed_over: list[Undoing] = []
        effects = Effects(clock_ns=now_ns, hand_over=self._hand_over, disabled=disabled)
        publisher = FanOutPublisher(self.caller.send)
        self.saga = OrderSaga(self.repositories["orders"], self.caller, publisher, effects)
        self.registration = Registration(self.repositories["accounts"], publisher, effects)

    def _hand_over(self, subject: str, done: Sequence[str]) -> None:
        self.handed_over.append(Undoing(subject, set(done)))

    def records(self, service: str, kind: str) -> list[Record]:
        """What a service has recorded, in order of id."""
        found = self.repositories[service].records
        return [found[key] for key in sorted(found) if key[0] == kind]

    def states(self) -> dict[str, list[str]]:
        """States of every effect of orders and accounts, by kind; kinds without records are left out."""
        kinds = {
            "order": "orders",
            "user": "accounts",
            "reservation": "inventory",
            "capture": "payments",
            "shipment": "shipping",
            "mail": "email",
            "event": "analytics",
            "entry": "cache",
        }
        found = {kind: [r.state for r in self.records(service, kind)] for kind, service in kinds.items()}
        return {kind: states for kind, states in found.items() if states}

    def missing_units(self) -> int:
        """Units that are on no shelf."""
        return sum(shelf.initial - shelf.quantity for shelf in self.records("inventory", "stock"))

    async def undo_all(self) -> None:
        """Do what the compensator does: undo what was handed over or is found, until nothing is left."""
        subjects = [work.subject for work in self.handed_over]
        subjects += await self.saga.unfinished(1000) + await self.registration.unfinished(1000)
        for subject in subjects:
            await self.saga.undo(Undoing(subject))
            await self.registration.undo(Undoing(subject))
        self.handed_over.clear()


# --- Repository ---------------------------------------------------------------------------------


async def _raised(job: Awaitable[object], expected: type[E]) -> E:
    """The exception that a job ends with; AssertionError if it ends without one."""
    try:
        await job
    except expected as error:
        return error
    raise AssertionError(f"no {expected.__name__} was raised")


MakeRepository = Callable[[], AbstractAsyncContextManager[Repository]]


def _record(number: int, state: str = "pending", *, quantity: int = 0, initial: int = 0, at_ns: int = 0) -> Record:
    return Record(
        kind="order",
        id=f"o-{number}",
        subject=f"o-{number}",
        key=f"k-{number}",
        state=state,
        quantity=quantity,
        initial=initial,
        at_ns=at_ns,
    )


async def check_repository(make: MakeRepository) -> None:
    """Everything ports.Repository and ports.Unit promise."""
    for check in (
        _keeps_what_is_inserted,
        _changes_only_what_may_change,
        _rolls_back_as_a_whole,
        _runs_a_conflict_again_once,
        _lists_by_state_and_age,
        _pages_through_everything_once,
        _refuses_work_whose_caller_is_gone,
        _finds_what_is_due_earliest_first,
        _counts_by_state,
        _keeps_messages_in_order_until_they_are_published,
        _keeps_no_message_of_what_was_rolled_back,
        _never_gives_a_number_twice,
        _knows_whether_a_subject_waits,
    ):
        async with make() as repository:
            await check(repository)


async def _insert(repository: Repository, *records: Record) -> None:
    def work(unit: Unit) -> None:
        for record in records:
            unit.insert(record)

    await repository.write(work)


async def _keeps_what_is_inserted(repository: Repository) -> None:
    record = replace(_record(1, quantity=-5, initial=2**40, at_ns=2**62), detail={"name": 'ü"\\ 💡'})
    await _insert(repository, record)
    assert await repository.read(lambda unit: unit.get("order", "o-1")) == record
    assert await repository.write(lambda unit: unit.get("order", "o-1", lock=True)) == record
    assert await repository.read(lambda unit: unit.get("capture", "o-1")) is None


async def _changes_only_what_may_change(repository: Repository) -> None:
    record = _record(1, at_ns=7)
    await _insert(repository, record)
    changed = replace(record, state="confirmed", quantity=3, due_ns=8, detail={"a": "b"})
    await repository.write(lambda unit: unit.update(replace(changed, key="another", at_ns=9)))
    found = await repository.read(lambda unit: unit.get("order", "o-1"))
    assert found is not None
    assert found == replace(changed, key=record.key, at_ns=record.at_ns)


async def _rolls_back_as_a_whole(repository: Repository) -> None:
    def work(unit: Unit) -> None:
        unit.insert(_record(1))
        raise ProblemError(problems.OUT_OF_STOCK, "on purpose")

    assert (await _raised(repository.write(work), ProblemError)).kind is problems.OUT_OF_STOCK
    assert await repository.read(lambda unit: unit.get("order", "o-1")) is None


async def _runs_a_conflict_again_once(repository: Repository) -> None:
    await _insert(repository, _record(1))
    runs = 0

    def work(unit: Unit) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            unit.insert(_record(1))
        return "second"

    assert await repository.write(work) == "second"
    await _raised(repository.write(lambda unit: unit.insert(_record(1))), Conflict)


async def _lists_by_state_and_age(repository: Repository) -> None:
    old, new, done = _record(2, at_ns=1), _record(1, "compensating", at_ns=2), _record(3, "confirmed")
    await _insert(repository, new, old, done)
    states = ("pending", "compensating", "cancelling")
    assert await repository.read(lambda unit: unit.in_state("order", states, 10)) == [old, new]
    assert await repository.read(lambda unit: unit.in_state("order", states, 1)) == [old]
    assert await repository.read(lambda unit: unit.in_state("user", states, 10)) == []


async def _pages_through_everything_once(repository: Repository) -> None:
    records = [_record(number) for number in range(5)]
    mail = replace(_record(9), kind="mail")
    await _insert(repository, *records, mail, replace(_record(0), kind="zebra"))
    seen: list[Record] = []
    after = ("", "")
    for _ in range(10):
        page = await repository.read(partial(_page, after))
        if not page:
            break
        seen += page
        after = (page[-1].kind, page[-1].id)
    assert seen == [mail, *records]


def _page(after: tuple[str, str], unit: Unit) -> list[Record]:
    return unit.page(("order", "mail"), after, 2)


async def _refuses_work_whose_caller_is_gone(repository: Repository) -> None:
    for access in (repository.read, repository.write):
        with deadline.within(-0.001):
            assert (await _raised(access(_must_not_run), ProblemError)).kind is problems.DEADLINE_EXCEEDED


def _must_not_run(_unit: Unit) -> None:
    raise AssertionError("expired work was begun")


async def _finds_what_is_due_earliest_first(repository: Repository) -> None:
    late, early, later, never, strange = (
        replace(_record(number, "confirmed"), due_ns=due_ns) for number, due_ns in enumerate((20, 10, 31, 0, 10**18))
    )
    await _insert(repository, late, early, later, never, strange, replace(early, kind="mail"))
    assert await repository.read(lambda unit: unit.due("order", 30, 10**17, 10)) == [early, late, strange]
    assert await repository.read(lambda unit: unit.due("order", 30, 10**17, 1)) == [early]


async def _counts_by_state(repository: Repository) -> None:
    await _insert(repository, _record(1), _record(2, "cancelling"), _record(3, "confirmed"))
    assert await repository.read(lambda unit: unit.count("order", ("pending", "cancelling"))) == 2
    assert await repository.read(lambda unit: unit.count("order", ("compensating",))) == 0


async def _enqueue(repository: Repository, *subjects: str) -> None:
    def work(unit: Unit) -> None:
        for subject in subjects:
            unit.enqueue(ReleaseStock(order_id=subject, key="k"), subject=subject)

    await repository.write(work)


async def _keeps_messages_in_order_until_they_are_published(repository: Repository) -> None:
    told: list[int] = []
    repository.on_enqueued = lambda: told.append(1)
    await _enqueue(repository, "o-2", "o-1")
    await _enqueue(repository, "o-2")
    await _enqueue(repository)
    assert told == [1, 1]
    found = await repository.waiting(10)
    assert [outgoing.message for outgoing in found] == [
        ReleaseStock(order_id=subject, key="k") for subject in ("o-2", "o-1", "o-2")
    ]
    assert [outgoing.subject for outgoing in found] == ["o-2", "o-1", "o-2"]
    assert len({outgoing.id for outgoing in found}) == 3
    assert await repository.waiting(2) == found[:2]
    assert await repository.waiting(10, found[0].seq) == found[1:]
    for _ in range(2):
        await repository.published([found[0].seq, found[1].seq])
    await repository.published([])
    assert await repository.waiting(10) == found[2:]
    assert await repository.unpublished() == 1


async def _keeps_no_message_of_what_was_rolled_back(repository: Repository) -> None:
    def work(unit: Unit) -> None:
        unit.enqueue(ReleaseStock(order_id="o-1", key="k"), subject="o-1")
        raise ProblemError(problems.OUT_OF_STOCK, "on purpose")

    await _raised(repository.write(work), ProblemError)
    assert await repository.waiting(10) == []


async def _never_gives_a_number_twice(repository: Repository) -> None:
    await _enqueue(repository, "o-1")
    (first,) = await repository.waiting(1)
    await repository.published([first.seq])
    await _enqueue(repository, "o-2")
    await repository.published([first.seq])
    assert await repository.unpublished() == 1


async def _knows_whether_a_subject_waits(repository: Repository) -> None:
    await _enqueue(repository, "o-1")
    assert await repository.read(lambda unit: unit.is_waiting("o-1"))
    assert not await repository.read(lambda unit: unit.is_waiting("o-2"))


# --- Inbox --------------------------------------------------------------------------------------

MakeInbox = Callable[[], AbstractAsyncContextManager[Inbox]]


async def check_inbox(make: MakeInbox) -> None:
    """Everything ports.Inbox promises, on the inbox of payments."""
    capture = CapturePayment(order_id="o-1", key="k-1", amount_cents=500)
    refund = RefundPayment(order_id="o-1", key="k-1")
    async with make() as inbox:
        assert (await inbox.accept(capture)).created
        assert not (await inbox.accept(capture)).created
        await _refuses(inbox, replace(capture, amount_cents=501), problems.KEY_REUSED)
        first = (await inbox.accept(refund)).body["state"]
        again = (await inbox.accept(refund)).body["state"]
        assert (first, again) == ("refunded", "settled")
        await _refuses(inbox, capture, problems.ALREADY_UNDONE)
    async with make() as inbox:  # an undo that overtakes its original
        await inbox.accept(refund)
        await _refuses(inbox, capture, problems.ALREADY_UNDONE)


async def _refuses(inbox: Inbox, message: CapturePayment, kind: problems.ProblemType) -> None:
    error = await _raised(inbox.accept(message), ProblemError)
    assert error.kind is kind, error


# --- Caller -------------------------------------------------------------------------------------


class CallerBench(Protocol):
    """A caller with payments and inventory at the other end."""

    @property
    def caller(self) -> Caller: ...

    async def lose_answers(self) -> None:
        """From here on payments acts, but its answers do not arrive."""
        ...

    async def stop(self) -> None:
        """From here on nobody is where payments was."""
        ...

    async def captures(self) -> list[Record]:
        """What payments has recorded."""
        ...


MakeCaller = Callable[[], AbstractAsyncContextManager[CallerBench]]


async def check_caller(make: MakeCaller) -> None:
    """Everything ports.Caller promises."""
    capture = CapturePayment(order_id="o-1", key="k-1", amount_cents=500)
    async with make() as bench:
        first = await bench.caller.call(capture)
        assert first == await bench.caller.call(capture)
        assert [record.state for record in await bench.captures()] == ["captured"]
        await _is_refused(bench.caller, ReserveStock(order_id="o-2", key="k-2", product="none", quantity=1))
        await bench.stop()
        error = await _fails(bench.caller, RefundPayment(order_id="o-1", key="k-1"))
        assert error.definite, error
        assert [record.state for record in await bench.captures()] == ["captured"]
    async with make() as bench:
        await bench.lose_answers()
        error = await _fails(bench.caller, capture)
        assert not error.definite, error
        assert [record.state for record in await bench.captures()] == ["captured"]


async def _is_refused(caller: Caller, message: ReserveStock) -> None:
    error = await _raised(caller.call(message), CallRefused)
    assert error.problem.kind is problems.UNKNOWN_PRODUCT, error
    assert error.definite


async def _fails(caller: Caller, message: CapturePayment | RefundPayment) -> CallFailed:
    return await _raised(caller.call(message), CallFailed)


# --- Publisher ----------------------------------------------------------------------------------


class PublisherBench(Protocol):
    """A publisher with its consumers."""

    @property
    def publisher(self) -> Publisher: ...

    async def break_consumer(self) -> None:
        """From here on one consumer, not the first, cannot be reached."""
        ...

    async def heard(self) -> dict[str, list[str]]:
        """Consumer -> states of what it recorded."""
        ...


MakePublisher = Callable[[], AbstractAsyncContextManager[PublisherBench]]


async def check_publisher(make: MakePublisher) -> None:
    """Everything ports.Publisher promises."""
    event = OrderConfirmed(order_id="o-1", key="k-1", product="p-01", quantity=1, amount_cents=999, email="a@b")
    withdrawal = OrderWithdrawn(order_id="o-1", key="k-1")
    async with make() as bench:
        for _ in range(2):
            await bench.publisher.publish(event)
        assert await bench.heard() == {"email": ["confirmation"], "analytics": ["present"], "cache": ["present"]}
        await bench.publisher.publish(withdrawal)
        assert await bench.heard() == {"email": ["retracted"], "analytics": ["removed"], "cache": ["removed"]}
    async with make() as bench:
        await bench.break_consumer()
        error = await _raised(bench.publisher.publish(event), PublishFailed)
        assert set(error.told) == {name for name, states in (await bench.heard()).items() if states}
