"""Export rows to files without loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from dbctl import progress, signals
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Struct
from dbctl.services.app.app import App
from dbctl.services.app.live_table import require_streams
from dbctl.services.data.csv_jsonl import Form, write_csv, write_jsonl
from dbctl.services.data.query import run_query
from dbctl.services.data.table import DataTable, selected_database


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
    streams, rows = require_streams(db), None
    if target.form is Form.CSV and not target.excel_safe:
        rows = streams.write_csv(name, selected, sink.write)
    if rows is None:
        with streams.stream(name, selected) as stream:
            rows = sink.write_rows(selected, stream.batches)
    left_out = [] if columns else [column for column in stored_columns if column not in selected]
    return sink.create_result(name, selected, rows, left_out)


def export_query(app: App, sql: str, parameters: Mapping[str, str], target: ExportTarget) -> ExportResult:
    """Export the result of a statement; for errors see ``run_query``."""
    sink = _Sink(target)
    with run_query(app, sql, parameters, within=None, secrets=target.secrets) as stream:
        return sink.create_result(None, stream.columns, sink.write_rows(stream.columns, stream.batches))


def _check_interrupts(batches: Iterator[Sequence[Sequence[object]]]) -> Iterator[Sequence[Sequence[object]]]:
    for batch in batches:
        signals.raise_if_interrupted()
        yield batch
        progress.advance(len(batch))
