"""Contract: every open database: its live schema, its parts, and reading its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from dbctl.engines.contract.conditions import Order, Where
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
    #: not of a type for times, and its default is the current time in a form of the database
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

    def part(self, kind: type[P]) -> P | None:
        """Return the part with the protocol ``kind``, such as ``Checks``; None if the database lacks this capability."""
        ...

    def tables(self) -> Mapping[str, Table]:
        """Return the live schema; read once, and again after a script ran or the file was replaced."""
        ...

    def references(self, table: str) -> Sequence[Reference]:
        """Return the foreign keys that refer to ``table``."""
        ...

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

        Text that is not valid UTF-8 is returned with lone surrogates for its bytes (``surrogateescape``).

        Inside a transaction, ``for_update`` locks the rows until its end, if the transaction alone does not: rows that
        a rule depends on must not change until the change is applied.

        Raises:
            SchemaMismatchError: no such table or column.
        """
        ...

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        """Return the number of rows that meet all conditions."""
        ...

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        """Return whether any row meets all conditions; None if that is not known after ``timeout``.

        A single condition that compares a time with an earlier one uses an index of its column; of times stored as
        text of digits it finds those from 2001 to 2033.
        """
        ...

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        """Return the number of rows with each value of ``column``."""
        ...

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[tuple[object, ...]]:
        """Return the rows of one statement of a profile, in portable SQL with ``:name`` parameters.

        A list is one parameter that contains a set (``id in :picked``).
        """
        ...

    def close(self) -> None:
        """Close the database; further calls do nothing."""
        ...


@runtime_checkable
class Explainer(Protocol):
    """The part that explains queries."""

    def explain(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Explanation:
        """Return how ``select`` with the same arguments would run, without running it."""
        ...

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        """Return how ``query`` would run, without running it; a list is one parameter that contains a set.

        Raises:
            QueryFailedError: it would be rejected, or a name in it would not be resolved as a column.
        """
        ...
