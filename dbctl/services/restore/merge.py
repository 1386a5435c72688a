"""Merge rows of a backup into existing tables, by primary key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import structs

from dbctl import signals
from dbctl.engines.contract.database import (
    Condition,
    InSubquery,
    Readable,
    Reference,
    Table,
    Writable,
    require_supported,
)
from dbctl.engines.contract.streaming import StagedCounts, StagedRows, StagingTables
from dbctl.errors.backup import RowsLeftOutError, TableNotRestoredError
from dbctl.errors.base import Remedy
from dbctl.errors.connection import ConstraintError
from dbctl.errors.databases import AlreadyExistsError, TableMissingError
from dbctl.errors.usage import UsageError, ValueInvalidError
from dbctl.errors.users import BuiltInRoleError, PasswordUnknownError
from dbctl.model import Struct, format_count
from dbctl.profiles.model.users import Users
from dbctl.services.app.app import App
from dbctl.services.app.change import require_row_count
from dbctl.services.app.live_table import LiveTable, require_streams
from dbctl.services.app.secrets import find_secret_columns
from dbctl.services.backup.manifest import Member
from dbctl.services.data.table import sort_by_references
from dbctl.services.restore.source import BackupSource, MergeMode, require_copyable
from dbctl.services.rules.rows import RowRules

#: Errors that rules of the app raise for a row of a backup.
RULE_ERRORS = (AlreadyExistsError, BuiltInRoleError, ValueInvalidError)
#: Maximum number of rows of one table that are compared one by one with existing rows.
MAX_SUSPECT_ROWS = 100_000


class RestoredTable(Struct, frozen=True, kw_only=True):
    """One restored table."""

    table: str  #: name in the backup
    into: str  #: name in the live database
    inserted: int
    replaced: int
    same: int  #: rows that are equal in the table
    skipped: int  #: rows that differ in the table and were not replaced
    altered: int = 0  #: written rows that triggers of the table changed, so that they differ from the backup
    unchanged_columns: Sequence[str] = ()  #: columns of existing rows that are not replaced
    ignored_columns: Sequence[str] = ()  #: columns of the backup that the table lacks


class StagedTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table of the backup, with its rows in a staging table."""

    name: str
    compared_columns: Sequence[str]  #: columns that are compared and replaced
    unchanged_columns: Sequence[str]
    ignored_columns: Sequence[str]
    postponed: Sequence[str]  #: columns that are NULL until all tables have their rows
    staged: StagedRows
    key: Sequence[str]
    checked_rows: CheckedRows


class CheckedRows:
    """Iterator over rows of a backup, which collects those that a rule of the app may refuse."""

    def __init__(self, rules: RowRules, table: str, columns: Sequence[str], rows: Rows) -> None:
        self._rules, self._table, self._columns, self._rows = rules, table, columns, rows
        self._rules.prepare()
        self.suspect_rows: list[tuple[int, dict[str, object]]] = []  #: row number in the backup, and the row

    def __iter__(self) -> Iterator[Sequence[object]]:
        for number, values in enumerate(self._rows, 1):
            if self._rules:
                row = dict(zip(self._columns, values, strict=True))
                if self._rules.protects or self._is_refused(row):
                    self.suspect_rows.append((number, row))
                    if len(self.suspect_rows) > MAX_SUSPECT_ROWS:
                        raise UsageError(
                            detail=f"--table: {self._table} in the backup has too many rows to check"
                        )
            yield values

    def _is_refused(self, row: dict[str, object]) -> bool:
        try:
            self._rules.check_added(row)
        except (*RULE_ERRORS, PasswordUnknownError):  # existing rows keep their hashes
            return True
        return False


