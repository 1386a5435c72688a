"""Writing a LanceDB: each statement makes one version of one table, and a transaction goes back to those before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from dbctl.engines.contract import Merge, Where
from dbctl.engines.lancedb import maintenance, write_values
from dbctl.engines.lancedb.connection import no_sql
from dbctl.engines.lancedb.transaction import LanceUndo
from dbctl.engines.lancedb.values import Row, rows
from dbctl.errors import ConstraintError, DbctlError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")


class LanceWriter(LanceUndo):
    """A LanceDB opened for writing.

    The library knows no transaction of several statements. Each statement is one, whole or not at all: a new version of
    one table, which readers see at once. So inside ``transaction`` others see each statement as it is done. Where the
    transaction fails, its statements are undone one after the other by further ones, and what somebody else wrote meanwhile
    stays; where that were the very rows, the error says so, and what the statement did stays, too. The same holds where
    the process is killed: what was written by then is there.
    """

    reading = False

    # Writing -----------------------------------------------------------------------------------------------

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        self._insert(table, list(values), [list(values.values())])
        return values.get(returning) if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        return self._insert(table, columns, rows)

    def _insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        for column in columns:
            self._described(table, column)
        self._want_transaction()
        schema, counted, keys = self._arrow(table), write_values.Counted(rows), list[Row]()
        waiting = write_values.Kept(
            self._without_twins(table, write_values.batches(schema, columns, counted, self.target), keys)
        )
        first = next(iter(waiting), None)
        if first is not None:
            try:
                told = write_values.reader(schema, chain([first], waiting))
                self._write(table, lambda one: one.add(told), self._gone(keys))
            except DbctlError as error:
                raise waiting.failed or error from error
        return counted.number

    def _without_twins(
        self, table: str, batches: Iterator[pa.RecordBatch], taken: list[Row]
    ) -> Iterator[pa.RecordBatch]:
        """Refuse rows that have a key which is there: the library would keep both; ``taken`` gets the keys.

        Raises:
            ConstraintError: there are such.
        """
        key, seen, before = self.key(table), set[Row](), 0
        for batch in batches:
            keys = rows(batch, key) if key else []
            there = self._there(table, key, keys) if keys else set()
            for number, row in enumerate(keys, before + 1):
                if row in seen or row in there:
                    reason = f"{table} may hold each {', '.join(key)} only once"
                    raise ConstraintError(target=self.target, reason=reason, row=number)
                seen.add(row)
            taken += keys
            before += batch.num_rows
            yield batch

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        for column in values:
            self._described(table, column)
        schema, asked = self._arrow(table), self.predicate(table, where)
        told = {
            name: write_values.expression(schema.field(name), value, self.target)
            for name, value in values.items()
        }
        self._want_transaction()
        matched = self.count(table, where)
        if matched and told:
            undo = self._restored if set(values) & set(self.key(table)) else self._before(asked)
            self._write(table, lambda one: one.update(where=asked, values_sql=told), undo)
        return matched

    def delete(self, table: str, where: Sequence[Where]) -> int:
        asked = self.predicate(table, where) or "true"
        self._want_transaction()
        matched = self.count(table, where)
        if matched:  # the library would make a version all the same
            self._write(table, lambda one: one.delete(asked), self._back(asked))
        return matched

    def merge(
        self,
        table: str,
        select: str,
        parameters: Mapping[str, object],
        *,
        key: Sequence[str],
        columns: Mapping[str, Merge],
    ) -> int:
        del select, parameters, key, columns
        self._checked(table)
        raise no_sql(self.target)

    def follow_keys(self, table: str) -> None:
        self._checked(table)  # no key is made by the database

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        return maintenance.lock(self._place, purpose)
