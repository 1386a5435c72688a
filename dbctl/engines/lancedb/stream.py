"""Stream rows, and parse cells of CSV and JSON files for columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial

from dbctl.engines.contract.database import Column, Query
from dbctl.engines.contract.streaming import BATCH_ROWS, RowStream, UserQuery
from dbctl.engines.contract.vectors import Row
from dbctl.engines.lancedb.reader import LanceReader, sql_error
from dbctl.engines.lancedb.values import to_rows, type_family
from dbctl.engines.lancedb.write_values import convert
from dbctl.engines.sql import codec

#: Words for true; the other ``BOOLEAN_WORDS`` mean false.
TRUE_WORDS = frozenset({"true", "t", "yes", "1"})
BOOLEAN_WORDS = TRUE_WORDS | {"false", "f", "no", "0"}


class LanceStreams:
    """``RowStreams``."""

    sql_dialect = ""

    def __init__(self, db: LanceReader) -> None:
        self._catalog, self._rows, self._target = db.catalog, db.rows, db.target

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


class LanceCodec:
    """``ValueCodec``."""

    def __init__(self, db: LanceReader) -> None:
        self._db, self._catalog, self._target = db, db.catalog, db.target

    def read(self, query: Query) -> list[Row]:
        return [
            tuple(value.isoformat() if isinstance(value, datetime) else value for value in row)
            for row in self._db.read_rows(query)
        ]

    def csv_parser(self, table: str, column: str) -> Callable[[str, bool], object]:
        parse = self.text_parser(table, column)
        return lambda text, _bare: parse(text)

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        description = self._catalog.require_column(table, column)
        column_family = type_family(self._catalog.column_type(table, column))
        encode = partial(_encode_value, json=column_family in {"text", "vector", "nested"})
        return codec.json_value_parser(
            description, self.text_parser(table, column), takes_bytes=column_family == "bytes", encode=encode
        )

    def text_parser(self, table: str, column: str) -> codec.Parser:
        description, field = (
            self._catalog.require_column(table, column),
            self._catalog.arrow_schema(table).field(column),
        )
        parse = _PARSERS.get(type_family(field.type), partial(codec.text_parser, nul=True))(description)
        return lambda text: convert(field, parse(text), self._target)


def _encode_value(value: object, *, json: bool) -> str | None:
    if isinstance(value, list | dict):
        return codec.encode_json(value) if json else None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _integer_parser(column: Column) -> codec.Parser:
    return codec.integer_parser(column, -(1 << 63), (1 << 64) - 1)


def _boolean_parser(column: Column) -> codec.Parser:
    parse = codec.boolean_parser(column, BOOLEAN_WORDS)
    return lambda text: int(str(parse(text)).strip().lower() in TRUE_WORDS)


_PARSERS: Mapping[str, Callable[[Column], codec.Parser]] = {
    "text": partial(codec.text_parser, nul=True),
    "integer": _integer_parser,
    "float": partial(codec.number_parser, finite=False),
    "boolean": _boolean_parser,
    "bytes": codec.bytes_parser,
    "vector": codec.text_parser,  # with NaN and infinities; the numbers are parsed with their column
    "nested": codec.json_parser,
}