class Merge:
    """Merge of the rows of selected tables into the live database."""

    def __init__(self, app: App, database: str, selection: TableSelection, backup: str) -> None:
        self._app, self._database, self._selection, self._backup = app, database, selection, backup
        self._replaces = selection.merge == "replace"

    def stage_tables(self, source: Readable, db: Writable) -> list[StagedTable]:
        """Copy the rows of the backup into staging tables, referenced tables first.

        Raises:
            TableNotRestoredError: the rows do not fit a table.
        """
        names, postponed = sort_tables(db, self._selection.tables)
        return [self._stage_table(source, db, name, postponed.get(name, ())) for name in names]

    def _stage_table(
        self, source: Readable, db: Writable, name: str, postponed: Sequence[str]
    ) -> StagedTable:
        backup_table, live_table = require_table(source, name), db.tables().get(name)
        if live_table is None or live_table.is_view:
            hint = f"--into {name} creates it without indexes, foreign keys and triggers."
            raise self.not_restored(name, "the table does not exist in the live database", hint)
        users = find_users_section(self._app, self._database)
        if users and name in users.sign_in_tables:
            reason = "its rows are sessions, and revoked sessions would be valid again"
            raise self.not_restored(name, reason, f"Restore them into a new table: --into {name}_then")
        writable_columns = [column.name for column in live_table.columns.values() if not column.is_generated]
        columns = [column for column in writable_columns if column in backup_table.columns]
        key = live_table.primary_key
        as_new = f"Restore the rows into a new table: --into {name}_then"
        if backup_table.is_inherited or live_table.is_inherited:
            reason = "its rows are also those of tables that inherit from it"
            raise self.not_restored(name, reason, as_new)
        if not key:
            raise self.not_restored(name, "it has no primary key", as_new)
        if missing := [column for column in key if column not in columns]:
            raise self.not_restored(name, f"the backup lacks the key column {', '.join(missing)}", as_new)
        if missing := [
            column.name
            for column in live_table.columns.values()
            if column.required and column.name not in columns
        ]:
            reason = f"the backup lacks the required column {', '.join(missing)}"
            raise self.not_restored(name, reason, as_new)
        if empty_keys := [column for column in key if source.count(name, [Condition(column, "=", None)])]:
            reason = f"the backup has rows without a value in the key column {', '.join(empty_keys)}"
            raise self.not_restored(name, reason, as_new)
        secret = find_secret_columns(self._app, self._database, db).get(name, [])
        rules = RowRules(
            self._app, self._database, LiveTable(self._app.profile, db, name, self._app.spec.name)
        )
        checked_rows = CheckedRows(rules, name, columns, Rows(source, db, name, name, columns))
        staged = require_staging(db).stage(name, key, columns, checked_rows)
        if count := staged.count_shared_keys():
            reason = (
                f"{format_count(count, 'key')} of the live table would get several rows of the backup, whose keys"
                " the live table treats as equal"
            )
            raise self.not_restored(name, reason, as_new)
        return StagedTable(
            name=name,
            compared_columns=[column for column in columns if column not in key and column not in secret],
            unchanged_columns=[
                column
                for column in writable_columns
                if column not in columns or (column in secret and column not in key)
            ],
            ignored_columns=[column for column in backup_table.columns if column not in live_table.columns],
            postponed=[column for column in postponed if column not in secret],
            staged=staged,
            key=key,
            checked_rows=checked_rows,
        )

    def not_restored(self, table: str, reason: str, hint: str) -> TableNotRestoredError:
        """Return the error for a table that cannot have the rows of the backup."""
        return TableNotRestoredError(
            table=table, target=self._app.target(self._database), id=self._backup, reason=reason, hint=hint
        )

    def check(self, db: Readable, table: StagedTable) -> None:
        """Refuse rows to write that violate a rule of the app.

        Raises:
            TableNotRestoredError: the message contains the number of the row in the backup.
        """
        columns = [*table.key, *table.compared_columns]
        # created again, because referenced rows may just have been restored
        rules = RowRules(
            self._app, self._database, LiveTable(self._app.profile, db, table.name, self._app.spec.name)
        )
        for number, row in table.checked_rows.suspect_rows:
            where = [Condition(name, "=", row[name]) for name in table.key]
            existing = [
                dict(zip(columns, values, strict=True)) for values in db.select(table.name, columns, where)
            ]
            try:
                if not existing:
                    rules.check_added(row)
                elif self._replaces:
                    replacement = {name: row[name] for name in table.compared_columns}
                    rules.check_replaced(existing[0], replacement)
            except RULE_ERRORS as error:
                reason = f"row {number} of the backup: {error}"
                hint = f"Restore the rows into a new table: --into {table.name}_then"
                raise self.not_restored(table.name, reason, hint) from error

    def describe_steps(self, db: Readable, table: StagedTable, counts: StagedCounts) -> Iterator[str]:
        if counts.missing:
            yield f"insert {format_count(counts.missing, 'row')} into {table.name}"
        if counts.differing:
            action = "replace" if self._replaces else "keep"
            yield f"{action} {format_count(counts.differing, 'row')} of {table.name} that differ from the backup"
        if counts.same:
            others = f", apart from {', '.join(table.unchanged_columns)}" if table.unchanged_columns else ""
            yield f"keep {format_count(counts.same, 'row')} of {table.name} that equal the backup{others}"
        if counts.differing and self._replaces:
            yield from self._describe_following(db, table)
        if table.unchanged_columns and counts.differing and self._replaces:
            yield f"leave {', '.join(table.unchanged_columns)} of existing rows unchanged"
        if table.ignored_columns:
            yield f"ignore {', '.join(table.ignored_columns)} of the backup: {table.name} has no such column"

    @staticmethod
    def _describe_following(db: Readable, table: StagedTable) -> Iterator[str]:
        """Yield a step for each foreign key that changes rows with those that are replaced."""
        for key in db.references(table.name):
            columns = [name for name in key.to if name in table.compared_columns]
            if (
                columns
                and key.on_update not in ("NO ACTION", "RESTRICT")
                and table.staged.compare(columns).differing
                and db.count(key.table, [InSubquery(key.columns, table.name, key.to)])
            ):
                yield (
                    f"change {', '.join(key.columns)} of the rows of {key.table} that refer to a replaced {', '.join(columns)},"
                    f" by its foreign key (ON UPDATE {key.on_update})"
                )

    def apply(self, db: Writable, table: StagedTable) -> RestoredTable:
        """Write the rows of one table; the caller has opened the transaction, and completes the tables afterwards."""
        counts = table.staged.compare(table.compared_columns)
        replaced = counts.differing if self._replaces else 0
        if replaced:
            self._replace(db, table, [name for name in table.compared_columns if name not in table.postponed])
        if table.postponed and not self._replaces:
            table.staged.remove_matched()  # only the new rows are completed
        inserted = table.staged.add(table.postponed) if counts.missing else 0
        require_row_count(inserted, counts.missing, db)
        if inserted:
            db.advance_sequences(table.name)
        return RestoredTable(
            table=table.name,
            into=table.name,
            inserted=inserted,
            replaced=replaced,
            same=counts.same,
            skipped=counts.differing - replaced,
            unchanged_columns=table.unchanged_columns,
            ignored_columns=table.ignored_columns,
        )

    def complete(self, db: Writable, table: StagedTable, restored: RestoredTable) -> RestoredTable:
        """Write the postponed columns of the rows of one table, and count those that its triggers changed.

        Raises:
            ConstraintError: its triggers delete rows, or change their keys.
        """
        if not (restored.inserted or restored.replaced):
            return restored
        if table.postponed:
            self._replace(db, table, table.compared_columns)
        left = table.staged.compare(table.compared_columns)
        if left.missing:
            rows = format_count(left.missing, "row")
            reason = (
                f"{rows} of {table.name} would not exist; a trigger may delete them, or change their keys"
            )
            raise ConstraintError(target=db.target, reason=reason)
        altered = left.differing - (0 if table.postponed else restored.skipped)
        return structs.replace(restored, altered=max(altered, 0))

    @staticmethod
    def _replace(db: Writable, table: StagedTable, columns: Sequence[str]) -> None:
        differing = table.staged.compare(columns).differing
        require_row_count(table.staged.replace(columns), differing, db)


