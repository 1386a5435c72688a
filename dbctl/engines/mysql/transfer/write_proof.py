"""Find out whether the tables of a database accept new rows."""

from __future__ import annotations

from dbctl.engines.mysql.database import MySQLWriter
from dbctl.engines.sql.write_lock import SqlWriteProofs


class MySQLWriteProofs(SqlWriteProofs):
    """The part ``WriteProofs``."""

    def __init__(self, db: MySQLWriter) -> None:
        super().__init__(db, db.catalog)
        self._writer, self._connection = db, db.connection

    def _insert(self, table: str, sql: str, key: str) -> int | None:
        del key  # the server reports the number
        self._writer.require_writable(table)
        if not self._connection.execute_text(sql):
            return None
        ((number,),) = self._connection.fetch("select last_insert_id()")
        return int(str(number))

    def _delete(self, sql: str) -> None:
        self._connection.execute_text(sql)
