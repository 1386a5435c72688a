"""Insert many rows by COPY."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dbctl.engines.contract import Column
from dbctl.engines.postgresql.connection import PostgreSQLConnection
from dbctl.engines.postgresql.types import encode_for_column
from dbctl.engines.sql import ident


def copy_rows(
    connection: PostgreSQLConnection, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]
) -> int:
    """Insert rows into a table and return their number; an error of the iterator is raised unchanged.

    Args:
        connection: a session that may write.
        table: the name of the table in SQL.
        columns: the column of each value of a row.
        rows: the values.
    """
    sql = f"copy {table} ({', '.join(ident(column.name) for column in columns)}) from stdin"
    with connection.translate_errors(sql, writing=True), connection.session.cursor() as cursor:
        with cursor.copy(sql.encode()) as copy:
            for row in rows:
                copy.write_row(
                    [encode_for_column(column, value) for column, value in zip(columns, row, strict=True)]
                )
        return cursor.rowcount
