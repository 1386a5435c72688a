"""A destination whose schema the app's own migrations made: its rows and its ledger are compared with those of the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

from dbctl.engines.contract.database import Readable
from dbctl.extensions.transfer.endpoints import MAX_NAMES, REMEDY, Endpoints
from dbctl.extensions.transfer.errors import TransferDestinationError
from dbctl.extensions.transfer.portable.contract import (
    Line,
    PortableSchema,
    PortableTable,
    RowSource,
    require,
)
from dbctl.extensions.transfer.portable.lines import join_line, key_of, split_line
from dbctl.extensions.transfer.schema import SchemaOptions, TransferSchema
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.extensions.transfer.values.unstorable import MAX_KEYS, CopyProblem, format_key
from dbctl.model import join_first
from dbctl.services.app import ledger_detection
from dbctl.services.app.app import App

#: A table with more rows in the destination is one of an app at work.
MAX_EXISTING_ROWS = 100_000


def require_common_tables(
    endpoints: Endpoints, schema: TransferSchema, options: SchemaOptions, db: Readable
) -> None:
    """Refuse a destination that the app's migrations did not make, or that is not to be used as it is.

    Raises:
        TransferDestinationError: it has other tables, or the options select its schema.
    """
    is_selected = options.is_derived or options.migrations
    if is_selected or not any(table.name in db.tables() for table in schema.source.tables):
        endpoints.require_empty(db)


def count_existing_rows(
    endpoints: Endpoints, source: Readable, db: Readable, tables: Sequence[TransferTable]
) -> Mapping[str, int]:
    """Return the number of rows that each table of the destination has before the copy.

    Raises:
        TransferDestinationError: too many, or rows in tables that the source lacks.
    """
    excluded = _list_ledgers(endpoints, source, db)
    counts = {
        name: db.count(name)
        for name, table in db.tables().items()
        if not table.is_view and name not in excluded and name != ledger_detection.TRANSFER_TABLE
    }
    copied = {table.name for table in tables}
    refused = [
        name for name, count in counts.items() if count > MAX_EXISTING_ROWS or (count and name not in copied)
    ]
    if refused:
        error = TransferDestinationError(url=endpoints.destination_url, tables=join_first(refused, MAX_NAMES))
        error.hint = f"Nothing was changed. {REMEDY}"
        raise error
    return {name: count for name, count in counts.items() if count}


def find_adoption_problems(
    endpoints: Endpoints,
    source: Readable,
    db: Readable,
    tables: Sequence[TransferTable],
    counts: Mapping[str, int],
    schemas: tuple[PortableSchema, PortableSchema],
) -> Iterator[CopyProblem]:
    """Yield migrations of one side, rows of the destination that the source lacks, and columns that no row of the source fills.

    Rows are equal if all their values are; a number that the engine gave is compared by the row that has it.
    """
    for name, difference in compare_ledgers(endpoints, source, db):
        yield CopyProblem(table=name, column="ledger", keys=(), rows=0, reason=difference)
    known = {table.name: table for table in tables}
    left = _Identities(require(source, RowSource), known, *schemas)
    right = _Identities(require(db, RowSource), known, *schemas)
    for name in counts:
        missing = Counter(identity for _, identity in right.read(name))
        missing -= Counter(identity for _, identity in left.read(name))
        if missing:
            table, keys = known[name], [key for key, identity in right.read(name) if identity in missing]
            yield CopyProblem(
                table=name,
                column=", ".join(column.name for column in table.columns),
                keys=[format_key(table, split_line(key)) for key in keys[:MAX_KEYS]] if table.key else [],
                rows=missing.total(),
                reason="the source lacks it or has other values, and the copy would replace it",
            )
    for created in schemas[1].tables:
        if created.name not in known:
            continue
        names = {column.name for column in known[created.name].columns}
        for column in created.columns:
            is_filled = column.is_nullable or column.default or column.generated or column.is_automatic
            if column.name not in names and not is_filled:
                reason = "the source has no such column, and it has neither NULL nor a default"
                yield CopyProblem(
                    table=f"{created.name}.{column.name}", column="column", keys=(), rows=0, reason=reason
                )


class _Identities:
    """What identifies the rows of one side, apart from numbers that its engine gave."""

    def __init__(
        self,
        side: RowSource,
        tables: Mapping[str, TransferTable],
        source: PortableSchema,
        destination: PortableSchema,
    ) -> None:
        self._side, self._tables = side, tables
        self._schemas = {table.name: table for table in source.tables}
        self._numbered = {
            table.name
            for schema in (source, destination)
            for table in schema.tables
            if len(table.key) == 1 and table.column(table.key[0]).is_automatic
        }
        self._known: dict[str, Sequence[tuple[Line, bytes]]] = {}

    def read(self, name: str, visiting: Sequence[str] = ()) -> Sequence[tuple[Line, bytes]]:
        """Return the key and the identity of each row of a table."""
        if name not in self._known:
            self._known[name] = self._read(self._tables[name], [*visiting, name])
        return self._known[name]

    def _read(self, table: TransferTable, visiting: Sequence[str]) -> Sequence[tuple[Line, bytes]]:
        parents = {
            column: {} if parent in visiting else dict(self.read(parent, visiting))
            for column, parent in self._list_parents(self._schemas[table.name])
        }
        skipped = {column.name for column in table.key} if table.name in self._numbered else set()
        rows = list[tuple[Line, bytes]]()
        with self._side.stream_lines(table.name, table.columns) as batches:
            for line in (line for batch in batches for line in batch.lines):
                values = [
                    parents[column.name].get(value, b"")
                    if value is not None and column.name in parents
                    else value
                    for column, value in zip(table.columns, split_line(line), strict=True)
                    if column.name not in skipped
                ]
                digest = blake2b(join_line(values), digest_size=16).hexdigest().encode()
                rows.append((key_of(line, table.key_width) if table.key_width else line, digest))
        return rows

    def _list_parents(self, table: PortableTable) -> Iterator[tuple[str, str]]:
        """Yield the columns that refer to a number that the engine gave, with the table that has it."""
        for reference in table.references:
            parent = self._schemas.get(reference.table)
            if parent and parent.name in self._numbered and list(reference.to) == list(parent.key):
                yield reference.columns[0], parent.name


# Ledgers --------------------------------------------------------------------------------------------------------------


def compare_ledgers(endpoints: Endpoints, source: Readable, db: Readable) -> Iterator[tuple[str, str]]:
    """Yield the ledger and the difference of each migration that only one side records, for a runner that both know."""
    own = _read_ledger(endpoints.app, endpoints, source)
    other = _read_ledger(endpoints.destination, endpoints, db)
    if own is None or other is None or own[0] != other[0]:
        return
    table, migrations = own
    for names, words in (
        (migrations - other[1], "only the source has"),
        (other[1] - migrations, "only the destination has"),
    ):
        for name in sorted(names):
            yield table, f"{words} {name}"


def _read_ledger(app: App, endpoints: Endpoints, db: Readable) -> tuple[str, set[str]] | None:
    """Return the table and the applied migrations of the ledger of another runner; None without one."""
    database = endpoints.database
    section = app.database(database).migrations
    if section is None or section.ledger != ledger_detection.AUTO:
        return None
    engine = app.url(database).engine
    _, ledger = ledger_detection.detect_ledgers(db, engine, own=section.foreign)
    if ledger is None:
        return None
    rows = ledger_detection.query_foreign(ledger, db, engine)
    return ledger.table, {" ".join(str(part) for part in row[:2] if part is not None) for row in rows}


def _list_ledgers(endpoints: Endpoints, source: Readable, db: Readable) -> set[str]:
    app, other, database = endpoints.app, endpoints.destination, endpoints.database
    return {
        *ledger_detection.ledger_tables(app, database, source),
        *ledger_detection.ledger_tables(other, database, db),
    }
