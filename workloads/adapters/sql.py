"""How are records kept in a relational database? SQLAlchemy Core; SQLite here, PostgreSQL a URL away.

One table per service holds every record (`sql_records`), another one its outbox (`sql_outbox`). Work that
may have to wait runs in threads of its own, so that a slow or locked database never stops the event loop
(and liveness with it). A local SQLite file that is free is quicker than the way to a thread and back (0.3
against 0.7 ms per transaction, measured in a running service), so work on it is tried at once, without
waiting for a lock, and handed to the thread if the file is taken. What only SQLite needs is in `_for_sqlite`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import local
from typing import Any, TypeVar

import sqlalchemy as sa
import sqlalchemy.dialects.sqlite  # most often needed, and a tenth of a second: once for all that are forked

from workloads import deadline
from workloads.adapters import rds, sql_outbox
from workloads.adapters.sql_outbox import Outbox, Row, StoredOutbox
from workloads.adapters.sql_records import RecordTable, record_table
from workloads.domain import Record
from workloads.messages import Sent
from workloads.ports import Conflict, Outgoing
from workloads.problems import COMMIT_UNKNOWN, DATABASE_UNAVAILABLE, ProblemError

T = TypeVar("T")

BUSY_TIMEOUT_MS = 200
"""How long SQLite waits for a lock: below every caller's timeout, so that the answer is a refusal, not a silence."""
COOL_DOWN_S = 0.05
"""After a refusal, work that has queued up behind it is refused at once instead of waiting for the lock in turn."""
POOL_THREADS = 4
"""Transactions at once on a server database. SQLite has one writer, so it gets one thread."""


class SqlUnit:
    """One transaction on a connection."""

    def __init__(self, connection: sa.Connection, table: RecordTable, outbox: Outbox) -> None:
        self._connection = connection
        self._table = table
        self._outbox = outbox
        self.enqueued: list[Row] = []

    def get(self, kind: str, record_id: str, *, lock: bool = False) -> Record | None:
        statement = self._table.get_locked if lock else self._table.get
        row = statement.first(self._connection, {"a_kind": kind, "an_id": record_id})
        return None if row is None else _record(row)

    def insert(self, record: Record) -> None:
        try:
            self._table.insert.run(self._connection, _values(record))
        except sa.exc.IntegrityError as error:
            raise Conflict(f"{record.kind} {record.id}") from error

    def update(self, record: Record) -> None:
        self._table.update.run(
            self._connection,
            {
                "a_kind": record.kind,
                "an_id": record.id,
                "a_state": record.state,
                "a_quantity": record.quantity,
                "a_due_ns": record.due_ns,
                "a_detail": json.dumps(record.detail),
            },
        )

    def in_state(self, kind: str, states: Sequence[str], limit: int) -> list[Record]:
        """Only UNFINISHED_STATES can be asked for: the index holds no others."""
        wanted = {"a_kind": kind, "states": list(states), "a_limit": limit}
        rows = self._connection.execute(self._table.in_state, wanted)
        return [_record(row) for row in rows]

    def due(self, kind: str, until_ns: int, beyond_ns: int, limit: int) -> list[Record]:
        wanted = {"a_kind": kind, "until_ns": until_ns, "beyond_ns": beyond_ns, "a_limit": limit}
        return [_record(row) for row in self._table.due.rows(self._connection, wanted)]

    def count(self, kind: str, states: Sequence[str]) -> int:
        """Only UNFINISHED_STATES can be asked for."""
        return int(self._connection.execute(self._table.count, {"a_kind": kind, "states": list(states)}).scalar_one())

    def is_waiting(self, subject: str) -> bool:
        return self._outbox.has(self._connection, subject)

    def enqueue(self, message: Sent, *, subject: str) -> None:
        self.enqueued.append(sql_outbox.row(message, subject))

    def flush(self) -> None:
        """Write what is enqueued, as the last thing of the transaction."""
        if self.enqueued:
            self._outbox.add(self._connection, self.enqueued)

    def page(self, kinds: Sequence[str], after: tuple[str, str], limit: int) -> list[Record]:
        rows = self._connection.execute(
            self._table.page, {"kinds": list(kinds), "after_kind": after[0], "after_id": after[1], "a_limit": limit}
        )
        return [_record(row) for row in rows]