def sort_tables(db: Readable, names: Sequence[str]) -> tuple[Sequence[str], Mapping[str, Sequence[str]]]:
    """Return the tables, referenced ones first, and the columns that stay NULL until all tables have their rows, by table.

    Tables whose foreign keys form a circle have such columns, if the database checks these keys at once.
    """
    ordered = sort_by_references(db, names)
    if any(True for _ in _list_unmet(db, ordered)):
        ordered = sort_by_references(db, names, is_ignored=lambda key: bool(_list_nullable(db, key)))
    postponed = defaultdict[str, list[str]](list)
    for key in _list_unmet(db, ordered):
        postponed[key.table] += _list_nullable(db, key)
    return ordered, postponed


def _list_unmet(db: Readable, names: Sequence[str]) -> Iterator[Reference]:
    """Yield the foreign keys that are checked at once, and whose rows refer to a later table."""
    for index, name in enumerate(names):
        for key in db.references(name) if name in db.tables() else ():
            if key.table in names[:index] and not key.deferrable:
                yield key


def _list_nullable(db: Readable, key: Reference) -> list[str]:
    columns = (db.tables()[key.table].columns[name] for name in key.columns)
    return [column.name for column in columns if column.nullable and not column.is_primary_key]


def find_users_section(app: App, database: str) -> Users | None:
    """Return the section of the profile about users, if the database contains them; otherwise None."""
    section = app.profile.users
    return section if section and app.resolve_database(section) == database else None


