"""Export rows to files and import them without loss; an import is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import PurePath
from typing import IO

from dbctl import signals
from dbctl.engines.contract import CsvWriter, Readable, Writable
from dbctl.errors import (
    AlreadyExistsError,
    BuiltInRoleError,
    ConstraintError,
    ImportInvalidError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import ChangeResult, Plan, format_count
from dbctl.services.app import MASK, App, Change, PreparedChange, audit, require_row_count, require_streams
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
from dbctl.services.data.table import DataTable, selected_database
from dbctl.services.rules import RowRules, guard_constraints

#: The check of a file stops after this number of invalid lines.
MAX_ERRORS = 1000


class ExportResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data export``."""

    table: str | None  #: None for the result of a statement
    file: str
    format: Form
    rows: int
    bytes: int
    columns: Sequence[str]
    left_out: Sequence[str] = ()  #: secret and generated columns


class ImportResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data import``."""

    table: str
    added: int


class CountingWriter:
    """A writer that counts bytes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write, self.bytes = write, 0

    def __call__(self, data: bytes) -> None:
        self.bytes += len(data)
        self._write(data)


def export_table(
    app: App,
    name: str,
    write: Callable[[bytes], object],
    *,
    file: str,
    form: Form,
    columns: Sequence[str] = (),
    secrets: bool = False,
    excel_safe: bool = False,
) -> ExportResult:
    """Export a snapshot of a table without secret and generated columns.

    Raises:
        UsageError: a selected column is secret or generated.
    """
    db = app.reader(selected_database(app))
    table = DataTable(app, db, name, secrets=secrets)
    stored_columns = [column.name for column in table.columns.values() if not column.is_generated]
    selected = [table.require_readable_column(column_name).name for column_name in columns] or [
        column_name for column_name in stored_columns if column_name not in table.hidden
    ]
    if not stored_columns:
        raise UsageError(detail=f"{name} has only generated columns, which are not exported")
    if not selected:
        raise UsageError(detail=f"all columns of {name} are secret; export them with --secrets")
    sink = CountingWriter(write)
    if form is Form.CSV and not excel_safe and (csv_writer := db.part(CsvWriter)):
        rows = csv_writer.write_csv(name, selected, sink)
    else:
        with require_streams(db).stream(name, selected) as stream:
            rows = _write_rows(form, selected, stream.batches, sink, excel_safe=excel_safe)
    left_out = (
        [] if columns else [column_name for column_name in stored_columns if column_name not in selected]
    )
    return ExportResult(
        table=name, file=file, format=form, rows=rows, bytes=sink.bytes, columns=selected, left_out=left_out
    )


def export_query(
    app: App,
    sql: str,
    parameters: Mapping[str, str],
    write: Callable[[bytes], object],
    *,
    file: str,
    form: Form,
    within: timedelta | None = None,
    secrets: bool = False,
    excel_safe: bool = False,
) -> ExportResult:
    """Export the result of a statement; for errors see ``run_query``."""
    sink = CountingWriter(write)
    with run_query(app, sql, parameters, within=within, secrets=secrets) as stream:
        rows = _write_rows(form, stream.columns, stream.batches, sink, excel_safe=excel_safe)
        columns = stream.columns
    return ExportResult(table=None, file=file, format=form, rows=rows, bytes=sink.bytes, columns=columns)


def import_rows(app: App, name: str, source: IO[bytes], *, file: str, form: Form) -> Change[ImportResult]:
    """Import all rows of a file in one transaction.

    All lines are checked before the first write, so that one run reports all invalid lines.

    Args:
        app: the app.
        name: the table.
        source: the file, which must be seekable; it is read several times.
        file: its name for messages.
        form: its format.

    Raises (when planned and when applied):
        ImportInvalidError: with all invalid lines.
        ColumnMissingError, UsageError: the file has an unknown or generated column.
        ConstraintError: the database refuses a row; the message contains its line.
        UseDedicatedCommandError: the table is the ledger of migrations.
    """
    checked: dict[str, int] = {}

    def prepare() -> None:
        checked["rows"] = _check_file(
            DataTable(app, app.reader(selected_database(app)), name), source, file, form
        )

    def draft(db: Readable) -> PreparedChange[ImportResult]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        row_count = checked["rows"] if checked else _check_file(table, source, file, form)

        def work(db: Writable) -> ImportResult:
            added = _insert_rows(db, table, source, file, form) if row_count else 0
            require_row_count(added, row_count, db)
            if added:
                db.advance_sequences(name)
                details = {"rows": added, "file": PurePath(file).name}
                audit.record(app, db, "data.import", name, "", details)
            return ImportResult(table=name, added=added)

        steps = [f"add {format_count(row_count, 'row')} to {name}"] if row_count else []
        rows = {name: row_count} if row_count else {}
        return PreparedChange(
            Plan(title=f"Import {file} into {name}", target=db.target, steps=steps, rows=rows), work
        )

    return Change(app, selected_database(app), "data import", draft, prepare=prepare)


# Files --------------------------------------------------------------------------------------------------------


def _write_rows(
    form: Form,
    columns: Sequence[str],
    batches: Iterator[Sequence[Sequence[object]]],
    write: Callable[[bytes], object],
    *,
    excel_safe: bool,
) -> int:
    if form is Form.CSV:
        return write_csv(columns, _check_interrupts(batches), write, excel_safe=excel_safe)
    if excel_safe:
        raise UsageError(detail="--excel-safe requires --format csv")
    return write_jsonl(columns, _check_interrupts(batches), write)


def _check_interrupts(batches: Iterator[Sequence[Sequence[object]]]) -> Iterator[Sequence[Sequence[object]]]:
    for batch in batches:
        signals.raise_if_interrupted()
        yield batch


class _FileRows:
    """The rows of a file, parsed for the columns of a table."""

    def __init__(self, table: DataTable, source: IO[bytes], form: Form) -> None:
        source.seek(0)
        self.columns, self.lines = read_rows(source, form)
        self._table = table
        for name in self.columns:
            if table.column(name).is_generated:
                raise UsageError(detail=f"{table.name}.{name} is a generated column; remove it from the file")
        db = require_streams(table.db)
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


def _insert_rows(db: Writable, table: DataTable, source: IO[bytes], file: str, form: Form) -> int:
    written = DataTable(table.app, db, table.name)
    rows = _FileRows(written, source, form)
    with guard_constraints(table.app, table.database, db, {table.name: rows.columns}):
        return _insert_with_line_numbers(db, rows, table.name, source, file, form)


def _insert_with_line_numbers(
    db: Writable, rows: _FileRows, table: str, source: IO[bytes], file: str, form: Form
) -> int:
    try:
        return db.insert_many(table, rows.columns, rows)
    except (AlreadyExistsError, BuiltInRoleError, ConstraintError, ValueInvalidError) as error:
        row_number = error.context.get("row")
        error.details = [
            f"line {_find_line(source, form, row_number if isinstance(row_number, int) else rows.row_count)} of {file}"
        ]
        raise


def _find_line(source: IO[bytes], form: Form, row: int) -> int:
    """Return the number of the first line of a row."""
    source.seek(0)
    _, lines = read_rows(source, form)
    return next((line.number for index, line in enumerate(lines, 1) if index >= row), row)
