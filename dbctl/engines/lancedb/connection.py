"""One open LanceDB, each table at one of its versions; what reading and writing have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from dbctl import signals
from dbctl.engines.contract import Condition, Order, Reference, Table, Where
from dbctl.engines.lancedb import schema
from dbctl.engines.lancedb.errors import failure, translated
from dbctl.engines.lancedb.location import Files, Place
from dbctl.engines.lancedb.query import ROW, Filters, Sorted
from dbctl.engines.lancedb.storage import History
from dbctl.engines.lancedb.values import Row, rows
from dbctl.errors import ChangedWhileReadError, CorruptError, DbctlError, NotSupportedError, QueryFailedError
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import LanceTable

#: How often a table is opened that is pruned meanwhile.
TRIES = 10
#: Rows of a batch without vectors.
BATCH = 8192
#: How the library says that a time is over.
TOO_LATE = "Query timeout"
#: Rows that are taken by their place at a time.
TAKEN = 10_000


class LanceConnection(Filters):
    """What reading and writing have in common."""

    reading = True  #: whether it is opened for reading only
    natives = frozenset({"boolean", "time"})

    def __init__(
        self, url: Url, target: str, *, timeout: float, keys: Mapping[str, Sequence[str]] = {}
    ) -> None:
        """Find the database; nothing of it is made.

        Args:
            url: its folder, on this machine or in storage.
            target: ``app/database``, for messages.
            timeout: seconds to wait for whoever holds a lock, and for storage to answer.
            keys: for tables that do not say what tells their rows apart: columns, of which the first that is there does.

        Raises:
            DatabaseMissingError, NotADatabaseError, UnreachableError: it is not there, is none, or cannot be got at.
            StorageKeysMissingError, StorageUnknownError: nothing says how storage is reached.
        """
        self.target = target
        self._timeout, self._keys = timeout, keys
        self._place = Place(url, target, timeout=timeout)
        self._opened: dict[str, LanceTable] | None = None
        self._closed = False
        self._tables: dict[str, Table] | None = None
        self._schemas: dict[str, pa.Schema] = {}
        self._place.want()

    def close(self) -> None:
        self._opened, self._closed = None, True

    # What is there -----------------------------------------------------------------------------------------

    def tables(self) -> Mapping[str, Table]:
        if self._tables is None:
            with self._told():
                self._schemas = {name: one.schema for name, one in self._handles().items()}
            self._tables = {
                name: schema.table_of(name, told, self._keys.get(name, ()))
                for name, told in self._schemas.items()
            }
        return self._tables

    def moment(self) -> Mapping[str, int]:
        """Return the version of each table that everything is told of."""
        with self._told():
            return {name: one.version for name, one in self._handles().items()}

    def references(self, table: str) -> Sequence[Reference]:
        self._checked(table)
        return []

    def _arrow(self, table: str) -> pa.Schema:
        self._checked(table)
        return self._schemas[table]

    def _handles(self) -> dict[str, LanceTable]:
        """Return every table, all at the version that was the newest when the first was asked for."""
        if self._opened is None:
            signals.check()
            with self._told():
                self._opened = {
                    name: one for name in self._place.names() if (one := self._open(name)) is not None
                }
        return self._opened

    def _open(self, name: str) -> LanceTable | None:
        """Return a table at its newest version; None where a folder has none yet, as one that is being made.

        Who compacts and prunes it meanwhile may take away what was the newest a moment ago: then a newer one is there.
        """
        for left in reversed(range(TRIES)):
            try:
                opened = cast("LanceTable", self._place.connection.open_table(name))
                if self.reading:
                    opened.checkout(opened.version)
            except (ValueError, FileNotFoundError, RuntimeError) as error:
                if "was not found" in str(error):
                    return None
                if not left:
                    raise self._unopened(name, error) from error
                signals.check()
            else:
                return opened
        raise RuntimeError("no try was left")

    def _unopened(self, name: str, error: Exception) -> DbctlError:
        """Return the failure of a table that cannot be opened; the library does not say which one it is, nor what is left of it."""
        told = failure(error, self._place)
        history = History(Files(self._place), name)
        versions = history.versions() if isinstance(told, CorruptError) else {}
        if versions and (reason := history.unreadable(versions)):
            return CorruptError(target=self.target, reason=f"{name}: {reason}")
        return told

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise what the library reports as a failure of ours; files may be missing because their version was pruned."""
        if self._closed:
            raise RuntimeError(f"{self.target} is closed")
        try:
            with translated(self._place):
                yield
        except CorruptError as error:
            if self._pruned():
                raise ChangedWhileReadError(target=self.target) from error
            raise

    def _pruned(self) -> bool:
        """Whether a version that is read was taken away."""
        files = Files(self._place)
        return any(
            one.version not in History(files, name).versions() for name, one in (self._opened or {}).items()
        )

    def _handle(self, table: str) -> LanceTable:
        return self._handles()[self._checked(table).name]

    # What it holds -----------------------------------------------------------------------------------------

    def select(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
        hold: bool = False,
    ) -> list[Row]:
        del hold  # what is written is compared with the version that was read
        for column in columns:
            self._described(table, column)
        sorting = Sorted(self, table, order_by)
        with self._told():
            found = self._scan(table, sorting.projection(), where).read_all()
            places = sorting.places(found)[offset : None if limit is None else offset + limit]
            return self._taken(table, columns, places)

    def ranked(self, table: str, sorting: Sorted, column: str, where: Sequence[Where]) -> list[object]:
        asked = [*where, *(Condition(name, "!=", None) for name in sorting.columns)]
        found = self._scan(table, sorting.projection(), asked).read_all()
        return [value for (value,) in self._taken(table, [column], sorting.places(found))]

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        asked = self.predicate(table, where)
        with self._told():
            return int(self._handle(table).count_rows(asked))

    def has(self, table: str, where: Sequence[Where] = (), *, within: timedelta) -> bool | None:
        try:
            with self._told():
                return any(
                    one.num_rows for one in self._scan(table, {"c": "1"}, where, limit=1, within=within)
                )
        except QueryFailedError as error:
            if TOO_LATE in str(error):
                return None
            raise

    def tally(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        self._described(table, column)
        found: dict[object, int] = {}
        with self._told():
            for batch in self._scan(table, [column], where):
                for (value,) in rows(batch, [column]):
                    found[value] = found.get(value, 0) + 1
        return found

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        del sql, parameters
        raise no_sql(self.target)

    def _read(self, table: str, columns: Sequence[str], where: Sequence[Where]) -> list[Row]:
        for column in columns:
            self._described(table, column)
        with self._told():
            return [row for batch in self._scan(table, columns, where) for row in rows(batch, columns)]

    def _scan(
        self,
        table: str,
        columns: Sequence[str] | Mapping[str, str],
        where: Sequence[Where] = (),
        *,
        limit: int | None = None,
        batch: int = BATCH,
        within: timedelta | None = None,
    ) -> pa.RecordBatchReader:
        """Give batches in the order in which rows are stored, with their places where no column is asked for."""
        asked = self.predicate(table, where)
        query = (
            self._handle(table)
            .search(None)
            .select(dict(columns) if isinstance(columns, Mapping) else list(columns))
        )
        if asked:
            query = query.where(asked)
        if limit is not None:
            query = query.limit(limit)
        if not columns or isinstance(columns, Mapping):
            query = query.with_row_id(True)  # noqa: FBT003 - the library's
        brief = None if within is None else max(within, timedelta(milliseconds=1))
        return query.to_batches(batch, timeout=brief)

    def _taken(self, table: str, columns: Sequence[str], places: Sequence[int]) -> list[Row]:
        """Return the rows at these places, in their order."""
        found: list[Row] = []
        asked = list(dict.fromkeys(columns))
        for at in range(0, len(places), TAKEN):
            signals.check()
            some = list(places[at : at + TAKEN])
            told = self._handle(table).take_row_ids(some).select(asked).with_row_id().to_arrow()
            by_place = dict(zip(told.column(ROW).to_pylist(), rows(told, columns), strict=True))
            found += [by_place[one] for one in some]
        return found


def no_sql(target: str) -> NotSupportedError:
    """Return the refusal of a statement of SQL."""
    return NotSupportedError(
        what="a statement of SQL",
        by=f"{target}, a LanceDB",
        instead="Its library answers conditions on one table, no SQL: dbctl data rows --filter asks them.",
    )