class TableSelection(Struct, frozen=True, kw_only=True):
    """The selected tables, and how to restore their rows."""

    tables: Sequence[str]
    new_name: str = ""  #: name of a new table; only with one table
    merge: MergeMode | None = None


class Rows:
    """Rows of a table in the backup, converted for a table of the live database."""

    def __init__(self, source: Readable, db: Readable, name: str, into: str, columns: Sequence[str]) -> None:
        self._streams, self._name, self._columns, self.count = require_streams(source), name, columns, 0
        self._decoders = [db.codec.json_parser(into, column) for column in columns]

    def __iter__(self) -> Iterator[Sequence[object]]:
        with self._streams.stream(self._name, self._columns) as answer:
            for batch in answer.batches:
                signals.raise_if_interrupted()
                for row in batch:
                    self.count += 1
                    yield self._decode(row)

    def _decode(self, row: Sequence[object]) -> list[object]:
        try:
            return [
                None if value is None else read(value)
                for read, value in zip(self._decoders, row, strict=True)
            ]
        except ValueInvalidError as error:
            error.details = [f"row {self.count} of {self._name} in the backup"]
            raise


def select_member(source: BackupSource, selection: TableSelection) -> Member:
    """Return the member of a backup that contains the tables; raises the errors of ``RestoreTables``."""
    tables = selection.tables
    if bool(selection.new_name) == bool(selection.merge):
        raise UsageError(
            detail="--table requires exactly one of: --into NEW, --merge missing, --merge replace"
        )
    if selection.new_name and len(tables) > 1:
        raise UsageError(detail="--into creates one new table: restore the tables one by one")
    if len(set(tables)) < len(tables):
        raise UsageError(detail="--table: a table was named twice")
    members = source.select_members(allow_partial=True)
    candidates = [member for member in members if tables[0] in member.rows]
    if len(candidates) > 1:
        names = " or --db ".join(member.database for member in candidates)
        raise UsageError(detail=f"--table: choose the database: --db {names}")
    member = (candidates or members)[0]
    require_copyable(member)
    parts = {table: _list_parts(source, member, table) for table in tables}
    for table in tables:
        if not parts[table]:
            target = f"backup {source.manifest.id}"
            raise TableMissingError(name=table, target=target, candidates=member.rows)
    if left_out := [part for table in tables for part in parts[table] if part in member.schema_only]:
        raise RowsLeftOutError(id=source.manifest.id, tables=", ".join(left_out))
    return member


def _list_parts(source: BackupSource, member: Member, table: str) -> Sequence[str]:
    """Return the names by which a member has the rows of a table: those of its partitions, if it is partitioned."""
    if table in member.rows:
        return [table]
    dumps = source.app.reader(member.database).dumps
    parts = dumps.list_emptiable_tables() if dumps else None
    return [part for part in (parts or {}).get(table, ()) if part in member.rows]


def require_table(source: Readable, name: str) -> Table:
    table = source.tables().get(name)
    if table is None:
        raise TableMissingError(name=name, target=source.target, candidates=source.tables())
    return table


def require_staging(db: Writable) -> StagingTables:
    hint = Remedy(
        "Restore a copy (--to) and export and import its rows, or restore all with: `restore apply ID`"
    )
    return require_supported(db, db.staging, "restoring single tables", hint)
