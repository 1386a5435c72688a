"""Create and drop full-text indexes in SQLite, and verify that they follow their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Condition, Where
from dbctl.engines.contract.fulltext import TextIndexSpec
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sqlite.fulltext.definition import TextIndexDefinition
from dbctl.engines.sqlite.fulltext.state import StoredTextIndex
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.search import TextIndexForeignError
from dbctl.model import now

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteWriter

#: A word that no text contains.
PROBE = "zqxdbctlprobe"


class SQLiteTextIndexes:
    """The part ``TextIndexes``."""

    def __init__(self, db: SQLiteWriter) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog

    def text_index_drop_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        stored = StoredTextIndex(self._connection, spec)
        if stored.is_foreign:
            raise TextIndexForeignError(target=self._catalog.target, name=spec.index_table)
        database = self._connection.database
        names = [("trigger", trigger.name) for trigger in database.triggers]
        names += [("table", table) for table in database.table_names()]
        return {
            f"drop {kind} {name}": f"drop {kind} {ident(name)}"
            for kind, name in names
            if stored.contains(name)
        }

    def text_index_create_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        definition = TextIndexDefinition(spec)
        statements = definition.statements()
        table_name = spec.index_table
        steps = {
            f"create table {table_name} (FTS5)": statements.pop(table_name),
            f"fill {table_name} from {spec.table}": definition.fill_statement(),
        }
        steps[f"create index {definition.key_index}"] = statements.pop(definition.key_index)
        return steps | {f"create trigger {name}": sql for name, sql in statements.items()}

    def mark_text_index(self, spec: TextIndexSpec) -> None:
        mark = spec.marker
        if mark is None:
            return
        if mark.table not in self._catalog.tables():
            database = self._connection.database
            columns = {mark.key: str, mark.value: str}
            self._connection.write(lambda: database.create_table(mark.table, columns, pk=mark.key))
            self._catalog.forget_changed()
        if not self._db.count(mark.table, [Condition(mark.key, "=", mark.name)]):
            timestamp = f"{now():%Y-%m-%dT%H:%M:%S.000Z}"
            self._db.insert(mark.table, {mark.key: mark.name, mark.value: timestamp})

    def probe_text_index(self, spec: TextIndexSpec) -> None:
        columns = [column.name for column in self._catalog.require_table(spec.table).columns.values()]
        rows = self._db.select(spec.table, columns, limit=1)
        if not rows:
            return
        row = dict(zip(columns, rows[0], strict=True))
        condition: list[Where] = [Condition(spec.id, "=", row[spec.id])]
        text = f"{row[spec.columns[0]]} {PROBE}"
        self._connection.run("savepoint probe")
        try:
            self._db.update(spec.table, {spec.columns[0]: text}, condition)
            self._require_match_count(spec, 1, "a changed row is not found")
            self._db.delete(spec.table, condition)
            self._require_match_count(spec, 0, "a deleted row is still found")
            self._db.insert(spec.table, {**row, spec.columns[0]: text})
            self._require_match_count(spec, 1, "a new row is not found")
        finally:
            self._connection.run("rollback to probe")
            self._connection.run("release probe")

    def _require_match_count(self, spec: TextIndexSpec, count: int, reason: str) -> None:
        table_name = ident(spec.index_table)
        rows = self._connection.fetch(
            f"select count(*) from {table_name} where {table_name} match :word",
            {"word": PROBE},
        )
        if rows != [(count,)]:
            raise QueryFailedError(target=self._catalog.target, reason=f"{spec.index_table}: {reason}")
