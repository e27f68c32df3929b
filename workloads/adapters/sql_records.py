"""Which table holds a service's records, and which statements work on it? One table, each statement compiled once.

Services that share a database (they should not, and one broken variant does) tell their tables apart by a prefix.
"""

from __future__ import annotations

from functools import lru_cache

import sqlalchemy as sa

from workloads.adapters.statements import Statement

UNFINISHED_STATES = ("pending", "compensating", "cancelling")


class RecordTable:
    """The table with a prefix, and all that is ever asked of it."""

    def __init__(self, prefix: str) -> None:
        self.metadata = sa.MetaData()
        records = sa.Table(
            f"{prefix}records",
            self.metadata,
            sa.Column("kind", sa.String(16), primary_key=True),
            sa.Column("id", sa.String(96), primary_key=True),
            sa.Column("subject", sa.String(96), nullable=False),
            sa.Column("key", sa.String(128), nullable=False),
            sa.Column("state", sa.String(16), nullable=False),
            sa.Column("quantity", sa.BigInteger, nullable=False),
            sa.Column("initial", sa.BigInteger, nullable=False),
            sa.Column("at_ns", sa.BigInteger, nullable=False),
            sa.Column("due_ns", sa.BigInteger, nullable=False),
            sa.Column("detail", sa.Text, nullable=False),
        )
        # partial: the finished majority costs nothing, and scans stay cheap. Their conditions are text without
        # parameters, because a database takes a partial index only for a query that implies its condition whatever
        # the parameters are
        unfinished = sa.text(f"state IN ({', '.join(map(repr, UNFINISHED_STATES))})")
        awaited = sa.text("due_ns > 0")
        for name, column, where in (
            ("unfinished", records.c.at_ns, unfinished),
            ("awaited", records.c.due_ns, awaited),
        ):
            sa.Index(f"{prefix}{name}", records.c.kind, column, sqlite_where=where, postgresql_where=where)
        of_kind = records.c.kind == sa.bindparam("a_kind")
        by_id = of_kind & (records.c.id == sa.bindparam("an_id"))
        in_states = (of_kind, unfinished, records.c.state.in_(sa.bindparam("states", expanding=True)))
        limit = sa.bindparam("a_limit", type_=sa.Integer)
        self.get = Statement(sa.select(records).where(by_id))
        self.get_locked = Statement(sa.select(records).where(by_id).with_for_update())
        self.insert = Statement(records.insert())
        self.update = Statement(
            records.update()
            .where(by_id)
            .values(
                state=sa.bindparam("a_state"),
                quantity=sa.bindparam("a_quantity"),
                due_ns=sa.bindparam("a_due_ns"),
                detail=sa.bindparam("a_detail"),
            )
        )
        self.in_state = sa.select(records).where(*in_states).order_by(records.c.at_ns).limit(limit)
        self.count = sa.select(sa.func.count()).where(*in_states)
        self.due = Statement(
            sa.select(records)
            .where(
                awaited,
                of_kind,
                (records.c.due_ns <= sa.bindparam("until_ns")) | (records.c.due_ns > sa.bindparam("beyond_ns")),
            )
            .order_by(records.c.due_ns)
            .limit(limit)
        )
        after = sa.tuple_(sa.bindparam("after_kind"), sa.bindparam("after_id"))
        self.page = (
            sa.select(records)
            .where(
                records.c.kind.in_(sa.bindparam("kinds", expanding=True)),
                sa.tuple_(records.c.kind, records.c.id) > after,
            )
            .order_by(records.c.kind, records.c.id)
            .limit(limit)
        )


record_table = lru_cache(maxsize=None)(RecordTable)
"""The one with a prefix; made, and its statements compiled, once."""
