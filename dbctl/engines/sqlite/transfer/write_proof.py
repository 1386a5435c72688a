"""Find out whether the tables of a file accept new rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dbctl.engines.contract.database import Writable
from dbctl.engines.sql.write_lock import SqlWriteProofs

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteWriter


class SQLiteWriteProofs(SqlWriteProofs):
    """The part ``WriteProofs``."""

    def __init__(self, db: SQLiteWriter) -> None:
        super().__init__(cast("Writable", db), db.catalog)
        self._connection = db.connection

    def _insert(self, table: str, sql: str, key: str) -> int | None:
        del table, key  # the key is the rowid
        cursor = self._connection.write(lambda: self._connection.driver.execute(sql))
        return cursor.lastrowid if cursor.rowcount else None

    def _delete(self, sql: str) -> None:
        self._connection.write(lambda: self._connection.driver.execute(sql))
