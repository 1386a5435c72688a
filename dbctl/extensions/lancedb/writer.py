"""The writer of a LanceDB, and the statements that undo those of a transaction.

Each statement creates one version of one table. The library's ``restore`` would undo a transaction in one step, but after it,
all writes of processes that had opened the table fail until they are restarted. It is only used for tables without a key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from dbctl import signals
from dbctl.engines.contract.database import AnyOf, Condition, Merge, Where, Writable
from dbctl.engines.contract.vectors import VectorIndexes
from dbctl.engines.sql.query_builder import match_rows
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConcurrentChangeError
from dbctl.errors.databases import PartialWriteError
from dbctl.extensions.lancedb import write_values
from dbctl.extensions.lancedb.location import acquire_lock
from dbctl.extensions.lancedb.reader import LanceReader, sql_error
from dbctl.extensions.lancedb.values import VECTOR_BATCH_ROWS, Row, to_rows
from dbctl.model import split_batches
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import LanceTable


#: Keys per query.
KEYS_PER_QUERY = 5000


#: ``keys``: an update of key columns, which cannot be undone row by row.
ChangeKind: TypeAlias = Literal["insert", "update", "delete", "keys"]


class Step(NamedTuple):
    """An executed statement of the open transaction."""

    table: str
    version: int  #: the version that it created
    kind: ChangeKind
    predicate: str | None  #: the updated or deleted rows
    inserted_keys: Collection[Row]


class LanceWriter(LanceReader, Writable):
    """A LanceDB opened for writing.

    The library has no transactions of several statements. Each statement is atomic: it creates one version of one table,
    which readers see immediately. So other processes see the statements of an open ``transaction``. If the transaction
    fails, further statements undo its statements, and writes of other processes remain. If another process changed the same
    rows, the statement is not undone, and PartialWriteError is raised. If dbctl is killed, executed statements remain.
    """

    read_only = False

    def __init__(
        self, url: Url, target: str, *, timeout: float, keys: Mapping[str, Sequence[str]] = {}
    ) -> None:
        """Check that the database exists, as ``LanceReader`` does."""
        super().__init__(url, target, timeout=timeout, keys=keys)
        self._steps: list[Step] | None = None  #: executed statements; None outside of a transaction
        self._own_versions = set[tuple[str, int]]()  #: tables with the versions that this transaction created

    @cached_property
    def vector_indexes(self) -> VectorIndexes:
        from dbctl.extensions.lancedb.vector_indexes import LanceVectorIndexes

        return LanceVectorIndexes(self)

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        self.insert_many(table, list(values), [list(values.values())])
        return values.get(returning) if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        self.catalog.require_columns(table, columns)
        self._require_open()
        schema, key = self.catalog.arrow_schema(table), self.catalog.primary_key(table)
        find_existing = partial(self._existing_keys, table, key)
        checked = write_values.CheckedBatches(table, key, find_existing, self.target)
        batches = checked.check(write_values.to_batches(schema, columns, rows, self.target))
        if (first_batch := next(batches, None)) is not None:
            write = partial(self._write, table, "insert", inserted_keys=checked.keys)
            try:
                self._add_rows(table, schema, chain([first_batch], batches), write)
            except DbctlError as error:
                raise checked.error or error from error
        return checked.row_count

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        self.catalog.require_columns(table, list(values))
        predicate, expressions = self.rows.predicate(table, where), self._express(table, values)
        self._require_open()
        row_count = self.count(table, where)
        if row_count and expressions:
            changes_key = set(values) & set(self.catalog.primary_key(table))
            self._write(
                table,
                "keys" if changes_key else "update",
                partial(_update, where=predicate, expressions=expressions),
                predicate=predicate,
            )
        return row_count

    def _express(self, table: str, values: Mapping[str, object]) -> Mapping[str, str]:
        """Return values as expressions, because a shifted time depends on its row."""
        schema = self.catalog.arrow_schema(table)
        return {
            name: write_values.set_expression(schema.field(name), value, self.target)
            for name, value in values.items()
        }

    def delete(self, table: str, where: Sequence[Where]) -> int:
        predicate = self.rows.predicate(table, where) or "true"
        self._require_open()
        row_count = self.count(table, where)
        if row_count:  # otherwise the library would create an empty version
            self._write(table, "delete", lambda handle: handle.delete(predicate), predicate=predicate)
        return row_count

    def merge(self, merge: Merge) -> int:
        self.catalog.require_table(merge.table)
        raise sql_error(self.target)

    def advance_sequences(self, table: str) -> None:
        self.catalog.require_table(table)  # the database generates no keys

    def defer_references(self) -> None:
        """Do nothing: there are no foreign keys."""

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        return acquire_lock(self.location, purpose)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin a transaction, and roll it back on any exception; nested, it is a savepoint.

        Raises:
            PartialWriteError: a statement could not be undone.
        """
        if self._steps is not None:
            yield from self._run_nested(self._steps)
            return
        self.catalog.reopen()
        self._steps, self._own_versions = [], set()
        try:
            yield from self._run_nested(self._steps)
        finally:
            self._steps = None

    def _run_nested(self, steps: list[Step]) -> Iterator[None]:
        step_count = len(steps)
        try:
            yield
            signals.raise_if_interrupted()
        except BaseException as error:  # also on a signal, so that no partial change remains
            with signals.block_signals():
                self._roll_back(steps, step_count, error)
            raise

    def _roll_back(self, steps: list[Step], step_count: int, error: BaseException) -> None:
        """Undo all statements after the first ``step_count``, the last first.

        Raises:
            PartialWriteError: another process changed the same rows, or the storage is unreachable.
        """
        failures = dict[str, str]()
        while len(steps) > step_count:
            step = steps.pop()
            try:
                self._undo(step)
            except DbctlError as undo_error:
                failures[step.table] = str(undo_error)
        if failures:
            partial_write = PartialWriteError(
                target=self.target, tables=", ".join(failures), reason=str(error) or type(error).__name__
            )
            partial_write.details = list(failures.values())
            raise partial_write from error

    def _require_open(self) -> list[Step]:
        """Return the executed statements; a write outside of a transaction is a bug."""
        if self._steps is None:
            raise RuntimeError("nothing is written outside a transaction")
        return self._steps

    def _write(
        self,
        table: str,
        kind: ChangeKind,
        write: Callable[[LanceTable], object],
        *,
        predicate: str | None = None,
        inserted_keys: Collection[Row] = (),
    ) -> None:
        """Execute one statement and record it; ``inserted_keys`` may grow until it is undone.

        The library merges it with concurrent writes of other processes, or raises a conflict.
        """
        steps = self._require_open()
        version = self._create_version(table, write)
        steps.append(Step(table, version, kind, predicate, inserted_keys))

    def _create_version(self, table: str, change: Callable[[LanceTable], object]) -> int:
        version = self.catalog.create_version(table, change)
        self._own_versions.add((table, version))
        return version

    # Rollback ------------------------------------------------------------------------------------------------

    def _undo(self, step: Step) -> None:
        """Restore the rows before a statement, found by their keys; without keys, the version before it.

        Raises:
            ConcurrentChangeError: another process changed the same rows.
        """
        key = self.catalog.primary_key(step.table)
        if not key or step.kind == "keys":
            self._restore_version(step)
        elif step.kind == "insert":
            for key_batch in split_batches(step.inserted_keys, KEYS_PER_QUERY):
                self._delete_rows(step.table, self._key_predicate(step.table, key_batch))
        else:
            self._restore_rows(step, key)

    def _restore_rows(self, step: Step, key: Sequence[str]) -> None:
        """Undo an update or delete."""
        before, after = (
            self.catalog.open_version(step.table, version) for version in (step.version - 1, step.version)
        )
        remaining = set(self._read_keys(after, key, step.predicate)) if step.kind == "delete" else set()
        keys = dict.fromkeys(self._read_keys(before, key, step.predicate))
        for key_batch in split_batches((row for row in keys if row not in remaining), KEYS_PER_QUERY):
            where = self._key_predicate(step.table, key_batch)
            self._require_unchanged(step.table, after, where)
            if step.kind == "update":
                self._delete_rows(step.table, where)
            elif step.predicate:  # further rows with these keys were not deleted
                where = f"({where}) and ({step.predicate})"
            self._insert_rows(step.table, before, where)

    def _restore_version(self, step: Step) -> None:
        """Restore the version before a statement, unless another process wrote since then."""
        newest = self.catalog.open_newest(step.table).version
        if any(
            (step.table, version) not in self._own_versions for version in range(step.version, newest + 1)
        ):
            raise ConcurrentChangeError(target=f"{self.target}: {step.table}")
        self._create_version(step.table, lambda handle: handle.restore(step.version - 1))

    def _require_unchanged(self, table: str, after: LanceTable, where: str) -> None:
        """Check that rows are unchanged since a statement.

        Raises:
            ConcurrentChangeError: another process changed them.
        """
        handle = self.catalog.open_newest(table)
        with self.catalog.translate_errors():
            if handle.version != after.version and _sorted_rows(handle, where) != _sorted_rows(after, where):
                raise ConcurrentChangeError(target=f"{self.target}: {table}")

    def _insert_rows(self, table: str, source: LanceTable, where: str) -> None:
        """Insert rows of an earlier version."""
        with self.catalog.translate_errors():
            batches = source.search(None).where(where).to_batches(VECTOR_BATCH_ROWS)
        self._add_rows(table, batches.schema, batches, partial(self._create_version, table))

    def _add_rows(
        self,
        table: str,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        write: Callable[[Callable[[LanceTable], object]], object],
    ) -> None:
        """Add batches, and set the vectors that the library only accepts in an update; ``write`` executes a statement."""
        import pyarrow as pa

        removed, key = dict[Row, dict[str, object]](), self.catalog.primary_key(table)
        added = write_values.remove_nan(batches, key, removed, self.target)
        reader = pa.RecordBatchReader.from_batches(schema, added)
        write(lambda handle: handle.add(reader))
        for row, vectors in removed.items():
            expressions = self._express(table, vectors)
            write(partial(_update, where=self._key_predicate(table, [row]), expressions=expressions))

    def _delete_rows(self, table: str, where: str) -> None:
        self.catalog.open_newest(table)
        self._create_version(table, lambda handle: handle.delete(where))

    def _read_keys(self, source: LanceTable, key: Sequence[str], predicate: str | None) -> list[Row]:
        with self.catalog.translate_errors():
            query = source.search(None).select(list(key))
            batches = (query.where(predicate) if predicate else query).to_batches()
            return [row for batch in batches for row in to_rows(batch, key)]

    def _existing_keys(self, table: str, key: Sequence[str], keys: Sequence[Row]) -> set[Row]:
        return set(self.rows.read(table, key, [_key_condition(key, keys)]))

    def _key_predicate(self, table: str, keys: Sequence[Row]) -> str:
        return self.rows.predicate(table, [_key_condition(self.catalog.primary_key(table), keys)]) or ""


def _update(handle: LanceTable, *, where: str | None, expressions: Mapping[str, str]) -> None:
    handle.update(where=where, values_sql=dict(expressions))


def _key_condition(key: Sequence[str], keys: Sequence[Row]) -> Where:
    if (None,) not in keys:
        return match_rows(key, keys)
    return AnyOf([Condition(key[0], "=", None), match_rows(key, [row for row in keys if row != (None,)])])


def _sorted_rows(table: LanceTable, where: str) -> list[str]:
    return sorted(
        repr(row)
        for batch in table.search(None).where(where).to_batches(VECTOR_BATCH_ROWS)
        for row in to_rows(batch, batch.schema.names)
    )
