"""How is a statement run for what it costs the database, and not many times that? Compiled once, then by the driver.

SQLAlchemy writes the SQL, once per kind of database, and keeps connections and transactions. Running a
statement through it takes ten times as long as the statement itself on a local SQLite file (160 against 16 us for
a row by its key), and a service does little else; so the driver's cursor runs it. Its errors become SQLAlchemy's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.elements import ClauseElement

Values = Mapping[str, Any]


class Statement:
    """One statement, ready for any database. Its values are given by the names of its parameters.

    Only for columns whose values the driver takes and gives as they are (numbers and text), and without
    expanding parameters. To be run inside a transaction of SQLAlchemy's.
    """

    def __init__(self, clause: ClauseElement, columns: Sequence[str] | None = None) -> None:
        """`columns`: those that an insert gives values for; None for all."""
        self._clause = clause
        self._columns = columns
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, Values]] = {}

    def text(self, dialect: sa.Dialect) -> str:
        """As a database of this kind is told."""
        return self._compile(dialect)[0]

    def run(self, connection: sa.Connection, values: Values) -> None:
        """Run it for its effect. Raise sqlalchemy.exc.DBAPIError."""
        self._execute(connection, values).close()

    def first(self, connection: sa.Connection, values: Values) -> tuple[Any, ...] | None:
        """Its first row, None without one. Raise sqlalchemy.exc.DBAPIError."""
        cursor = self._execute(connection, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        cursor.close()
        return row

    def rows(self, connection: sa.Connection, values: Values) -> list[tuple[Any, ...]]:
        """All its rows. Raise sqlalchemy.exc.DBAPIError."""
        cursor = self._execute(connection, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        cursor.close()
        return found

    def _execute(self, connection: sa.Connection, values: Values) -> Any:
        dialect = connection.dialect
        text, order, constants = self._compiled.get(dialect.name) or self._compile(dialect)
        cursor = connection.connection.cursor()
        given = {**constants, **values}
        try:
            cursor.execute(text, given if order is None else tuple(given[name] for name in order))
        except dialect.loaded_dbapi.Error as error:
            raise _translated(connection, cursor, text, error) from error
        return cursor

    def _compile(self, dialect: sa.Dialect) -> tuple[str, tuple[str, ...] | None, Values]:
        compiled: Any = self._clause.compile(dialect=dialect, column_keys=self._columns)
        order = tuple(compiled.positiontup) if compiled.positional else None
        found = self._compiled[dialect.name] = (str(compiled), order, dict(compiled.params))
        return found


def _translated(connection: sa.Connection, cursor: Any, text: str, error: Exception) -> BaseException:
    """The error as SQLAlchemy raises it; a connection that is lost is given up as SQLAlchemy does it."""
    dialect = connection.dialect
    lost = dialect.is_disconnect(error, connection.connection, cursor)  # type: ignore[arg-type]  # any DBAPI's error
    if lost:
        connection.invalidate(error)
    return sa.exc.DBAPIError.instance(
        text, None, error, dialect.loaded_dbapi.Error, connection_invalidated=lost, dialect=dialect
    )
