"""Export rows to files and import them without loss; an import is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import IO

from dbctl import progress, signals
from dbctl.engines.contract import CsvWriter, Readable, Writable
from dbctl.errors import (
    AlreadyExistsError,
    BuiltInRoleError,
    ConstraintError,
    ImportInvalidError,
    UsageError,
    ValueInvalidError,
    shorten_details,
)
from dbctl.model import ChangeResult, Effect, Plan, Struct, format_count
from dbctl.services.app import MASK, App, Change, audit, require_codec, require_row_count, require_streams
from dbctl.services.data.csv_jsonl import (
    Cell,
    Form,
    Line,
    RowFileError,
    read_rows,
    write_csv,
    write_jsonl,
)
from dbctl.services.data.query import run_query
from dbctl.services.data.refused_rows import list_refused_lines
from dbctl.services.data.table import DataTable, selected_database
from dbctl.services.rules import RowRules, guard_constraints

#: Rows of an import between two reports of the progress.
PROGRESS_ROWS = 1000
#: The check of a file stops after this number of invalid lines.
MAX_ERRORS = 1000


class ExportResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data export``."""

    is_timed = True

    table: str | None  #: None for the result of a statement
    file: str
    format: Form
    rows: int
    bytes: int
    columns: Sequence[str]
    left_out: Sequence[str] = ()  #: secret and generated columns

    @property
    def effect(self) -> Effect | None:
        place = f"of {self.table or 'the result'} to {self.file}"
        return Effect("exported", "row", count=self.rows, place=place, bytes=self.bytes)


class ImportResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data import``."""

    is_timed = True

    table: str
    added: int

    @property
    def effect(self) -> Effect | None:
        return Effect("added", "row", count=self.added, place=f"to {self.table}") if self.added else None


class ExportTarget(Struct, frozen=True, kw_only=True):
    """Where an export is written, and how."""

    write: Callable[[bytes], object]
    file: str  #: its name for the result
    form: Form
    secrets: bool = False  #: also export secret columns
    excel_safe: bool = False


class _Sink:
    """The writer of an export, which counts bytes."""

    def __init__(self, target: ExportTarget) -> None:
        self._target, self.bytes = target, 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        self._target.write(data)

    def write_rows(self, columns: Sequence[str], batches: Iterator[Sequence[Sequence[object]]]) -> int:
        """Write rows, and return their number."""
        if self._target.form is Form.CSV:
            excel_safe = self._target.excel_safe
            return write_csv(columns, _check_interrupts(batches), self.write, excel_safe=excel_safe)
        if self._target.excel_safe:
            raise UsageError(detail="--excel-safe requires --format csv")
        return write_jsonl(columns, _check_interrupts(batches), self.write)

    def create_result(
        self, table: str | None, columns: Sequence[str], rows: int, left_out: Sequence[str] = ()
    ) -> ExportResult:
        return ExportResult(
            table=table,
            file=self._target.file,
            format=self._target.form,
            rows=rows,
            bytes=self.bytes,
            columns=columns,
            left_out=left_out,
        )


def export_table(app: App, name: str, target: ExportTarget, *, columns: Sequence[str] = ()) -> ExportResult:
    """Export a snapshot of a table without generated columns, and without secret ones unless the target has them.

    Raises:
        UsageError: a selected column is secret or generated.
    """
    db = app.reader(selected_database(app))
    table = DataTable(app, db, name, secrets=target.secrets)
    stored_columns = [column.name for column in table.columns.values() if not column.is_generated]
    visible_columns = [column for column in stored_columns if column not in table.hidden]
    selected = [table.require_readable_column(column).name for column in columns] or visible_columns
    if not stored_columns:
        raise UsageError(detail=f"{name} has only generated columns, which are not exported")
    if not selected:
        raise UsageError(detail=f"all columns of {name} are secret; export them with --secrets")
    sink = _Sink(target)
    if target.form is Form.CSV and not target.excel_safe and (csv_writer := db.part(CsvWriter)):
        rows = csv_writer.write_csv(name, selected, sink.write)
    else:
        with require_streams(db).stream(name, selected) as stream:
            rows = sink.write_rows(selected, stream.batches)
    left_out = [] if columns else [column for column in stored_columns if column not in selected]
    return sink.create_result(name, selected, rows, left_out)


def export_query(app: App, sql: str, parameters: Mapping[str, str], target: ExportTarget) -> ExportResult:
    """Export the result of a statement; for errors see ``run_query``."""
    sink = _Sink(target)
    with run_query(app, sql, parameters, within=None, secrets=target.secrets) as stream:
        return sink.create_result(None, stream.columns, sink.write_rows(stream.columns, stream.batches))


def import_rows(app: App, name: str, source: IO[bytes], *, file: str, form: Form) -> Change[ImportResult]:
    """Import all rows of a file in one transaction.

    All lines are checked before the first write, so that one run reports all invalid lines.

    ``source`` must be seekable, because it is read several times. ``file`` is its name for messages.

    Raises (when planned and when applied):
        ImportInvalidError: with all invalid lines.
        ColumnMissingError, UsageError: the file has an unknown or generated column.
        ConstraintError: the database refuses a row; the message contains its line.
        UseDedicatedCommandError: the table is the ledger of migrations.
    """
    row_counts: list[int] = []  # of the checked file

    def prepare() -> None:
        table = DataTable(app, app.reader(selected_database(app)), name)
        row_counts.append(_check_file(table, source, file, form))

    def draft(db: Readable) -> ImportRows:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        row_count = row_counts[0] if row_counts else _check_file(table, source, file, form)
        return ImportRows(table, source, file, form, row_count)

    return Change(app, selected_database(app), "data import", draft, prepare=prepare)


def add_refused_lines(
    app: App,
    name: str,
    source: IO[bytes],
    error: ConstraintError | AlreadyExistsError,
    *,
    file: str,
    form: Form,
) -> None:
    """Add all lines that keys and foreign keys refuse to the error of an import, which names only the first one."""
    table = DataTable(app, app.reader(selected_database(app)), name)
    rows = _FileRows(table, source, form)
    numbered = ((line.number, rows.parse_row(line)) for line in rows.lines)
    refused = list_refused_lines(table, rows.columns, numbered, MAX_ERRORS)
    if any(detail == f"line {number} of {file}" for number in refused for detail in error.details):
        lines = [f"line {number} of {file}: {reason}" for number, reason in refused.items()]
        error.details = shorten_details(lines)


class ImportRows:
    """Insert the rows of a checked file."""

    def __init__(self, table: DataTable, source: IO[bytes], file: str, form: Form, row_count: int) -> None:
        self._table, self._source, self._file, self._form = table, source, file, form
        self._row_count = row_count
        self.plan = Plan(
            title=f"Import {file} into {table.name}",
            target=table.db.target,
            steps=[f"add {format_count(row_count, 'row')} to {table.name}"] if row_count else [],
            rows={table.name: row_count} if row_count else {},
        )

    def apply(self, db: Writable) -> ImportResult:
        """Insert the rows and record the import."""
        app, name = self._table.app, self._table.name
        added = self._insert(db) if self._row_count else 0
        require_row_count(added, self._row_count, db)
        if added:
            db.advance_sequences(name)
            details = {"rows": added, "file": PurePath(self._file).name}
            audit.record(app, db, "data.import", name, "", details)
        return ImportResult(table=name, added=added)

    def _insert(self, db: Writable) -> int:
        app, name = self._table.app, self._table.name
        rows = _FileRows(DataTable(app, db, name), self._source, self._form)
        with guard_constraints(app, self._table.database, db, {name: rows.columns}):
            try:
                return db.insert_many(name, rows.columns, rows)
            except (AlreadyExistsError, BuiltInRoleError, ConstraintError, ValueInvalidError) as error:
                row = error.context.get("row")
                number = self._find_line(row if isinstance(row, int) else rows.row_count)
                error.details = [f"line {number} of {self._file}"]
                raise

    def _find_line(self, row: int) -> int:
        """Return the number of the first line of a row."""
        self._source.seek(0)
        _, lines = read_rows(self._source, self._form)
        return next((line.number for index, line in enumerate(lines, 1) if index >= row), row)


# Files --------------------------------------------------------------------------------------------------------


def _check_interrupts(batches: Iterator[Sequence[Sequence[object]]]) -> Iterator[Sequence[Sequence[object]]]:
    for batch in batches:
        signals.raise_if_interrupted()
        yield batch
        progress.advance(len(batch))


class _FileRows:
    """The rows of a file, parsed for the columns of a table."""

    def __init__(self, table: DataTable, source: IO[bytes], form: Form) -> None:
        source.seek(0)
        self.columns, self.lines = read_rows(source, form)
        self._table = table
        for name in self.columns:
            if table.column(name).is_generated:
                raise UsageError(detail=f"{table.name}.{name} is a generated column; remove it from the file")
        db = require_codec(table.db)
        self._readers: list[Callable[[object], object]] = [
            _parse_cell(db.csv_parser(table.name, name))
            if form is Form.CSV
            else db.json_parser(table.name, name)
            for name in self.columns
        ]
        self.row_count = 0
        self._rules = RowRules(table.app, table.database, table.live)
        self._rules.prepare()
        self._strict = [not table.columns[name].nullable for name in self.columns]
        self._secret = [name in table.hidden for name in self.columns]

    def __iter__(self) -> Iterator[Sequence[object]]:
        for line in self.lines:
            self.row_count += 1
            yield self.parse_row(line)
            if not self.row_count % PROGRESS_ROWS:
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


def _check_file(table: DataTable, source: IO[bytes], file: str, form: Form) -> int:
    """Check all rows of a file, and return their number."""
    if table.live.table.is_view:
        raise UsageError(detail=f"{table.name} is a view; rows cannot be added")
    errors: list[str] = []
    row_count = 0
    try:
        rows = _FileRows(table, source, form)
        if not rows.columns:
            return 0
        missing = table.live.missing_required_columns(set(rows.columns))
        if missing:
            raise UsageError(detail=f"{file} lacks the column {missing[0]}, which {table.name} requires")
        for line in rows.lines:
            row_count += 1
            signals.raise_if_interrupted()
            if reason := _find_violation(rows, line):
                errors.append(f"line {line.number}: {reason}")
                if len(errors) >= MAX_ERRORS:
                    break
    except RowFileError as error:
        errors.append(f"line {error.number}: {error}")
        row_count += 1
    if errors:
        raise ImportInvalidError(errors=errors, rows=row_count, file=file)
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
