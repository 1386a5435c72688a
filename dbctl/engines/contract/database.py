"""Contract: a database that is open for reading or writing, and the queries and conditions that it evaluates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Struct, TimeForm

if TYPE_CHECKING:
    from dbctl.engines.contract.checks import Checks, Explainer
    from dbctl.engines.contract.dumps import Dumps
    from dbctl.engines.contract.fulltext import FullText, TextScanner
    from dbctl.engines.contract.monitoring import ServerMonitor, StorageManager
    from dbctl.engines.contract.schema import SchemaReader, ScriptRunner, TableRebuilder
    from dbctl.engines.contract.streaming import RowStreams, StagingTables, TimeForms, ValueCodec
    from dbctl.engines.contract.vectors import VectorIndexes, VectorSearch

#: A row of a query: the values of its columns.
Row: TypeAlias = tuple[object, ...]

#: ``same`` is equality without regard to case; ``contains`` and ``starts`` ignore case, too, and match text literally.
#: ``element`` is ``same`` for one of the values in a text separated by semicolons, ignoring spaces around the values.
#: ``in`` takes a sequence and is one parameter. ``=`` and ``!=`` with None compare with NULL. With a ``datetime`` as value,
#: the engine compares the column as a time, in whatever form each row stores it. ``identical`` is true if storing the value
#: would change nothing: each digit, letter and byte is equal, and the type of the value where the column stores any.
Op: TypeAlias = Literal[
    "=", "!=", "<", "<=", ">", ">=", "in", "same", "contains", "starts", "element", "identical"
]


class Condition(Struct, frozen=True):
    """``column op value``."""

    column: str
    op: Op
    value: object


class InSubquery(Struct, frozen=True):
    """Rows whose ``columns`` occur among the ``target_columns`` of the rows of ``table`` that meet all conditions ``where``."""

    columns: Sequence[str]
    table: str
    target_columns: Sequence[str]
    where: Sequence[Where] = ()


class ReferenceCount(Struct, frozen=True):
    """Rows that are referenced by ``op count`` rows of ``table`` (0 is possible: ``ReferenceCount(…, "=", 0)``)."""

    column: str
    table: str
    referring_column: str
    op: Literal["=", "<", "<=", ">", ">="]
    count: int


class AnyOf(Struct, frozen=True):
    """Rows that meet at least one condition; no rows without conditions."""

    conditions: Sequence[Where]


class AllOf(Struct, frozen=True):
    """Rows that meet all conditions; all rows without conditions."""

    conditions: Sequence[Where]


class Not(Struct, frozen=True):
    """Rows that do not meet the condition, including those where a NULL makes the result unknown."""

    condition: Where


Where: TypeAlias = Condition | InSubquery | ReferenceCount | AnyOf | AllOf | Not


def after_key(key: Sequence[str], values: Sequence[object]) -> Where:
    """Return the condition of the rows that ``select`` returns after the row with this primary key, which may be deleted by now."""
    larger = Condition(key[0], ">", values[0])
    if len(key) == 1:
        return larger
    # the outermost comparison lets an index find the first row
    return AllOf([Condition(key[0], ">=", values[0]), AnyOf([larger, after_key(key[1:], values[1:])])])


class Order(Struct, frozen=True):
    """One term of an ordering; NULL is last in both directions."""

    columns: Sequence[str]  #: the first one that is neither NULL nor empty is used
    descending: bool = False
    time: bool = False  #: compare as times, in whatever form each row stores them
    nocase: bool = False
    through: InSubquery | None = None  #: ``columns`` belong to this table; the smallest linked value is used
    random: bool = False  #: no columns: a different random order each time
    #: of several columns without regard to case: most rows meet the conditions, and the first column contains no capital
    #: letters, so an engine may read a page through an index of that column
    indexed: bool = False


class Query(Struct, frozen=True):
    """A selection of rows."""

    table: str
    columns: Sequence[str]
    where: Sequence[Where] = ()  #: all of them must be met
    order_by: Sequence[Order] = ()  #: empty: the order of the primary key
    limit: int | None = None
    offset: int = 0
    for_update: bool = False  #: lock the rows until the end of the transaction
    only: bool = False  #: without rows of tables that inherit from it


P = TypeVar("P")

#: The types of documents: JSON, and nested ones of Arrow, before their ``<``.
DOCUMENT_TYPES = frozenset({"JSON", "JSONB", "STRUCT", "MAP", "LIST", "LARGE_LIST", "FIXED_SIZE_LIST"})


def is_document_type(name: str) -> bool:
    """Return whether a type, in upper case, is one of documents."""
    return name.partition("<")[0] in DOCUMENT_TYPES


class Column(Struct, frozen=True, kw_only=True):
    """One column of a live table."""

    name: str
    type: str  #: as declared, upper case; empty without a declared type
    nullable: bool
    required: bool  #: NOT NULL or of the primary key, without a default or generated value
    is_primary_key: bool  #: part of the primary key
    #: "time", "boolean", "uuid", "enum": values with a type of the driver; empty: plain values
    native: str = ""
    labels: Sequence[str] = ()  #: the labels of an enum
    is_generated: bool = False  #: computed from other columns, so it cannot be written
    #: not of a type for times, and its default is the current time in UTC, in any form
    has_time_default: bool = False

    @property
    def is_document(self) -> bool:
        """Whether values are JSON, or lists and objects, which rows have as JSON."""
        return is_document_type(self.type)

    @property
    def is_binary(self) -> bool:
        """Whether its type is one of bytes, on any engine."""
        return any(word in self.type for word in ("BINARY", "BLOB", "BYTEA"))


class Table(Struct, frozen=True, kw_only=True):
    """One live table or view."""

    name: str
    columns: Mapping[str, Column]  #: in their declared order
    is_view: bool = False
    #: whether its rows may be those of other tables, which inherit from it and have further columns
    is_inherited: bool = False
    is_internal: bool = False  #: whether the engine stores an index in its rows, such as a full-text index

    @property
    def primary_key(self) -> list[str]:
        """The columns of the primary key, in the order of the table; empty without one."""
        return [column.name for column in self.columns.values() if column.is_primary_key]


#: What a foreign key does with the referring rows.
Action: TypeAlias = Literal["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]


class Reference(Struct, frozen=True, kw_only=True):
    """A foreign key that refers to a table."""

    table: str  #: the table with the foreign key
    columns: Sequence[str]
    to: Sequence[str]  #: the referenced columns
    on_delete: Action
    on_update: Action = "NO ACTION"
    cleared: Sequence[str] = ()  #: the columns that ``on_delete`` sets; empty: all
    deferrable: bool = False  #: whether ``Writable.defer_references`` applies to it


#: Returns values for columns of a new row of a table, whose default is the current time; without a value, the database writes it.
FillRow: TypeAlias = "Callable[[Readable, str, Collection[str]], Mapping[str, object]]"


class Readable(ABC):
    """One open database. Not shared between threads. The opener closes it.

    Names of tables and columns are checked against ``tables()`` before they become part of SQL; values are always
    parameters. Every method raises ``BusyError``, ``CorruptError``, ``UnreachableError`` or ``QueryFailedError``
    for errors of the database, and ``Interrupted`` after a signal.
    """

    engine: str  #: its name, as in ``dbctl.url.ENGINES``
    target: str  #: ``app/database``, for messages
    native_types: frozenset[str]
    has_privileges = False  #: whether its role may be denied to read a table
    hides_tables = False  #: whether ``tables`` lacks those that its role may not read
    #: what services remember about the rows, until a transaction begins or ends, or the schema changes; None: the engine does not know when
    memo: dict[object, object] | None = None

    # The parts. One without a body is None, because the database lacks the capability. An engine overrides the property; the
    # import is inside.

    @property
    @abstractmethod
    def storage(self) -> StorageManager: ...
    @property
    @abstractmethod
    def codec(self) -> ValueCodec: ...
    @property
    def schema_reader(self) -> SchemaReader | None: ...
    @property
    def times(self) -> TimeForms | None: ...
    @property
    def streams(self) -> RowStreams | None: ...
    @property
    def explainer(self) -> Explainer | None: ...
    @property
    def fulltext(self) -> FullText | None: ...
    @property
    def text_scanner(self) -> TextScanner | None: ...
    @property
    def dumps(self) -> Dumps | None: ...
    @property
    def rebuilder(self) -> TableRebuilder | None: ...
    @property
    def scripts(self) -> ScriptRunner | None: ...  # of a writer
    @property
    def vectors(self) -> VectorSearch | None: ...
    @property
    def vector_indexes(self) -> VectorIndexes | None: ...  # of a writer
    @property
    def checks(self) -> Checks | None: ...
    @property
    def server(self) -> ServerMonitor | None: ...

    def extension_part(self, kind: type[P]) -> P | None:
        """Return the part of an extension with the contract ``kind``, such as ``RowSource``; None if the database lacks it."""
        from dbctl.extensions import registry

        for place in registry.list_parts(self.engine):
            if place not in self._extension_parts:
                self._extension_parts[place] = registry.load(place)(self)
            if part := next((part for part in self._extension_parts[place] if isinstance(part, kind)), None):
                return part
        return None

    @cached_property
    def _extension_parts(self) -> dict[str, Sequence[object]]:
        """The parts of the extensions that were searched, by the place of the function that creates them."""
        return {}

    @abstractmethod
    def tables(self) -> Mapping[str, Table]:
        """Return the live schema; read once, and again after a script ran or the file was replaced."""

    def read_all_rows(self, table: str = "") -> AbstractContextManager[None]:
        """Let the server refuse to read a table, or any one, in the block if a policy hides rows from this role, instead of leaving them out."""
        del table
        return nullcontext()

    @abstractmethod
    def references(self, table: str) -> Sequence[Reference]:
        """Return the foreign keys that refer to ``table``."""

    def find_outside_table(self, table: str, where: Sequence[Where], changed: Collection[str] = ()) -> str:
        """Return a table that ``tables`` lacks, of which foreign keys would delete or change rows if those that meet conditions are deleted, or get other values in ``changed``; empty: there is none."""
        del table, where, changed
        return ""

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

    @abstractmethod
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
        timeout: timedelta,
    ) -> list[tuple[object, ...]] | None:
        """Return the first and the last ``rows`` rows of a table; None if they are not known after ``timeout``.

        It reads no other rows; of these it returns only those that meet all conditions. The order is that in which the rows were
        added, or that of their key if an engine does not know it. Without a key of one column, the rows are any ``rows`` rows.
        """
        return self.select(table, columns, where, limit=rows)

    @abstractmethod
    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        """Return the number of rows that meet all conditions."""

    @abstractmethod
    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        """Return whether any row meets all conditions; None if that is not known after ``timeout``.

        A single condition that compares a time with an earlier one uses an index of its column; of times stored as
        text of digits it finds those from 2001 to 2033.
        """

    @abstractmethod
    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        """Return the number of rows with each value of ``column``."""

    def require_transactional(self, table: str) -> None:
        """Refuse a table whose changes cannot be rolled back or counted; other names are ignored.

        Raises:
            NotSupportedError: the engine of the server that stores it has no transactions, or it is a view of SQLite.
        """

    def list_dump_tables(self) -> Collection[str]:
        """Return the tables that a dump contains, with the names that its verification uses."""
        return [name for name, table in self.tables().items() if not table.is_view]

    def count_dump_rows(self, extra: Collection[str] = ()) -> Mapping[str, int]:
        """Return the row count of each table as the verification of a dump would count now.

        ``extra``: tables of extensions that an earlier dump contained.
        """
        return {name: self.count(name) for name in self.list_dump_tables()}

    @abstractmethod
    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[tuple[object, ...]]:
        """Return the rows of one statement of a profile, in portable SQL with ``:name`` parameters.

        A list is one parameter that contains a set (``id in :picked``).
        """

    @abstractmethod
    def close(self) -> None:
        """Close the database; further calls do nothing."""


def require_supported(db: Readable, capability: P | None, feature: str, hint: Remedy | str) -> P:
    """Return a part of ``db``, or what a part returned.

    Raises:
        NotSupportedError: it is None, because the database lacks this capability.
    """
    if capability is None:
        raise NotSupportedError(feature=feature, subject=db.target, hint=hint)
    return capability


#: What happens to a column if the row exists.
MergeRule: TypeAlias = Literal["keep", "add", "replace"]


class ShiftedTime(Struct, frozen=True):
    """A value for ``update``: the time in ``column`` of the same row, in any form, plus an offset."""

    column: str
    offset: timedelta
    form: TimeForm  #: the form of the result


class Merge(Struct, frozen=True, kw_only=True):
    """Rows of a query to insert, or to merge into rows with the same ``key``."""

    table: str  #: the destination; a unique index covers ``key``
    #: portable SQL of a profile; its columns are those of ``key``, followed by those of ``columns``
    select: str
    #: ``:name`` parameters; a list is one parameter that contains a set (``id in :picked``)
    parameters: Mapping[str, object]
    key: Sequence[str]  #: the columns that identify a row
    columns: Mapping[str, MergeRule]  #: the rule for each other column of an existing row


class Writable(Readable):
    """A database that may be written; every write is part of a ``transaction``."""

    @property
    def staging(self) -> StagingTables | None: ...

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction, commit at the end, roll back on any exception; nested, it is a savepoint."""

    @abstractmethod
    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        """Insert one row; return its value of the column ``returning``, or None.

        Raises:
            ConstraintError, RowSkippedError, KeyNotReturnedError: the row is rejected, skipped, or inserted without a known key.
        """

    @abstractmethod
    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows from an iterator, in constant memory; return the count."""

    @abstractmethod
    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        """Update rows; return the number of matched rows, changed or not. A value may be a ``ShiftedTime``."""

    @abstractmethod
    def merge(self, merge: Merge) -> int:
        """Insert rows, or merge them into rows with the same key; return the number of inserted or changed rows."""

    @abstractmethod
    def delete(self, table: str, where: Sequence[Where]) -> int:
        """Delete rows; return the count, without rows that foreign keys deleted."""

    @abstractmethod
    def advance_sequences(self, table: str) -> None:
        """Set the sequence of the key of ``table`` to its largest value."""

    @abstractmethod
    def defer_references(self) -> None:
        """Check the foreign keys that are ``deferrable`` at the end of the transaction."""

    @abstractmethod
    def lock(self, purpose: str) -> AbstractContextManager[None]:
        """Block other dbctl processes from writing to this database, also between transactions; also released when the process ends.

        Raises:
            BusyError: another dbctl process holds the lock; the message contains its pid, host, purpose and start.
        """
