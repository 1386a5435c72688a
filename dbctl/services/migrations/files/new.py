"""``migrate new``: create the file of a migration; with ``--alter``, the script that rebuilds a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.database import require_supported
from dbctl.engines.contract.schema import RebuildScript, Schema, SchemaColumn, SchemaTable, TableChange
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import DatabaseMissingError, FileFailedError
from dbctl.errors.migrations import MigrationsShippedError, RebuildLosesError
from dbctl.errors.usage import UsageError, ValueInvalidError
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect, Plan, now
from dbctl.profiles.templates import slugify
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.migrations.files.loader import MigrationFile, build_paths, order_key_of
from dbctl.services.migrations.files.parser import find_section_markers
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.schema_diff import Difference, compare, split_schema
from dbctl.services.migrations.status import load_state, open_for_reading, require_single_target

_ALTER_TABLE_HINT = Remedy(
    "It changes columns itself: write ALTER TABLE into the file of: `migrate new NAME`"
)
#: ``-- +goose StatementBegin`` … ``End`` encloses a statement that contains semicolons.
_GOOSE_STATEMENT = "-- +goose StatementBegin\n{}\n-- +goose StatementEnd"


def parse_table_change(
    table: str,
    *,
    renamed: Iterable[str],
    dropped: Sequence[str],
    types: Iterable[str],
    not_null: Iterable[str],
    nullable: Iterable[str],
    defaults: Iterable[str],
    added_keys: Iterable[str],
    dropped_keys: Sequence[str],
) -> TableChange:
    """Return the change that the options of ``migrate new`` describe; pairs have the form ``COLUMN=VALUE``.

    Raises:
        UsageError: no change, or one of a table without a name.
        ValueInvalidError: a pair has another form.
    """
    change = TableChange(
        table=table,
        renamed=dict(_split_pair("--rename-column", pair) for pair in renamed),
        dropped=dropped,
        types=dict(_split_pair("--type", pair) for pair in types),
        nullable={**dict.fromkeys(not_null, False), **dict.fromkeys(nullable, True)},
        defaults=dict(_split_pair("--default", pair) for pair in defaults),
        added_keys=dict(_split_key(pair) for pair in added_keys),
        dropped_keys=dropped_keys,
    )
    if bool(table) != bool(change.columns):
        raise UsageError(detail="--alter requires the table and at least one change of a column")
    return change


def _split_pair(option: str, pair: str) -> tuple[str, str]:
    column, separator, value = pair.partition("=")
    if not (column and separator and value):
        raise ValueInvalidError(name=option, value=repr(pair), reason="the form is COLUMN=VALUE")
    return column, value


def _split_key(pair: str) -> tuple[str, tuple[str, str]]:
    column, target = _split_pair("--add-foreign-key", pair)
    table, _, referenced_column = target.partition(".")
    if not (table and referenced_column):
        raise ValueInvalidError(
            name="--add-foreign-key", value=repr(pair), reason="the form is COLUMN=TABLE.COLUMN"
        )
    return column, (table, referenced_column)


def write_statements(
    app: App, target: MigrationTarget, change: TableChange, version: str, *, goose: bool
) -> list[str]:
    """Return the statements that change a table of the live database, each with its semicolon.

    Raises:
        NotSupportedError: ALTER TABLE of the engine changes columns.
        RebuildLosesError: the new table would lack something that the change does not name.
        DbctlError: the database cannot be read, or lacks the table or a column.
    """
    with open_for_reading(app, target) as db:
        rebuilder = require_supported(db, db.rebuilder, "rebuilding a table", _ALTER_TABLE_HINT)
        script = rebuilder.write_rebuild(change, version)
    if losses := list(_find_losses(script, change)):
        raise RebuildLosesError(target=target.name, table=change.table, losses="; ".join(losses))
    statements = [f"{statement};" for statement in script.statements]
    if not goose:
        return statements
    return [
        _GOOSE_STATEMENT.format(statement) if ";" in statement[:-1] else statement for statement in statements
    ]


def _find_losses(script: RebuildScript, change: TableChange) -> Iterator[str]:
    """Yield what the script changes besides the requested changes."""
    expected = split_schema(_apply_change(script.before, script.after, change))
    for difference in compare(expected, split_schema(script.after)):
        yield _describe_loss(difference)


def _describe_loss(difference: Difference) -> str:
    if not difference.actual:
        return f"{difference.place} ({difference.expected})"
    if not difference.expected:
        return f"{difference.place} would be added ({difference.actual})"
    return f"{difference.place} ({difference.expected} would become {difference.actual})"


def _apply_change(before: Schema, after: Schema, change: TableChange) -> Schema:
    """Return the schema that the change alone produces; types, defaults and new keys as in ``after``."""
    rebuilt = next(table for table in after.tables if table.name == change.table)
    tables = [
        _apply_to_table(table, rebuilt, change.after_renaming()) if table.name == change.table else table
        for table in before.tables
    ]
    return structs.replace(before, tables=tables)


def _apply_to_table(table: SchemaTable, rebuilt: SchemaTable, change: TableChange) -> SchemaTable:
    dropped_keys = [[name] for name in (*change.dropped_keys, *change.added_keys, *change.dropped)]
    new_columns = {column.name: column for column in rebuilt.columns}
    return structs.replace(
        table,
        columns=[
            _apply_to_column(column, new_columns.get(column.name, column), change)
            for column in table.columns
            if column.name not in change.dropped
        ],
        indexes=[
            index for index in table.indexes if list(index.columns) not in [[name] for name in change.dropped]
        ],
        references=[
            *(reference for reference in table.references if list(reference.columns) not in dropped_keys),
            *(reference for reference in rebuilt.references if reference.columns[0] in change.added_keys),
        ],
    )


def _apply_to_column(column: SchemaColumn, new_column: SchemaColumn, change: TableChange) -> SchemaColumn:
    if column.name in change.types:
        column = structs.replace(column, type=new_column.type, storage=new_column.storage)
    if column.name in change.defaults:
        column = structs.replace(column, default=new_column.default)
    return structs.replace(column, nullable=change.nullable.get(column.name, column.nullable))


_HEADER_NOTE = "-- The runner begins and ends the transaction: do not write BEGIN, COMMIT or ROLLBACK."
_REBUILD_NOTE = (
    "-- The runner must set foreign_keys = off before the transaction, as dbctl does: otherwise DROP TABLE also deletes\n"
    "-- the rows that refer to the table.\n"
)
_TIMESTAMP_DIGITS = 14  #: of a version that is a timestamp, as created by dbmate, goose and Prisma
_NUMBER_DIGITS = 3  #: of the first number in an empty folder
_MAX_NAME_LENGTH = 100


class CreatedFile(ChangeResult, frozen=True, kw_only=True):
    """Result of ``migrate new``."""

    path: Path
    version: str
    name: str

    @property
    def effect(self) -> Effect | None:
        return Effect("created", "file", [str(self.path)])


class CreateMigration(Operation):
    """Create a migration file: the next number or the current time, a safe name, a header, and the change of a table."""

    def __init__(
        self, app: App, targets: Sequence[MigrationTarget], purpose: str, change: TableChange | None = None
    ) -> None:
        """Find the next number and a safe name, and write the statements of the change.

        Raises:
            As ``write_statements``.
            UsageError: several databases have migrations.
            MigrationsShippedError: the folder is the one shipped with dbctl.
            ValueInvalidError: the name is too long, or has no letter or digit.
        """
        target = require_single_target(targets)
        super().__init__(app, target.name)
        folder = target.folder
        self._purpose = "".join(char for char in " ".join(purpose.split()) if char.isprintable())
        if not folder.is_custom:
            raise MigrationsShippedError(target=self.target)
        names = list(folder.files)
        newest = next(reversed([*folder.files.values()]), None)
        if folder.format == "prisma" or (newest and len(newest.version) == _TIMESTAMP_DIGITS):
            self._version = f"{now():%Y%m%d%H%M%S}"
            self._name = f"{self._version}_{_create_safe_name(purpose, names)}"
        else:
            self._version = _find_next_number(list(folder.files.values()), _iterate_used_numbers(app, target))
            separator = names[-1].lstrip("0123456789")[0] if names else "_"  # of the newest file
            self._name = f"{self._version}{separator}{_create_safe_name(purpose, names)}"
        self._path, self._down_path = build_paths(folder, self._name)
        language = registry.load_engine(target.engine).script_dialect
        self._markers = find_section_markers(newest.decode() if newest else "", folder.format, language)
        self._statements: Sequence[str] = ()
        if change:
            is_goose = "+goose" in self._markers[0]
            self._statements = write_statements(app, target, change, self._version, goose=is_goose)

    def plan(self) -> Plan:
        """Return the files to write, and the statements in them."""
        steps = [f"write {path}" for path in (self._path, self._down_path) if path]
        steps += [" ".join(statement.split()) for statement in self._statements]
        return self._create_plan("Create a migration", steps)

    def apply(self, confirmed: str | None = None) -> CreatedFile:
        """Write the files completely, or none of them.

        Raises:
            FileExistsAlreadyError: a file of that name was created since the plan.
            FileFailedError: the disk is full, or the folder is not writable.
        """
        del confirmed  # the name is fixed, and an existing file is never replaced
        up, down = self._markers
        drops_table = any(statement.startswith("DROP TABLE") for statement in self._statements)
        header = f"-- Purpose: {self._purpose}\n--\n{_HEADER_NOTE}\n{_REBUILD_NOTE if drops_table else ''}"
        script = "".join(f"{statement}\n\n" for statement in self._statements)
        with self._create_folder():
            if self._down_path:
                self._write(self._down_path, f"-- Reverts: {self._purpose}\n--\n{_HEADER_NOTE}\n\n")
            try:
                self._write(self._path, header + (f"{up}\n\n{script}{down}\n\n" if up else f"\n{script}"))
            except BaseException:  # half of a pair is of no use
                if self._down_path:
                    self._down_path.unlink()
                raise
        return CreatedFile(path=self._path, version=self._version, name=self._name)

    def _write(self, path: Path, text: str) -> None:
        with write_atomically(path, mode=0o644) as file:
            file.write(text)

    @contextmanager
    def _create_folder(self) -> Iterator[None]:
        """Create the folder of the migration if it is missing; remove it again on failure."""
        folder = self._path.parent
        is_new = not folder.exists()
        try:
            if is_new:
                folder.mkdir()
            yield
        except OSError as error:
            raise FileFailedError(path=folder, reason=error.strerror or str(error)) from error
        except BaseException:  # also on a signal: the app's runner would fail on an empty folder
            if is_new:
                with suppress(OSError):  # another process has written a file there
                    folder.rmdir()
            raise


def _iterate_used_numbers(app: App, target: MigrationTarget) -> Iterator[int]:
    """Yield the numbers that the ledger or the shipped migrations use.

    Raises:
        DbctlError: the database cannot be read, and the folder is empty.
    """
    try:
        state = load_state(app, target)
    except DbctlError as error:
        if target.folder.files or isinstance(error, DatabaseMissingError):
            return
        raise
    yield from (order_key_of(migration.name)[0] for migration in state.migrations)
    if state.is_unrecorded and not target.folder.files:  # migrate baseline will record the shipped migrations
        for folder in target.shipped_folders.values():
            yield from (file.order_key[0] for file in folder.files.values())


def _find_next_number(files: Sequence[MigrationFile], other_numbers: Iterable[int]) -> str:
    newest = max((*(file.order_key[0] for file in files), *other_numbers), default=0)
    width = max((len(file.version) for file in files), default=_NUMBER_DIGITS)
    return f"{newest + 1:0{width}d}"


def _create_safe_name(purpose: str, names: Sequence[str]) -> str:
    """Return ``purpose`` as ASCII letters and digits, with the separator of most other names."""
    slug = slugify(purpose)
    if not slug:
        raise ValueInvalidError(
            name="the name", value=repr(purpose), reason="it has no ASCII letter or digit"
        )
    separators = Counter(char for name in names for char in name.lstrip("0123456789")[1:] if char in "-_")
    joined = slug if separators["-"] > separators["_"] else slug.replace("-", "_")
    if len(joined) > _MAX_NAME_LENGTH:
        raise ValueInvalidError(
            name="the name", value=repr(purpose), reason=f"it is longer than {_MAX_NAME_LENGTH} characters"
        )
    return joined
