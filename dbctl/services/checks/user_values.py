"""Check that the values of new users and of sign-outs in a profile name fields, rows, filters and generators that exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from dbctl.profiles.codecs import KEYS
from dbctl.profiles.model.base import NewValue
from dbctl.profiles.model.users import Users
from dbctl.profiles.templates import COUNTER, find_filter_problem, find_generator_problem, list_fields
from dbctl.services.users.sign_in_state import NEXT

#: A key in a profile, and the problem with its value.
Problem: TypeAlias = tuple[Sequence[str | int], str]


def find_value_problems(users: Users) -> Iterator[Problem]:
    """Yield the values of users that name an unknown field, row, filter or generator, and tables of sign-ins without users."""
    yield from _check_new_values(users)
    for field in users.joined:
        if field in users.fields:
            yield ("users", "joined", field), "it is also in users.fields"
        is_read_only = field == "active" and users.only_app_deactivates
        for name in ("expires_at", "owner"):
            if getattr(users.joined[field], name) and not is_read_only:
                reason = (
                    "it requires the field active and users.only_app_deactivates: dbctl writes no such rows"
                )
                yield ("users", "joined", field, name), reason
    for index, table in enumerate(users.signed_in):
        if bool(table.user) == bool(table.payload):
            yield ("users", "signed_in", index), "it requires user or payload"
    yield from check_renewed(("users", "on_sign_out"), users.on_sign_out)


def check_renewed(key: Sequence[str], values: Mapping[str, NewValue]) -> Iterator[Problem]:
    for column, value in values.items():
        reason = find_generator_problem(value) if value != NEXT else ""
        if reason or any(list_fields(value)):
            yield (*key, column), reason or "it must not depend on fields of the user"


def _check_new_values(users: Users) -> Iterator[Problem]:
    tables = [row.table.removesuffix("?") for row in users.create]
    first = {
        name.partition(".")[0] for value in users.new.values() for name in list_fields(value) if "." in name
    }
    known_key = KEYS[users.id.codec] is not None
    for column, value in users.new.items():
        yield from _check_value(("users", "new", column), value, users, tables, has_key=known_key)
    for index, row in enumerate(users.create):
        key, is_first = ("users", "create", index), tables[index] in first
        has_key = known_key or not is_first
        for column, value in _skip_counters(row.values):
            yield from _check_value((*key, "values", column), value, users, tables[:index], has_key=has_key)
        for position, entry in enumerate(row.rows):
            for column, value in _skip_counters(entry):
                yield from _check_value(
                    (*key, "rows", position, column), value, users, tables[:index], has_key=has_key
                )
        if row.user and not has_key:
            yield (*key, "user"), "the row is added before the user, who has no key then"
        for column in row.same:
            if column not in row.values or any(list_fields(row.values[column])):
                yield (*key, "same"), f"{column} has no constant in values"
        yield from _check_references(key, index, users)


def _skip_counters(values: Mapping[str, NewValue]) -> Iterator[tuple[str, NewValue]]:
    for column, value in values.items():
        if not (isinstance(value, str) and COUNTER.fullmatch(value)):
            yield column, value


def _check_value(
    key: Sequence[str | int], value: object, users: Users, tables: Sequence[str], *, has_key: bool
) -> Iterator[Problem]:
    for reason in (find_generator_problem(value), find_filter_problem(value)):
        if reason:
            yield key, reason
    for name in list_fields(value):
        table = name.partition(".")[0]
        if "." in name and table not in tables:
            yield key, f"{{{name}}}: no earlier row of users.create has the table {table}"
        elif name == "id" and not has_key:
            yield key, "{id}: the database creates the key of the user later"
        elif "." not in name and name not in ("id", "role", *users.fields, *users.joined):
            yield key, f"{{{name}}}: {name} is not in users.fields"


def _check_references(key: Sequence[str | int], index: int, users: Users) -> Iterator[Problem]:
    """Yield why other rows cannot refer to the rows of a section: at most one of its columns may be generated, in one row."""
    row = users.create[index]
    columns = list_referenced(users, row.table.removesuffix("?"))
    generated = [column for column in columns if column not in row.values]
    if len(generated) > 1:
        yield key, f"other rows refer to {' and '.join(generated)}; only one of them may be missing in values"
    if columns and row.rows:
        yield (*key, "rows"), "other rows refer to it, so it must be a single row"
    if not (row.user or columns):
        yield key, "user is missing, and no other row refers to it, so it cannot be deleted with the user"


def list_referenced(users: Users, table: str) -> list[str]:
    """Return the columns of a table to which values of new users refer."""
    mappings = [users.new, *(values for row in users.create for values in (row.values, *row.rows))]
    names = {name for values in mappings for value in values.values() for name in list_fields(value)}
    return sorted(name.partition(".")[2] for name in names if name.startswith(f"{table}."))
