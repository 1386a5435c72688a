"""Making an index of words in SQLite, and proving that it follows its rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Condition, TextIndex, Where
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.errors import QueryFailedError, TextIndexForeignError
from dbctl.model import now

#: A word that nobody has written.
PROBE = "zqxdbctlprobe"


class SQLiteTextWriter(SQLiteConnection):
    """Capability.FULL_TEXT of a writer; beside what a writer does anyway."""

    def text_index_drops(self, told: TextIndex) -> Mapping[str, str]:
        found = self._entries(told)
        if self._is_foreign(told, found):
            raise TextIndexForeignError(target=self.target, name=told.own_table)
        rows = self._fetch("select type, name from sqlite_master where type in ('table', 'trigger')", {})
        named = {str(name): str(kind) for kind, name in rows if str(name).lower() in found}
        ordered = sorted(named, key=lambda name: named[name] == "table")
        return {f"drop {named[name]} {name}": f"drop {named[name]} {ident(name)}" for name in ordered}

    def text_index_makes(self, told: TextIndex) -> Mapping[str, str]:
        made = self._definition(told)
        own = told.own_table
        told_of = {
            f"make table {own} (FTS5)": made.pop(own),
            f"fill {own} from {told.table}": self._filling(told),
        }
        by_key = self._key_index(told)
        told_of[f"make index {by_key}"] = made.pop(by_key)
        return told_of | {f"make trigger {name}": sql for name, sql in made.items()}

    def mark_text_index(self, told: TextIndex) -> None:
        mark = told.mark
        if mark is None:
            return
        if mark.table not in self.tables():
            columns = f"{ident(mark.key)} text primary key, {ident(mark.value)} text"
            self.run_statement(f"create table {ident(mark.table)} ({columns})")
        if not self.count(mark.table, [Condition(mark.key, "=", mark.name)]):
            moment = f"{now():%Y-%m-%dT%H:%M:%S.000Z}"
            self.insert(mark.table, {mark.key: mark.name, mark.value: moment})

    def probe_text_index(self, told: TextIndex) -> None:
        columns = [column.name for column in self._checked(told.table).columns.values()]
        rows = self.select(told.table, columns, limit=1)
        if not rows:
            return
        row = dict(zip(columns, rows[0], strict=True))
        mine: list[Where] = [Condition(told.id, "=", row[told.id])]
        text = f"{row[told.columns[0]]} {PROBE}"
        self._run("savepoint probe", {})
        try:
            self.update(told.table, {told.columns[0]: text}, mine)
            self._expect(told, 1, "a changed row is not found")
            self.delete(told.table, mine)
            self._expect(told, 0, "a deleted row is still found")
            self.insert(told.table, {**row, told.columns[0]: text})
            self._expect(told, 1, "a new row is not found")
        finally:
            self._run("rollback to probe", {})
            self._run("release probe", {})

    def _expect(self, told: TextIndex, number: int, reason: str) -> None:
        own = ident(told.own_table)
        rows = self._fetch(f"select count(*) from {own} where {own} match :word", {"word": PROBE})  # noqa: S608 - the name is quoted
        if rows != [(number,)]:
            raise QueryFailedError(target=self.target, reason=f"{told.own_table}: {reason}")

    # What a writer does anyway -----------------------------------------------------------------------------------

    @abstractmethod
    def run_statement(self, sql: str) -> None: ...

    @abstractmethod
    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object: ...

    @abstractmethod
    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int: ...

    @abstractmethod
    def delete(self, table: str, where: Sequence[Where]) -> int: ...
