"""Run scripts that change the schema of a SQLite file, in one transaction without new orphaned rows; rebuild tables; and staging tables of imports."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from dbctl.engines.contract.schema import (
    RebuildScript,
    SchemaTable,
    ScriptDialect,
    ScriptRunner,
    TableChange,
    TableRebuilder,
)
from dbctl.engines.contract.streaming import StagedRows
from dbctl.engines.parsing import lineage
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.engines.sql.staging import SqlStagingTables
from dbctl.engines.sqlite import lint
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.engines.sqlite.database import SQLitePart, SQLiteScratch
from dbctl.errors.base import Remedy
from dbctl.errors.connection import ConstraintError, QueryFailedError
from dbctl.errors.databases import ColumnMissingError, TableMissingError
from dbctl.errors.usage import NotSupportedError
from dbctl.model import format_count

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteWriter
    from dbctl.engines.sqlite.write_connection import WriteConnection
    from dbctl.sqlite_library import Table

_ENTRIES = (
    "select type, name, tbl_name, sql from sqlite_master where sql is not null and name not like 'sqlite!_%' escape '!'"
    " order by instr('table index view trigger', type), rowid"
)
#: Defaults that need no parentheses: a number, a word, a text or a BLOB.
_PLAIN_DEFAULT = re.compile(r"[-+]?[\w.]+|[xX]?'(?:[^']|'')*'|\"[^\"]*\"")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
#: Settings of the session that change what the statements of the next script do, or whether its commits are durable.
SESSION_PRAGMAS = """ignore_check_constraints legacy_alter_table recursive_triggers reverse_unordered_selects
    synchronous trusted_schema""".split()
#: Values after a script: ``case_sensitive_like`` cannot be read, and ``schema_transaction`` sets ``foreign_keys`` itself.
FIXED_PRAGMAS = {"foreign_keys": "1", "case_sensitive_like": "0"}
#: Without a journal in a file, a rollback or a killed process damages the database.
UNSAFE_JOURNALS = ("off", "memory")
#: Virtual tables first, because they drop their shadow tables.
TEMPORARY_OBJECTS = """select type, name from temp.sqlite_master where type <> 'index' and name not like 'sqlite@_%' escape '@'
    order by rootpage"""


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


class SQLiteScriptRunner(SQLitePart, ScriptRunner):
    script_dialect: ScriptDialect = lint.SCRIPTS
    transactional_ddl = True

    _db: SQLiteWriter
    _connection: WriteConnection
    _in_step_mode = False  #: whether statements may run outside a transaction
    _pragmas: Mapping[str, str] = {}  #: before the statements outside a transaction
    #: the version of the file after the last transaction, and its orphaned rows
    _last_orphans: tuple[object, Counter[tuple[object, object]]] | None = None

    @contextmanager
    def schema_transaction(self, *, short_waits: bool = False) -> Iterator[None]:
        del short_waits  # no process queues for the lock on a file
        if self._connection.depth:
            raise RuntimeError("schema transaction inside another transaction")
        self._connection.accept_invalid_text()  # a script may read text that is not UTF-8
        # A rebuilt table would fire ON DELETE CASCADE, and inside a transaction this pragma does nothing.
        self._connection.run("pragma foreign_keys = 0")
        try:
            with self._connection.transaction():
                self._catalog.forget_changed()
                initial_orphans = self._count_initial_orphans()
                self._connection.set_authorizer(_deny_nontransactional)
                try:
                    yield
                finally:
                    self._connection.set_authorizer(None)
                orphans = self._refuse_new_orphans(initial_orphans)
                version = self._read_version()
            self._last_orphans = version, orphans
        finally:
            if self._connection.is_open:
                self._connection.run("pragma foreign_keys = 1")

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        if self._connection.depth:
            raise RuntimeError("step mode inside a transaction")
        self._connection.accept_invalid_text()  # a script may read text that is not UTF-8
        self._pragmas = {name: self._read_pragma(name) for name in SESSION_PRAGMAS}
        self._in_step_mode = True
        try:
            yield
        finally:
            if self._connection.is_open:
                self.restore_session()
            self._in_step_mode = False

    def _read_pragma(self, name: str) -> str:
        return str(self._connection.run(f"pragma {name}")[0][0])

    def restore_session(self) -> None:
        for kind, name in self._connection.run(TEMPORARY_OBJECTS):
            self._connection.run(f"drop {kind} if exists temp.{ident(str(name))}")
        self._catalog.forget()
        if not self._in_step_mode:  # inside a transaction, no such pragma was possible
            return
        for name, value in {**self._pragmas, **FIXED_PRAGMAS}.items():
            self._connection.run(f"pragma {name} = {value}")
        if self._read_pragma("journal_mode") in UNSAFE_JOURNALS:
            self._connection.run("pragma journal_mode = delete")

    def _run_step(self, sql: str) -> None:
        if reason := lint.SCRIPTS.unsupported_reason(sql, outside=True):
            raise QueryFailedError(target=self._catalog.target, reason=reason)
        connection = self._connection.driver
        if not sql.lower().startswith("vacuum"):  # VACUUM attaches a temporary file
            connection.set_authorizer(_deny_other_files)
        try:
            self._connection.retry_if_changed(lambda: deque(connection.execute(sql), maxlen=0))
        finally:
            connection.set_authorizer(None)
            self._catalog.forget()

    def drop_statements(self) -> Sequence[str]:
        return self._connection.retry_while_locked(self._list_drop_statements, seconds=0)

    def _list_drop_statements(self) -> list[str]:
        database = self._connection.database
        tables = [table for table in database.tables if not table.name.startswith("sqlite_")]
        # virtual tables first, because they drop their shadow tables
        tables.sort(key=lambda table: (table.virtual_table_using is None, table.name))
        return [
            *(f"drop view if exists {ident(name)}" for name in sorted(database.view_names())),
            *(f"drop table if exists {ident(table.name)}" for table in tables),
        ]

    def run_statement(self, sql: str) -> None:
        if self._in_step_mode and not self._connection.depth:
            self._run_step(sql)
            return
        # Read all rows: an unfinished SELECT would hide its errors and lock its tables against DROP.
        self._connection.write(lambda: deque(self._connection.driver.execute(sql), maxlen=0))
        self._catalog.forget_changed()
        if not self._connection.driver.in_transaction:
            raise QueryFailedError(target=self._catalog.target, reason="the statement ended its transaction")

    def insert(self, table: str, values: Mapping[str, object]) -> None:
        # The row of the ledger does not wait for the import of sqlite-utils, which takes longer than most migrations.
        self._db.insert_directly(table, values)

    def _read_version(self) -> object:
        """Return a value that changes with each change of the file, by this connection or by another one."""
        versions = self._connection.run("select * from pragma_data_version, pragma_schema_version")
        return versions, self._connection.driver.total_changes

    def _count_initial_orphans(self) -> Counter[tuple[object, object]]:
        if self._last_orphans and self._last_orphans[0] == self._read_version():
            return self._last_orphans[1]
        try:
            return self._count_orphans()
        except QueryFailedError:  # foreign keys without a unique target; the check at the end refuses them
            return Counter()

    def _count_orphans(self) -> Counter[tuple[object, object]]:
        """Count orphaned rows by their table and the table to which they refer."""
        return Counter(
            (table, parent) for table, _, parent, _ in self._connection.run("pragma foreign_key_check")
        )

    def _refuse_new_orphans(self, initial: Counter[tuple[object, object]]) -> Counter[tuple[object, object]]:
        """Refuse a change that creates orphaned rows; return the earlier ones, which are ignored."""
        orphans = self._count_orphans()
        if new_orphans := orphans - initial:
            (table, parent), count = new_orphans.most_common(1)[0]
            reason = f"{format_count(count, 'row')} of {table} would refer to missing rows of {parent}"
            raise ConstraintError(target=self._catalog.target, reason=reason)
        return orphans


def _deny_other_files(action: int, *_what: str | None) -> int:
    """Deny transaction statements and access to other files."""
    refused = action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def _deny_nontransactional(action: int, first: str | None, value: str | None, *_rest: str | None) -> int:
    """Deny transaction statements, access to other files, and pragmas without effect inside a transaction."""
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in lint.ALLOWED_PRAGMAS:
        # dbctl reads it; setting it is denied
        return sqlite3.SQLITE_OK if (first, value) == ("schema_version", None) else sqlite3.SQLITE_DENY
    return _deny_other_files(action)


class SQLiteStagingTables(SQLitePart, SqlStagingTables):
    _db: SQLiteWriter
    _connection: WriteConnection

    def stage(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> StagedRows:
        # A change of a shadow table would damage the full-text or R-tree index.
        if self._catalog.require_table(table).is_internal:
            raise NotSupportedError(
                feature=f"restoring single rows of {table}, a shadow table of an index,",
                subject=self._catalog.target,
                hint=Remedy(
                    "Restore the rows into a new table, or the whole database with: `restore apply ID`"
                ),
            )
        return super().stage(table, key, columns, rows)

    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        from dbctl.engines.sqlite.rows import BATCH_ROWS, split_rows
        from dbctl.engines.sqlite.values import RawText

        staging_table, names = f"temp.{ident(name)}", ", ".join(ident(column) for column in columns)
        self._connection.run(f"create temp table {ident(name)} as select {names} from {ident(table)} where 0")
        # Begin only now: a transaction that has read the file would block other writers.
        self._connection.run("begin")
        try:
            # sqlite-utils reads only the main database, and would create a table there instead
            for batch in split_rows(rows, BATCH_ROWS):
                values = ", ".join("cast(? as text)" if type(value) is RawText else "?" for value in batch[0])
                sql = f"insert into {staging_table} values ({values})"
                insert = partial(self._connection.driver.executemany, sql, batch)
                self._connection.retry_while_locked(insert, seconds=0)  # repeated, it would insert rows twice
            self._connection.run("commit")
        finally:
            if self._connection.driver.in_transaction:
                self._connection.driver.rollback()
        return staging_table

    def same_key(self, own: str, other: str) -> str:
        return f"{own} is {other}"  # the left operand determines the collation; a key may be NULL

    def same_value(self, table: str, column: str) -> str:
        name = self._catalog.quote_column(table, column, "")
        return f"(t0.{name} is s.{name} collate binary and typeof(t0.{name}) = typeof(s.{name}))"

    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        return self._connection.execute_write(*self._db.build_insert(table, columns, select))

    def resolution_clause(self, table: str) -> str:
        return self._db.catalog.tables()[table].resolution_clause

    def write(self, sql: str) -> int:
        # sqlite-utils has six types for columns, and new tables keep the types of another database
        return self._connection.execute_write(sql)
