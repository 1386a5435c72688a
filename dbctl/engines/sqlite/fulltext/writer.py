"""Create and drop full-text indexes in SQLite, and verify that they follow their rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Condition, TextIndexSpec, Where
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.errors import QueryFailedError, TextIndexForeignError
from dbctl.model import now

#: A word that no text contains.
PROBE = "zqxdbctlprobe"


class SQLiteTextWriter(SQLiteConnection):
    """Capability.FULL_TEXT of a writer."""

    def text_index_drop_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        definitions = self._read_entries(spec)
        if self._is_foreign(spec, definitions):
            raise TextIndexForeignError(target=self.target, name=spec.index_table)
        rows = self._fetch("select type, name from sqlite_master where type in ('table', 'trigger')", {})
        kinds = {str(name): str(kind) for kind, name in rows if str(name).lower() in definitions}
        ordered = sorted(kinds, key=lambda name: kinds[name] == "table")
        return {f"drop {kinds[name]} {name}": f"drop {kinds[name]} {ident(name)}" for name in ordered}

    def text_index_create_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        statements = self._build_definition(spec)
        table_name = spec.index_table
        steps = {
            f"create table {table_name} (FTS5)": statements.pop(table_name),
            f"fill {table_name} from {spec.table}": self._fill_sql(spec),
        }
        key_index = self._key_index(spec)
        steps[f"create index {key_index}"] = statements.pop(key_index)
        return steps | {f"create trigger {name}": sql for name, sql in statements.items()}

    def mark_text_index(self, spec: TextIndexSpec) -> None:
        mark = spec.marker
        if mark is None:
            return
        if mark.table not in self.tables():
            columns = f"{ident(mark.key)} text primary key, {ident(mark.value)} text"
            self.run_statement(f"create table {ident(mark.table)} ({columns})")
        if not self.count(mark.table, [Condition(mark.key, "=", mark.name)]):
            timestamp = f"{now():%Y-%m-%dT%H:%M:%S.000Z}"
            self.insert(mark.table, {mark.key: mark.name, mark.value: timestamp})

    def probe_text_index(self, spec: TextIndexSpec) -> None:
        columns = [column.name for column in self._require_table(spec.table).columns.values()]
        rows = self.select(spec.table, columns, limit=1)
        if not rows:
            return
        row = dict(zip(columns, rows[0], strict=True))
        condition: list[Where] = [Condition(spec.id, "=", row[spec.id])]
        text = f"{row[spec.columns[0]]} {PROBE}"
        self._run("savepoint probe", {})
        try:
            self.update(spec.table, {spec.columns[0]: text}, condition)
            self._require_match_count(spec, 1, "a changed row is not found")
            self.delete(spec.table, condition)
            self._require_match_count(spec, 0, "a deleted row is still found")
            self.insert(spec.table, {**row, spec.columns[0]: text})
            self._require_match_count(spec, 1, "a new row is not found")
        finally:
            self._run("rollback to probe", {})
            self._run("release probe", {})

    def _require_match_count(self, spec: TextIndexSpec, count: int, reason: str) -> None:
        table_name = ident(spec.index_table)
        rows = self._fetch(
            f"select count(*) from {table_name} where {table_name} match :word",  # noqa: S608 - the name is quoted
            {"word": PROBE},
        )
        if rows != [(count,)]:
            raise QueryFailedError(target=self.target, reason=f"{spec.index_table}: {reason}")

    # Methods of the writer ---------------------------------------------------------------------------------------

    @abstractmethod
    def run_statement(self, sql: str) -> None: ...

    @abstractmethod
    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object: ...

    @abstractmethod
    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int: ...

    @abstractmethod
    def delete(self, table: str, where: Sequence[Where]) -> int: ...
