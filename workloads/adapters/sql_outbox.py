"""Where do messages wait for the relay? In a table beside the records, so that one commit covers both.

A row is deleted once its message is published: the table holds what is still owed, and stays small. Its
numbers are never used twice, so that forgetting a message again cannot hit another one. `VolatileOutbox`
is the flaw this table exists against: it keeps messages in memory from the commit on, and whatever the
process has not published when it dies is never published.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import sqlalchemy as sa
from opentelemetry.trace import get_current_span

from workloads.adapters.statements import Statement
from workloads.messages import BY_NAME, Sent
from workloads.ports import Outgoing


class _Statements:
    """An outbox' table, and every statement on it."""

    def __init__(self, prefix: str) -> None:
        self.metadata = sa.MetaData()
        outbox = sa.Table(
            f"{prefix}outbox",
            self.metadata,
            sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
            sa.Column("id", sa.String(32), nullable=False),
            sa.Column("subject", sa.String(96), nullable=False, index=True),
            sa.Column("type", sa.String(32), nullable=False),
            sa.Column("body", sa.Text, nullable=False),
            sa.Column("at_ns", sa.BigInteger, nullable=False),
            sa.Column("traceparent", sa.String(64), nullable=False),
            sqlite_autoincrement=True,
        )
        self.add = Statement(outbox.insert().inline(), [column.name for column in outbox.c if column.name != "seq"])
        self.waiting = Statement(
            sa.select(outbox)
            .where(outbox.c.seq > sa.bindparam("after"))
            .order_by(outbox.c.seq)
            .limit(sa.bindparam("a_limit", type_=sa.Integer))
        )
        self.forget = Statement(outbox.delete().where(outbox.c.seq == sa.bindparam("a_seq")))
        self.count = Statement(sa.select(sa.func.count()).select_from(outbox))
        self.has = Statement(sa.select(outbox.c.seq).where(outbox.c.subject == sa.bindparam("a_subject")).limit(1))


statements = lru_cache(maxsize=None)(_Statements)
"""Those of the outbox whose table's name begins with a prefix; compiled once per prefix."""

Row = tuple[str, str, Sent, int, str]
"""What is known of a message before it has a number: id, subject, message, at_ns, traceparent."""


def row(message: Sent, subject: str) -> Row:
    """To be called in the context of the work that enqueues it."""
    return os.urandom(16).hex(), subject, message, time.monotonic_ns(), _traceparent()


class Outbox(Protocol):
    """Both kinds. `connection` is in the transaction that the caller ends."""

    def add(self, connection: sa.Connection, rows: Sequence[Row]) -> None: ...

    def committed(self, rows: Sequence[Row]) -> None:
        """The transaction that added them is committed."""
        ...

    def waiting(self, connection: sa.Connection, limit: int, after: int) -> list[Outgoing]: ...

    def forget(self, connection: sa.Connection, seqs: Sequence[int]) -> None: ...

    def count(self, connection: sa.Connection) -> int: ...

    def has(self, connection: sa.Connection, subject: str) -> bool: ...


class StoredOutbox:
    """In the table."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix` begins the table's name."""
        self._sql = statements(prefix)

    def create(self, engine: sa.Engine) -> None:
        """Create the table, where missing."""
        self._sql.metadata.create_all(engine)

    def add(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        for message_id, subject, message, at_ns, traceparent in rows:
            values = {
                "id": message_id,
                "subject": subject,
                "type": type(message).__name__,
                "body": json.dumps({name: getattr(message, name) for name in message.__slots__}),
                "at_ns": at_ns,
                "traceparent": traceparent,
            }
            self._sql.add.run(connection, values)

    def committed(self, rows: Sequence[Row]) -> None:
        pass

    def waiting(self, connection: sa.Connection, limit: int, after: int) -> list[Outgoing]:
        return [_outgoing(found) for found in self._sql.waiting.rows(connection, {"after": after, "a_limit": limit})]

    def forget(self, connection: sa.Connection, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self._sql.forget.run(connection, {"a_seq": seq})

    def count(self, connection: sa.Connection) -> int:
        (number,) = self._sql.count.rows(connection, {})[0]
        return int(number)

    def has(self, connection: sa.Connection, subject: str) -> bool:
        return self._sql.has.first(connection, {"a_subject": subject}) is not None


class VolatileOutbox:
    """In memory, from the commit on. Not for a shop that must not lose messages."""

    def __init__(self) -> None:
        self._rows: dict[int, Outgoing] = {}
        self._seq = 0

    def add(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        pass

    def committed(self, rows: Sequence[Row]) -> None:
        for message_id, subject, message, at_ns, traceparent in rows:
            self._seq += 1
            self._rows[self._seq] = Outgoing(
                seq=self._seq, id=message_id, subject=subject, message=message, at_ns=at_ns, traceparent=traceparent
            )

    def waiting(self, connection: sa.Connection, limit: int, after: int) -> list[Outgoing]:
        return [found for found in self._rows.values() if found.seq > after][:limit]

    def forget(self, connection: sa.Connection, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self._rows.pop(seq, None)

    def count(self, connection: sa.Connection) -> int:
        return len(self._rows)

    def has(self, connection: sa.Connection, subject: str) -> bool:
        return any(found.subject == subject for found in list(self._rows.values()))


def _outgoing(found: Any) -> Outgoing:
    seq, message_id, subject, kind, body, at_ns, traceparent = found
    return Outgoing(
        seq=seq,
        id=message_id,
        subject=subject,
        message=BY_NAME[kind](**json.loads(body)),
        at_ns=at_ns,
        traceparent=traceparent,
    )


def _traceparent() -> str:
    """W3C Trace Context of the span at work, '' outside of one that is recorded."""
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
