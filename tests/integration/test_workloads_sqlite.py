"""Two parties at one SQLite file: what a service does while somebody else holds a lock."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from workloads.adapters import sql
from workloads.adapters.sql import BUSY_TIMEOUT_MS, SqlRepository
from workloads.adapters.sql_outbox import statements
from workloads.adapters.sql_records import record_table
from workloads.adapters.statements import Statement
from workloads.domain import Record
from workloads.messages import StepDone
from workloads.ports import Unit
from workloads.problems import DATABASE_UNAVAILABLE, ProblemError

pytestmark = pytest.mark.slow


def record(number: int) -> Record:
    return Record(kind="order", id=f"o-{number}", subject="s", key="k", state="pending")


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[SqlRepository]:
    found = SqlRepository(f"sqlite:///{tmp_path}/shop.db")
    await found.open()
    yield found
    await found.close()


@pytest.fixture
def other(tmp_path: Path, repository: SqlRepository) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "shop.db", isolation_level=None, timeout=1)


async def refused(repository: SqlRepository, number: int) -> None:
    with pytest.raises(ProblemError) as caught:
        await repository.write(lambda unit: unit.insert(record(number)))
    assert caught.value.kind is DATABASE_UNAVAILABLE


async def test_a_reader_in_the_way_of_a_commit_leaves_no_lock_behind(
    repository: SqlRepository, other: sqlite3.Connection
) -> None:
    await repository.write(lambda unit: unit.insert(record(1)))
    other.execute("BEGIN")
    assert other.execute("SELECT count(*) FROM records").fetchone() == (1,)
    await refused(repository, 2)
    other.execute("COMMIT")
    other.execute("UPDATE records SET quantity = 7")
    await asyncio.sleep(sql.COOL_DOWN_S)
    await repository.write(lambda unit: unit.insert(record(2)))
    found = await repository.read(lambda unit: unit.in_state("order", ("pending",), 9))
    assert [(r.id, r.quantity) for r in found] == [("o-1", 7), ("o-2", 0)]
    other.close()


async def test_a_short_lock_is_waited_for_and_the_loop_goes_on_meanwhile(
    repository: SqlRepository, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN EXCLUSIVE")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    writing = asyncio.ensure_future(repository.write(lambda unit: unit.insert(record(1))))
    await asyncio.sleep(BUSY_TIMEOUT_MS / 3000)
    other.execute("COMMIT")
    await writing
    ticking.cancel()
    assert ticks >= 5
    other.close()


async def test_a_long_lock_is_refused_in_time_for_all_who_wait(
    repository: SqlRepository, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    await asyncio.gather(*(refused(repository, number) for number in range(20)))
    assert time.monotonic() - started < 5 * BUSY_TIMEOUT_MS / 1000
    other.close()


async def test_two_services_on_one_file_never_lose_an_update(tmp_path: Path, repository: SqlRepository) -> None:
    second = SqlRepository(f"sqlite:///{tmp_path}/shop.db")
    await second.open()
    await repository.write(lambda unit: unit.insert(record(1)))

    def count(unit: Unit) -> None:
        found = unit.get("order", "o-1", lock=True)
        assert found is not None
        unit.update(Record(kind="order", id="o-1", subject="", key="", state="pending", quantity=found.quantity + 1))

    async def work(side: SqlRepository) -> int:
        done = 0
        for _ in range(100):
            try:
                await side.write(count)
                done += 1
            except ProblemError:
                await asyncio.sleep(sql.COOL_DOWN_S)
        return done

    done = sum(await asyncio.gather(work(repository), work(second)))
    found = await repository.read(lambda unit: unit.get("order", "o-1"))
    assert found is not None
    assert found.quantity == done > 0
    await second.close()


STATEMENTS = {
    f"{table}.{name}": found
    for table, of in (("records", record_table("")), ("outbox", statements("")))
    for name, found in vars(of).items()
    if isinstance(found, Statement | sa.ClauseElement)
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_is_one_that_postgresql_knows(name: str) -> None:
    found, dialect = STATEMENTS[name], postgresql.dialect()
    text = found.text(dialect) if isinstance(found, Statement) else str(found.compile(dialect=dialect))
    assert ("FOR UPDATE" in text) == (name == "records.get_locked")
    assert "PRAGMA" not in text


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda unit: unit.in_state("order", ("pending",), 9), "unfinished"),
        (lambda unit: unit.count("order", ("pending",)), "unfinished"),
        (lambda unit: unit.due("order", 5, 9, 9), "awaited"),
        (lambda unit: unit.is_waiting("o-1"), "ix_outbox_subject"),
    ],
)
async def test_what_is_looked_for_again_and_again_is_found_by_an_index_over_the_few_that_wait(
    repository: SqlRepository, other: sqlite3.Connection, ask: Callable[[Unit], object], index: str
) -> None:
    told: list[str] = []

    def listen(unit: sql.SqlUnit) -> None:
        connection = unit._connection.connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        connection.set_trace_callback(told.append)
        ask(unit)
        connection.set_trace_callback(None)

    await repository.read(listen)
    (statement,) = told
    plan = other.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
    assert any(f"INDEX {index} " in str(row[-1]) for row in plan), (statement, plan)
    other.close()


async def test_two_services_in_one_database_see_nothing_of_each_other_but_the_lock(tmp_path: Path) -> None:
    orders, payments = (SqlRepository(f"sqlite:///{tmp_path}/shop.db", prefix=p) for p in ("orders_", "payments_"))
    await orders.open()
    await payments.open()
    message = StepDone(order_id="o-1", key="k", step="ReserveStock")

    def place(unit: Unit) -> None:
        unit.insert(record(1))
        unit.enqueue(message, subject="o-1")

    await orders.write(place)
    assert [len(await side.read(lambda unit: unit.page(("order",), ("", ""), 9))) for side in (orders, payments)] == [
        1,
        0,
    ]
    assert [await side.unpublished() for side in (orders, payments)] == [1, 0]
    holder = sqlite3.connect(tmp_path / "shop.db", isolation_level=None, timeout=1)
    holder.execute("BEGIN EXCLUSIVE")
    await refused(orders, 2)
    await refused(payments, 2)
    holder.close()
    await orders.close()
    await payments.close()
