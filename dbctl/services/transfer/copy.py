"""Copy rows into the destination: all rows of a snapshot in parts that a killed transfer does not repeat, or only differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract.database import Writable
from dbctl.engines.contract.native import NativeSchemas
from dbctl.engines.contract.portable import LineBatch, RowSink, RowSource
from dbctl.engines.contract.streaming import Line
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import Struct
from dbctl.services.app.change import require_row_count
from dbctl.services.transfer.compare import (
    MAX_DIFFERENCES,
    Advance,
    Differences,
    TableComparison,
    TableDigest,
)
from dbctl.services.transfer.parts import require_rows, require_scripts, require_sink
from dbctl.services.transfer.state import TableState, TransferState
from dbctl.services.transfer.tables import TransferTable

#: Rows and bytes of one transaction.
CHUNK_ROWS, CHUNK_BYTES = 50_000, 16 << 20
#: Keys whose rows are fetched at once.
KEYS = 1000


class Destination(Struct, frozen=True):
    """The open destination, and its parts that read and write lines."""

    db: Writable
    sink: RowSink
    rows: RowSource
    native: NativeSchemas | None = None  #: of a copy to the same engine

    @classmethod
    def open(cls, db: Writable) -> Destination:
        """Return the parts of a database; raises ``NotSupportedError`` if its engine has none."""
        return cls(db, require_sink(db), require_rows(db))

    def create(self, statements: Sequence[str]) -> None:
        """Run statements that create objects, in ``ScriptRunner.schema_transaction``."""
        if self.native:
            self.native.create_objects(statements)
            return
        scripts = require_scripts(self.db)
        for sql in statements:
            scripts.run_statement(sql)


class SyncResult(Struct, frozen=True, kw_only=True):
    """Changes of one table that made it equal to the source."""

    table: str
    added: int = 0
    changed: int = 0
    deleted: int = 0


def copy_table(
    source: RowSource, destination: Destination, state: TransferState, table: TransferTable, advance: Advance
) -> None:
    """Copy the rows of a table that are not copied yet, in transactions that also record how far the copy is.

    After an interruption, the source may have other rows: a row that is refused then is left to ``synchronize``.
    """
    progress = state.tables.get(table.name, TableState())
    if progress.is_complete:
        return
    with source.stream_lines(table.name, table.columns, position=progress.position) as batches:
        chunks = _Chunks(batches, progress.digest, advance)
        while not progress.is_complete:  # also once for an empty table
            try:
                with destination.db.transaction():
                    written = destination.sink.write_lines(table.name, table.columns, chunks.read())
                    require_row_count(written, chunks.rows, destination.db)
                    progress = TableState(
                        digest=chunks.digest, position=chunks.position, is_complete=chunks.is_exhausted
                    )
                    state.save_table(table.name, progress)
            except (ConstraintError, ValueInvalidError):
                if not state.was_interrupted:
                    raise
                return


class _Chunks:
    """Batches of rows, in parts that are written in one transaction each."""

    def __init__(self, batches: Iterator[LineBatch], digest: TableDigest, advance: Advance) -> None:
        self._batches, self._advance = batches, advance
        self._pending = next(batches, None)
        self.digest = digest  #: of all rows that were read
        self.position = ""  #: after the last row that was read
        self.rows: int  #: of this part

    @property
    def is_exhausted(self) -> bool:
        """Whether no batch is left."""
        return self._pending is None

    def read(self) -> Iterator[LineBatch]:
        """Yield the batches of the next part; a table whose rows have no position is one part."""
        self.rows = size = 0
        while self._pending is not None:
            batch = self._pending
            self.digest, self.position = self.digest.add(batch.lines), batch.position
            self.rows += len(batch.lines)
            size += sum(map(len, batch.lines))
            yield batch
            self._advance(len(batch.lines))
            self._pending = next(self._batches, None)
            if batch.position and (self.rows >= CHUNK_ROWS or size >= CHUNK_BYTES):
                return


def synchronize(
    source: RowSource, destination: Destination, state: TransferState, table: TransferTable, advance: Advance
) -> SyncResult | None:
    """Make a table equal to the snapshot of the source, and record its digest; None if it was equal.

    Constraints between tables must be detached. The changes are one transaction.
    """
    comparison = TableComparison(source, destination.rows, table, advance=advance)
    complete = TableState(digest=comparison.source, is_complete=True)
    if comparison.is_equal:
        if state.tables.get(table.name) != complete:
            with destination.db.transaction():
                state.save_table(table.name, complete)
        return None
    # with more differences, all rows of the table are replaced
    differences = (
        comparison.find_differences(MAX_DIFFERENCES) if table.key else Differences(is_complete=False)
    )
    with destination.db.transaction():
        if differences.is_complete:
            fetch = (*differences.missing, *differences.changed)
            delete = (*differences.extra, *differences.changed)
            deleted = destination.sink.delete_lines(table.name, table.key, delete)
            require_row_count(deleted, len(delete), destination.db)
            batches = _fetch(source, table, fetch)
            written = destination.sink.write_lines(table.name, table.columns, batches)
            require_row_count(written, len(fetch), destination.db)
            result = SyncResult(
                table=table.name,
                added=len(differences.missing),
                changed=len(differences.changed),
                deleted=len(differences.extra),
            )
        else:
            deleted = destination.sink.clear_table(table.name)
            with source.stream_lines(table.name, table.columns) as stream:
                added = destination.sink.write_lines(table.name, table.columns, stream)
            result = SyncResult(table=table.name, added=added, deleted=deleted)
        state.save_table(table.name, complete)
    return result


def _fetch(source: RowSource, table: TransferTable, keys: Sequence[Line]) -> Iterator[LineBatch]:
    for start in range(0, len(keys), KEYS):
        yield LineBatch(source.fetch_lines(table.name, table.columns, table.key, keys[start : start + KEYS]))
