"""Insert many rows, several in one statement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dbctl import signals
from dbctl.engines.contract.database import Column
from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.types.columns import encode_for_column
from dbctl.engines.mysql.types.values import format_literal
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import ValueInvalidError

#: Characters of a statement that inserts several rows; a server accepts at least 16 MiB, in any encoding.
MAX_INSERT_CHARACTERS = 1 << 20
#: The row number inside one statement, which is not the number of the inserted row.
_ROW_SUFFIX = re.compile(r" at row \d+$")


class RowInserter:
    """Inserts rows within a transaction."""

    def __init__(self, connection: MySQLConnection) -> None:
        self._connection = connection

    def insert(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows into ``table``, a name in SQL; return their number.

        Raises:
            ConstraintError, ValueInvalidError: the server rejects a row, whose number is part of the error.
        """
        names = ", ".join(ident(column.name) for column in columns)
        sql = f"insert into {table} ({names}) values "
        # The limit is in characters, each of several bytes.
        limit = min(MAX_INSERT_CHARACTERS, self._connection.session.max_statement_bytes // 8)
        row_count = length = 0
        pending: list[str] = []
        for row in rows:
            literals = [
                format_literal(encode_for_column(column, value))
                for column, value in zip(columns, row, strict=True)
            ]
            values = f"({', '.join(literals)})"
            if pending and length + len(values) > limit:
                signals.raise_if_interrupted()
                row_count += self._insert_batch(sql, pending, row_count)
                pending, length = [], 0
            pending.append(values)
            length += len(values)
        return row_count + (self._insert_batch(sql, pending, row_count) if pending else 0)

    def _insert_batch(self, sql: str, rows: Sequence[str], before: int) -> int:
        """Insert rows, of which ``before`` were inserted already."""
        try:
            return self._connection.execute_text(sql + ", ".join(rows))
        except (ConstraintError, ValueInvalidError) as error:
            error.context["row"] = before + self._find_refused_row(sql, rows)
            error.args = (_ROW_SUFFIX.sub("", str(error)),)
            raise

    def _find_refused_row(self, sql: str, rows: Sequence[str]) -> int:
        """Return the number of the row that the server rejects, from 1; it does not report that for several rows in one statement."""
        accepted = 0
        self._connection.execute_text("savepoint rows_apart")
        try:
            for row in rows:
                signals.raise_if_interrupted()
                self._connection.execute_text(sql + row)
                accepted += 1
        except (ConstraintError, ValueInvalidError):
            return accepted + 1
        finally:
            self._connection.execute_text("rollback to savepoint rows_apart")
        return accepted
