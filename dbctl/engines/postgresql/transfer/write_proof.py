"""Find out whether the tables of a database accept new rows."""

from __future__ import annotations

from dbctl.engines.postgresql.database import SEQUENCES, PostgreSQLWriter
from dbctl.engines.sql.write_lock import SqlWriteProofs

_INCREMENT = "select seqincrement from pg_catalog.pg_sequence where seqrelid = cast(:sequence as regclass)"


class PostgreSQLWriteProofs(SqlWriteProofs):
    """The part ``WriteProofs``."""

    def __init__(self, db: PostgreSQLWriter) -> None:
        super().__init__(db, db.catalog)
        self._connection = db.connection

    def _insert(self, table: str, sql: str, key: str) -> int | None:
        for _, sequence in self._connection.fetch(SEQUENCES, {"table": self._catalog.quote_table(table)}):
            ((increment,),) = self._connection.fetch(_INCREMENT, {"sequence": sequence})
            # an altered sequence is part of the transaction: its next number is not used up
            self._connection.run(f"alter sequence {sequence} increment by {increment}")
        rows = self._connection.fetch(f"{sql} returning {key}", writing=True)
        self._connection.run("set constraints all immediate")
        return int(str(rows[0][0])) if rows else None

    def _delete(self, sql: str) -> None:
        self._connection.execute_write(sql)
