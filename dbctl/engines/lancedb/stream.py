"""Rows of a LanceDB as they come, and cells of files as its columns take them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import partial

from dbctl.engines.contract import BATCH, Answer, Column, Row
from dbctl.engines.lancedb.connection import LanceConnection, no_sql
from dbctl.engines.lancedb.values import family, rows
from dbctl.engines.lancedb.write_values import typed
from dbctl.engines.sql import text_values

#: What may stand in a file for true; the rest of ``WORDS`` is false.
TRUE = frozenset({"true", "t", "yes", "1"})
WORDS = TRUE | {"false", "f", "no", "0"}


class LanceStreams(LanceConnection):
    """Capability.STREAM."""

    sql_dialect = ""

    def view_queries(self) -> Mapping[str, str]:
        return {}

    @contextmanager
    def stream(self, table: str, columns: Sequence[str]) -> Iterator[Answer]:
        for column in columns:
            self._described(table, column)

        def batches() -> Iterator[Sequence[Row]]:
            with self._told():
                for found in self._scan(table, list(dict.fromkeys(columns)), batch=BATCH):
                    yield rows(found, columns)

        yield Answer(list(columns), batches())

    def exactly(self) -> AbstractContextManager[None]:
        return nullcontext()  # numbers are whole, or floats

    def of_csv(self, table: str, column: str) -> Callable[[str, bool], object]:
        read = self._reads(table, column)
        return lambda text, _bare: read(text)

    def of_json(self, table: str, column: str) -> Callable[[object], object]:
        told = self._described(table, column)
        holds = family(self.kind(table, column))
        spell = partial(_spelt, json=holds in {"text", "vector", "nested"})
        return text_values.of_json(
            told, self._reads(table, column), takes_bytes=holds == "bytes", spell=spell
        )

    def _reads(self, table: str, column: str) -> text_values.Read:
        told, field = self._described(table, column), self._arrow(table).field(column)
        first = _READERS.get(family(field.type), partial(text_values.text, nul=True))(told)
        return lambda text: typed(field, first(text), self.target)

    def ask(
        self,
        sql: str,
        parameters: Mapping[str, object] = {},
        *,
        within: timedelta | None = None,
        hidden: Mapping[str, Collection[str]] = {},
    ) -> AbstractContextManager[Answer]:
        del sql, parameters, within, hidden
        raise no_sql(self.target)


def _spelt(value: object, *, json: bool) -> str | None:
    if isinstance(value, list | dict):
        return text_values.as_json(value) if json else None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _integer(column: Column) -> text_values.Read:
    return text_values.integer(column, -(1 << 63), (1 << 64) - 1)


def _boolean(column: Column) -> text_values.Read:
    read = text_values.word(column, WORDS)
    return lambda text: int(str(read(text)).strip().lower() in TRUE)


_READERS: Mapping[str, Callable[[Column], text_values.Read]] = {
    "text": partial(text_values.text, nul=True),
    "whole": _integer,
    "fraction": partial(text_values.number, finite=True),
    "boolean": _boolean,
    "bytes": text_values.raw,
    "vector": text_values.document,
    "nested": text_values.document,
}
