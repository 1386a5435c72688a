"""Sections about sessions of users, about expired rows, and about statistics to recount with them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec

from dbctl.profiles.model.base import (
    ColumnName,
    ColumnNames,
    DatabaseReference,
    ExpectedValue,
    FindingHint,
    FindingSeverity,
    SchemaName,
    Section,
    TableName,
)
from dbctl.profiles.model.users import Payload
from dbctl.units import parse_duration

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.


#: A duration: ``90s``, ``36h``, ``30d``.
Span: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}[smhdwy]$")]
Names: TypeAlias = Annotated[Sequence[str], msgspec.Meta(min_length=1)]
Columns: TypeAlias = Annotated[Sequence[ColumnName], msgspec.Meta(min_length=1)]


class Age(Section, frozen=True, kw_only=True):
    """The age of the rows: strictly older than ``older_than``."""

    column: (
        ColumnNames  #: the column with the time of the row; rows with 0 or a time until 1970 are not expired
    )
    older_than: Span  #: the smallest age of an expired row


class TimeOffset(Section, frozen=True, kw_only=True):
    """A time column of the same row, plus a duration."""

    from_: Annotated[str, SchemaName("column", levels_up=2)] = msgspec.field(name="from")  #: the time column
    plus: Span  #: the duration


class AfterRule(Section, frozen=True, kw_only=True):
    """Rows that are merged into another table in the same transaction."""

    into: TableName  #: the table into which the rows are merged
    key: Columns  #: columns that a unique index of the table covers
    #: portable SQL that selects the columns of ``key`` and then of ``merge``; ``:picked`` are the keys of the changed rows,
    #: ``:now`` the current time
    select: str
    #: for each column, how to merge the value into an existing row
    merge: Mapping[ColumnName, Literal["keep", "add", "replace"]]


class RecountRule(Section, frozen=True, kw_only=True):
    """Columns that the app recounts, while ``after`` only adds to them; the rule corrects the differences.

    They are counted before the transaction, because counting may take long, and only for the first row of each group of
    ``same_transaction``.
    """

    table: TableName  #: a table of ``after``
    key: Columns  #: columns that a unique index of the table covers
    columns: Columns  #: integer columns
    #: portable SQL that selects the columns of ``key`` and then the count for each of ``columns``, without the expired rows;
    #: ``:picked`` are the keys of expired rows
    select: str


class CleanupVariant(Section, frozen=True, kw_only=True):
    """Conditions and new values of one variant of the schema; the first variant whose columns exist is used."""

    needs: Names  #: columns of the table
    where: Mapping[str, ExpectedValue] = {}  #: values of expired rows, by column
    set: Mapping[str, str | int | float | bool | TimeOffset]  #: new values of expired rows, by column


class Cleanup(Section, frozen=True, kw_only=True):
    """A rule that closes or deletes rows of a certain age."""

    name: str  #: the name for ``--rule``
    database: DatabaseReference = ""
    table: TableName  #: the table; optional with a trailing ``?``
    key: ColumnName  #: its primary key, one column
    where: Mapping[ColumnName, ExpectedValue] = {}  #: values of expired rows, by column
    age: Age  #: the age of expired rows
    #: new values of expired rows, by column
    set: Mapping[ColumnName, str | int | float | bool | TimeOffset] = {}
    delete: bool = False  #: whether expired rows are deleted
    variant: Sequence[CleanupVariant] = ()  #: instead of ``where`` and ``set``
    on_demand_only: bool = False  #: whether the rule runs only with ``--rule``
    #: rows with the same value of this column are changed in the same transaction
    same_transaction: ColumnName = ""
    after: Sequence[AfterRule] = ()  #: tables that are updated in the same transaction
    recount: Sequence[RecountRule] = ()  #: columns of those tables that are recounted


def expand_variants(rule: Cleanup) -> Sequence[Cleanup]:
    """Return one rule for each variant; the rule itself if it has none."""
    rules = [
        msgspec.structs.replace(rule, where=variant.where, set=variant.set, variant=())
        for variant in rule.variant
    ]
    return rules or [rule]


def validate_cleanup(rule: Cleanup) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield key and reason of each error in a rule."""
    offsets = {
        column: value
        for variant in expand_variants(rule)
        for column, value in variant.set.items()
        if isinstance(value, TimeOffset)
    }
    spans = {("age", "older_than"): rule.age.older_than} | {
        ("set", name): variant.plus for name, variant in offsets.items()
    }
    for key, span in spans.items():
        try:
            parse_duration(span)
        except ValueError:
            yield key, f"{span} is too long"
            return
    if (bool(rule.set) + rule.delete + bool(rule.variant)) != 1 or (rule.variant and rule.where):
        yield (), "it needs exactly one of: set, delete = true, or variants with where and set"
    if rule.delete and rule.after:
        yield ("after",), "the rows are already deleted"
    merge_tables = [after_rule.into for after_rule in rule.after]
    for index, recount in enumerate(rule.recount):
        if recount.table not in merge_tables:
            yield ("recount", index, "table"), f"no section `after` has into = {recount.table!r}"
    for column, value in offsets.items():
        if parse_duration(value.plus) > parse_duration(rule.age.older_than):
            yield (
                ("set", column),
                f"{value.plus} may be in the future for a row that is only {rule.age.older_than} old",
            )


# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.


class Rebuild(Section, frozen=True, kw_only=True):
    """A table of statistics, in the users' database. ``integrity cross-check`` compares it, ``sessions rebuild-stats`` corrects it."""

    name: str  #: the name of its rows in findings
    table: TableName  #: the table; optional with a trailing ``?``
    key: Annotated[Sequence[ColumnName], msgspec.Meta(min_length=1)]  #: columns that a unique index covers
    user: str  #: the column of ``key`` with the user
    #: columns that must agree with a recount
    figures: Annotated[Sequence[ColumnName], msgspec.Meta(min_length=1)]
    #: further columns of a missing row; in existing rows they do not change
    further: Sequence[ColumnName] = ()
    touched: Sequence[ColumnName] = ()  #: columns that get the current time when a figure is corrected
    #: portable SQL that recounts; selects the columns of ``key``, ``figures`` and ``further``, in this order
    select: str
    severity: FindingSeverity = "warning"
    hint: FindingHint = "Recount them with: dbctl sessions rebuild-stats"


def validate_rebuild(section: Rebuild) -> Iterator[tuple[Sequence[str], str]]:
    """Yield key and reason of each error in a section."""
    if section.user not in section.key:
        yield ("user",), f"{section.user} is not in key"
    seen: list[str] = []
    for key in ("key", "figures", "further", "touched"):
        for column in getattr(section, key):
            if column in seen:
                yield (key,), f"duplicate column {column}"
            seen.append(column)


# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.


class SessionsVariant(Section, frozen=True, kw_only=True):
    """The conditions of open rows in one variant of the schema; the first variant whose columns exist is used."""

    #: values of an open session, by column
    open: Annotated[Mapping[str, ExpectedValue], msgspec.Meta(min_length=1)]


class Sessions(Section, frozen=True, kw_only=True):
    """One kind of sessions: plays, visits, connections, sign-ins."""

    name: str = "sessions"  #: the name for ``--kind``
    table: TableName  #: the table, in the users' database; optional with a trailing ``?``
    key: ColumnName = "id"  #: the primary key
    #: the column with the user; without it and without ``payload``, the users are unknown
    user: ColumnName = ""
    payload: Payload | None = None  #: a column whose data contains the user
    started_at: ColumnNames | None = None  #: the column with the time of the start
    seen_at: ColumnNames | None = None  #: the last activity; by default ``started_at`` is used
    #: the time of the end; NULL in an open session, unless ``open`` has another condition. Without ``ended_at``, ``open`` and
    #: variants, each row is an open session until it expires
    ended_at: ColumnNames | None = None
    expires_at: ColumnNames | None = (
        None  #: the session ends at this time at the latest; 0 or a time until 1970: it has no end
    )
    #: without ``expires_at``: how long after ``seen_at`` or ``started_at`` a session ends
    lifetime: Span | Literal[""] = ""
    duration: ColumnNames | None = None  #: seconds
    open: Mapping[ColumnName, ExpectedValue] = {}  #: values of an open session
    variant: Sequence[SessionsVariant] = ()  #: instead of ``open``
    only: Mapping[ColumnName, ExpectedValue] = {}  #: values of the rows that are sessions
    fields: Mapping[str, ColumnNames] = {}  #: further columns, by the names under which they are shown
    abandoned: str = ""  #: the rule of ``cleanup`` that closes abandoned sessions


def validate_sessions(section: Sessions) -> str:
    """Return the error in a section; empty if it is valid."""
    if section.user and section.payload:
        return "user and payload exclude each other"
    if section.lifetime and (section.expires_at or not (section.seen_at or section.started_at)):
        return "lifetime requires seen_at or started_at, and no expires_at"
    if section.abandoned and not (section.seen_at or section.started_at):
        return "abandoned requires seen_at or started_at"
    return ""
