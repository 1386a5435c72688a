"""The contract of every open database: its live schema, its capabilities, and how its rows are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from dbctl.engines.contract.conditions import Order, Where
from dbctl.model import Value


class Capability(Enum):
    """What an engine can do beyond the contract; services ask for these, never for an engine's name."""

    DUMP = "copy all that it stores into a file"  #: it is a ``dumps.Dumps``
    ASIDE = "compare rows that lie aside with those of a table, and take them in"  #: its writer is an ``aside.LaysAside``
    ADVISE = "tell what an admin should know of its server"  #: it is a ``server.Advises``
    BLOAT = "tell which room it takes and does not use"  #: it is a ``server.Wastes``
    CSV = "write its rows as CSV itself"  #: it is a ``transfer.WritesCsv``
    CHECK = "tell whether what it stores is sound"  #: it is a ``Checks``
    EXPLAIN = "tell how it would answer"  #: it is an ``Explains``
    FULL_TEXT = "find words through an index"  #: it is a ``fulltext.FullText``; its writer is a ``fulltext.MakesFullText``
    INDEXES = "tell what its indexes are and do"  #: it is a ``server.Indexes``
    LOOK = "find a word in every text"  #: it is a ``looking.LooksThrough``
    MAINTAIN = "be looked after"  #: it is a ``server.Maintains``
    MEASURE = "tell how much room it takes"  #: it is a ``Measures``
    MIGRATE = "run scripts that change the schema"  #: its writer is a ``Migrates``
    SCHEMA = "tell its whole schema"  #: it is a ``Describes``
    SIDECAR = "find text through a file of its own"  #: its reader is a ``sidecar.Sidecars``
    SESSIONS = "tell who is connected, and end what they do"  #: it is a ``server.Sessions``
    SLOW = "tell which statements take long"  #: it is a ``server.Timed``
    STREAM = "give rows out as they come, and take them back"  #: it is a ``transfer.Streams``
    VERSIONS = "go back to what it held, and take that away"  #: it is a ``server.Prunes``
    VECTORS = "find what is near"  #: it is a ``vectors.Vectors``; its writer is a ``vectors.MakesVectors``


class Column(Value, frozen=True, kw_only=True):
    """One column of a live table."""

    name: str
    type: str  #: as declared, upper case; empty where nothing was declared
    nullable: bool
    required: bool  #: not nullable, with no default and no value of its own
    key: bool  #: part of the primary key
    native: str = ""  #: "time", "boolean", "uuid", "enum": what the driver speaks; empty: plain values
    values: Sequence[str] = ()  #: the labels of an enum
    generated: bool = False  #: made of other columns, so that nobody writes it
    clock: bool = (
        False  #: not of a type for times, and its default is the present moment in a form of the database
    )


class Table(Value, frozen=True, kw_only=True):
    """One live table or view."""

    name: str
    columns: Mapping[str, Column]  #: in their declared order
    view: bool = False


class Reference(Value, frozen=True, kw_only=True):
    """A foreign key that points to a table."""

    table: str  #: the table that holds the key
    columns: Sequence[str]
    to: Sequence[str]  #: the columns it points to
    on_delete: Literal["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]


#: Returns values for columns of a new row of a table, none of them among the given ones.
FillRow: TypeAlias = "Callable[[Readable, str, Collection[str]], Mapping[str, object]]"


def fill_nothing(db: Readable, table: str, given: Collection[str]) -> Mapping[str, object]:
    """Leave to the database what a new row does not give."""
    del db, table, given
    return {}


class Explanation(Value, frozen=True, kw_only=True):
    """How an engine would answer a read."""

    sql: str
    parameters: Sequence[object]
    plan: Sequence[str]  #: the engine's own words, indented by depth
    full_scans: Sequence[str]  #: tables that are read whole


class Readable(Protocol):
    """One open database. Not shared between threads. The opener closes it.

    Names of tables and columns are checked against ``tables()`` before they get near SQL; values are always
    parameters. Every method raises ``BusyError``, ``CorruptError``, ``UnreachableError`` or ``QueryFailedError``
    for what its database answers, and ``Interrupted`` when a signal came.
    """

    target: str  #: ``app/database``, for messages
    capabilities: frozenset[Capability]
    natives: frozenset[str]

    def tables(self) -> Mapping[str, Table]:
        """Return the live schema; read once, again after a script ran or the file was replaced."""
        ...

    def references(self, table: str) -> Sequence[Reference]:
        """Return the foreign keys that point to ``table``."""
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
        hold: bool = False,
    ) -> list[tuple[object, ...]]:
        """Return rows, by primary key unless told otherwise; for answers that fit in memory.

        Text that is not valid UTF-8 comes with its bytes as lone surrogates (``surrogateescape``).

        Inside a transaction, ``hold`` keeps others from changing these rows until it ends, where the transaction
        itself does not; what a rule is about has to hold still until what it allows is done.

        Raises:
            SchemaLacksError: no such table or column.
        """
        ...

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        """Return how many rows meet every condition."""
        ...

    def has(self, table: str, where: Sequence[Where] = (), *, within: timedelta) -> bool | None:
        """Return whether any row meets every condition; None where that is not clear in so long.

        One condition alone, that a time lies before a moment, is answered through an index of its column; of times
        that are text of digits it finds those from 2001 to 2033.
        """
        ...

    def tally(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        """Return how many rows hold each value of ``column``."""
        ...

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[tuple[object, ...]]:
        """Return the rows of one statement of a profile, in portable SQL with ``:name`` parameters.

        A list is one parameter that holds a set (``id in :picked``).
        """
        ...

    def close(self) -> None:
        """Close it; a second time does nothing."""
        ...


@runtime_checkable
class Explains(Protocol):
    """Capability.EXPLAIN."""

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
        """Return how ``select`` with the same arguments would be answered, without answering it."""
        ...

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        """Return how ``query`` would be answered, as above; a list is one parameter that holds a set, as for ``merge``.

        Raises:
            QueryFailedError: it would be refused, or read a name that is none as something else.
        """
        ...
