"""Scripts that rebuild a table of a SQLite file, because its ALTER TABLE changes neither columns nor constraints."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from dbctl.engines.contract.schema import RebuildScript, SchemaTable, TableChange, TableRebuilder
from dbctl.engines.parsing import lineage
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.engines.sqlite.database import SQLitePart, SQLiteScratch
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.databases import ColumnMissingError, TableMissingError
from dbctl.errors.usage import NotSupportedError

if TYPE_CHECKING:
    from dbctl.sqlite_library import Table

_ENTRIES = (
    "select type, name, tbl_name, sql from sqlite_master where sql is not null and name not like 'sqlite!_%' escape '!'"
    " order by instr('table index view trigger', type), rowid"
)
#: Defaults that need no parentheses: a number, a word, a text or a BLOB.
_PLAIN_DEFAULT = re.compile(r"[-+]?[\w.]+|[xX]?'(?:[^']|'')*'|\"[^\"]*\"")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class _Entry(NamedTuple):
    kind: str
    name: str
    table: str
    sql: str

    @property
    def is_virtual(self) -> bool:
        return re.match(VIRTUAL, self.sql) is not None


class SQLiteTableRebuilder(SQLitePart, TableRebuilder):
    def write_rebuild(self, change: TableChange, suffix: str) -> RebuildScript:
        from dbctl.sqlite_library import AlterError, TransformError

        table = self._catalog.tables().get(change.table)
        entries = [_Entry(*map(str, row)) for row in self._connection.fetch(_ENTRIES)]
        if table is None:
            raise TableMissingError(name=change.table, target=self._catalog.target)
        if table.is_view or any(entry.name == table.name and entry.is_virtual for entry in entries):
            kind = "a view" if table.is_view else "a virtual table"
            raise NotSupportedError(
                feature="a rebuild", subject=f"{kind} ({table.name})", hint="Drop it and create it again."
            )
        for column in change.columns:
            if column not in table.columns:
                raise ColumnMissingError(
                    table=table.name, column=column, names=", ".join(table.columns), candidates=table.columns
                )
        with closing(SQLiteScratch(self._catalog.target)) as scratch:
            rebuild = _Rebuild(scratch, change, suffix)
            try:
                rebuild.copy_schema(entries)
                return rebuild.run()
            except (sqlite3.Error, AlterError, TransformError, ValueError) as error:
                reason = f"{table.name} cannot be rebuilt: {error}"
                raise QueryFailedError(target=self._catalog.target, reason=reason) from error


class _Rebuild:
    """A rebuild on a copy of the schema."""

    def __init__(self, scratch: SQLiteScratch, change: TableChange, suffix: str) -> None:
        self._scratch, self._change, self._suffix = scratch, change, suffix
        self._driver, self._database = scratch.connection.driver, scratch.connection.database
        self._driver.execute("pragma foreign_keys = 0")  # as in the transaction of a script
        self._statements = list[str]()

    def copy_schema(self, entries: Sequence[_Entry]) -> None:
        virtual_tables = tuple(entry.name for entry in entries if entry.is_virtual)
        for entry in sorted(entries, key=lambda entry: not entry.is_virtual):
            try:
                self._driver.execute(entry.sql)
            except sqlite3.OperationalError:
                # only the app loads the module of a virtual table, or its shadow tables already exist
                if not entry.name.startswith(virtual_tables):
                    raise

    def run(self) -> RebuildScript:
        for column, name in self._change.renamed.items():
            # sqlite-utils would leave the old name in views, triggers and expressions
            self._run(
                f"ALTER TABLE {ident(self._change.table)} RENAME COLUMN {ident(column)} TO {ident(name)}"
            )
        self._change = self._change.after_renaming()
        reader = self._scratch.schema_reader
        before = reader.schema()
        if self._change.columns:
            self._rebuild(next(table for table in before.tables if table.name == self._change.table))
        return RebuildScript(statements=self._statements, before=before, after=reader.schema())

    def _run(self, sql: str) -> None:
        self._driver.execute(sql)
        self._statements.append(sql)

    def _rebuild(self, before: SchemaTable) -> None:
        create, copy, *others = self._transform(self._database.table(before.name), before)
        # The last rename fails while a view or a trigger refers to the dropped table. sqlite-utils avoids that by the
        # pragma legacy_alter_table, which a rollback would not reset.
        dependents = self._find_dependents()
        for entry in sorted(dependents, key=lambda entry: entry.kind):
            self._run(f"DROP {entry.kind.upper()} {ident(entry.name)}")
        self._run(self._restore_definitions(create, before))
        self._run(copy)
        if "autoincrement" in before.options:
            for sql in _copy_sequence(before.name, f"{before.name}_new_{self._suffix}"):
                self._run(sql)
        for sql in others:
            if not sql.startswith(("PRAGMA", "UPDATE sqlite_sequence", "INSERT INTO sqlite_sequence")):
                self._run(sql)
        for entry in dependents:
            self._run(entry.sql)
        # SQLite checks views and triggers only when a table is renamed
        for sql in ("CREATE TABLE {0} (x)", "ALTER TABLE {0} RENAME TO {1}", "DROP TABLE {1}"):
            self._driver.execute(sql.format(ident(f"{before.name}_new_{self._suffix}"), ident("dbctl_check")))

    def _transform(self, table: Table, before: SchemaTable) -> list[str]:
        """Return the statements of sqlite-utils, whose columns lack defaults and have types of sqlite-utils."""
        change = self._change
        was_nullable = {column.name: column.nullable for column in before.columns}
        statements = table.transform_sql(
            drop=change.dropped,
            not_null={  # for a column that already is nullable, False would make it NOT NULL
                column: not nullable
                for column, nullable in change.nullable.items()
                if was_nullable[column] != nullable
            },
            defaults={column.name: None for column in table.columns if column.name not in change.dropped},
            drop_foreign_keys=[*change.dropped_keys, *change.added_keys],
            add_foreign_keys=[(column, *target) for column, target in change.added_keys.items()],
            tmp_suffix=self._suffix,
        )
        return [sql.strip().removesuffix(";") for sql in statements]

    def _restore_definitions(self, create: str, before: SchemaTable) -> str:
        """Return CREATE TABLE with the declared types, defaults and collations, which sqlite-utils does not write."""
        columns = self._database.table(before.name).columns
        defaults = {column.name: column.default_value for column in columns if column.default_value}
        defaults |= {column: self._format_default(text) for column, text in self._change.defaults.items()}
        for column in before.columns:
            declared = self._change.types.get(column.name, column.type)
            definition = _define_column(declared, defaults.get(column.name, ""), column.collation)
            name = ident(column.name)
            pattern = re.compile(rf"^(\s*){re.escape(name)} \w+", re.MULTILINE)
            if match := pattern.search(create):
                create = f"{create[: match.start()]}{match[1]}{name}{definition}{create[match.end() :]}"
        return create

    def _format_default(self, text: str) -> str:
        if text.lower() == "null":
            return ""
        if text.startswith("(") and text.endswith(")"):
            return text[1:-1]
        return text if _NUMBER.fullmatch(text) else str(self._database.quote_default_value(text))

    def _find_dependents(self) -> list[_Entry]:
        """Return the views and triggers that refer to the table, directly or through views, in the order of creation."""
        entries = [_Entry(*map(str, row)) for row in self._driver.execute(_ENTRIES)]
        codes = {entry.name: entry.sql for entry in entries if entry.kind in ("view", "trigger")}
        is_word = re.fullmatch(r"\w+", self._change.table) is not None
        names = lineage.find_dependent_views(codes, [self._change.table]) if is_word else codes
        return [entry for entry in entries if entry.name in names]


def _define_column(declared: str, default: str, collation: str) -> str:
    """Return the type, the default and the collation of a column, each after a space."""
    if default and not _PLAIN_DEFAULT.fullmatch(default):
        default = f"({default})"
    clauses = (declared, default and f"DEFAULT {default}", collation and f"COLLATE {collation}")
    return "".join(f" {clause}" for clause in clauses if clause)


def _copy_sequence(table: str, new_table: str) -> Iterator[str]:
    """Yield the statements that give a new table the AUTOINCREMENT sequence of the table that it replaces."""
    old, new = quote_literal(table), quote_literal(new_table)
    sequence = f"(SELECT seq FROM sqlite_sequence WHERE name = {old})"
    yield f"UPDATE sqlite_sequence SET seq = {sequence} WHERE name = {new} AND seq < {sequence}"
    yield (
        f"INSERT INTO sqlite_sequence (name, seq) SELECT {new}, seq FROM sqlite_sequence WHERE name = {old}"
        f" AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = {new})"
    )
