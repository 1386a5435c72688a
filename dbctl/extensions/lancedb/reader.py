"""The reader of a LanceDB, and streams of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import date, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import AllOf, Column, Query, Readable, Reference, Table, Where
from dbctl.engines.contract.fulltext import TextScanner
from dbctl.engines.contract.streaming import BATCH_ROWS, RowStream, RowStreams, UserQuery, ValueCodec
from dbctl.engines.contract.vectors import VectorSearch
from dbctl.engines.sql import codec
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError
from dbctl.extensions.lancedb.catalog import Catalog, LanceSchema
from dbctl.extensions.lancedb.location import Location
from dbctl.extensions.lancedb.ordering import sort_row_ids
from dbctl.extensions.lancedb.rows import LanceTextScanner, RowReader
from dbctl.extensions.lancedb.values import Row, to_rows, type_family
from dbctl.extensions.lancedb.write_values import convert
from dbctl.url import Url

if TYPE_CHECKING:
    from dbctl.engines.contract.checks import Checks
    from dbctl.engines.contract.dumps import Dumps
    from dbctl.engines.contract.monitoring import StorageManager


class LanceReader(Readable):
    """A LanceDB opened for reading, with one version of each table.

    Writes of other processes are neither visible nor blocked. After another process pruned the version, reads raise
    ChangedWhileReadError.
    """

    engine = "lancedb"
    native_types = frozenset({"boolean", "time"})
    read_only = True

    def __init__(
        self, url: Url, target: str, *, timeout: float, keys: Mapping[str, Sequence[str]] = {}
    ) -> None:
        """Check that the database exists; nothing is created. The arguments are those of ``Engine.open_for_reading``.

        Raises:
            DatabaseMissingError, NotADatabaseError, UnreachableError: it is missing, not a LanceDB, or not reachable.
            StorageKeysMissingError, StorageSettingInvalidError: the configuration of the storage is incomplete.
        """
        self.target = target
        self.location = Location(url, target, timeout=timeout)
        self.catalog = Catalog(self.location, read_only=self.read_only, keys=keys)
        self.rows = RowReader(self.catalog)
        #: Releases what parts have open; runs when the database is closed.
        self.cleanup = ExitStack()
        self.location.require_database()

    @cached_property
    def codec(self) -> ValueCodec:
        return LanceCodec(self)

    @cached_property
    def schema_reader(self) -> LanceSchema:
        return LanceSchema(self)

    @cached_property
    def streams(self) -> RowStreams:
        return LanceStreams(self)

    @cached_property
    def text_scanner(self) -> TextScanner:
        return LanceTextScanner(self)

    @cached_property
    def dumps(self) -> Dumps | None:
        """None for a bucket."""
        from dbctl.extensions.lancedb.dump import FolderDumps

        if self.location.folder is None:
            return None
        dumps = FolderDumps(self.location.folder, self.target)
        self.cleanup.callback(dumps.unpin)
        return dumps

    @cached_property
    def vectors(self) -> VectorSearch:
        from dbctl.extensions.lancedb.vectors import LanceVectors

        return LanceVectors(self)

    @cached_property
    def checks(self) -> Checks:
        from dbctl.extensions.lancedb.checks import LanceChecks

        return LanceChecks(self)

    @cached_property
    def storage(self) -> StorageManager:
        from dbctl.extensions.lancedb.maintenance import LanceStorage

        return LanceStorage(self)

    def close(self) -> None:
        self.cleanup.close()
        self.catalog.close()

    def tables(self) -> Mapping[str, Table]:
        return self.catalog.tables()

    def references(self, table: str) -> Sequence[Reference]:
        self.catalog.require_table(table)
        return []

    def read_rows(self, query: Query) -> list[Row]:
        """Return the rows of a query; LanceDB has no row locks: a write compares the version with the one that was read."""
        self.catalog.require_columns(query.table, query.columns)
        # The IDs of all rows that match are sorted in memory, and then one page of rows is read.
        row_ids = sort_row_ids(self.rows, query.table, query.order_by, query.where)
        end = None if query.limit is None else query.offset + query.limit
        return self.rows.read_by_id(query.table, query.columns, row_ids[query.offset : end])

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        predicate = self.rows.predicate(table, where)
        with self.catalog.translate_errors():
            return int(self.catalog.open_table(table).count_rows(predicate))

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        rows = self.rows.read_within(timeout, table, [], AllOf(where), limit=1)
        return None if rows is None else bool(rows)

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        self.catalog.require_column(table, column)
        counts: dict[object, int] = {}
        with self.catalog.translate_errors():
            for batch in self.rows.scan(table, [column], where):
                for (value,) in to_rows(batch, [column]):
                    counts[value] = counts.get(value, 0) + 1
        return counts

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        del sql, parameters
        raise sql_error(self.target)


def sql_error(target: str) -> NotSupportedError:
    return NotSupportedError(
        feature="an SQL statement",
        subject=f"{target}, a LanceDB",
        hint=Remedy(
            "LanceDB supports conditions on one table, with: `data rows TABLE --filter COLUMN=VALUE`"
        ),
    )


#: Words for true; the other ``BOOLEAN_WORDS`` mean false.
TRUE_WORDS = frozenset({"true", "t", "yes", "1"})
BOOLEAN_WORDS = TRUE_WORDS | {"false", "f", "no", "0"}


class LancePart:
    """Base class of the parts of a database."""

    def __init__(self, db: LanceReader) -> None:
        self._db, self._catalog, self._rows, self._target = db, db.catalog, db.rows, db.target


class LanceStreams(LancePart, RowStreams):
    sql_dialect = ""

    def view_queries(self) -> Mapping[str, str]:
        return {}

    @contextmanager
    def stream(self, table: str, columns: Sequence[str]) -> Iterator[RowStream]:
        self._catalog.require_columns(table, columns)

        def batches() -> Iterator[Sequence[Row]]:
            with self._catalog.translate_errors():
                for batch in self._rows.scan(table, list(dict.fromkeys(columns)), batch_rows=BATCH_ROWS):
                    yield to_rows(batch, columns)

        yield RowStream(list(columns), batches())

    def query_read_only(self, query: UserQuery) -> AbstractContextManager[RowStream]:
        del query
        raise sql_error(self._target)


class LanceCodec(LancePart, ValueCodec):
    def read(self, query: Query) -> list[Row]:
        return [
            tuple(value.isoformat() if isinstance(value, date) else value for value in row)
            for row in self._db.read_rows(query)
        ]

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        description = self._catalog.require_column(table, column)
        column_family = type_family(self._catalog.column_type(table, column))
        encode = partial(_encode_value, json=column_family in {"text", "vector", "nested"})
        return codec.json_value_parser(
            description, self.text_parser(table, column), takes_bytes=column_family == "bytes", encode=encode
        )

    def text_parser(self, table: str, column: str) -> codec.Parser:
        description = self._catalog.require_column(table, column)
        field = self._catalog.arrow_schema(table).field(column)
        parse = _PARSERS.get(type_family(field.type), partial(codec.text_parser, nul=True))(description)
        return lambda text: convert(field, parse(text), self._target)


def _encode_value(value: object, *, json: bool) -> str | None:
    if isinstance(value, list | dict):
        return codec.encode_json(value) if json else None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _boolean_parser(column: Column) -> codec.Parser:
    parse = codec.boolean_parser(column, BOOLEAN_WORDS)
    return lambda text: int(str(parse(text)).strip().lower() in TRUE_WORDS)


_PARSERS: Mapping[str, Callable[[Column], codec.Parser]] = {
    "text": partial(codec.text_parser, nul=True),
    "integer": lambda column: codec.integer_parser(column, -(1 << 63), (1 << 64) - 1),
    "float": partial(codec.number_parser, finite=False),
    "boolean": _boolean_parser,
    "bytes": codec.bytes_parser,
}
