"""The toy engine: it reads and writes rows, and reports sizes. It has no SQL, no dumps and no checks."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from dbctl.engines import file_locks
from dbctl.engines.contract.checks import LockHolder, Storage, TableSize
from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Column,
    Condition,
    Merge,
    Not,
    Query,
    Readable,
    Reference,
    Table,
    Where,
    Writable,
)
from dbctl.engines.contract.dumps import Content, Dump, DumpVerification, ImportedDump, RestoreTarget
from dbctl.engines.contract.engine import Engine, OpenOptions, TempDirFactory, temp_dir
from dbctl.engines.contract.monitoring import StorageManager
from dbctl.engines.contract.streaming import ValueCodec
from dbctl.errors.connection import DatabaseMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError
from dbctl.url import Url

JsonRow = dict[str, object]


class ToyReader(Readable):
    """The rows of a JSON file."""

    engine = "toy"
    native_types: frozenset[str] = frozenset()

    def __init__(self, path: Path, target: str) -> None:
        self.path, self.target = path, target
        if not path.exists():
            raise DatabaseMissingError(target=target, path=path)
        self.content: dict[str, list[JsonRow]] = json.loads(path.read_text(encoding="utf-8"))

    @cached_property
    def codec(self) -> ValueCodec:
        return ToyCodec(self)

    @cached_property
    def storage(self) -> StorageManager:
        return ToyStorage(self)

    def tables(self) -> Mapping[str, Table]:
        return {
            name: Table(name=name, columns={column: _define_column(column, rows) for column in rows[0]})
            for name, rows in self.content.items()
        }

    def references(self, table: str) -> Sequence[Reference]:
        del table
        return ()

    def read_rows(self, query: Query) -> list[tuple[object, ...]]:
        rows = sorted(self._matching(query.table, query.where), key=lambda row: str(row["id"]))
        for order in reversed(query.order_by):
            rows.sort(key=lambda row: str(row[order.columns[0]]), reverse=order.descending)
        end = None if query.limit is None else query.offset + query.limit
        return [tuple(row[column] for column in query.columns) for row in rows[query.offset : end]]

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        return len(self._matching(table, where))

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        del timeout
        return bool(self._matching(table, where))

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        return dict(Counter(row[column] for row in self._matching(table, where)))

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[tuple[object, ...]]:
        del parameters
        raise QueryFailedError(target=self.target, reason=f"there is no SQL: {sql}")

    def close(self) -> None:
        """Do nothing: the file is closed."""

    def _matching(self, table: str, where: Sequence[Where]) -> list[JsonRow]:
        if table not in self.content:
            raise SchemaMismatchError(target=self.target, missing=f"table {table}", purpose="this")
        return [row for row in self.content[table] if _matches(row, AllOf(where))]


class ToyCodec(ValueCodec):
    """The part ``ValueCodec``, as far as the audit log and undo use it: the values are those of JSON."""

    def __init__(self, db: ToyReader) -> None:
        self._db = db

    def read(self, query: Query) -> list[tuple[object, ...]]:
        return self._db.read_rows(query)

    def csv_parser(self, table: str, column: str) -> Callable[[str, bool], object]:
        raise NotSupportedError(feature="CSV", subject=f"{table}.{column}", hint="")

    def text_parser(self, table: str, column: str) -> Callable[[str], object]:
        raise NotSupportedError(feature="text", subject=f"{table}.{column}", hint="")

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        del table, column
        return lambda value: value


class ToyWriter(ToyReader, Writable):
    """A JSON file whose content is written at the end of a transaction."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = copy.deepcopy(self.content)
        try:
            yield
        except BaseException:
            self.content = before
            raise
        self.path.write_text(json.dumps(self.content), encoding="utf-8")

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        row = dict.fromkeys(self.content[table][0]) | dict(values)
        row["id"] = row["id"] or 1 + max(int(str(other["id"])) for other in self.content[table])
        self.content[table].append(row)
        return row[returning] if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        return sum(self.insert(table, dict(zip(columns, row, strict=True))) is None for row in rows)

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        rows = self._matching(table, where)
        for row in rows:
            row.update(values)
        return len(rows)

    def delete(self, table: str, where: Sequence[Where]) -> int:
        rows = self._matching(table, where)
        self.content[table] = [row for row in self.content[table] if row not in rows]
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


class ToyStorage(StorageManager):
    """The part that reports sizes; it has no indexes and no maintenance."""

    def __init__(self, db: ToyReader) -> None:
        self._db = db

    def measure_storage(self) -> Storage:
        return Storage(bytes=self._db.path.stat().st_size, tables=len(self._db.content), page_size=1)

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:
        del exact
        return [
            TableSize(table=name, rows=len(rows), bytes=None, indexes=())
            for name, rows in self._db.content.items()
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

    def verify_dump(
        self, path: Path, dump: Dump, target: str, *, quick: bool, make_temp_dir: TempDirFactory = temp_dir
    ) -> DumpVerification:
        del path, dump, quick, make_temp_dir
        raise NotSupportedError(feature=f"a dump of {target}", subject=self.title, hint="")

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del content, source, destination, max_bytes
        raise NotSupportedError(feature=f"a dump of {target}", subject=self.title, hint="")


def _define_column(name: str, rows: Collection[JsonRow]) -> Column:
    kind = "INTEGER" if all(isinstance(row[name], int) for row in rows) else "TEXT"
    return Column(name=name, type=kind, nullable=name != "id", required=False, is_primary_key=name == "id")


#: The operators of conditions.
OPERATORS: Mapping[str, Callable[[object, object], bool]] = {
    "=": lambda stored, value: stored == value,
    "!=": lambda stored, value: stored != value,
    "in": lambda stored, values: stored in list(values),  # type: ignore[call-overload]
    "same": lambda stored, value: str(stored).casefold() == str(value).casefold(),
    "contains": lambda stored, value: str(value).casefold() in str(stored).casefold(),
}


def _matches(row: JsonRow, where: Where) -> bool:
    match where:
        case AllOf(conditions):
            return all(_matches(row, condition) for condition in conditions)
        case AnyOf(conditions):
            return any(_matches(row, condition) for condition in conditions)
        case Not(condition):
            return not _matches(row, condition)
        case Condition(column, op, value) if op in OPERATORS:
            return OPERATORS[op](row[column], value)
    raise QueryFailedError(target="toy", reason=f"unsupported condition {where}")


ENGINE = ToyEngine()
