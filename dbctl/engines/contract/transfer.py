"""Contract: tables, columns and rows in a form that every SQL engine understands, to transfer them between engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeAlias

from dbctl.model import Struct

#: What the values of a column are, on every engine. ``other``: text of the server, which only the same type can store.
PortableKind: TypeAlias = Literal[
    "integer", "boolean", "float", "decimal", "text", "enum", "json", "bytes", "time", "date", "clock", "uuid", "other"
]
#: A row as a line of PostgreSQL's COPY text format without its newline. Each value has the canonical text of its kind:
#: booleans are 0 and 1; floats the shortest digits; decimals have no trailing zeros; times are UTC, ``YYYY-MM-DD
#: HH:MM:SS[.ffffff]`` without trailing zeros; bytes are ``\x`` and hexadecimal digits; UUIDs are in lower case.
Line: TypeAlias = bytes


class PortableDefault(Struct, frozen=True, kw_only=True):
    """The default of a column."""

    kind: Literal["value", "now", "uuid"]
    value: str | int | float | bool | None = None


class PortableColumn(Struct, frozen=True, kw_only=True):
    """One column of a table."""

    name: str
    kind: PortableKind
    type: str  #: as declared
    nullable: bool = True
    length: int | None = None  #: characters of text or bytes; None: unlimited
    bits: int | None = None  #: of integers
    unsigned: bool = False
    precision: int | None = None  #: digits of decimals
    scale: int | None = None  #: digits of the fraction of decimals
    fraction: int | None = None  #: digits of the fraction of seconds; None: as stored
    zoned: bool = False  #: whether times have a zone
    labels: Sequence[str] = ()  #: of enums
    default: PortableDefault | None = None
    auto_increment: bool = False
    generated: str = ""  #: the expression that computes the value
    ignores_case: bool = False  #: whether texts compare without regard to case


class PortableIndex(Struct, frozen=True, kw_only=True):
    """One index of columns."""

    name: str
    columns: Sequence[str]
    unique: bool


class PortableReference(Struct, frozen=True, kw_only=True):
    """One foreign key."""

    columns: Sequence[str]
    table: str
    to: Sequence[str]
    on_update: str
    on_delete: str
    deferred: bool = False


class PortableTable(Struct, frozen=True, kw_only=True):
    """One table."""

    name: str
    columns: Sequence[PortableColumn]
    key: Sequence[str]  #: the primary key; may be empty
    indexes: Sequence[PortableIndex] = ()
    references: Sequence[PortableReference] = ()
    notes: Sequence[str] = ()  #: what the description omits: checks, triggers, partial indexes


class DerivedSchema(Struct, frozen=True, kw_only=True):
    """Statements that create tables of another engine."""

    before: Sequence[str]  #: the tables with their primary keys, to run before the rows are copied
    after: Sequence[str]  #: indexes and foreign keys, to run after the rows are copied
    notes: Sequence[str] = ()  #: what they omit


class ColumnPair(Struct, frozen=True, kw_only=True):
    """A column of the source and the column of the destination that receives its values."""

    source: PortableColumn
    destination: PortableColumn
    kind: PortableKind  #: of the exchanged values


class UnstorableValue(Struct, frozen=True, kw_only=True):
    """Values of a column that the destination cannot store, for the same reason."""

    table: str
    column: str
    key: Mapping[str, object]  #: the primary key of the first such row; empty without one
    rows: int
    reason: str


class PortableSchema(Protocol):
    """The part that describes tables for other engines, and creates tables of other engines."""

    def describe(self) -> Sequence[PortableTable]:
        """Return all tables that store rows, without views and without tables of search indexes."""

    def limits(self) -> Sequence[str]:
        """Return what a derived schema omits: views, triggers, routines and tables of search indexes."""

    def derive(self, tables: Sequence[PortableTable]) -> DerivedSchema:
        """Return the statements that create ``tables`` of any engine in this database."""
