"""Maintenance of a database on a server: each statement runs separately, outside of transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.monitoring import EngineFinding, MaintenanceKind, MaintenanceTask
from dbctl.engines.mysql.database import MySQLPart
from dbctl.engines.mysql.errors import quote
from dbctl.errors.base import Remedy
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import NotSupportedError

STATEMENTS: Mapping[MaintenanceKind, str] = {
    "analyze": "ANALYZE TABLE {}",
    "optimize": "OPTIMIZE TABLE {}",
    "reindex": "ALTER TABLE {} FORCE",
}
#: Tasks that an engine without dead rows does not need.
INSTEAD: Mapping[MaintenanceKind, Remedy | str] = {
    "vacuum": Remedy("Rewrite tables that contain much unused space with: `maintain optimize`"),
    "checkpoint": "The server applies its log automatically.",
    "wal": "The server always writes a log.",
    "rollback-journal": "The server always writes a log.",
}
#: A table is due if more than a quarter of its size is free, and at least 4 MiB.
DUE = """select table_name from information_schema.tables where table_schema = database() and table_type <> 'VIEW'
  and data_free > 4194304 and data_free > (data_length + index_length) / 4 order by table_name"""


class MySQLMaintenance(MySQLPart):
    """The part ``Maintenance``."""

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        for name in tables:
            self._catalog.require_table(name)
        if kind in INSTEAD:
            raise NotSupportedError(feature=kind, subject=self._connection.target, hint=INSTEAD[kind])
        selected = list(tables) or self._catalog.base_tables()
        if kind == "optimize" and not tables:
            selected = [str(name) for (name,) in self._connection.fetch(DUE)]
        return [
            MaintenanceTask(table=name, statement=STATEMENTS[kind].format(quote(name))) for name in selected
        ]

    def maintain(self, task: MaintenanceTask) -> None:
        if self._connection.read_only:
            raise RuntimeError("maintenance on a read-only connection")
        for row in self._connection.fetch(task.statement):
            if str(row[2]).lower() == "error":  # the server returns errors as rows
                raise QueryFailedError(target=self._connection.target, reason=str(row[3]))

    def find_leftovers(self) -> Sequence[EngineFinding]:
        return ()  # the server removes unfinished tables
