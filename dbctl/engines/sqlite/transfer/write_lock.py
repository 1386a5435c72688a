"""Make all tables of a file refuse writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract.database import WRITE_LOCK, WRITE_LOCK_MESSAGE
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.engines.sql.write_lock import SqlWriteLock

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteDatabase, SQLiteWriter

#: The module of a virtual table writes to its shadow tables.
_TABLES = """select name from pragma_table_list where schema = 'main' and type in ('table', 'shadow')
and name not like 'sqlite!_%' escape '!' order by name"""
_TRIGGERS = f"""select name, tbl_name from sqlite_master
where type = 'trigger' and substr(name, 1, {len(WRITE_LOCK)}) = '{WRITE_LOCK}' order by name"""
_EVENTS = ("insert", "update", "delete")


class SQLiteWriteLock(SqlWriteLock):
    """The part ``WriteLock``."""

    exceptions = "changes of the schema, such as DROP TABLE"

    def __init__(self, db: SQLiteDatabase) -> None:
        super().__init__(db)
        self._connection = db.connection

    def list_locked(self) -> Sequence[str]:
        return sorted({str(table) for _, table in self._connection.run(_TRIGGERS)})

    def _lock_statements(self) -> Sequence[str]:
        refusal = f"begin select raise(abort, {quote_literal(WRITE_LOCK_MESSAGE)}); end"
        return [
            f"create trigger if not exists {ident(f'{WRITE_LOCK}_{event}_{table}')} before {event} on {ident(str(table))} {refusal}"
            for (table,) in self._connection.run(_TABLES)
            for event in _EVENTS
        ]

    def _unlock_statements(self) -> Sequence[str]:
        return [f"drop trigger {ident(str(name))}" for name, _ in self._connection.run(_TRIGGERS)]

    def _run(self, statements: Sequence[str]) -> None:
        # the transaction of a script would count all rows without a referenced row
        connection = cast("SQLiteWriter", self._db).connection
        with connection.transaction():
            for sql in statements:
                connection.write(lambda: connection.driver.execute(sql))  # noqa: B023 - it runs immediately
