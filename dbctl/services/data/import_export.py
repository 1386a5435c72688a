"""Rows of a table in and out of files: exactly as they are stored, and whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import PurePath
from typing import IO

from dbctl import signals
from dbctl.engines.contract import Capability, Readable, Writable, WritesCsv
from dbctl.errors import (
    AlreadyExistsError,
    BuiltInRoleError,
    ConstraintError,
    ImportInvalidError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import Done, Plan, counted
from dbctl.services.app import MASK, App, Change, Draft, audit, exactly, streams
from dbctl.services.data.csv_jsonl import Cell, FileBrokenError, Form, Line, read, write_csv, write_jsonl
from dbctl.services.data.query import asked
from dbctl.services.data.table import DataTable, database_of
from dbctl.services.rules import RowRules, guard

#: Wrong lines after which nobody looks for further ones.
MOST_WRONG = 1000


class Exported(Done, frozen=True, kw_only=True):
    """Answer of ``data export``."""

    table: str | None  #: None: what a statement answered
    file: str
    format: Form
    rows: int
    bytes: int
    columns: Sequence[str]
    left_out: Sequence[str] = ()  #: columns that hold secrets


class RowsImported(Done, frozen=True, kw_only=True):
    """Answer of ``data import``."""

    table: str
    added: int


class Sink:
    """Where an export goes, and how much went there."""

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
) -> Exported:
    """Write every row of a table of one moment; columns that hold secrets, and those made of others, are left out.

    Raises:
        UsageError: a secret, or what is made of other columns, was asked for by its name.
    """
    db = app.reader(database_of(app))
    table = DataTable(app, db, name, secrets=secrets)
    own = [column.name for column in table.columns.values() if not column.generated]
    chosen = [table.asked_column(one).name for one in columns] or [
        one for one in own if one not in table.hidden
    ]
    if not own:
        raise UsageError(detail=f"{name} has only generated columns, which are not exported")
    if not chosen:
        raise UsageError(detail=f"every column of {name} is secret; --secrets exports them")
    sink = Sink(write)
    if (
        form is Form.CSV
        and not excel_safe
        and Capability.CSV in db.capabilities
        and isinstance(db, WritesCsv)
    ):
        rows = db.write_csv(name, chosen, sink)
    else:
        with streams(db).stream(name, chosen) as answer:
            rows = _written(form, chosen, answer.batches, sink, excel_safe=excel_safe)
    left = [] if columns else [one for one in own if one not in chosen]
    return Exported(
        table=name, file=file, format=form, rows=rows, bytes=sink.bytes, columns=chosen, left_out=left
    )


def export_query(
    app: App,
    sql: str,
    given: Mapping[str, str],
    write: Callable[[bytes], object],
    *,
    file: str,
    form: Form,
    within: timedelta | None = None,
    secrets: bool = False,
    excel_safe: bool = False,
) -> Exported:
    """Write what a statement answers; raises as ``data.asked`` does."""
    sink = Sink(write)
    with asked(app, sql, given, within=within, secrets=secrets) as answer:
        rows = _written(form, answer.columns, answer.batches, sink, excel_safe=excel_safe)
        columns = answer.columns
    return Exported(table=None, file=file, format=form, rows=rows, bytes=sink.bytes, columns=columns)


def import_rows(app: App, name: str, source: IO[bytes], *, file: str, form: Form) -> Change[RowsImported]:
    """Add every row of a file in one transaction, or none.

    Every line is looked at before anything is written, so that all that are wrong are told at once.

    Args:
        app: the app.
        name: the table.
        source: the file; it is read from its beginning, more than once.
        file: what it is called, for messages.
        form: what is in it.

    Raises (when planned and when applied):
        ImportInvalidError: with every line that is wrong.
        ColumnMissingError, UsageError: the file has a column that the table has not, or that nobody writes.
        ConstraintError: the database refuses a row; the message says which line.
        OwnCommandError: the table is the record of migrations.
    """
    looked: dict[str, int] = {}

    def prepare() -> None:
        looked["rows"] = _checked(DataTable(app, app.reader(database_of(app)), name), source, file, form)

    def draft(db: Readable) -> Draft[RowsImported]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        number = looked["rows"] if looked else _checked(table, source, file, form)

        def work(db: Writable) -> RowsImported:
            added = _inserted(db, table, source, file, form) if number else 0
            exactly(added, number, db)
            if added:
                db.follow_keys(name)
                told = {"rows": added, "file": PurePath(file).name}
                audit.record(app, db, "data.import", name, "", told)
            return RowsImported(table=name, added=added)

        steps = [f"add {counted(number, 'row')} to {name}"] if number else []
        rows = {name: number} if number else {}
        return Draft(Plan(title=f"Import {file} into {name}", target=db.target, steps=steps, rows=rows), work)

    return Change(app, database_of(app), "data import", draft, prepare=prepare)


# Within --------------------------------------------------------------------------------------------------------


def _written(
    form: Form,
    columns: Sequence[str],
    batches: Iterator[Sequence[Sequence[object]]],
    write: Callable[[bytes], object],
    *,
    excel_safe: bool,
) -> int:
    if form is Form.CSV:
        return write_csv(columns, _heard(batches), write, excel_safe=excel_safe)
    if excel_safe:
        raise UsageError(detail="--excel-safe belongs to --format csv")
    return write_jsonl(columns, _heard(batches), write)


def _heard(batches: Iterator[Sequence[Sequence[object]]]) -> Iterator[Sequence[Sequence[object]]]:
    for batch in batches:
        signals.check()
        yield batch


class _Rows:
    """The rows of a file as the table takes them."""

    def __init__(self, table: DataTable, source: IO[bytes], form: Form) -> None:
        source.seek(0)
        self.columns, self.lines = read(source, form)
        self._table = table
        for name in self.columns:
            if table.column(name).generated:
                raise UsageError(
                    detail=f"{table.name}.{name} is made of other columns; leave it out of the file"
                )
        db = streams(table.db)
        self._readers: list[Callable[[object], object]] = [
            _of_cell(db.of_csv(table.name, name)) if form is Form.CSV else db.of_json(table.name, name)
            for name in self.columns
        ]
        self.given = 0
        self._rules = RowRules(table.app, table.database, table.live)
        self._rules.prepare()
        self._strict = [not table.columns[name].nullable for name in self.columns]
        self._secret = [name in table.hidden for name in self.columns]

    def __iter__(self) -> Iterator[Sequence[object]]:
        for line in self.lines:
            self.given += 1
            yield self.row(line)

    def row(self, line: Line) -> list[object]:
        """Return the values of a line.

        Raises:
            ValueInvalidError: one of them is wrong.
            And as ``RowRules.check_added`` does.
        """
        if len(line.values) != len(self.columns):
            reason = f"it has {counted(len(line.values), 'field')}, and the heading {len(self.columns)}"
            raise ValueInvalidError(what="the", value="row", reason=reason)
        made: list[object] = []
        for at, value in enumerate(line.values):
            if value is None:
                if self._strict[at]:
                    raise ValueInvalidError(
                        what=self.columns[at], value="NULL", reason="it has to have a value"
                    )
                made.append(None)
                continue
            if self._secret[at] and (value.text if isinstance(value, Cell) else value) == MASK:
                reason = "it stands for a secret that was not exported"
                raise ValueInvalidError(what=self.columns[at], value=MASK, reason=reason)
            made.append(self._readers[at](value))
        if self._rules:
            self._rules.check_added(dict(zip(self.columns, made, strict=True)))
        return made


def _of_cell(read_cell: Callable[[str, bool], object]) -> Callable[[object], object]:
    return lambda cell: read_cell(*cell)  # type: ignore[misc]


def _checked(table: DataTable, source: IO[bytes], file: str, form: Form) -> int:
    """Return how many rows a file has, every one of them as the table takes it."""
    if table.live.table.view:
        raise UsageError(detail=f"{table.name} is a view, and takes no rows")
    wrong: list[str] = []
    number = 0
    try:
        rows = _Rows(table, source, form)
        if not rows.columns:
            return 0
        lacking = table.live.uncovered(set(rows.columns))
        if lacking:
            raise UsageError(detail=f"{file} has no {lacking[0]}, and {table.name} wants one in every row")
        for line in rows.lines:
            number += 1
            signals.check()
            if reason := _fault(rows, line):
                wrong.append(f"line {line.number}: {reason}")
                if len(wrong) >= MOST_WRONG:
                    break
    except FileBrokenError as error:
        wrong.append(f"line {error.number}: {error}")
        number += 1
    if wrong:
        raise ImportInvalidError(wrong=wrong, rows=number, file=file)
    return number


def _fault(rows: _Rows, line: Line) -> str:
    """Return why the table does not take a line, or nothing."""
    try:
        rows.row(line)
    except ValueInvalidError as error:
        return f"{error.facts['what']} {error.facts['value']}: {error.facts['reason']}"
    except (AlreadyExistsError, BuiltInRoleError) as error:
        return str(error)
    return ""


def _inserted(db: Writable, table: DataTable, source: IO[bytes], file: str, form: Form) -> int:
    written = DataTable(table.app, db, table.name)
    rows = _Rows(written, source, form)
    with guard(table.app, table.database, db, {table.name: rows.columns}):
        return _added(db, rows, table.name, source, file, form)


def _added(db: Writable, rows: _Rows, table: str, source: IO[bytes], file: str, form: Form) -> int:
    try:
        return db.insert_many(table, rows.columns, rows)
    except (AlreadyExistsError, BuiltInRoleError, ConstraintError, ValueInvalidError) as error:
        told = error.facts.get("row")
        error.details = [
            f"line {_line_of(source, form, told if isinstance(told, int) else rows.given)} of {file}"
        ]
        raise


def _line_of(source: IO[bytes], form: Form, row: int) -> int:
    """Return the line on which a row of a file begins."""
    source.seek(0)
    _, lines = read(source, form)
    return next((line.number for at, line in enumerate(lines, 1) if at >= row), row)
