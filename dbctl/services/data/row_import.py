"""Add the rows of a file, of one table or of several that its lines name, in one transaction; list every line that keys refuse."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import IO

from dbctl import progress, signals
from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.base import DbctlError, shorten_details
from dbctl.errors.connection import ConstraintError
from dbctl.errors.databases import (
    AlreadyExistsError,
    ColumnMissingError,
    ImportInvalidError,
    TableMissingError,
)
from dbctl.errors.usage import UsageError, UseDedicatedCommandError, ValueInvalidError
from dbctl.errors.users import BuiltInRoleError
from dbctl.model import ChangeResult, Effect, Plan, Struct, format_count
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.live_table import list_uncovered
from dbctl.services.app.row_writes import insert_exactly
from dbctl.services.data.csv_jsonl import (
    Cell,
    Form,
    Line,
    RowFileError,
    list_tables,
    read_rows,
    read_rows_of_table,
)
from dbctl.services.data.key_checks import Key, find_refused, list_keys, list_references, normalise_key
from dbctl.services.data.table import DataTable, selected_database, sort_by_references
from dbctl.services.rules.rows import RowRules, guard_constraints

#: Rows of an import between two reports of the progress.
PROGRESS_ROWS = 1000
#: The check of a file stops after this number of invalid lines.
MAX_ERRORS = 1000


class ImportResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data import``."""

    is_timed = True

    table: str | None  #: None for a file whose lines name their tables
    added: int
    tables: Mapping[str, int]  #: the added rows by table, in the order in which they were added
    created: Mapping[str, str] = {}  #: the columns of a table that was created, with their types

    @property
    def effect(self) -> Effect | None:
        if self.created and self.table:
            return Effect("created", "table", [self.table], counts={"rows": self.added})
        place = f"to {', '.join(self.tables)}"
        return Effect("added", "row", count=self.added, place=place) if self.added else None


class RowFile(Struct, frozen=True, kw_only=True):
    source: IO[bytes]  #: seekable, because it is read several times
    name: str  #: for messages
    form: Form
    table: str = ""  #: of all rows; empty: each line names its table

    def list_tables(self, errors: dict[int, str]) -> Mapping[str, int]:
        """Return the tables with their first lines; a line that names none is added to ``errors``, and ends the file."""
        if self.table:
            return {self.table: 1}
        self.source.seek(0)
        tables = dict[str, int]()
        try:
            for number, table in list_tables(self.source):
                tables.setdefault(table, number)
        except RowFileError as error:
            errors[error.number] = str(error)
        return tables

    def read(self, table: str) -> tuple[Sequence[str], Iterator[Line]]:
        """Return the columns of the rows of a table, and an iterator over these rows; raises as ``read_rows``."""
        self.source.seek(0)
        return read_rows(self.source, self.form) if self.table else read_rows_of_table(self.source, table)


def import_rows(app: App, file: RowFile) -> Change[ImportResult]:
    """Import all rows of a file in one transaction.

    All lines are checked before the first write, so that one run reports all invalid lines. The rows of several tables are added
    in the order of the references between the tables, and those of a table in the order of their lines.

    Raises (when planned and when applied):
        ImportInvalidError: with all invalid lines.
        ColumnMissingError, UsageError: the file has an unknown or generated column.
        ConstraintError: the database refuses a row; the message contains its line.
        UseDedicatedCommandError: a table is the ledger of migrations.
    """
    checked: list[Mapping[str, int]] = []  # rows by table

    def draft(db: Readable) -> ImportRows:
        counts = checked[0] if checked else _check_file(app, db, file)
        if file.table:
            DataTable(app, db, file.table).refuse_reserved()
        return ImportRows(app, db, file, counts)

    def prepare() -> None:
        checked.append(_check_file(app, app.reader(selected_database(app)), file))

    return _Import(app, file, draft, prepare)


class _Import(Change[ImportResult]):
    def __init__(
        self, app: App, file: RowFile, draft: Callable[[Readable], ImportRows], prepare: Callable[[], None]
    ) -> None:
        super().__init__(app, selected_database(app), draft, prepare=prepare)
        self._file = file

    def plan(self) -> Plan:
        """Return the plan; raises as ``import_rows``, also for keys that other rows have, which the database refuses when it is applied."""
        plan = super().plan()
        # Not for foreign keys: which values are equal is known to the database alone, and no key would be refused in vain.
        if refused := _list_refused(self._app, self._file, with_references=False):
            # without their number: the search ends after MAX_ERRORS
            reason = f"keys of {self._file.name} exist, or are in several of its lines"
            error = ConstraintError(target=self.target, reason=reason)
            error.details = _describe_lines(self._file, refused)
            raise error
        return plan


