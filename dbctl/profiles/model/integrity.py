"""Sections about checks of the data: values, links between databases, counters and known secrets."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec

from dbctl.profiles.codecs import HashFormat
from dbctl.profiles.model.base import (
    ColumnNames,
    ColumnPath,
    Constant,
    DatabaseReference,
    FindingHint,
    FindingSeverity,
    SchemaName,
    Section,
    TableName,
    TextFormat,
    VaryingTable,
)

#: A column of a known secret; the whole section is one entry, so a missing column is reported at its beginning.
_SecretColumn = Annotated[str, SchemaName("column", levels_up=1)]


class States(Section, frozen=True, kw_only=True):
    """A state column: the allowed transitions between its values."""

    database: DatabaseReference = ""
    table: TableName  #: the table with the states
    column: ColumnNames  #: the column with the state
    #: by state, the allowed next states; a state without an entry is final. Other values are not states: no transition leads
    #: to them, and any state may follow them
    transitions: Mapping[str, Sequence[str]]
    severity: FindingSeverity = "warning"  #: of rows with a value that is not a state
    hint: FindingHint = ""  #: the hint of a refused transition


class Values(Section, frozen=True, kw_only=True):
    """A column with a list of allowed values or with texts of one format, or NULL, that the database does not enforce."""

    database: DatabaseReference = ""
    table: VaryingTable  #: the table; optional with a trailing ``?``
    column: ColumnNames  #: the column
    allowed: Sequence[Constant] = ()  #: the allowed values; empty: any
    format: TextFormat | None = None  #: the format of every text that is not empty
    severity: FindingSeverity = "warning"  #: of rows with another value
    hint: FindingHint = ""


class Exclusive(Section, frozen=True, kw_only=True):
    """A column that is true in at most one row: setting it in a row clears it in the others; their times of the last change remain."""

    database: DatabaseReference = ""
    table: TableName  #: the table
    column: ColumnNames  #: the boolean column
    within: ColumnNames | None = None  #: a column: one row per value of it


class KeySearch(Section, frozen=True, kw_only=True):
    """Columns with free text that a check searches for keys of services."""

    database: DatabaseReference = ""
    #: ``table.column``; optional with a trailing ``?``
    columns: Annotated[Sequence[ColumnPath], msgspec.Meta(min_length=1)]
    severity: FindingSeverity = "warning"
    hint: FindingHint = ""

    @property
    def name(self) -> str:
        """The name in findings."""
        return "keys of services"


class CrossLink(Section, frozen=True, kw_only=True):
    """A column that refers to rows of another database, so that no foreign key can enforce it."""

    name: str  #: the name of its rows in findings
    database: DatabaseReference = ""
    table: VaryingTable  #: the table with the references
    column: ColumnNames  #: the column with the reference
    to: DatabaseReference  #: the other database
    #: ``table.column``: one of them must have the value
    targets: Annotated[Sequence[str], msgspec.Meta(min_length=1)]
    optional: bool = False  #: whether deployments may lack the table
    cascade: bool = False  #: whether dbctl deletes its rows with the rows that they refer to
    #: ``table.column`` in the other database: the earlier key of a row, to which rows may still refer
    renamed_from: str = ""
    repeats: Mapping[str, str] = {}  #: columns that copy columns of the referenced row
    #: columns of ``repeats`` on which other columns depend, so they cannot be repaired alone
    derived: Sequence[str] = ()
    every: bool = False  #: whether every row of the other table should have a row that refers to it
    placeholders: Sequence[str] = ()  #: values in rows that the app inserts only to create the table
    severity: FindingSeverity = "warning"
    hint: FindingHint = ""


class Recount(Section, frozen=True, kw_only=True):
    """Stored counts that can be recounted."""

    name: str  #: the name of the counts in findings
    database: DatabaseReference = ""
    needs: Sequence[str] = ()  #: tables; a deployment that lacks one stores no such counts
    sql: str  #: portable SQL; selects the rows that disagree: key columns, the stored count, the actual count
    severity: FindingSeverity = "warning"
    hint: FindingHint = ""


class KnownLogin(Section, frozen=True, kw_only=True):
    """An account with a published password, from the app or its documentation."""

    name: str  #: its name in findings
    login: str  #: the login of the account
    password: str  #: its published password
    severity: FindingSeverity = "error"  #: of an active account
    hint: FindingHint = ""  #: if a new password does not help


class KnownSecret(Section, frozen=True, kw_only=True):
    """A published key, code or token, from the app or its documentation."""

    name: str  #: its name in findings
    database: DatabaseReference = ""
    table: TableName  #: the table; optional with a trailing ``?``
    key: _SecretColumn = "id"  #: the column that identifies a row
    column: _SecretColumn  #: the column of the secret or its hash
    value: str  #: the stored value; with ``codec``, the secret itself
    #: the hash format of the column; without it, the column contains ``value`` itself
    codec: HashFormat | None = None
    #: conditions of the rows, such as active ones
    where: Mapping[_SecretColumn, str | int | float | bool] = {}
    severity: FindingSeverity = "error"
    hint: FindingHint = ""


class InvariantVariant(Section, frozen=True, kw_only=True):
    """The query for one variant of the schema; the first variant whose tables and columns exist is used."""

    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    sql: str = ""  #: portable SQL; selects the violating rows, with the key in the first column
    #: instead of ``sql``: time columns (``table.column``) whose values must be times
    times: Sequence[str] = ()


class InvariantQuery(Section, frozen=True, kw_only=True):
    """A query for rows that should not exist, though no constraint forbids them."""

    name: str  #: their name in findings, in the plural
    database: DatabaseReference = ""
    since: str = ""  #: a duration: the parameter ``:since`` of the SQL is the current time minus it
    #: the query in each variant of the schema
    variant: Annotated[Sequence[InvariantVariant], msgspec.Meta(min_length=1)]
    severity: FindingSeverity = "warning"
    hint: FindingHint = ""
    #: whether ``users delete`` refuses a deletion after which there are further such rows
    guards_deletion: bool = False


def validate_link(link: CrossLink) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield the errors of a section, with their keys below it."""
    for key, paths in (
        ("targets", link.targets),
        ("renamed_from", [link.renamed_from] if link.renamed_from else []),
    ):
        for path in paths:
            if not all(path.rpartition(".")):
                yield (key,), f"{path}: write it as TABLE.COLUMN"
    if len(link.targets) > 1 and (link.repeats or link.every):
        yield ("targets",), "repeats and every require a single target"


def validate_values(values: Values) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield the errors of a section, with their keys below it."""
    if not (values.allowed or values.format):
        yield (), "it requires allowed or format"


def validate_invariant(invariant: InvariantQuery) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield the errors of a section, with their keys below it."""
    for index, variant in enumerate(invariant.variant):
        if variant.sql and variant.times:
            yield ("variant", index), "it requires either sql or times"
    # A schema in which no such row can exist has a variant without a query.
    if not any(variant.sql or variant.times for variant in invariant.variant):
        yield ("variant",), "one of them requires sql or times"
