"""Contract: schemas and rows in forms that every SQL engine can read, to transfer them between engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from dbctl.engines.contract.database import Readable, require_supported
from dbctl.engines.contract.schema import SchemaReference, ScriptRunner
from dbctl.model import Struct, TimeForm

#: A row as a line of the text format of PostgreSQL's COPY, without its end. A value that does not have the form of its
#: kind is the text of the database:
#:
#: * ``boolean``, ``integer``: digits; a boolean is 0 or 1
#: * ``decimal``: digits, without zeros at the end of the fraction
#: * ``real``: the shortest digits that are read as the same number, as Python writes them; ``real-unsigned``: the same without the sign of zero
#: * ``timestamp``: ``YYYY-MM-DD HH:MM:SS[.FFFFFF]`` in UTC, without zeros at the end of the fraction
#: * ``date``, ``time``: ``YYYY-MM-DD``, ``HH:MM:SS[.FFFFFF]``
#: * ``bytes``: ``\x`` and hexadecimal digits
#: * ``uuid``: in lower case with hyphens
#: * ``json``, ``json-float``: without blanks, the keys of objects sorted
#: * ``native``: the exact value, in a form that only its engine reads
Line: TypeAlias = bytes

#: What values of a type mean, on any engine. ``any``: values of every type; ``json-float``: lines of JSON whose numbers are
#: floats; ``real-unsigned``: real numbers without the sign of zero; ``native``: exact values in a form that only their engine reads; ``other``: a type that only one engine has.
LogicalKind: TypeAlias = Literal[
    "boolean",
    "integer",
    "decimal",
    "real",
    "real-unsigned",
    "text",
    "bytes",
    "date",
    "time",
    "timestamp",
    "json",
    "json-float",
    "uuid",
    "enum",
    "set",
    "array",
    "bits",
    "any",
    "native",
    "other",
]
#: What a column of JSON keeps: its text; one value for each key, with all digits of numbers; or one value, with floats.
JsonForm: TypeAlias = Literal["text", "exact", "float"]
#: Kinds whose values have a form that not every text has.
STRICT_KINDS = frozenset[LogicalKind](
    {"boolean", "integer", "decimal", "real", "bytes", "date", "time", "timestamp", "uuid"}
)


class LogicalType(Struct, frozen=True, kw_only=True):
    """A type of a column, independent of engines; fields that a kind does not use have their defaults."""

    kind: LogicalKind
    bits: int = 64  #: integer, real: size of a value; bits: number of bits
    is_unsigned: bool = False  #: integer
    keeps_zero_sign: bool = True  #: real
    digits: int | None = None  #: decimal: all digits; None: no limit
    scale: int = 0  #: decimal: digits after the point, if ``digits`` is set
    fraction: int = 6  #: time, timestamp: digits after the second
    length: int | None = None  #: text: characters; bytes: bytes; None: no limit
    max_bytes: int | None = None  #: text: bytes in its character set; None: no limit
    is_fixed: bool = False  #: text, bytes: shorter values are padded
    has_zone: bool = False  #: timestamp: a moment, not a local time
    labels: Sequence[str] = ()  #: enum, set
    json_form: JsonForm = "text"  #: json
    converts_numbers: bool = False  #: json: a document that is a number becomes a number of the engine
    charset: str = ""  #: text: a character set that lacks some characters
    name: str = ""  #: array, other: the type in the words of its engine

    @property
    def is_interval(self) -> bool:
        """Whether it is the type of durations, which has no canonical form."""
        return self.kind == "other" and self.name.startswith("INTERVAL")

    def describe(self) -> str:
        """Return the type in words, with what limits its values."""
        details = {
            "integer": f"{self.kind} of {self.bits} bits{' without sign' if self.is_unsigned else ''}",
            "real": f"{self.kind} of {self.bits} bits",
            "decimal": f"{self.kind} ({self.digits}, {self.scale})" if self.digits else self.kind,
            "timestamp": f"{self.kind} {'with' if self.has_zone else 'without'} zone",
        }
        text = details.get(self.kind, self.name or self.kind)
        return f"{text} of {self.length} characters" if self.kind == "text" and self.length else text


class PortableColumn(Struct, frozen=True, kw_only=True):
    name: str
    declared: str  #: the type in the words of its engine
    type: LogicalType
    is_nullable: bool = True
    default: str = ""  #: SQL of the engine; empty: none
    generated: str = ""  #: the expression that computes it
    is_stored: bool = False  #: a generated column is stored
    is_automatic: bool = False  #: the engine numbers new rows
    ignores_case: bool = False  #: values that differ only in case are equal
    ignores_accents: bool = False
    ignores_spaces: bool = False  #: spaces at the end
    comment: str = ""


class IndexTerm(Struct, frozen=True, kw_only=True):
    """A column or an expression of an index; one of both is empty."""

    column: str = ""
    expression: str = ""
    is_descending: bool = False
    ignores_case: bool = False  #: the term, unlike the column, ignores case
    prefix: int | None = None  #: only this number of characters is indexed


class PortableIndex(Struct, frozen=True, kw_only=True):
    name: str  #: empty: a name that the engine generated
    terms: Sequence[IndexTerm]
    is_unique: bool = False
    where: str = ""  #: the condition of a partial index

    @property
    def plain_columns(self) -> Sequence[str]:
        """The columns of an index over all rows; empty if it has expressions, prefixes, or a condition."""
        if self.where or any(term.prefix or not term.column for term in self.terms):
            return ()
        return [term.column for term in self.terms]


class PortableTable(Struct, frozen=True, kw_only=True):
    name: str
    columns: Sequence[PortableColumn]
    key: Sequence[str] = ()
    key_prefixes: Mapping[str, int] = {}  #: the characters that the key compares of long texts
    indexes: Sequence[PortableIndex] = ()
    references: Sequence[SchemaReference] = ()
    checks: Sequence[str] = ()
    comment: str = ""

    def column(self, name: str) -> PortableColumn:
        """Return the column with this name; raises ``KeyError`` if the table lacks it."""
        return {column.name: column for column in self.columns}[name]

    def has_unique_columns(self, names: Sequence[str]) -> bool:
        """Whether a primary key or a unique index has these columns, in any order."""
        keys = [self.key, *(index.plain_columns for index in self.indexes if index.is_unique)]
        return any(set(key) == set(names) for key in keys if key)


class PortableView(Struct, frozen=True, kw_only=True):
    name: str
    query: str


#: The kind of an omission that no engine and no schema avoids.
LARGE_OBJECT = "large object"


class Omission(Struct, frozen=True, kw_only=True):
    """A part of the schema that the derived schema lacks, or has in a weaker form."""

    kind: str  #: ``trigger``, ``index``, ``check``, ``default``, …
    name: str  #: the object; without a name, its text
    reason: str
    table: str = ""
    is_blocking: bool = False  #: rows would be lost


class PortableSchema(Struct, frozen=True, kw_only=True):
    """The live schema of a database. Expressions are SQL of its engine."""

    dialect: str  #: the name of the engine's SQL in sqlglot
    tables: Sequence[PortableTable]
    views: Sequence[PortableView] = ()
    omissions: Sequence[Omission] = ()  #: objects that no other engine can have

    def is_referenced(self, table: PortableTable, index: PortableIndex) -> bool:
        """Whether a foreign key requires an index."""
        columns = set(index.plain_columns) if index.is_unique else set()
        return any(
            reference.table == table.name and set(reference.to) == columns
            for other in self.tables
            for reference in other.references
        )


class ColumnPair(Struct, frozen=True, kw_only=True):
    """A column of the source, and the column that receives its values."""

    table: str
    column: str
    source: str  #: the declared type
    destination: str
    source_type: LogicalType
    destination_type: LogicalType
    is_nullable: bool = True  #: in the destination

    @property
    def conversion(self) -> str:
        """The change of the values in words; empty: they stay the same."""
        kinds = self.source_type.kind, self.destination_type.kind
        return "" if kinds[0] == kinds[1] else f"{kinds[0]} to {kinds[1]}"


#: JSON that a column keeps as text passes unchanged.
_JSON_LINES: Mapping[JsonForm, LogicalKind] = {"text": "text", "exact": "json", "float": "json-float"}


def exchange_kind(pair: ColumnPair) -> LogicalKind:
    """Return the kind whose canonical text carries the values of a pair of columns."""
    source, destination = pair.source_type.kind, pair.destination_type.kind
    if destination == "json":
        return _JSON_LINES[pair.destination_type.json_form]
    if source == destination:
        keeps_sign = pair.source_type.keeps_zero_sign and pair.destination_type.keeps_zero_sign
        return source if keeps_sign else "real-unsigned"
    return destination if destination in STRICT_KINDS else source if source in STRICT_KINDS else "text"


class DerivedSchema(Struct, frozen=True, kw_only=True):
    """Statements that create a schema, each without a final semicolon."""

    before: Sequence[str]  #: to run before rows are copied: tables with their primary keys
    after: Sequence[str]  #: to run after rows were copied: indexes, constraints, views
    columns: Sequence[ColumnPair]  #: columns that rows are copied to; generated columns are not among them
    omissions: Sequence[Omission]


class StorageLimits(Struct, frozen=True, kw_only=True):
    """Values that no column of an engine can store unchanged."""

    enforces_types: bool = True  #: a column refuses values that its type does not describe
    stores_nul: bool = True  #: text with NUL characters
    stores_invalid_text: bool = False  #: text that is not valid UTF-8
    stores_zero_dates: bool = False  #: dates with a month or a day of zero
    stores_nan: bool = True
    stores_infinity: bool = True
    exact_digits: int | None = None  #: of decimals; None: as many as the type has
    years: tuple[int, int] = (1, 9999)
    zoned_years: tuple[int, int] | None = None  #: of times with a zone, if they differ
    max_hours: int = 23  #: of a time of day
    max_time: bytes = b""  #: of which no fraction is stored
    #: an index that ignores case does so for all letters, not only for those of ASCII
    folds_all_letters: bool = True
    #: also a version above 7 with the variant of NCS, which no standard defines
    stores_all_uuids: bool = True
    json_levels: int | None = None  #: of arrays and objects in each other

    def years_of(self, logical: LogicalType) -> tuple[int, int]:
        """Return the first and the last year of a date or a time."""
        return (self.zoned_years if logical.has_zone else None) or self.years


class ValueChange(Struct, frozen=True, kw_only=True):
    """Values that the destination stores in another form than the types of both columns imply."""

    table: str
    column: str
    rows: int
    change: str  #: in words


class PortableSchemas(ABC):
    """The part that reads a schema for other engines, and derives the schema of its own engine from theirs."""

    limits: StorageLimits

    @abstractmethod
    def read_portable(self) -> PortableSchema:
        """Return the complete live schema, from one snapshot."""

    @abstractmethod
    def derive(self, schema: PortableSchema, *, time_form: TimeForm = "sqlite-time") -> DerivedSchema:
        """Return the statements that create ``schema``, which may be of any engine, in this database.

        Rows have times in ``time_form`` where columns have no type for them.
        """

    @abstractmethod
    def fold_texts(self, table: str, column: str, texts: Sequence[str]) -> Sequence[str | bytes]:
        """Return what is the same for texts that are equal in a column or an index of it which ignores case."""

    @abstractmethod
    def read_counters(self) -> Mapping[str, int]:
        """Return the next number of each table with an automatic column, as far as it is known."""

    @abstractmethod
    def set_counters(self, numbers: Mapping[str, int]) -> Sequence[str]:
        """Return the statements after which the next number of existing tables is at least the given one."""


# Rows as lines --------------------------------------------------------------------------------------------------------


class LineColumn(Struct, frozen=True, kw_only=True):
    name: str
    kind: LogicalKind
    time_form: TimeForm = "sqlite-time"  #: how a timestamp is stored where columns have no type for it


class LineBatch(Struct, frozen=True):
    """Consecutive rows of a table."""

    lines: Sequence[Line]
    position: str = ""  #: where ``stream_lines`` continues after these rows; empty: only from the beginning
    text: bytes = b""  #: the lines with line feeds between them, if the source has joined them


class Positions(NamedTuple):
    """Consecutive rows of a table, in the order of ``stream_lines``."""

    start: str  #: of the row before them; empty: they begin with the first row
    end: str  #: of the last one; empty: they end with the last row


class RowSource(ABC):
    """The part that reads rows as lines. Memory is limited to a few batches."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Read one state of the database in the block."""

    @abstractmethod
    def has_integer_order(self, table: str, column: str) -> bool:
        """Whether rows are read in the order of ``column``, an integer and the primary key, whose value is the position."""

    @abstractmethod
    def stream_lines(
        self, table: str, columns: Sequence[LineColumn], *, position: str = "", end: str = ""
    ) -> AbstractContextManager[Iterator[LineBatch]]:
        """Provide the rows of a table, in an order of their own.

        Args:
            table: the table.
            columns: the columns of the lines.
            position: where to begin, after this row; empty: at the first row.
            end: the position of the last row; empty: all rows.
        """

    @abstractmethod
    def fetch_lines(
        self, table: str, columns: Sequence[LineColumn], key: Sequence[LineColumn], keys: Sequence[Line]
    ) -> Sequence[Line]:
        """Return the rows with these values of ``key``, each key as a line."""

    @abstractmethod
    def value_reader(self, table: str, column: str) -> Callable[[bytes], object]:
        """Return the function that reads a value of the kind ``native``, not NULL, as ``ValueCodec`` does."""


