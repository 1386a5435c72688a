"""A table of the live schema, addressed by the column names of a profile section, and fields in rows of other tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar, cast

from dbctl.engines.contract.database import (
    AnyOf,
    Condition,
    InSubquery,
    Not,
    Order,
    Readable,
    Table,
    Where,
    Writable,
    require_supported,
)
from dbctl.errors.usage import AmbiguousIdError, AmbiguousNameError, SchemaMismatchError
from dbctl.model import TimeForm, join_first, now
from dbctl.profiles.codecs import (
    BOOLEANS,
    EPOCH,
    SMALLEST_MILLISECONDS,
    TIMES,
    decode_text,
    encode_typed_time,
    find_time_form,
    read_known_time,
)
from dbctl.profiles.model.base import ColumnNames, Constant, is_optional, list_names
from dbctl.profiles.model.core import CoreProfile
from dbctl.profiles.model.users import JoinedField

if TYPE_CHECKING:  # few commands read a table in batches
    from dbctl.engines.contract.streaming import RowStreams

UUID = r"(?i)[0-9a-f]{8}(-?)(?:[0-9a-f]{4}\1){3}[0-9a-f]{12}"
#: The beginning of a UUID, as terminals show it; shorter texts would match by accident.
SHORTENED_UUID = r"(?i)[0-9a-f][0-9a-f-]{3,34}"
IS_TEXT = "CHAR|TEXT|CLOB|UUID"
#: Ids in an error about an ambiguous one.
NAMED_IDS = 5
#: The formats of times that are numbers.
NUMERIC_TIMES = ("epoch-s", "epoch-ms")
#: Sampled rows at each end of a table; the time limit of a sample.
SAMPLE_ROWS, SAMPLE_LIMIT = 50, timedelta(seconds=1)


class Variant(Protocol):
    """A variant of a section of the profile."""

    @property
    def needs(self) -> Sequence[str]: ...  #: ``table`` or ``table.column``


V = TypeVar("V", bound=Variant)
T = TypeVar("T")
_Sample: TypeAlias = tuple[list[str], list[tuple[object, ...]]]  # names of columns, and their values by row


def find_column(table: Table | None, names: ColumnNames | None) -> str | None:
    """Return the first of ``names`` that the table has; a trailing ``?`` marks a column that deployments may lack."""
    for candidate in list_names(names):
        name = candidate.removesuffix("?")
        if table is not None and name in table.columns:
            return name
    return None


def list_uncovered(table: Table, covered: Collection[str | None]) -> list[str]:
    """Return the required columns that are not among ``covered``."""
    return [name for name, column in table.columns.items() if column.required and name not in covered]


def list_named_rows(
    db: Readable, table: str, key: str, names: Sequence[str], text: str
) -> list[tuple[object, ...]]:
    """Return the rows with ``text`` in one of the columns ``names``, without regard to case: the key and the names."""
    if not (text and text.isprintable()):
        return []
    return db.select(table, [key, *names], [AnyOf([Condition(name, "same", text) for name in names])])


def find_named_key(db: Readable, table: str, key: str, names: Sequence[str], text: str) -> object | None:
    """Return the key of the row with ``text`` in one of the columns ``names``; None without such a row.

    The exact spelling precedes others.

    Raises:
        AmbiguousNameError: several rows have that name.
    """
    rows = list_named_rows(db, table, key, names, text)
    keys = [row[0] for row in rows if text in row[1:]] or [row[0] for row in rows]
    if len(keys) > 1:
        ids = join_first([str(value) for value in keys], NAMED_IDS)
        raise AmbiguousNameError(name=text, table=table, target=db.target, ids=ids)
    return keys[0] if keys else None


def has_all(tables: Mapping[str, Table], needs: Sequence[str]) -> bool:
    """Return whether the tables of a database include every ``table`` and ``table.column`` in ``needs``."""
    for need in needs:
        table, _, column = need.partition(".")
        if table not in tables or (column and column not in tables[table].columns):
            return False
    return True


def select_variant(variants: Sequence[V], tables: Mapping[str, Table]) -> V | None:
    """Return the first variant whose tables and columns a database has, or None."""
    return next((variant for variant in variants if has_all(tables, variant.needs)), None)


def default_times(
    profile: CoreProfile, db: Readable, table: str, columns: Collection[str]
) -> dict[str, object]:
    """Return the current time for the columns of a new row whose database default is the current time.

    The default may write another time format than the app; the returned values have the format of the column, so it stays
    sortable. The default of a column of integers has the unit of the column, unless the app stores numbers.
    """
    live, timestamp = LiveTable(profile, db, table, "a new row"), now()
    return {name: live.encode(name, timestamp) for name in columns if not live.has_own_unit(name)}


def where_before(column: str, limit: datetime, op: Literal["<", "<="] = "<") -> list[Condition]:
    """Return the conditions that a column has a known time before ``limit``; see ``read_known_time``."""
    return [Condition(column, op, limit), Condition(column, ">", EPOCH)]


class LiveTable:
    """One table of one open database, with values encoded as the profile's app stores them."""

    def __init__(self, profile: CoreProfile, db: Readable, table: str, purpose: str) -> None:
        """Find ``table`` in the live schema.

        Raises:
            SchemaMismatchError: the live schema has no such table.
        """
        self.profile, self.db, self.name, self._purpose = profile, db, table, purpose
        live_table = db.tables().get(table)
        if live_table is None:
            other = f" (it has {table.lower()})" if table.lower() in db.tables() else ""
            if db.server:
                db.server.require_all_tables()
            raise SchemaMismatchError(target=db.target, missing=f"table {table}{other}", purpose=purpose)
        self.table = live_table
        self._time_forms: dict[str, TimeForm] = {}
        #: whether the engine has no type for times, so that each row of a column may have another form
        self._has_plain_times = "time" not in db.native_types
        #: whether the app stores text, which a column of integers cannot store
        self._has_text_times = profile.time not in NUMERIC_TIMES

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
        return {field: column for field, name in names.items() if (column := self.optional_column(name))}

    def select_variant(
        self, variants: Sequence[T], list_columns: Callable[[T], Sequence[str]], purpose: str = ""
    ) -> T | None:
        """Return the first variant whose columns the table has; None: there is none. Raises SchemaMismatchError if it has others."""
        missing = list[str]()
        for variant in variants:
            columns = list_columns(variant)
            if all(find_column(self.table, name) for name in columns):
                return variant
            missing.append(", ".join(f"{self.name}.{name}" for name in columns))
        if missing:
            text = f"column {' or '.join(missing)}"
            raise SchemaMismatchError(target=self.db.target, missing=text, purpose=purpose or self._purpose)
        return None

    def complete_id(self, column: str, text: str, only: Sequence[Where] = ()) -> str:
        """Return the UUID in ``column`` that begins with ``text``, or ``text`` if it is another value, or no UUID begins with it.

        Raises:
            AmbiguousIdError: several UUIDs begin with it.
        """
        definition = self.table.columns[column]
        is_native = definition.native == "uuid"
        if not (re.fullmatch(SHORTENED_UUID, text) and (is_native or re.search(IS_TEXT, definition.type))):
            return text
        if not is_native and self.db.count(self.name, [Condition(column, "=", text), *only]):
            return text
        # An index on text serves the range; "g" is after every character of a UUID.
        beginning = (
            [Condition(column, "starts", text)]
            if is_native
            else [Condition(column, ">=", text), Condition(column, "<", f"{text}g")]
        )
        rows = self.db.select(self.name, [column], [*beginning, *only], order_by=[Order([column])])
        ids = [
            key
            for key in map(str, (row[0] for row in rows))
            if re.fullmatch(UUID, key) and key.lower().startswith(text.lower())
        ]
        if len(ids) > 1:
            target = f"{self.db.target}.{self.name}"
            raise AmbiguousIdError(text=text, target=target, ids=join_first(ids, NAMED_IDS))
        return ids[0] if ids else text

    def encode(self, column: str, value: object, *, typed: str | None = None) -> object:
        """Return ``value`` as the profile stores times and booleans; ``typed``: the text of a typed time, empty if unknown."""
        native = self.table.columns[column].native
        if isinstance(value, datetime):
            if native == "time":
                return value
            form, stored = self.time_form(column), [] if typed is None else self.sample([column])
            return TIMES[form](value) if typed is None else encode_typed_time(form, value, typed, stored)
        if isinstance(value, bool):
            return value if native == "boolean" else BOOLEANS[self.profile.boolean][value]
        return value

    def time_form(self, column: str) -> TimeForm:
        """Return the format of times in a column without a native time type.

        It is the format of the profile, unless all of the newest rows have another one, from another version of the app:
        mixed formats would break the sort order of the column. A column of integers cannot store text.
        """
        if column not in self._time_forms:
            is_number = self._has_text_times and "INT" in self.table.columns[column].type
            other: TimeForm | None = None
            if is_number or self._has_plain_times:
                newest = [value for (value,) in self.sample([column])[-SAMPLE_ROWS:]]
                # One row in the format of the profile suffices, unless a column of integers has it as text.
                is_own = not is_number and self.profile.time in map(find_time_form, newest)
                forms = set() if is_own else {form for value in newest if (form := find_time_form(value))}
                other = next((form for form in TIMES if {form} == forms and self._has_plain_times), None)
                if other is None and is_number:
                    is_fine = any(
                        isinstance(value, int) and value >= SMALLEST_MILLISECONDS for value in newest
                    )
                    other = "epoch-ms" if is_fine else "epoch-s"
            self._time_forms[column] = other or self.profile.time
        return self._time_forms[column]

    def sample(self, columns: Sequence[str]) -> list[tuple[object, ...]]:
        """Return columns of rows at both ends of the table, the newest last; empty if it cannot be read in time.

        A connection reads them once. If commands also need the form of their times, the sample has all fields of users.
        """
        memo, users = {} if self.db.memo is None else self.db.memo, self.profile.users
        names, rows = cast("_Sample", memo.get(self.name, ([], [])))
        if not set(columns) <= set(names):
            fields: list[ColumnNames] = []
            if users and users.table == self.name and self._has_plain_times:
                fields = [users.id.column, *users.fields.values()]
            mapped = filter(None, (find_column(self.table, field) for field in fields))
            names = list(dict.fromkeys([*names, *columns, *mapped]))
            sampled = self.db.sample(self.name, names, rows=SAMPLE_ROWS, timeout=SAMPLE_LIMIT)
            if sampled is None:
                return []
            rows = sampled
            memo[self.name] = names, rows
        positions = [names.index(column) for column in columns]
        return [tuple(row[position] for position in positions) for row in rows]

    def has_own_unit(self, column: str) -> bool:
        """Return whether a column of integers stores times as numbers, although the app stores text."""
        is_number = self._has_text_times and "INT" in self.table.columns[column].type
        return is_number and self.time_form(column) in NUMERIC_TIMES

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

    def _missing_column_error(self, names: ColumnNames) -> SchemaMismatchError:
        candidates = [candidate.removesuffix("?") for candidate in list_names(names)]
        missing = f"column {self.name}.{' or '.join(candidates)}"
        if self.db.server:
            self.db.server.require_all_tables()
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

    def read(
        self, users: Sequence[Mapping[str, object]], *, for_update: bool = False
    ) -> list[dict[str, object]]:
        """Return the values by field for rows of users; ``for_update`` locks the rows of the other tables."""
        values = [dict.fromkeys(self.names) for _ in users]
        for field, (section, live) in self._fields.items() if users else ():
            links = [row[section.through or self._key] for row in users]
            owners = self._read_owners(section, live, links)
            where = self._where(section, live, list(owners))
            columns = [live.column(section.user), live.column(section.column)]
            rows = live.db.select(live.name, columns, where, for_update=for_update)
            stored = {str(link): decode_text(value) for link, value in rows}
            # The types of the columns may differ, such as text that refers to a number.
            by_user = {str(user): stored[str(link)] for link, user in owners.items() if str(link) in stored}
            for row, link in zip(values, links, strict=True):
                row[field] = by_user.get(str(link))
        return values

    @staticmethod
    def _read_owners(
        section: JoinedField, live: LiveTable, links: Sequence[object]
    ) -> Mapping[object, object]:
        """Return users by that to which their rows refer: the users themselves, or rows of the table ``owner``."""
        owner = section.owner
        if owner is None:
            return {link: link for link in links}
        where = [Condition(owner.user, "in", links)]
        return {row[0]: row[1] for row in live.db.select(owner.table, [owner.key, owner.user], where)}

    def count_rows(self, names: Collection[str], users: int) -> dict[str, int]:
        """Return the number of written rows by table, if these fields of a number of users change."""
        return {live.name: users for field, (_, live) in self._fields.items() if field in names}

    def where(self, field: str, constants: Sequence[Constant]) -> Where:
        """Return the condition that a field of a user has one of some constants of the profile; ``:null``: also no row."""
        section, live = self._fields[field]
        column = live.column(section.column)
        values = [live.encode_constants({column: constant})[column] for constant in constants]
        conditions: list[Where] = []
        if stored := [value for value in values if value is not None]:
            conditions.append(self._where_row(section, live, Condition(column, "in", stored)))
        if None in values:
            conditions.append(Not(self._where_row(section, live, Not(Condition(column, "=", None)))))
        return AnyOf(conditions)

    def _where_row(self, section: JoinedField, live: LiveTable, where: Where) -> Where:
        """Return the condition that a user has a row with a condition."""
        source, user, owner = section.through or self._key, live.column(section.user), section.owner
        conditions: list[Where] = [*self._where_valid(section, live), where]
        if owner is None:
            return InSubquery([source], live.name, [user], conditions)
        has_row = InSubquery([owner.key], live.name, [user], conditions)
        return InSubquery([source], owner.table, [owner.user], [has_row])

    def write(
        self,
        db: Writable,
        ids: Sequence[object],
        values: Mapping[str, object],
        constants: Mapping[str, object],
    ) -> None:
        """Write fields of users; a user without a row of the table gets one.

        ``values`` are by field, also of the table of users; constants of the profile, by field, are written instead of the value.
        """
        from dbctl.services.app.row_writes import write_rows

        for field, (section, live) in self._fields.items():
            if field not in values:
                continue
            source = section.through or self._key
            rows = db.select(self._users.name, [source], [Condition(self._key, "in", ids)])
            links = [link for (link,) in rows if link is not None]
            user, where = live.column(section.user), self._where(section, live, links)
            column = live.column(section.column)
            value = (
                live.encode_constants({column: constants[field]})[column]
                if field in constants
                else live.encode(column, values[field], typed="")
            )
            owners = {str(owner) for (owner,) in db.select(live.name, [user], where)}
            write_rows(db, live.name, where, {column: value})
            for link in links:
                if str(link) not in owners:
                    db.insert(live.name, {**live.encode_constants(section.only), user: link, column: value})

    def _where(self, section: JoinedField, live: LiveTable, links: Sequence[object]) -> list[Where]:
        return [Condition(live.column(section.user), "in", links), *self._where_valid(section, live)]

    @staticmethod
    def _where_valid(section: JoinedField, live: LiveTable) -> list[Where]:
        """Return the conditions of rows that contain the field and have not expired."""
        where: list[Where] = [*live.conditions(section.only)]
        if column := live.optional_column(section.expires_at):
            # The forms of times differ, and text such as "infinity" is no time: they are compared here, not in SQL.
            ends, present = live.db.count_by(live.name, column, where), now()
            expired = [end for end in ends if (time := read_known_time(decode_text(end))) and time <= present]
            where += [Not(Condition(column, "in", expired))] if expired else []
        return where


def require_streams(db: Readable) -> RowStreams:
    """Return a database that can stream rows.

    Raises:
        NotSupportedError: its engine cannot.
    """
    return require_supported(db, db.streams, "this", "Its engine has no tables with rows.")
