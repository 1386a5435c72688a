"""Copy rows into the destination in parts, whose state is in a table of the destination, so that a killed transfer continues."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl import progress
from dbctl.engines.contract.database import Condition, Readable, Writable
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import ValueInvalidError
from dbctl.extensions.transfer.compare import MAX_DIFFERENCES, TableComparison, TableDigest
from dbctl.extensions.transfer.errors import TransferOtherError
from dbctl.extensions.transfer.portable.contract import Line, LineBatch, RowSink, RowSource, require_scripts
from dbctl.extensions.transfer.portable.native import NativeSchemas
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.model import Struct, split_batches
from dbctl.services.app import ledger_detection
from dbctl.services.app.change import require_row_count
from dbctl.services.migrations.schema_diff import compare_objects

#: ``schema``: the tables are being created; ``copy``: rows may have been copied.
Phase: TypeAlias = Literal["schema", "copy"]

TRANSFER_TABLE = ledger_detection.TRANSFER_TABLE
#: The same statement for every engine. A server whose rows have the format COMPACT indexes at most 767 bytes of a column.
_CREATE = f"create table {TRANSFER_TABLE} (name varchar(190) not null primary key, content text not null)"
_HEADER = "transfer"
_TABLE = "table/"
_ATTACHMENT = "attachment/"
_SCHEMA = "schema/"
_CREATED = "created/"
FORMAT = 2
#: Objects of the schema in one row, whose size a server limits.
_OBJECTS = 200
#: Kinds of objects, with which their names begin.
_KINDS = ("table", "column", "index", "foreign key", "view")


class TableState(Struct, frozen=True, kw_only=True):
    """How far a table is copied."""

    digest: TableDigest = TableDigest()  #: of the copied rows, as the source returned them
    position: str = ""  #: where the copy continues
    is_complete: bool = False


class TransferState:
    """The state of one transfer. Every change is part of the transaction of the caller."""

    def __init__(self, db: Writable, source: str, phase: Phase, runs: int) -> None:
        self._db, self._source = db, source
        self.phase, self.runs = phase, runs
        self.tables: dict[str, TableState] = {}
        #: digests of the objects of the source's schema by kind and name
        self.fingerprints: Mapping[str, str] = {}
        #: digests of the objects of the destination after the copy
        self.created: Mapping[str, str] = {}
        self.is_adopted = False  #: the app made the schema of the destination
        #: statements that create what was dropped for the copy, in groups, by number
        self.attachments: dict[str, Sequence[str]] = {}

    @property
    def was_interrupted(self) -> bool:
        """Whether an earlier run copied rows of another snapshot."""
        return self.runs > 1

    def begin_run(self) -> None:
        """Count a further run."""
        self.runs += 1
        with self._db.transaction():
            self._save_header()

    def enter_phase(self, phase: Phase) -> None:
        """Record that a phase began."""
        self.phase = phase
        self._save_header()

    def save_table(self, table: str, state: TableState) -> None:
        """Record how far a table is copied."""
        self.tables[table] = state
        self._save(
            _TABLE + table,
            json.dumps(
                {
                    "rows": state.digest.rows,
                    "digest": state.digest.hexadecimal,
                    "position": state.position,
                    "complete": state.is_complete,
                }
            ),
        )

    def add_attachments(self, groups: Sequence[Sequence[str]]) -> None:
        """Record statements to run after the copy, in this order; those of a group run again together."""
        start = 1 + int(max(self.attachments, default=f"{_ATTACHMENT}-1").removeprefix(_ATTACHMENT))
        for number, statements in enumerate(groups, start):
            name = f"{_ATTACHMENT}{number:06d}"
            self.attachments[name] = statements
            self._save(name, json.dumps(statements))

    def remove_attachment(self, name: str) -> None:
        """Record that a statement has run."""
        del self.attachments[name]
        self._db.delete(TRANSFER_TABLE, [Condition("name", "=", name)])

    def save_fingerprints(self, fingerprints: Mapping[str, str]) -> None:
        """Record the schema of the source."""
        self.fingerprints = fingerprints
        self._save_objects(_SCHEMA, fingerprints)

    def save_created(self, fingerprints: Mapping[str, str]) -> None:
        """Record the objects of the destination after the copy."""
        self.created = fingerprints
        self._save_objects(_CREATED, fingerprints)

    def _save_objects(self, prefix: str, fingerprints: Mapping[str, str]) -> None:
        # a larger schema had more rows
        self._db.delete(TRANSFER_TABLE, [Condition("name", "starts", prefix)])
        for number, part in enumerate(split_batches(fingerprints.items(), _OBJECTS)):
            name = f"{prefix}{number * _OBJECTS:06d}"
            self._db.insert(TRANSFER_TABLE, {"name": name, "content": json.dumps(dict(part))})

    def list_lost_objects(self, fingerprints: Mapping[str, str]) -> list[tuple[str, str, str]]:
        """Return kind, name and difference of objects that the destination had after the copy, and that changed since."""
        return [
            (kind, name.removeprefix(f"{kind} "), change)
            for name, change in compare_objects(self.created, fingerprints)
            for kind in _KINDS
            if name.startswith(f"{kind} ") and change != "extra"
        ]

    def list_schema_changes(self, fingerprints: Mapping[str, str]) -> list[str]:
        """Return the objects that were added to the schema of the source, changed or dropped since the copy."""
        return [
            f"{name} is {'new' if change == 'extra' else change}"
            for name, change in compare_objects(self.fingerprints, fingerprints)
        ]

    def _save_header(self) -> None:
        header = {
            "format": FORMAT,
            "source": self._source,
            "phase": self.phase,
            "runs": self.runs,
            "adopted": self.is_adopted,
        }
        self._save(_HEADER, json.dumps(header))

    def _save(self, name: str, content: str) -> None:
        where = [Condition("name", "=", name)]
        if not self._db.update(TRANSFER_TABLE, {"content": content}, where):
            self._db.insert(TRANSFER_TABLE, {"name": name, "content": content})

    def _load(self, rows: Mapping[str, str]) -> None:
        self.attachments = {
            name: json.loads(rows[name]) for name in sorted(rows) if name.startswith(_ATTACHMENT)
        }
        fingerprints, created = dict[str, str](), dict[str, str]()
        for name, content in rows.items():
            if name.startswith(_CREATED):
                created |= json.loads(content)
            if name.startswith(_SCHEMA):
                fingerprints |= json.loads(content)
            if name.startswith(_TABLE):
                values = json.loads(content)
                self.tables[name.removeprefix(_TABLE)] = TableState(
                    digest=TableDigest.parse(values["rows"], values["digest"]),
                    position=values["position"],
                    is_complete=values["complete"],
                )
        self.fingerprints, self.created = fingerprints, created


def has_state(db: Readable) -> bool:
    """Whether a database is the destination of a transfer that was not ended by a switch."""
    return TRANSFER_TABLE in db.tables()


def create_state(
    db: Writable, source: str, fingerprints: Mapping[str, str], *, is_adopted: bool
) -> TransferState:
    """Create the state of a new transfer in an empty database, or in one whose schema the app made."""
    scripts = require_scripts(db)
    with scripts.schema_transaction():
        scripts.run_statement(_CREATE)
        state = TransferState(db, source, "schema", 0)
        state.is_adopted = is_adopted
        state.save_fingerprints(fingerprints)
        state.enter_phase("schema")
    return state


def empty_destination(db: Writable, statements: Sequence[str]) -> None:
    """Drop what a transfer created, and its state.

    The destination had at most empty schemas when its state was created, so every object in them comes from this transfer.
    """
    scripts = require_scripts(db)
    with scripts.schema_transaction():
        # the state last: without it, the remaining tables would be those of another program
        for sql in sorted(statements, key=lambda sql: TRANSFER_TABLE in sql):
            scripts.run_statement(sql)


def load_state(db: Writable, source: str) -> TransferState:
    """Read the state of an unfinished transfer.

    Raises:
        TransferOtherError: it is the transfer of another database.
    """
    rows = {str(name): str(content) for name, content in db.select(TRANSFER_TABLE, ["name", "content"])}
    header = json.loads(rows.get(_HEADER, "{}"))
    if not header:
        # a server without transactions for schemas was killed between the table and its first row: no table is a copy yet
        is_adopted = bool(db.tables().keys() - {TRANSFER_TABLE})
        header = {"format": FORMAT, "source": source, "phase": "schema", "runs": 0, "adopted": is_adopted}
    if header["source"] != source or header["format"] != FORMAT:
        raise TransferOtherError(target=db.target, source=header["source"])
    state = TransferState(db, source, header["phase"], header["runs"])
    state.is_adopted = header.get("adopted", False)
    state._load(rows)  # noqa: SLF001 - of this class
    return state


def drop_state(db: Writable) -> None:
    """Drop the state after the transfer has ended."""
    scripts = require_scripts(db)
    with scripts.schema_transaction():
        scripts.run_statement(f"drop table {TRANSFER_TABLE}")


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

    def create(self, statements: Sequence[str]) -> None:
        """Run statements that create objects, in ``ScriptRunner.schema_transaction``."""
        if self.native:
            self.native.create_objects(statements)
        else:
            require_scripts(self.db).run_definitions(statements)


class SyncResult(Struct, frozen=True, kw_only=True):
    """Changes of one table that made it equal to the source."""

    table: str
    added: int = 0
    changed: int = 0
    deleted: int = 0


def copy_table(
    source: RowSource, destination: Destination, state: TransferState, table: TransferTable
) -> None:
    """Copy the rows of a table that are not copied yet, in transactions that also record how far the copy is.

    After an interruption, the source may have other rows: a row that is refused then is left to ``synchronize``.
    """
    table_state = state.tables.get(table.name, TableState())
    if table_state.is_complete:
        return
    with source.stream_lines(table.name, table.columns, position=table_state.position) as batches:
        chunks = _Chunks(batches, table_state.digest)
        while not table_state.is_complete:  # also once for an empty table
            try:
                with destination.db.transaction():
                    written = destination.sink.write_lines(table.name, table.columns, chunks.read())
                    require_row_count(written, chunks.rows, destination.db)
                    table_state = TableState(
                        digest=chunks.digest, position=chunks.position, is_complete=chunks.is_exhausted
                    )
                    state.save_table(table.name, table_state)
            except (ConstraintError, ValueInvalidError):
                if not state.was_interrupted:
                    raise
                return


class _Chunks:
    """Batches of rows, in parts that are written in one transaction each."""

    def __init__(self, batches: Iterator[LineBatch], digest: TableDigest) -> None:
        self._batches = batches
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
            progress.advance(len(batch.lines))
            self._pending = next(self._batches, None)
            if batch.position and (self.rows >= CHUNK_ROWS or size >= CHUNK_BYTES):
                return


def synchronize(
    source: RowSource, destination: Destination, state: TransferState, table: TransferTable
) -> SyncResult | None:
    """Make a table equal to the snapshot of the source, and record its digest; None if it was equal.

    Constraints between tables must be detached. The changes are one transaction.
    """
    comparison = TableComparison(source, destination.rows, table)
    complete = TableState(digest=comparison.source, is_complete=True)
    if comparison.is_equal:
        if state.tables.get(table.name) != complete:
            with destination.db.transaction():
                state.save_table(table.name, complete)
        return None
    # with more differences, all rows of the table are replaced
    differences = comparison.find_differences(MAX_DIFFERENCES) if table.key else None
    with destination.db.transaction():
        if differences and differences.is_complete:
            keys, counts = differences.keys, differences.counts
            fetch = (*keys["only a"], *keys["changed"])
            delete = (*keys["only b"], *keys["changed"])
            deleted = destination.sink.delete_lines(table.name, table.key, delete)
            require_row_count(deleted, len(delete), destination.db)
            batches = _fetch(source, table, fetch)
            written = destination.sink.write_lines(table.name, table.columns, batches)
            require_row_count(written, len(fetch), destination.db)
            result = SyncResult(
                table=table.name, added=counts["only a"], changed=counts["changed"], deleted=counts["only b"]
            )
        else:
            deleted = destination.sink.clear_table(table.name)
            with source.stream_lines(table.name, table.columns) as stream:
                added = destination.sink.write_lines(table.name, table.columns, stream)
            result = SyncResult(table=table.name, added=added, deleted=deleted)
        state.save_table(table.name, complete)
    return result


def _fetch(source: RowSource, table: TransferTable, keys: Sequence[Line]) -> Iterator[LineBatch]:
    for part in split_batches(keys, KEYS):
        yield LineBatch(source.fetch_lines(table.name, table.columns, table.key, part))
