"""Unused space in the tables of a database on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import Bloat

if TYPE_CHECKING:
    from dbctl.engines.mysql.database import MySQLDatabase


BLOAT = """select table_name, coalesce(data_length, 0) + coalesce(index_length, 0) + coalesce(data_free, 0), data_free, table_rows, engine
from information_schema.tables where table_schema = database() and table_type <> 'VIEW' order by table_name"""


class MySQLBloat:
    """The part ``BloatMonitor``."""

    def __init__(self, db: MySQLDatabase) -> None:
        self._connection = db.connection

    def measure_bloat(self) -> Sequence[Bloat]:
        return [
            Bloat(
                table=str(name),
                bytes=int(str(size)),
                wasted_bytes=None if free is None else int(str(free)),
                dead_rows=None,
                rows=None if rows is None else int(str(rows)),
                estimated=True,
                source=f"data_free of {engine}",
            )
            for name, size, free, rows, engine in self._connection.fetch(BLOAT)
        ]