def add_refused_lines(app: App, file: RowFile, error: ConstraintError | AlreadyExistsError) -> None:
    """Add all lines that keys and foreign keys refuse to the error of an import, which names only the first one, or none."""
    refused = _list_refused(app, file, with_references=True)
    # PostgreSQL checks foreign keys after the last row, and names no line
    if not error.details or any(
        detail == f"line {number} of {file.name}" for number in refused for detail in error.details
    ):
        error.details = _describe_lines(file, refused)


def _describe_lines(file: RowFile, refused: Mapping[int, str]) -> list[str]:
    return shorten_details(
        [f"line {number} of {file.name}: {reason}" for number, reason in sorted(refused.items())]
    )


def _list_refused(app: App, file: RowFile, *, with_references: bool) -> dict[int, str]:
    """Return why keys, and with ``with_references`` also foreign keys, refuse lines, by number of line, at most ``MAX_ERRORS`` of each table."""
    db = app.reader(selected_database(app))
    tables = {name: DataTable(app, db, name) for name in file.list_tables({})}

    def read_added(parent: str, columns: Sequence[str]) -> Collection[Key]:
        if parent not in tables:
            return ()
        rows = _FileRows(tables[parent], file)
        if not set(columns) <= set(rows.columns):
            return ()
        indexes = [rows.columns.index(name) for name in columns]
        parsed = map(rows.parse_row, rows.lines)
        return {normalise_key([row[index] for index in indexes]) for row in parsed}

    def read_numbered(table: DataTable) -> Iterator[tuple[int, Sequence[object]]]:
        rows = _FileRows(table, file)  # opened on first use: the readers share the position in the file
        for line in rows.lines:
            yield line.number, rows.parse_row(line)

    refused = dict[int, str]()
    for table in tables.values():
        columns = _FileRows(table, file).columns
        checks = list(list_keys(table, columns))
        if with_references:
            checks += list_references(table, columns, read_added)
        refused |= find_refused(checks, read_numbered(table), MAX_ERRORS)
    return refused


class ImportRows:
    """Insert the rows of a checked file; ``counts`` has the number of rows of each table."""

    def __init__(self, app: App, db: Readable, file: RowFile, counts: Mapping[str, int]) -> None:
        self._app, self._file = app, file
        self._counts = {name: counts[name] for name in sort_by_references(db, list(counts)) if counts[name]}
        self.plan = Plan(
            title=f"Import {file.name}" + (f" into {', '.join(counts)}" if counts else ""),
            target=db.target,
            steps=[f"add {format_count(count, 'row')} to {name}" for name, count in self._counts.items()],
            rows=self._counts,
        )

    def apply(self, db: Writable) -> ImportResult:
        """Insert the rows and record the import."""
        for name, count in self._counts.items():
            insert_exactly(db, name, count, partial(self._insert, db, name))
            db.advance_sequences(name)
            details = {"rows": count, "file": PurePath(self._file.name).name}
            audit.record(self._app, db, "data.import", name, "", details)
        return ImportResult(
            table=self._file.table or None, added=sum(self._counts.values()), tables=self._counts
        )

    def _insert(self, db: Writable, name: str) -> int:
        table = DataTable(self._app, db, name)
        rows = _FileRows(table, self._file)
        with guard_constraints(self._app, table.database, db, {name: rows.columns}):
            try:
                return db.insert_many(name, rows.columns, rows)
            except (AlreadyExistsError, BuiltInRoleError, ConstraintError, ValueInvalidError) as error:
                if isinstance(row := error.context.get("row"), int):
                    error.details = [f"line {self._find_line(name, row)} of {self._file.name}"]
                raise

    def _find_line(self, table: str, row: int) -> int:
        """Return the number of the first line of a row of a table."""
        _, lines = self._file.read(table)
        return next((line.number for index, line in enumerate(lines, 1) if index >= row), row)


# Files --------------------------------------------------------------------------------------------------------


