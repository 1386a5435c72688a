"""Looking after a database on a server: each statement by itself, outside any transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Concern, Task, Upkeep
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.mysql.errors import quoted
from dbctl.errors import NotSupportedError, QueryFailedError

STATEMENTS: Mapping[Upkeep, str] = {
    "analyze": "ANALYZE TABLE {}",
    "optimize": "OPTIMIZE TABLE {}",
    "reindex": "ALTER TABLE {} FORCE",
}
#: What an engine that clears dead rows away by itself has no use for.
INSTEAD: Mapping[Upkeep, str] = {
    "vacuum": "dbctl maintain optimize writes tables anew that take much more room than they use.",
    "checkpoint": "The server brings its log into its files by itself.",
    "wal": "Its server always writes a log.",
    "rollback-journal": "Its server always writes a log.",
}
#: A table is due where more than a quarter of what it takes is free, and that is worth the work: 4 MiB.
DUE = """select table_name from information_schema.tables where table_schema = database() and table_type <> 'VIEW'
  and data_free > 4194304 and data_free > (data_length + index_length) / 4 order by table_name"""


class MySQLUpkeep(MySQLDialect):
    """Capability.MAINTAIN."""

    reading: bool

    def tasks(self, kind: Upkeep, tables: Sequence[str]) -> Sequence[Task]:
        for name in tables:
            self._checked(name)
        if kind in INSTEAD:
            raise NotSupportedError(what=kind, by=self.target, instead=INSTEAD[kind])
        wanted = list(tables) or [name for name, one in self.tables().items() if not one.view]
        if kind == "optimize" and not tables:
            wanted = [str(name) for (name,) in self._fetch(DUE, {})]
        return [Task(table=name, statement=STATEMENTS[kind].format(quoted(name))) for name in wanted]

    def maintain(self, task: Task) -> None:
        if self.reading:
            raise RuntimeError("maintenance by one who only reads")
        for row in self._fetch(task.statement, {}):
            if str(row[2]).lower() == "error":  # which to the server is an answer and no failure
                raise QueryFailedError(target=self.target, reason=str(row[3]))

    def leftovers(self) -> Sequence[Concern]:
        return ()  # the server takes away what it had begun