class ChangedRows(ABC):
    """The part that finds the rows that may differ between two states of a database, without reading the others."""

    @abstractmethod
    def select_changed(
        self, other: Readable, tables: Collection[str], *, private: bool
    ) -> tuple[RowSource, RowSource] | None:
        """Return sources without rows of which it is known that both states have them; None: nothing is known.

        A table of which nothing is known, or with many changed rows, has all its rows in both.

        Args:
            other: a later state of the same database. Both are read in transactions with one snapshot each.
            tables: the tables to compare, whose definitions are the same in both.
            private: both states are copies that no other process uses, so that files can be read without locks.
        """


class RowSink(ABC):
    """The part that writes lines, each call inside a transaction."""

    @abstractmethod
    def bulk_load(self) -> AbstractContextManager[None]:
        """Write without checks of foreign keys in the block, outside of transactions."""

    @abstractmethod
    def write_lines(self, table: str, columns: Sequence[LineColumn], batches: Iterable[LineBatch]) -> int:
        """Insert rows; return their number.

        Raises:
            ConstraintError, ValueInvalidError: the database refuses a row.
        """

    @abstractmethod
    def delete_lines(self, table: str, key: Sequence[LineColumn], keys: Sequence[Line]) -> int:
        """Delete the rows with these values of ``key``; return their number."""

    @abstractmethod
    def clear_table(self, table: str) -> int:
        """Delete all rows of a table; return their number."""

    @abstractmethod
    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        """Return what changes or refuses copied rows, triggers and foreign keys, and with ``indexes`` what slows down a copy.

        Each is the statement that drops it, and the statements that create it again. Foreign keys that ``bulk_load`` does
        not check and unique indexes are not among them.
        """

    def is_duplicate_object(self, error: Exception) -> bool:
        """Whether a statement failed because the object that it creates exists already."""
        del error  # a statement and the record of its success are one transaction
        return False


# Parts ----------------------------------------------------------------------------------------------------------------

P = TypeVar("P")
_HINT = "Supported by SQLite, PostgreSQL, MySQL and MariaDB."


def require(db: Readable, kind: type[P]) -> P:
    """Return a part that only transfers use.

    Raises:
        NotSupportedError: the engine has none.
    """
    return require_supported(db, db.extension_part(kind), "a transfer or a comparison of rows", _HINT)


def require_scripts(db: Readable) -> ScriptRunner:
    """Return what runs the scripts of a database; raises as ``require``."""
    return require_supported(db, db.scripts, "a transfer", _HINT)
