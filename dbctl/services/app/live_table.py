"""A table of the live schema, addressed by the column names of a profile section, and fields in rows of other tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from dbctl.engines.contract import (
    AnyOf,
    Condition,
    InSubquery,
    Not,
    Order,
    Readable,
    RowStreams,
    Table,
    TimeForms,
    Where,
    Writable,
    require_part,
)
from dbctl.errors import SchemaMismatchError
from dbctl.model import now
from dbctl.profiles import BOOLEANS, SMALLEST_MILLISECONDS, TIMES, TimeCodec
from dbctl.profiles.model import ColumnNames, JoinedField, Profile

#: The formats of times that are numbers.
NUMERIC_TIMES = ("epoch-s", "epoch-ms")


def find_column(table: Table | None, names: ColumnNames | None) -> str | None:
    """Return the first of ``names`` that the table has; a trailing ``?`` marks a column that deployments may lack."""
    for candidate in [names] if isinstance(names, str) else names or []:
        name = candidate.removesuffix("?")
        if table is not None and name in table.columns:
            return name
    return None


def is_optional(names: ColumnNames) -> bool:
    """Return whether deployments may lack the column."""
    return any(candidate.endswith("?") for candidate in ([names] if isinstance(names, str) else names))


def has_all(db: Readable, needs: Sequence[str]) -> bool:
    """Return whether a database has every ``table`` and ``table.column`` in ``needs``."""
    tables = db.tables()
    for need in needs:
        table, _, column = need.partition(".")
        if table not in tables or (column and column not in tables[table].columns):
            return False
    return True


def default_times(
    profile: Profile, db: Readable, table: str, provided_columns: Collection[str]
) -> dict[str, object]:
    """Return the current time for the columns of a new row whose database default is the current time.

    The default may write another time format than the app; the returned values have the format of the column, so it stays
    sortable. The default of a column of integers has the unit of the column, unless the app stores numbers.
    """
    times = db.part(TimeForms)
    clocks = times.clock_columns(table) if times else ()
    clocks = [column for column in clocks if column not in provided_columns]
    if not clocks:
        return {}
    live, timestamp = LiveTable(profile, db, table, "a new row"), now()
    return {name: live.encode(name, timestamp) for name in clocks if not live.has_own_unit(name)}


class LiveTable:
    """One table of one open database, with values encoded as the profile's app stores them."""

    def __init__(self, profile: Profile, db: Readable, table: str, purpose: str) -> None:
        """Find ``table`` in the live schema.

        Raises:
            SchemaMismatchError: the live schema has no such table.
        """
        self.profile, self.db, self.name, self._purpose = profile, db, table, purpose
        live_table = db.tables().get(table)
        if live_table is None:
            raise SchemaMismatchError(target=db.target, missing=f"table {table}", purpose=purpose)
        self.table = live_table
        self._time_forms: dict[str, TimeCodec] = {}

    def optional_column(self, name: ColumnNames | None) -> str | None:
        """Return the column, or None if it is missing and marked as optional.

        Raises:
            SchemaMismatchError: the column is missing and not optional.
        """
        column = find_column(self.table, name)
        if column is None and name and not is_optional(name):
            raise self._missing_column_error(name)
        return column

    def column(self, names: ColumnNames) -> str:
        """Return the column; raises SchemaMismatchError if it is missing."""
        column = self.optional_column(names)
        if column is None:
            raise self._missing_column_error(names)
        return column

    def map_columns(self, names: Mapping[str, ColumnNames | None]) -> dict[str, str]:
        """Return the columns of fields by field, without missing optional ones; raises as ``optional_column``."""
        columns = ((field, self.optional_column(name)) for field, name in names.items())
        return {field: column for field, column in columns if column}

    def encode(self, column: str, value: object) -> object:
        """Return the stored form of ``value``: times and booleans as the profile defines, other values unchanged."""
        native = self.table.columns[column].native
        if isinstance(value, datetime):
            return value if native == "time" else TIMES[self.time_form(column)](value)
        if isinstance(value, bool):
            return value if native == "boolean" else BOOLEANS[self.profile.boolean][value]
        return value

    def time_form(self, column: str) -> TimeCodec:
        """Return the format of times in a column without a native time type.

        It is the format of the profile, unless all of the newest rows have another one, from another version of the app:
        mixed formats would break the sort order of the column. A column of integers cannot store text.
        """
        if column not in self._time_forms:
            times = self.db.part(TimeForms)
            stored_forms = times.newest_time_forms(self.name, column) if times else ()
            other = next((form for form in TIMES if [form] == list(stored_forms)), None)
            if other is None and self._is_number(column) and self.profile.time not in NUMERIC_TIMES:
                other = self._sample_numeric_form(column)
            self._time_forms[column] = other or self.profile.time
        return self._time_forms[column]

    def has_own_unit(self, column: str) -> bool:
        """Return whether a column of integers stores times as numbers, although the app stores text."""
        is_text = self.profile.time not in NUMERIC_TIMES
        return is_text and self._is_number(column) and self.time_form(column) in NUMERIC_TIMES

    def _is_number(self, column: str) -> bool:
        return "INT" in self.table.columns[column].type

    def _sample_numeric_form(self, column: str) -> TimeCodec:
        """Return the unit of the newest time in a column of integers; seconds if it is empty."""
        rows = self.db.select(self.name, [column], order_by=[Order([column], descending=True)], limit=1)
        newest = rows[0][0] if rows else None
        return "epoch-ms" if isinstance(newest, int) and newest >= SMALLEST_MILLISECONDS else "epoch-s"

    def encode_constants(self, constants: Mapping[str, object]) -> dict[str, object]:
        """Return columns and stored values for constants of a profile, without missing optional columns.

        ``:now`` is the current time, ``:null`` is NULL.
        """
        return {
            column: self._encode_constant(column, constant)
            for name, constant in constants.items()
            if (column := self.optional_column(name)) is not None
        }

    def conditions(self, expected: Mapping[str, object]) -> list[Condition]:
        """Return one condition per column: equality with a constant, or membership in a list of constants."""
        conditions = []
        for name, constant in expected.items():
            column = self.optional_column(name)
            if column is None:
                continue
            if isinstance(constant, list | tuple):
                values = [self.encode(column, value) for value in constant]
                conditions.append(Condition(column, "in", values))
            else:
                conditions.append(Condition(column, "=", self._encode_constant(column, constant)))
        return conditions

    def _encode_constant(self, column: str, constant: object) -> object:
        constants = {":now": now(), ":null": None}
        return self.encode(
            column, constants.get(constant, constant) if isinstance(constant, str) else constant
        )

    def missing_required_columns(self, provided: set[str]) -> list[str]:
        """Return the NOT NULL columns without default that ``provided`` lacks."""
        return [
            name for name, column in self.table.columns.items() if column.required and name not in provided
        ]

    def _missing_column_error(self, names: ColumnNames) -> SchemaMismatchError:
        candidates = [
            candidate.removesuffix("?") for candidate in ([names] if isinstance(names, str) else names)
        ]
        missing = f"column {self.name}.{' or '.join(candidates)}"
        return SchemaMismatchError(target=self.db.target, missing=missing, purpose=self._purpose)