class _FileRows:
    """The rows of a file, parsed for the columns of a table."""

    def __init__(self, table: DataTable, file: RowFile) -> None:
        self.columns, self.lines = file.read(table.name)
        for name in self.columns:
            if table.column(name).is_generated:
                raise UsageError(detail=f"{table.name}.{name} is a generated column; remove it from the file")
        db = table.db.codec
        self._readers: list[Callable[[object], object]] = [
            _parse_cell(db.csv_parser(table.name, name))
            if file.form is Form.CSV
            else db.json_parser(table.name, name)
            for name in self.columns
        ]
        self._rules = RowRules(table.app, table.database, table.live)
        self._rules.prepare()
        self._strict = [not table.columns[name].nullable for name in self.columns]
        self._secret = [name in table.hidden for name in self.columns]

    def __iter__(self) -> Iterator[Sequence[object]]:
        for number, line in enumerate(self.lines, 1):
            try:
                row = self.parse_row(line)
            except DbctlError as error:
                error.context["row"] = number
                raise
            yield row
            if not number % PROGRESS_ROWS:
                progress.advance(PROGRESS_ROWS)

    def parse_row(self, line: Line) -> list[object]:
        """Return the values of a line.

        Raises:
            ValueInvalidError: a value is invalid.
            Others: see ``RowRules.check_added``.
        """
        if len(line.values) != len(self.columns):
            reason = (
                f"it has {format_count(len(line.values), 'field')}, but the header has {len(self.columns)}"
            )
            raise ValueInvalidError(name="the", value="row", reason=reason)
        values: list[object] = []
        for index, value in enumerate(line.values):
            if value is None:
                if self._strict[index]:
                    raise ValueInvalidError(
                        name=self.columns[index], value="NULL", reason="the column is NOT NULL"
                    )
                values.append(None)
                continue
            if self._secret[index] and (value.text if isinstance(value, Cell) else value) == MASK:
                reason = "it is the mask of a secret that was not exported"
                raise ValueInvalidError(name=self.columns[index], value=MASK, reason=reason)
            values.append(self._readers[index](value))
        if self._rules:
            self._rules.check_added(dict(zip(self.columns, values, strict=True)))
        return values


def _parse_cell(read_cell: Callable[[str, bool], object]) -> Callable[[object], object]:
    return lambda cell: read_cell(*cell)  # type: ignore[misc]


def _check_file(app: App, db: Readable, file: RowFile) -> Mapping[str, int]:
    """Check all rows of a file, and return their numbers by table."""
    errors, counts = dict[int, str](), dict[str, int]()
    tables = file.list_tables(errors)
    for name, first_line in tables.items():
        try:
            table = DataTable(app, db, name)
            if not file.table:
                table.refuse_reserved()
            if (row_count := _check_table(table, file, errors)) is not None:
                counts[name] = row_count
        except (ColumnMissingError, TableMissingError, UsageError, UseDedicatedCommandError) as error:
            if file.table:
                raise
            errors.setdefault(first_line, str(error))
    if errors:
        lines = [f"line {number}: {reason}" for number, reason in sorted(errors.items())[:MAX_ERRORS]]
        rows = sum(counts.values()) if len(counts) == len(tables) else None
        raise ImportInvalidError(errors=lines, rows=rows, file=file.name)
    return counts


def _check_table(table: DataTable, file: RowFile, errors: dict[int, str]) -> int | None:
    """Check the rows of a table, add invalid lines to ``errors``, and return the number of the rows; None: not all were read."""
    if table.live.table.is_view:
        raise UsageError(detail=f"{table.name} is a view; rows cannot be added")
    row_count = 0
    try:
        rows = _FileRows(table, file)
        if not rows.columns:
            return 0
        missing = list_uncovered(table.live.table, set(rows.columns))
        if missing:
            raise UsageError(detail=f"{file.name} lacks the column {missing[0]}, which {table.name} requires")
        for line in rows.lines:
            row_count += 1
            signals.raise_if_interrupted()
            if reason := _find_violation(rows, line):
                errors.setdefault(line.number, reason)
                if len(errors) >= MAX_ERRORS:
                    return None
    except RowFileError as error:
        errors.setdefault(error.number, str(error))
        return None
    return row_count


def _find_violation(rows: _FileRows, line: Line) -> str:
    """Return why a line is invalid, or an empty text."""
    try:
        rows.parse_row(line)
    except ValueInvalidError as error:
        return f"{error.context['name']} {error.context['value']}: {error.context['reason']}"
    except (AlreadyExistsError, BuiltInRoleError) as error:
        return str(error)
    return ""