class SqlRepository:
    """The Repository port on a database. `open` before use, `close` at the end."""

    def __init__(self, url: str, outbox: Outbox | None = None, *, prefix: str = "") -> None:
        """Connects to nothing yet. The outbox is stored, unless another one is given.

        `prefix` begins the names of all tables: services that share a database must differ in it.
        """
        self.on_enqueued: Callable[[], None] = lambda: None
        self._table = record_table(prefix)
        self._stored = StoredOutbox(prefix)
        self._outbox = outbox or self._stored
        sqlite = sa.make_url(url).get_backend_name() == "sqlite"
        self._engine = sa.create_engine(url, **({} if sqlite else {"pool_pre_ping": True}))
        if sqlite:
            _for_sqlite(self._engine)
        else:
            rds.use_tokens(self._engine)
        self._pool = ThreadPoolExecutor(1 if sqlite else POOL_THREADS, thread_name_prefix="database")
        self._tries_at_once = sqlite
        self._at_once: sa.Connection | None = None
        self._queued = 0
        self._mine = local()
        self._opened: list[sa.Connection] = []
        self._refusing_until = 0.0

    async def open(self, seed: Sequence[Record] = ()) -> None:
        """Create the tables and add the seed records, where missing. Raise ProblemError(DATABASE_UNAVAILABLE)."""

        def sow(unit: SqlUnit) -> None:
            for record in seed:
                if unit.get(record.kind, record.id, lock=True) is None:
                    unit.insert(record)

        await self._run(lambda _connection: self._create(), None)
        await self.write(sow)
        if self._tries_at_once and self._at_once is None:
            self._at_once = self._engine.connect()
            _without_waiting(self._at_once)
            self._opened.append(self._at_once)

    def _create(self) -> None:
        self._table.metadata.create_all(self._engine)
        self._stored.create(self._engine)

    def _unit(self, connection: sa.Connection) -> SqlUnit:
        return SqlUnit(connection, self._table, self._outbox)

    async def close(self) -> None:
        """Let running work end, then drop the connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)
        for connection in self._opened:
            connection.close()
        self._engine.dispose()

    async def read(self, work: Callable[[SqlUnit], T]) -> T:
        """See ports.Repository."""
        return await self._read(lambda connection: work(self._unit(connection)))

    async def write(self, work: Callable[[SqlUnit], T]) -> T:
        """See ports.Repository."""
        until = deadline.current()

        def job(connection: sa.Connection) -> tuple[T, Sequence[Row]]:
            return _writing(connection, self._unit(connection), work)

        try:
            result, enqueued = await self._run(job, until)
        except Conflict:
            result, enqueued = await self._run(job, until)
        if enqueued:
            self._outbox.committed(enqueued)
            self.on_enqueued()
        return result

    async def waiting(self, limit: int, after: int = 0) -> list[Outgoing]:
        """See ports.Repository."""
        return await self._read(lambda connection: self._outbox.waiting(connection, limit, after))

    async def unpublished(self) -> int:
        """See ports.Repository."""
        return await self._read(self._outbox.count)

    async def _read(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._run(lambda connection: _reading(connection, work), deadline.current())

    async def published(self, seqs: Sequence[int]) -> None:
        """See ports.Repository."""
        if seqs:
            until = deadline.current()
            await self._run(lambda connection: _changing(connection, partial(self._outbox.forget, seqs=seqs)), until)

    async def _run(self, job: Callable[[sa.Connection], T], until: float | None) -> T:
        deadline.check(until)
        if self._at_once is not None and not self._queued:
            try:
                return job(self._at_once)
            except sa.exc.OperationalError:
                pass  # taken by somebody else: nothing was applied, and waiting is the thread's business
        self._queued += 1
        try:
            run = copy_context().run  # so that what is enqueued there belongs to the trace at work
            return await asyncio.get_running_loop().run_in_executor(self._pool, run, self._in_thread, job, until)
        finally:
            self._queued -= 1

    def _in_thread(self, job: Callable[[sa.Connection], T], until: float | None) -> T:
        deadline.check(until)
        if time.monotonic() < self._refusing_until:
            raise ProblemError(DATABASE_UNAVAILABLE, "the database has just refused other work")
        try:
            return job(self._connection())
        except sa.exc.DBAPIError as error:
            self._refusing_until = time.monotonic() + COOL_DOWN_S
            raise ProblemError(DATABASE_UNAVAILABLE, str(error.orig)) from error

    def _connection(self) -> sa.Connection:
        """This thread's connection, opened once: checking one out per transaction would cost more than the work."""
        found: sa.Connection | None = getattr(self._mine, "connection", None)
        if found is None or found.closed:
            found = self._mine.connection = self._engine.connect()
            self._opened.append(found)
        return found


