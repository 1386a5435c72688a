"""Rows of other tables that belong to each user: added with the user, and deleted with the user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from dbctl.engines.contract.database import AllOf, Condition, Where, Writable
from dbctl.errors.usage import SchemaMismatchError, UsageError
from dbctl.model import Struct
from dbctl.profiles.model.users import CompanionRow
from dbctl.profiles.templates import NAMED, create_value, fill, list_fields
from dbctl.services.app.change import require_row_count
from dbctl.services.app.live_table import LiveTable, list_uncovered
from dbctl.services.app.row_writes import count_up
from dbctl.services.app.user_table import UserTable

#: The name of the key of the user in values of a profile.
ID = "id"


class OwnedCompanion(Struct, frozen=True):
    """Companion rows that are deleted with their users."""

    table: str
    key: str  #: ``table.column`` of the column that links them with the user, or with another row of the user
    where: Where


class _Companion(Struct, frozen=True):
    """A section ``users.create`` whose table exists."""

    section: CompanionRow
    live: LiveTable
    returned: str | None  #: the column to which other rows refer, and which the database generates


class CompanionRows:
    """The companion rows of the users of one open database."""

    def __init__(self, users: UserTable) -> None:
        """Find the tables.

        Raises:
            SchemaMismatchError: a table or a column that is not optional is missing.
        """
        self._users, section, tables = users, users.section, users.db.tables()
        all_values = [section.new, *(values for row in section.create for values in (row.values, *row.rows))]
        references = list(
            dict.fromkeys(name for values in all_values for name in _list_references(values.values()))
        )
        first_tables = {name.partition(".")[0] for name in _list_references(section.new.values())}
        companions = [
            _find_companion(LiveTable(users.app.core, users.db, name, "new users"), row, references)
            for row in section.create
            if (name := row.table.removesuffix("?")) in tables or name == row.table
        ]
        self._first = [item for item in companions if item.live.name in first_tables]
        self._later = [item for item in companions if item.live.name not in first_tables]

    def __bool__(self) -> bool:
        return bool(self._first or self._later)

    def count(self) -> dict[str, int]:
        """Return the number of added rows of each user, by table."""
        counts = dict[str, int]()
        for item in (*self._first, *self._later):
            counts[item.live.name] = counts.get(item.live.name, 0) + max(1, len(item.section.rows))
        return counts

    def check(self, fields: Mapping[str, object]) -> None:
        """Refuse a user whose companion rows would lack a required value.

        Raises:
            UsageError: a field of the user is missing.
            SchemaMismatchError: the profile has no value for a column.
        """
        known = {
            **fields,
            ID: ID,
            **{_reference(item, item.returned): ID for item in self._first + self._later},
        }
        for item in (*self._first, *self._later):
            for values, row in self._build_rows(item, known):
                missing = list_uncovered(item.live.table, set(row))
                sources = [name for name in values if item.live.optional_column(name) in missing]
                if lacking := list(
                    dict.fromkeys(field for name in sources for field in list_fields(values[name]))
                ):
                    options = " or ".join(name_option(field) for field in lacking)
                    detail = f"{item.live.name} requires a value for {', '.join(missing)}: add {options}"
                    raise UsageError(detail=detail)
                if missing:
                    missing_value = f"a value for {item.live.name}.{', '.join(missing)} (not in the profile)"
                    target = self._users.db.target
                    raise SchemaMismatchError(target=target, missing=missing_value, purpose="a new user")
                known |= _named_values(item, row)

    # Writing -------------------------------------------------------------------------------------------------

    def insert_user(self, db: Writable, row: Mapping[str, object], fields: Mapping[str, object]) -> object:
        """Insert the row of a user and its companion rows; return the key of the user."""
        users, known = self._users, dict(fields)
        if users.id in row:
            known[ID] = row[users.id]
        self._insert(db, self._first, known)
        references = {name: value for name, value in users.section.new.items() if has_reference(value)}
        values = {**row, **fill_row(users.live, references, known)}
        known[ID] = db.insert(users.live.name, values, returning=users.id)
        self._insert(db, self._later, known)
        return known[ID]

    def _insert(self, db: Writable, companions: Sequence[_Companion], known: dict[str, object]) -> None:
        for item in companions:
            rows = [row for _, row in self._build_rows(item, known)]
            known |= _named_values(item, rows[0])
            if item.returned:
                key = db.insert(item.live.name, rows[0], returning=item.returned)
                known[_reference(item, item.returned)] = key
                continue
            inserted = sum(
                db.insert_many(item.live.name, columns, [tuple(row.values()) for row in group])
                for columns, group in groupby(rows, key=tuple)
            )
            require_row_count(inserted, len(rows), db)

    @staticmethod
    def _build_rows(
        item: _Companion, known: Mapping[str, object]
    ) -> Iterator[tuple[Mapping[str, object], dict[str, object]]]:
        """Yield the values in the profile and the row for each row of a section."""
        section = item.section
        owner = {section.user: f"{{{ID}}}"} if section.user else {}
        for entry in section.rows or [{}]:
            values = {**owner, **section.values, **entry}
            yield values, fill_row(item.live, values, known)

    # Deletion ------------------------------------------------------------------------------------------------

    def find_owned(self, ids: Sequence[object]) -> Iterator[OwnedCompanion]:
        """Yield the rows that are deleted before these users, in the order of their deletion.

        Rows of a table whose foreign key deletes them with the user are omitted. Keys of rows without a column for the user
        are read at once, because the rows that refer to them may be deleted first.
        """
        for item in reversed(self._later):
            live, user = item.live, item.live.optional_column(item.section.user or None)
            if user and not self._is_cascaded(live.name, user):
                where = AllOf([Condition(user, "in", ids), *_same(item)])
                yield OwnedCompanion(live.name, f"{live.name}.{user}", where)
            elif not user:
                yield from self._find_referenced(item, ids)

    def find_owned_later(self, ids: Sequence[object]) -> Iterator[OwnedCompanion]:
        """Yield the rows to which the rows of these users refer; they are deleted after the users."""
        users = self._users
        for item in reversed(self._first):
            for name, value in users.section.new.items():
                if column := _referenced_column(item, value):
                    source = users.live.column(name)
                    where = Condition(users.id, "in", ids)
                    keys = [
                        key
                        for (key,) in users.db.select(users.live.name, [source], [where])
                        if key is not None
                    ]
                    condition = AllOf([Condition(column, "in", keys), *_same(item)])
                    yield OwnedCompanion(item.live.name, f"{users.live.name}.{source}", condition)

    def _is_cascaded(self, table: str, column: str) -> bool:
        return any(
            key.table == table and list(key.columns) == [column] and key.on_delete == "CASCADE"
            for key in self._users.db.references(self._users.live.name)
        )

    def _find_referenced(self, item: _Companion, ids: Sequence[object]) -> Iterator[OwnedCompanion]:
        """Yield the rows of ``item`` to which other rows of these users refer."""
        for other in self._later:
            user = other.live.optional_column(other.section.user or None)
            for name, value in other.section.values.items():
                if user and (column := _referenced_column(item, value)):
                    source = other.live.column(name)
                    where = [Condition(user, "in", ids), *_same(other)]
                    keys = [key for (key,) in other.live.db.select(other.live.name, [source], where)]
                    condition = AllOf([Condition(column, "in", keys), *_same(item)])
                    yield OwnedCompanion(item.live.name, f"{other.live.name}.{source}", condition)


def fill_row(
    live: LiveTable, values: Mapping[str, object], fields: Mapping[str, object]
) -> dict[str, object]:
    """Return columns and stored values for values of a profile, without optional columns and fields that are missing."""
    row = dict[str, object]()
    for name, value in values.items():
        column = live.optional_column(name)
        if column is None:
            continue
        if value in NAMED:  # a field of a user may have the same text
            row |= live.encode_constants({column: value})
        elif (filled := fill(create_value(value), fields)) is not None:
            row[column] = live.encode(column, filled)
    return row | count_up(live, values, row)


def copy_fields(users: UserTable, fields: Mapping[str, object]) -> dict[str, object]:
    """Return the columns with lower-case copies of changed fields, which the app compares with logins."""
    copies = {f"{{{field}:lower}}": field for field in fields}
    changed = {name: value for name, value in users.section.new.items() if value in copies}
    return fill_row(users.live, changed, fields)


def name_option(field: str) -> str:
    """Return the option of ``users create`` that sets a field."""
    return f"--{field}" if field in ("email", "name", "role") else f"--set {field}=VALUE"


def _find_companion(live: LiveTable, section: CompanionRow, references: Sequence[str]) -> _Companion:
    columns = (name.partition(".")[2] for name in references if name.partition(".")[0] == live.name)
    generated = [column for column in columns if column not in section.values]
    return _Companion(section, live, live.column(generated[0]) if generated else None)


def _list_references(values: Iterable[object]) -> Iterator[str]:
    """Yield the columns of other rows in values of a profile: ``table.column``."""
    for value in values:
        yield from (name for name in list_fields(value) if "." in name)


def has_reference(value: object) -> bool:
    """Return whether a value of a profile refers to a row of ``users.create``."""
    return any(_list_references([value]))


def _reference(item: _Companion, column: str | None) -> str:
    return f"{item.live.name}.{column}"


def _referenced_column(item: _Companion, value: object) -> str | None:
    """Return the column of ``item`` that a value repeats."""
    prefix, names = f"{{{item.live.name}.", list(list_fields(value))
    is_reference = isinstance(value, str) and value.startswith(prefix) and value == f"{{{names[0]}}}"
    return item.live.column(names[0].partition(".")[2]) if is_reference else None


def _named_values(item: _Companion, row: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a row under the names that later rows use."""
    return {_reference(item, column): value for column, value in row.items()}


def _same(item: _Companion) -> list[Condition]:
    return item.live.conditions({name: item.section.values[name] for name in item.section.same})