class JoinedFields:
    """Fields of users in other tables."""

    def __init__(self, sections: Mapping[str, JoinedField], users: LiveTable, key: str) -> None:
        """Find the tables, without missing optional ones.

        Raises:
            SchemaMismatchError: a table or column is missing.
        """
        self._users, self._key, tables = users, key, users.db.tables()
        self._fields = {
            field: (section, LiveTable(users.profile, users.db, name, "users"))
            for field, section in sections.items()
            if (name := section.table.removesuffix("?")) in tables or name == section.table
        }
        self.names = list(self._fields)
        #: the columns of the users to which the other tables refer
        self.columns = [users.column(item.through) for item, _ in self._fields.values() if item.through]

    def read(self, users: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
        """Return the values by field for rows of users."""
        values = [dict.fromkeys(self.names) for _ in users]
        for field, (section, live) in self._fields.items() if users else ():
            links = [str(row[section.through or self._key]) for row in users]
            where = self._where(section, live, [row[section.through or self._key] for row in users])
            columns = [live.column(section.user), live.column(section.column)]
            stored = {str(link): value for link, value in live.db.select(live.name, columns, where)}
            for row, link in zip(values, links, strict=True):
                row[field] = stored.get(link)
        return values

    def where_value(self, field: str, values: Sequence[object]) -> Where:
        """Return the condition that a user has one of these values; ``:null`` includes users without a row."""
        section, live = self._fields[field]
        source, user, column = (
            section.through or self._key,
            live.column(section.user),
            live.column(section.column),
        )
        stored = [self.encode_constant(field, value) for value in values if value != ":null"]
        only = live.conditions(section.only)
        has_value = InSubquery([source], live.name, [user], [*only, Condition(column, "in", stored)])
        has_any = InSubquery([source], live.name, [user], [*only, Condition(column, "!=", None)])
        return AnyOf([has_value, Not(has_any)]) if ":null" in values else has_value

    def encode_constant(self, field: str, constant: object) -> object:
        """Return the stored value for a constant of a profile."""
        section, live = self._fields[field]
        column = live.column(section.column)
        return live.encode_constants({column: constant})[column]

    def count_rows(self, names: Collection[str], users: int) -> dict[str, int]:
        """Return the number of written rows by table, if these fields of a number of users change."""
        return {live.name: users for field, (_, live) in self._fields.items() if field in names}

    def write(self, db: Writable, ids: Sequence[object], values: Mapping[str, object]) -> None:
        """Write fields of users; a user without a row of the table gets one."""
        for field, (section, live) in self._fields.items():
            if field not in values:
                continue
            source = section.through or self._key
            rows = db.select(self._users.name, [source], [Condition(self._key, "in", ids)])
            links = [link for (link,) in rows if link is not None]
            user, where = live.column(section.user), self._where(section, live, links)
            column = live.column(section.column)
            value = live.encode(column, values[field])
            owners = {str(owner) for (owner,) in db.select(live.name, [user], where)}
            db.update(live.name, {column: value}, where)
            for link in links:
                if str(link) not in owners:
                    db.insert(live.name, {**live.encode_constants(section.only), user: link, column: value})

    @staticmethod
    def _where(section: JoinedField, live: LiveTable, links: Sequence[object]) -> list[Where]:
        return [Condition(live.column(section.user), "in", links), *live.conditions(section.only)]


def require_streams(db: Readable) -> RowStreams:
    """Return a database that can stream rows.

    Raises:
        NotSupportedError: its engine cannot.
    """
    return require_part(db, RowStreams, "this", "Its engine has no tables with rows.")
