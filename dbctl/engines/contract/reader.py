"""Contract: every open database: its live schema, its parts, and reading its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from typing import ClassVar, Literal, Protocol, TypeAlias, TypeVar, cast

from dbctl.engines.contract.conditions import Order, Query, Where
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Struct

P = TypeVar("P")


class Column(Struct, frozen=True, kw_only=True):
    """One column of a live table."""

    name: str
    type: str  #: as declared, upper case; empty without a declared type
    nullable: bool
    required: bool  #: NOT NULL without a default or generated value
    is_primary_key: bool  #: part of the primary key
    #: "time", "boolean", "uuid", "enum": values with a type of the driver; empty: plain values
    native: str = ""
    labels: Sequence[str] = ()  #: the labels of an enum
    is_generated: bool = False  #: computed from other columns, so it cannot be written
    #: not of a type for times, and its default is the current time in UTC, in any form
    has_time_default: bool = False


class Table(Struct, frozen=True, kw_only=True):
    """One live table or view."""

    name: str
    columns: Mapping[str, Column]  #: in their declared order
    is_view: bool = False


class Reference(Struct, frozen=True, kw_only=True):
    """A foreign key that refers to a table."""

    table: str  #: the table with the foreign key
    columns: Sequence[str]
    to: Sequence[str]  #: the referenced columns
    on_delete: Literal["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]
    deferrable: bool = False  #: whether ``Writable.defer_references`` applies to it


#: Returns values for further columns of a new row of a table; ``provided`` are the columns that already have a value.
FillRow: TypeAlias = "Callable[[Readable, str, Collection[str]], Mapping[str, object]]"


def fill_no_columns(db: Readable, table: str, provided: Collection[str]) -> Mapping[str, object]:
    """Return no values, so that the database fills the other columns."""
    del db, table, provided
    return {}


class Explanation(Struct, frozen=True, kw_only=True):
    """How an engine would run a query."""

    sql: str
    parameters: Sequence[object]
    plan: Sequence[str]  #: in the engine's words, indented by depth
    full_scans: Sequence[str]  #: tables that are read completely


class Readable(Protocol):
    """One open database. Not shared between threads. The opener closes it.

    Names of tables and columns are checked against ``tables()`` before they become part of SQL; values are always
    parameters. Every method raises ``BusyError``, ``CorruptError``, ``UnreachableError`` or ``QueryFailedError``
    for errors of the database, and ``Interrupted`` after a signal.
    """

    target: str  #: ``app/database``, for messages
    native_types: frozenset[str]

    #: the parts: for the name of each protocol, the class that fulfils it, as ``module:Class``; it is called with the database
    PARTS: ClassVar[Mapping[str, str]] = {}

    def part(self, kind: type[P]) -> P | None:
        """Return the part with the protocol ``kind``, created on first use; None if the database lacks this capability."""
        parts: dict[str, object] = self.__dict__.setdefault("_parts", {})
        name = kind.__name__
        if name in self.PARTS and name not in parts:
            module, _, class_name = self.PARTS[name].partition(":")
            parts[name] = getattr(import_module(module), class_name)(self)
        return cast("P | None", parts.get(name))

    def tables(self) -> Mapping[str, Table]:
        """Return the live schema; read once, and again after a script ran or the file was replaced."""

    def references(self, table: str) -> Sequence[Reference]:
        """Return the foreign keys that refer to ``table``."""

    def select(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
        for_update: bool = False,
    ) -> list[tuple[object, ...]]:
        """Return rows in the order of the primary key, unless ``order_by`` is set; for results that fit in memory.

        Inside a transaction, ``for_update`` locks the rows until its end, if the transaction alone does not: rows that
        a rule depends on must not change until the change is applied. Raises as ``read_rows``.
        """
        return self.read_rows(Query(table, columns, where, order_by, limit, offset, for_update))

    def read_rows(self, query: Query) -> list[tuple[object, ...]]:
        """Return the rows of a query; text that is not valid UTF-8 has lone surrogates for its bytes (``surrogateescape``).

        Raises:
            SchemaMismatchError: no such table or column.
        """

    def sample(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        rows: int,
        timeout: timedelta,  # noqa: ARG002 - used by overrides
    ) -> list[tuple[object, ...]] | None:
        """Return the first and the last ``rows`` rows of a table by its key; None if they are not known after ``timeout``.

        It reads no other rows; of these it returns only those that meet all conditions. Without a key of one column, the
        rows are any ``rows`` rows.
        """
        return self.select(table, columns, where, limit=rows)

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        """Return the number of rows that meet all conditions."""

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        """Return whether any row meets all conditions; None if that is not known after ``timeout``.

        A single condition that compares a time with an earlier one uses an index of its column; of times stored as
        text of digits it finds those from 2001 to 2033.
        """

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        """Return the number of rows with each value of ``column``."""

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[tuple[object, ...]]:
        """Return the rows of one statement of a profile, in portable SQL with ``:name`` parameters.

        A list is one parameter that contains a set (``id in :picked``).
        """

    def close(self) -> None:
        """Close the database; further calls do nothing."""


def require_part(db: Readable, kind: type[P], feature: str, hint: Remedy | str) -> P:
    """Return the part of ``db`` with the protocol ``kind``.

    Raises:
        NotSupportedError: the database lacks this capability.
    """
    part = db.part(kind)
    if part is None:
        raise NotSupportedError(feature=feature, subject=db.target, hint=hint)
    return part


class Explainer(Protocol):
    """The part that explains queries."""

    def explain(self, query: Query) -> Explanation:
        """Return how ``read_rows`` would run, without running it."""

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        """Return how ``query`` would run, without running it; a list is one parameter that contains a set.

        Raises:
            QueryFailedError: it would be rejected, or a name in it would not be resolved as a column.
        """


class PlannedRows(Struct, frozen=True, kw_only=True):
    """Rows of one table that a change would delete or update."""

    table: str
    where: Sequence[Where]  #: the conditions, on the rows before the change; all of them must be met
    values: Mapping[str, object] = {}  #: the new values by column; empty: the rows are deleted


class Preview(Protocol):
    """The part that queries the rows that a planned change would leave; it writes nothing."""

    def query_after(
        self, changes: Sequence[PlannedRows], sql: str, parameters: Mapping[str, object] = {}
    ) -> list[tuple[object, ...]]:
        """Return the rows of ``Readable.query`` as after ``changes``; triggers are not considered.

        Views show the rows before the change.
        """
