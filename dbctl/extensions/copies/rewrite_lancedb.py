"""Rewrite a private LanceDB: it is written again as a whole, because its tables retain deleted and changed rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.contract.database import Condition, Readable, Writable
from dbctl.engines.contract.monitoring import ColumnRewrite, Rebuilder
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import ValueInvalidError
from dbctl.extensions.copies.contract import Rewriter, create_violation
from dbctl.extensions.copies.pseudonyms import Pseudonyms
from dbctl.extensions.copies.rules import ColumnRule, TableRule
from dbctl.model import format_count

#: What every file contains.
FILE_WORDS = b"lance.encodings21.PageLayout lance.encodings.ColumnEncoding timestamp fixed_size_list float struct string"


class LanceRewriter(Rewriter):
    shortest = 8

    def __init__(self, db: Writable) -> None:
        self._db = db

    @property
    def _rebuilder(self) -> Rebuilder:
        part = self._db.extension_part(Rebuilder)
        if part is None:
            raise RuntimeError("the engine of this part has a Rebuilder")
        return part

    def find_unreadable(self) -> Sequence[str]:
        tables, schema = self._db.tables(), self._db.schema_reader
        return [
            f"{table.name}.{column.name}"
            for table in (schema.schema().tables if schema else ())
            for column in table.columns
            if column.name not in tables[table.name].columns
        ]

    def rewrite(self, tables: Mapping[str, TableRule], pseudonyms: Pseudonyms) -> Sequence[str]:
        rewrites = dict[str, Mapping[str, ColumnRewrite | None] | None]()
        for table, rule in tables.items():
            columns = {} if rule == "empty" else rule
            new = {
                name: self._rewrite_column(table, name, item, pseudonyms) for name, item in columns.items()
            }
            rewrites[table] = None if rule == "empty" else new
        removed = list(self._describe_removed(tables))
        try:
            return [*removed, *self._rebuilder.rebuild(rewrites)]
        except (ConstraintError, ValueInvalidError) as error:
            paths = [f"{table}.{name}" for table, new in rewrites.items() for name in new or ()]
            raise create_violation(self._db, paths, error.context["reason"]) from error

    def _describe_removed(self, tables: Mapping[str, TableRule]) -> Iterator[str]:
        for table, rule in tables.items():
            for name in () if rule == "empty" else self._list_vectors(table):
                if name in rule and (count := self._db.count(table, [Condition(name, "!=", None)])):
                    yield f"{format_count(count, 'vector')} of {table}.{name} were removed: they are computed from texts"

    def _rewrite_column(
        self, table: str, name: str, rule: ColumnRule, pseudonyms: Pseudonyms
    ) -> ColumnRewrite | None:
        if name in self._list_vectors(table):
            return None
        function = pseudonyms.rewrite(table, self._db.tables()[table].columns[name], rule)
        return ColumnRewrite(function=function, by=rule.by)

    def _list_vectors(self, table: str) -> Sequence[str]:
        vectors = self._db.vectors
        return [column.column for column in vectors.vector_columns(table)] if vectors else ()

    def encode(self, value: object) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")

    def read_rows(self, db: Readable, table: str, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        if db.vectors is None:
            raise RuntimeError("a LanceDB has vectors")
        for batch in db.vectors.stream_vectors(table, columns):
            for row in batch:
                yield [_store(value) if isinstance(value, array) else value for value in row]

    def read_compressed(self) -> Iterator[bytes]:
        return self._rebuilder.read_values()

    def read_schema(self) -> Iterator[bytes]:
        yield FILE_WORDS
        yield from self._rebuilder.read_schemas()


def _store(vector: array[float]) -> bytes | None:
    """Return a vector as files contain it; None for zeros, which are in any file."""
    return vector.tobytes() if any(vector) else None
