"""The toy engine: it reads and writes rows, and reports sizes. It has no SQL, no dumps and no checks.

A database is a JSON file: ``{"users": {"columns": {"id": {"type": "integer", "key": true}}, "rows": [{"id": 1}]}}``.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from itertools import count
from pathlib import Path

import msgspec

from dbctl.engines import file_locks
from dbctl.engines.contract.checks import LockHolder, Storage, TableSize
from dbctl.engines.contract.database import (
    Column,
    Merge,
    Query,
    Readable,
    Reference,
    ShiftedTime,
    Table,
    Where,
    Writable,
)
from dbctl.engines.contract.dumps import Dump, DumpVerification, RestoreTarget
from dbctl.engines.contract.engine import Engine, OpenOptions, VerifyOptions
from dbctl.engines.contract.monitoring import StorageManager
from dbctl.engines.contract.streaming import ValueCodec
from dbctl.engines.sql import codec
from dbctl.errors.connection import ConstraintError, CorruptError, DatabaseMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError
from dbctl.files.atomic import write_atomically
from dbctl.profiles.codecs import TIMES, read_time
from dbctl.url import Url
from dbctl_toy.rows import Content, JsonRow, ToyTable, check_value


class ToyReader(Readable):
    """The rows of a JSON file, which each query reads: another process may have replaced it."""

    engine = "toy"
    native_types: frozenset[str] = frozenset()
    is_closed = False

    def __init__(self, path: Path, target: str) -> None:
        self.path, self.target = path, target
        self.read_content()

    @cached_property
    def codec(self) -> ValueCodec:
        return ToyCodec(self)

    @cached_property
    def storage(self) -> StorageManager:
        return ToyStorage(self)

    def read_content(self) -> Content:
        """Return the content of the file.

        Raises:
            DatabaseMissingError: it does not exist.
            CorruptError: it is not a JSON file with tables.
        """
        if self.is_closed:
            raise RuntimeError(f"{self.target} is closed")
        try:
            tables = msgspec.json.decode(self.path.read_bytes(), type=dict[str, ToyTable])
        except FileNotFoundError as error:
            raise DatabaseMissingError(target=self.target, path=self.path) from error
        except msgspec.MsgspecError as error:
            raise CorruptError(target=self.target, reason=str(error)) from error
        return Content(tables, self.target)

    def tables(self) -> Mapping[str, Table]:
        return {
            name: Table(
                name=name, columns={column: _define_column(column, table) for column in table.columns}
            )
            for name, table in self.read_content().tables.items()
        }

    def references(self, table: str) -> Sequence[Reference]:
        self.read_content().find_table(table)
        return ()

    def read_rows(self, query: Query) -> list[tuple[object, ...]]:
        rows = self.read_content().read(query)
        return [tuple(row[column] for column in query.columns) for row in rows]

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        return len(self.read_content().find_rows(table, where))

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        start = time.monotonic()
        has_rows = bool(self.read_content().find_rows(table, where))
        return None if time.monotonic() - start > timeout.total_seconds() else has_rows

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        content = self.read_content()
        content.find_table(table, [column])
        return dict(Counter(row[column] for row in content.find_rows(table, where)))

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[tuple[object, ...]]:
        del parameters
        raise QueryFailedError(target=self.target, reason=f"there is no SQL: {sql}")

    def close(self) -> None:
        self.is_closed = True


class ToyCodec(ValueCodec):
    """The part ``ValueCodec``: the values are those of JSON."""

    def __init__(self, db: ToyReader) -> None:
        self._db = db

    def read(self, query: Query) -> list[tuple[object, ...]]:
        return self._db.read_rows(query)

    def csv_parser(self, table: str, column: str) -> Callable[[str, bool], object]:
        parse = self.text_parser(table, column)
        return lambda text, _is_unquoted: parse(text)

    def text_parser(self, table: str, column: str) -> Callable[[str], object]:
        definition = self._db.tables()[table].columns[column]
        if definition.type != "INTEGER":
            return codec.text_parser(definition)
        check = codec.integer_parser(definition, -(2**63), 2**63 - 1)
        return lambda text: int(str(check(text)))

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        del table

        def parse(value: object) -> object:
            check_value(column, value)
            return value

        return parse


class ToyWriter(ToyReader, Writable):
    """A JSON file that is replaced at the end of a transaction."""

    def __init__(self, path: Path, target: str) -> None:
        self._transaction: list[Content] = []  # one for each savepoint
        super().__init__(path, target)

    def read_content(self) -> Content:
        return self._transaction[-1] if self._transaction else super().read_content()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._transaction.append(copy.deepcopy(self.read_content()))
        try:
            yield
        except BaseException:
            self._transaction.pop()
            raise
        content = self._transaction.pop()
        if self._transaction:
            self._transaction[-1] = content
            return
        with write_atomically(self.path, replace=True) as file:
            file.write(msgspec.json.encode(content.tables).decode())

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        row = _NewRows(self._begin_change(table, [*values]), table, self.target).add(values)
        return row[returning] if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        new = _NewRows(self._begin_change(table, columns), table, self.target)
        number = 0
        for number, row in enumerate(rows, 1):
            new.add(dict(zip(columns, row, strict=True)), number)
        return number

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        stored = self._begin_change(table, [*values])
        rows = self.read_content().find_rows(table, where)
        for row in rows:
            row.update({name: _resolve_value(row, value) for name, value in values.items()})
        new = _NewRows(ToyTable(columns=stored.columns), table, self.target)
        for row in stored.rows:
            new.add(row)
        return len(rows)

    def delete(self, table: str, where: Sequence[Where]) -> int:
        stored = self._begin_change(table)
        rows = {id(row) for row in self.read_content().find_rows(table, where)}
        stored.rows[:] = [row for row in stored.rows if id(row) not in rows]
        return len(rows)

    def merge(self, merge: Merge) -> int:
        raise QueryFailedError(target=self.target, reason=f"there is no SQL: {merge.select}")

    def advance_sequences(self, table: str) -> None:
        """Do nothing: a new key is larger than all keys."""

    def defer_references(self) -> None:
        """Do nothing: there are no foreign keys."""

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        with file_locks.write_lock(self.path, self.target, purpose, timeout=1):
            yield

    def _begin_change(self, table: str, columns: Sequence[str] = ()) -> ToyTable:
        if not self._transaction:
            raise RuntimeError(f"{self.target}: a write outside a transaction")
        return self.read_content().find_table(table, columns)


class _NewRows:
    """Adds rows to a table, with their defaults, if its keys and required columns permit them."""

    def __init__(self, table: ToyTable, name: str, target: str) -> None:
        self._table, self._name, self._target = table, name, target
        self._keys = {tuple(row[column] for column in table.key) for row in table.rows}
        self._numbers = count(1 + max((key[0] for key in self._keys if isinstance(key[0], int)), default=0))

    def add(self, values: Mapping[str, object], number: int = 1) -> JsonRow:
        """Add a row, and return it; ``number`` is that of the row in the statement.

        Raises:
            ConstraintError: a required value is null, or the key exists.
            ValueInvalidError: a value cannot be stored.
        """
        columns, key = self._table.columns, self._table.key
        row = {name: column.default for name, column in columns.items()} | dict(values)
        if len(key) == 1 and row[key[0]] is None:
            row[key[0]] = next(self._numbers)
        reason = ""
        for name, column in columns.items():
            check_value(name, row[name])
            if row[name] is None and (column.required or column.key):
                reason = f"{self._name}.{name} is null"
        values_of_key = tuple(row[name] for name in key)
        if key and values_of_key in self._keys:
            reason = f"the key exists in {self._name}"
        if reason:
            raise ConstraintError(target=self._target, reason=reason, row=number)
        self._keys.add(values_of_key)
        self._table.rows.append(row)
        return row


class ToyStorage(StorageManager):
    """The part that reports sizes; it has no indexes and no maintenance."""

    def __init__(self, db: ToyReader) -> None:
        self._db = db

    def measure_storage(self) -> Storage:
        tables = self._db.read_content().tables
        return Storage(bytes=self._db.path.stat().st_size, tables=len(tables), page_size=1)

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:
        del exact
        return [
            TableSize(table=name, rows=len(content.rows), bytes=None, indexes=())
            for name, content in self._db.read_content().tables.items()
            if table in ("", name)
        ]


class ToyEngine(Engine):
    """Databases in JSON files."""

    name, title = "toy", "Toy"

    def create_reader(self, url: Url, target: str, options: OpenOptions) -> Readable:
        del options
        return ToyReader(Path(url.path), target)

    def create_writer(self, url: Url, target: str, options: OpenOptions) -> Writable:
        del options
        return ToyWriter(Path(url.path), target)

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        del target
        return file_locks.list_lock_holders(Path(url.path))

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        raise NotSupportedError(feature=f"restoring {target}", subject=self.title, hint=f"Copy {url}.")

    def verify_dump(self, path: Path, dump: Dump, target: str, options: VerifyOptions) -> DumpVerification:
        del path, dump, options
        raise NotSupportedError(feature=f"a dump of {target}", subject=self.title, hint="")


def _define_column(name: str, table: ToyTable) -> Column:
    column, is_only_key = table.columns[name], table.key == [name]
    required = column.required or column.key
    return Column(
        name=name,
        type=column.type.upper(),
        nullable=not required,
        required=required and not is_only_key and column.default is None,
        is_primary_key=column.key,
    )


def _resolve_value(row: JsonRow, value: object) -> object:
    if not isinstance(value, ShiftedTime):
        return value
    stored = read_time(row[value.column])
    return stored and TIMES[value.form](stored + value.offset)


ENGINE = ToyEngine()
