"""Findings about sequences of MariaDB that defaults of columns read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from dbctl.engines.contract.monitoring import EngineFinding
from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.sequences import NumberedColumn, read_numbered_columns
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError


def find_lagging_sequences(connection: MySQLConnection, table: str) -> Iterator[EngineFinding]:
    """Yield the sequences whose next value a row has already; ``table``: only those of this table, empty: all.

    Values that the server holds in memory are not visible: a sequence may be behind by up to its cache without a finding.
    """
    lagging = list[NumberedColumn]()
    with suppress(PrivilegeMissingError, QueryFailedError):  # other checks report what cannot be read
        lagging += (numbered for numbered in read_numbered_columns(connection, table) if numbered.is_behind)
    for numbered in lagging:
        column = f"{numbered.table}.{numbered.column}"
        yield EngineFinding(
            severity="error",
            code="sequence-behind",
            message=f"sequence {numbered.sequence} returns {numbered.following} next, but {column} has reached {numbered.furthest}: new rows fail or get duplicate keys",
            hint=f"SELECT SETVAL({numbered.place}, {numbered.furthest});",
            column=column,
        )
