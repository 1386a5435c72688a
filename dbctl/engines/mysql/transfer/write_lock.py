"""Make all tables of a database refuse writes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from dbctl.engines.contract.database import WRITE_LOCK, WRITE_LOCK_MESSAGE
from dbctl.engines.mysql.database import MySQLDatabase
from dbctl.engines.mysql.errors import quote
from dbctl.engines.sql.catalog import quote_literal
from dbctl.engines.sql.write_lock import SqlWriteLock

_TABLES = """select table_name from information_schema.tables where table_schema = database()
and table_type in ('BASE TABLE', 'SYSTEM VERSIONED') order by table_name"""
_TRIGGERS = f"""select trigger_name, event_object_table from information_schema.triggers
where trigger_schema = database() and left(trigger_name, {len(WRITE_LOCK)}) = '{WRITE_LOCK}' order by trigger_name"""
_EVENTS = ("insert", "update", "delete")
#: The number of the error of a server that is read-only.
_READ_ONLY = 1836


class MySQLWriteLock(SqlWriteLock):
    """The part ``WriteLock``."""

    exceptions = "TRUNCATE TABLE, and changes of the schema"

    def __init__(self, db: MySQLDatabase) -> None:
        super().__init__(db)
        self._connection = db.connection

    def list_locked(self) -> Sequence[str]:
        return sorted({str(table) for _, table in self._connection.fetch(_TRIGGERS)})

    def _lock_statements(self) -> Sequence[str]:
        existing = {str(name) for name, _ in self._connection.fetch(_TRIGGERS)}
        refusal = f"signal sqlstate '45000' set mysql_errno = {_READ_ONLY}, message_text = {quote_literal(WRITE_LOCK_MESSAGE)}"
        return [
            f"create trigger {quote(name)} before {event} on {quote(str(table))} for each row {refusal}"
            for (table,) in self._connection.fetch(_TABLES)
            for event in _EVENTS
            if (name := _name_trigger(event, str(table))) not in existing
        ]

    def _unlock_statements(self) -> Sequence[str]:
        return [f"drop trigger {quote(str(name))}" for name, _ in self._connection.fetch(_TRIGGERS)]


def _name_trigger(event: str, table: str) -> str:
    """Return the name of a trigger, which is unique in the database and limited to 64 characters."""
    return f"{WRITE_LOCK}_{event}_{blake2b(table.encode(), digest_size=8).hexdigest()}"
