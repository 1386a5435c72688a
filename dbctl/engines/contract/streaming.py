"""Contract: exact values, forms of times, export and import of large tables, staged rows, and read-only SQL queries of users."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Literal, NamedTuple, TypeAlias

from dbctl.engines.contract.database import Column, Query, Readable, Row
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import Struct

#: Rows in one batch.
BATCH_ROWS = 1000

#: Begins a transaction, which is the block.
Begin: TypeAlias = Callable[[], AbstractContextManager[None]]


class RowStream(Struct, frozen=True):
    """The rows of a running statement; the connection cannot be used for anything else until they are read."""

    columns: Sequence[str]
    batches: Iterator[Sequence[Row]]


class UserQuery(Struct, frozen=True):
    """One statement of a user, with ``:name`` parameters."""

    sql: str
    #: the type of a text is determined by its context in the statement
    parameters: Mapping[str, object] = {}
    timeout: timedelta | None = None  #: the maximum duration
    hidden: Mapping[str, Collection[str]] = {}  #: columns by table that the statement may not read
    #: whether it may call functions that neither the server nor an extension defines: they may read any column
    calls_stored_functions: bool = True


class RowStreams(ABC):
    """The part that streams rows. Memory is limited to a few batches."""

    sql_dialect: str  #: its name in sqlglot; empty: the engine has no SQL

    @abstractmethod
    def view_queries(self) -> Mapping[str, str]:
        """Return the statement of each view, with or without ``create view``; empty if this user may not read it."""

    @abstractmethod
    def stream(self, table: str, columns: Sequence[str]) -> AbstractContextManager[RowStream]:
        """Provide every row of one snapshot with exact values, which ``ValueCodec`` of the same column parses back.

        A value is None, a boolean, a number (``Decimal`` if a float would lose digits), bytes, or the text form of the
        database.
        """

    def stream_loaded(self, table: str, columns: Sequence[str]) -> AbstractContextManager[RowStream]:
        """Provide rows as ``stream`` does, with the values that a load of their dump stores."""
        return self.stream(table, columns)

    @abstractmethod
    def query_read_only(self, query: UserQuery) -> AbstractContextManager[RowStream]:
        """Run a statement read-only.

        Raises:
            QueryFailedError: it is rejected, or fails.
            SecretColumnError: it reads a hidden column.
            StoredFunctionError: it calls a stored function.
            QueryTimeoutError: it exceeds ``timeout``; also raised by the batches.
        """

    def write_csv(self, table: str, columns: Sequence[str], write: Callable[[bytes], object]) -> int | None:
        """Write a header and every row of one snapshot, UTF-8, as ``csv_parser`` parses them, faster than code based on ``stream``.

        Returns:
            The row count; None, and nothing written: the engine does not write CSV itself.
        """
        return None


#: ``integer``: of 64 bits; ``decimal``: decimal digits; ``float``: numbers with an exponent, each equal to a 64-bit float; ``json``:
#: objects and lists.
Kind: TypeAlias = Literal["integer", "decimal", "float", "boolean", "json", "bytes", "text"]


class NewColumn(Struct, frozen=True, kw_only=True):
    """A column of a new table, by the values that it will contain."""

    name: str
    kind: Kind
    is_key: bool = False  #: part of the primary key
    digits: int = 0  #: of decimals: the most before the point
    scale: int = 0  #: of decimals: the most after the point
    #: of decimals: a 64-bit float returns each fraction with the same digits, and not all have two digits after the point, as money has
    fits_float: bool = False
    length: int = 0  #: of texts and bytes: the longest


class ValueCodec(ABC):
    """The part that reads and parses values without any loss: what is read from a row can be written again, byte for byte.

    An exact value is None, a boolean, an ``int``, a ``float`` or ``Decimal`` with all digits of the stored number, bytes, or the
    text that the database prints for every other type, in which bytes that are not UTF-8 are lone surrogates
    (``surrogateescape``). ``dbctl.engines.sql.codec`` writes it as JSON.
    """

    @abstractmethod
    def read(self, query: Query) -> list[tuple[object, ...]]:
        """Return the rows of a query with exact values; locks and raises as ``Readable.read_rows``."""

    def csv_parser(self, table: str, column: str) -> Callable[[str, bool], object]:
        r"""Return the function that parses a CSV cell, except NULL, into a value that ``insert_many`` accepts for ``column``.

        Its arguments are the text and whether the cell was unquoted: CSV from ``stream`` has numbers and bytes (``\x``
        and hexadecimal) unquoted, and text that resembles either in quotes.

        It raises ``ValueInvalidError`` if the column cannot store the value.
        """
        parse = self.text_parser(table, column)
        return lambda text, _unquoted: parse(text)

    @abstractmethod
    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        """Return the same for exact values, such as those of JSON: numbers without a fraction are ``int``, others ``Decimal``."""

    @abstractmethod
    def text_parser(self, table: str, column: str) -> Callable[[str], object]:
        """Return the function that parses what a user types for ``column``: it also refuses values of another type than declared."""

    def define_column(self, column: NewColumn) -> Column | None:
        """Return the definition with which a new table stores the values exactly; None: the engine creates no tables.

        Raises:
            ValueInvalidError: a column of this engine cannot have the name, or a key cannot have such values.
        """
        return None

    def find_name_problem(self, name: str) -> str:
        """Return why a new table cannot have a name in this engine; empty: it can."""
        del name
        return ""

    def find_name_conflict(self, name: str) -> str:
        """Return the kind of object, other than a table, that has the name of a new table, for example ``an index``; empty: none."""
        del name  # by default, no other object shares the names of tables
        return ""


def require_table_name(db: Readable, name: str) -> None:
    """Check the name of a new table; the names of tables are not looked up.

    Raises:
        ValueInvalidError: a table of this engine cannot have it.
        AlreadyExistsError: another object has it, such as an index.
    """
    if reason := db.codec.find_name_problem(name):
        raise ValueInvalidError(name="name of a table", value=name, reason=reason)
    if kind := db.codec.find_name_conflict(name):
        hint = f"Choose another name: in this database, {kind} and a table cannot have the same name."
        raise AlreadyExistsError(target=db.target, kind=kind, name=name, hint=hint)


class TimeFormCount(Struct, frozen=True, kw_only=True):
    """The rows of a column whose times have the same form."""

    form: str  #: a ``TimeForm``, or ``iso-without-z``
    rows: int
    example: object  #: the smallest value
    key: Mapping[str, object]  #: the primary key of that row; empty without one


class TimeForms(ABC):
    """An engine without a type for times, where each row of a column may store a time in a different form."""

    @abstractmethod
    def count_time_forms(self, table: str, column: str) -> Sequence[TimeFormCount]:
        """Return the forms of the times in a column, the most frequent first; other values are not counted."""

    @abstractmethod
    def rewrite_times(self, table: str, column: str, form: str, convert: Callable[[object], object]) -> int:
        """Rewrite each time of a column that has another form than ``form`` with ``convert``, in a transaction of a writer.

        Values that ``count_time_forms`` does not count stay unchanged. Memory does not grow with the table.

        Returns:
            The number of rewritten rows.
        """


class StagedCounts(NamedTuple):
    """Numbers of staged rows by their relation to the table."""

    missing: int  #: the table lacks the key
    differing: int  #: the table has the key with other values
    same: int  #: the table has an equal row


class StagedRows(ABC):
    """Rows in a temporary table, which only its connection sees and which ends with it."""

    @abstractmethod
    def compare(self, columns: Sequence[str]) -> StagedCounts:
        """Compare the staged rows with the table, by the key and ``columns``.

        The key decides which rows belong together; one that it treats as equal, such as in another case, is a difference.
        """

    @abstractmethod
    def count_shared_keys(self) -> int:
        """Return the number of rows of the table whose key is that of several staged rows, as its collation compares them."""

    @abstractmethod
    def remove_matched(self) -> None:
        """Remove the staged rows whose key the table has."""

    @abstractmethod
    def add(self, postponed: Collection[str] = ()) -> int:
        """Insert the missing rows, in a transaction, with NULL in the columns that are ``postponed``; return their number.

        Raises:
            ConstraintError: the database refuses a row, for example an orphaned one.
        """

    @abstractmethod
    def replace(self, columns: Sequence[str]) -> int:
        """Update the rows that differ in ``columns`` or in the text of their key, in a transaction; return their number."""


class StagingTables(ABC):
    """The part of a writer that compares staged rows with a table and merges them."""

    @abstractmethod
    def stage(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> StagedRows:
        """Write rows for ``table``, as for ``insert_many``, into a staging table, without blocking writers of the table.

        ``key`` are the columns of its key, contained in ``columns``.

        Raises:
            ConstraintError, ValueInvalidError: a value does not fit its column.
            DiskFullError: not enough free space for temporary tables.
        """

    @abstractmethod
    def create_table(
        self, name: str, columns: Sequence[Column], key: Sequence[str], begin: Begin
    ) -> AbstractContextManager[None]:
        """Begin a transaction with a new table, which is dropped if the block fails; its name must be free, and its key may be empty.

        ``columns`` are those of another database of the same engine, or of ``ValueCodec.define_column``; types and NULL constraints are
        copied. ``begin`` is ``transaction`` of the writer, or of the one that records it.

        Raises:
            QueryFailedError, ValueInvalidError: the database refuses the table.
        """

    @abstractmethod
    def drop_table(self, name: str) -> None:
        """Drop a table, in a transaction, which some databases commit.

        Raises:
            QueryFailedError: another object depends on it.
        """