def _reading(connection: sa.Connection, work: Callable[[sa.Connection], T]) -> T:
    transaction = connection.begin()
    try:
        return work(connection)
    finally:
        transaction.rollback()


def _writing(connection: sa.Connection, unit: SqlUnit, work: Callable[[SqlUnit], T]) -> tuple[T, Sequence[Row]]:
    def working(_connection: sa.Connection) -> T:
        result = work(unit)
        unit.flush()
        return result

    return _changing(connection, working), unit.enqueued


def _changing(connection: sa.Connection, work: Callable[[sa.Connection], T]) -> T:
    connection.info["writes"] = True
    try:
        transaction = connection.begin()
    finally:
        connection.info["writes"] = False
    try:
        result = work(connection)
    except BaseException:
        transaction.rollback()
        raise
    try:
        transaction.commit()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise ProblemError(COMMIT_UNKNOWN, str(error.orig)) from error
        # the driver's own: SQLAlchemy takes the transaction for ended, but in SQLite a COMMIT that met
        # a reader leaves it open, and with it a lock that nobody would ever release
        connection.connection.rollback()
        transaction.close()
        raise
    return result


def _record(row: Any) -> Record:
    kind, record_id, subject, key, state, quantity, initial, at_ns, due_ns, detail = row
    return Record(
        kind=kind,
        id=record_id,
        subject=subject,
        key=key,
        state=state,
        quantity=quantity,
        initial=initial,
        at_ns=at_ns,
        due_ns=due_ns,
        detail=json.loads(detail),
    )


def _values(record: Record) -> Mapping[str, Any]:
    return {
        "kind": record.kind,
        "id": record.id,
        "subject": record.subject,
        "key": record.key,
        "state": record.state,
        "quantity": record.quantity,
        "initial": record.initial,
        "at_ns": record.at_ns,
        "due_ns": record.due_ns,
        "detail": json.dumps(record.detail),
    }


def _for_sqlite(engine: sa.Engine) -> None:
    """The one place that knows SQLite: its pragmas and its way to begin.

    A rollback journal has a lock that stops readers too (a locked database is a fault this shop is tested
    with); TRUNCATE is its cheapest form that leaves nothing odd behind. synchronous=OFF because what must
    survive here is the death of a process, not of the machine. The driver's own transactions are off: a
    writer begins IMMEDIATE, so that it waits for the lock at once and never has to give up half way.
    """

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=TRUNCATE",
            "synchronous=OFF",
            "temp_store=MEMORY",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def begun(connection: sa.Connection) -> None:
        if connection.info.get("writes"):
            try:
                connection.connection.cursor().execute("BEGIN IMMEDIATE")  # 5 us; 40 through SQLAlchemy
            except sqlite3.Error as error:
                raise sa.exc.OperationalError("BEGIN IMMEDIATE", None, error) from error

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", begun)


def _without_waiting(connection: sa.Connection) -> None:
    """From here on a lock that somebody else holds is an error at once (SQLite only)."""
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    connection.rollback()
