"""Draft the sections about users: table, key, logins, fields, constants of new rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from dbctl.engines.contract import Column
from dbctl.model import Struct
from dbctl.services.app import has_secret_name
from dbctl.services.app.evidence import Evidence, TableEvidence, find_user_references, names, values
from dbctl.services.profiles.draft.document import MOST_LISTED, Decision, Line, Part, Value, join_names
from dbctl.services.profiles.draft.passwords import draft_password
from dbctl.services.profiles.draft.roles import draft_role
from dbctl.services.profiles.draft.users_table import NEAR_POINTS, UsersCandidate

#: Rows from which on a column without NULL, or a row for each user, is no chance.
LEAST_ROWS = 2
#: The most characters of a constant that a draft copies from rows.
LONGEST_CONSTANT = 40
#: The values of a column that is true for users who cannot sign in.
_INVERTED: Mapping[str, Value] = {"values": [False], "inactive": True}


class UsersDraft(Struct, frozen=True, kw_only=True):
    """The sections about users."""

    table: TableEvidence
    parts: Sequence[Part]
    fields: Mapping[str, str]  #: by field, the column
    secrets: Sequence[str]  #: columns (``table.column``) that are always secret
    decisions: Sequence[Decision]


def draft_users(evidence: Evidence, candidates: Sequence[UsersCandidate]) -> UsersDraft | None:
    """Return the sections about the best candidate; None without a table that can be the users."""
    best = next((candidate for candidate in candidates if not candidate.table.is_view), None)
    if best is None or not best.table.key:
        return None
    table = best.table
    fields, logins = _map_fields(table)
    key = table.columns[table.key]
    codec, key_evidence = values.guess_key_codec(key, table.values(key.name))
    if not logins:
        logins = ["id"]
    if codec == "given" or "id" in logins:
        fields = {"id": key.name, **fields}
    flags = [] if "active" in fields else _list_inactive_flags(table)
    if len(flags) == 1:
        fields["active"] = flags[0]
    password, role = draft_password(evidence, table), draft_role(evidence, table)
    covered = {key.name, *fields.values(), *password.columns, *role.columns}
    new, further = _cover_required(table, covered)
    fields |= further
    lines: list[Line | str] = [
        Line("table", table.name, best.evidence),
        *_list_other_candidates(best, candidates),
        Line("id", {"column": key.name, "codec": codec}, key_evidence),
        Line("login", logins, _describe_logins(table, fields, logins)),
        Line("match", "exact", "if the app distinguishes Ida and ida", is_candidate=True),
        *role.lines,
        *password.lines,
    ]
    if flags:
        description = f"by its name, {' or '.join(flags)} is true for users who cannot sign in"
        lines.append(Line("active", _INVERTED, description, is_candidate=len(flags) > 1))
    filled, varied = _fill_nullable(table, {*covered, *new, *fields.values()})
    new |= filled
    if new:
        counts = f"; of {len(table.rows)} sampled rows, each has these values of {', '.join(filled)}"
        lines.append(Line("new", new, f"columns that no field covers{counts if filled else ''}"))
    companions = list(_draft_companions(evidence, table))
    parts = [
        Part(header="users", remarks=["Users"], lines=lines),
        Part(header="users.fields", lines=list(_describe_fields(table, fields, further))),
        *role.parts,
        *(part for _, part in companions),
    ]
    decisions = [*_decide_table(best, candidates), *role.decisions, *password.decisions]
    decisions += _decide_new_users(table, varied, [name for name, _ in companions])
    if "active" not in fields:
        has_candidate = flags or names.match_columns(table, names.INACTIVE)
        text = f"users without the field active: {table.name}"
        decisions += [Decision("users", text)] if has_candidate else []
    return UsersDraft(
        table=table,
        parts=parts,
        fields=fields,
        secrets=[f"{table.name}.{column}" for column in password.columns],
        decisions=decisions,
    )


# Table ----------------------------------------------------------------------------------------------------------------


def _list_other_candidates(best: UsersCandidate, candidates: Sequence[UsersCandidate]) -> Iterable[Line]:
    for candidate in candidates:
        if (
            candidate is not best
            and not candidate.table.is_view
            and candidate.points + NEAR_POINTS >= best.points
        ):
            yield Line("table", candidate.table.name, candidate.evidence, is_candidate=True)


def _decide_table(best: UsersCandidate, candidates: Sequence[UsersCandidate]) -> list[Decision]:
    others = [str(line.value) for line in _list_other_candidates(best, candidates)]
    text = f"the table of users: {best.table.name}, or {', '.join(others)}"
    decisions = [Decision("users", text)] if others else []
    views = [
        candidate.table.name
        for candidate in candidates
        if candidate.table.is_view and candidate.points > best.points
    ]
    if views:
        text = f"the view {', '.join(views)} looks more like users, but dbctl writes only tables"
        decisions.append(Decision("users", text))
    if best.table.unread:
        decisions.append(Decision("users", f"no row of {best.table.name} was read: {best.table.unread}"))
    return decisions


# Fields ---------------------------------------------------------------------------------------------------------------


def _map_fields(table: TableEvidence) -> tuple[dict[str, str], list[str]]:
    """Return the columns by field, and the fields that identify a user."""
    fields: dict[str, str] = {}
    for field, candidates in names.FIELDS.items():
        for column in names.find_names(table, candidates):
            if column not in fields.values() and _suits(field, table, column):
                fields[field] = column
                break
    logins: list[str] = [
        field for field in ("username", "email") if field in fields and _identifies(table, fields[field])
    ]
    if "username" in fields and "username" not in logins and "name" not in fields:
        fields["name"] = fields.pop("username")
    for column in table.columns:
        short = names.shorten(table, column)
        if names.PERSONAL.search(short) and column not in fields.values() and short not in fields:
            fields[short] = column
    return fields, logins


def _suits(field: str, table: TableEvidence, name: str) -> bool:
    column, stored = table.columns[name], table.values(name)
    if column.is_generated or has_secret_name(name):
        return False
    if field in names.TIME_FIELDS:
        return values.is_time(column, stored)
    if field == "active":
        return values.is_boolean(column, stored)
    return values.is_text(column) or (all(isinstance(value, str) for value in stored) and bool(stored))


def _identifies(table: TableEvidence, column: str) -> bool:
    """Return whether a column distinguishes users: by a unique index, or by the sampled values."""
    stored = [value for value in table.values(column) if value != ""]
    has_index = any(column in key for key in table.keys)
    return has_index or (len(stored) > 1 and len(set(map(str, stored))) == len(stored))


def _describe_logins(table: TableEvidence, fields: Mapping[str, str], logins: Sequence[str]) -> str:
    unique = [field for field in logins if table.is_unique(fields[field])]
    others = [field for field in logins if field not in unique]
    return "; ".join(
        text
        for text, applies in (
            (f"unique: {', '.join(unique)}", unique),
            (f"different in {len(table.rows)} sampled rows: {', '.join(others)}", others),
        )
        if applies
    )


def _describe_fields(
    table: TableEvidence, fields: Mapping[str, str], further: Mapping[str, str]
) -> Iterable[Line]:
    for field, column in fields.items():
        yield Line(field, column, _describe_field(table, field, column, further))
    if "active" in fields:
        return
    for column in _list_inactive_flags(table):
        yield Line("active", column, "with the candidate active above", is_candidate=True)
    for column in names.match_columns(table, names.INACTIVE):
        stored = Counter(map(str, table.values(column))).most_common(3)
        shown = ", ".join(value for value, _ in stored if len(value) <= LONGEST_CONSTANT)
        evidence = f"only if true means active; values: {shown or 'none'}"
        yield Line("active", column, evidence, is_candidate=True)


def _describe_field(table: TableEvidence, field: str, column: str, further: Mapping[str, str]) -> str:
    stored = table.values(column)
    if field in further:
        return "NOT NULL without a default: a new user requires it"
    if field in names.TIME_FIELDS:
        if table.columns[column].native == "time":
            return "the type of the column"
        forms = values.count_time_forms(stored)
        return (
            ", ".join(f"{count} of {len(stored)} are {form}" for form, count in forms.most_common())
            or "no value"
        )
    if field == "active":
        return f"{sum(map(bool, stored))} of {len(stored)} are true"
    return ""


def _list_inactive_flags(table: TableEvidence) -> list[str]:
    columns = names.match_columns(table, names.INACTIVE_FLAG)
    return [column for column in columns if _suits("active", table, column)]


# New rows -------------------------------------------------------------------------------------------------------------


def _cover_required(table: TableEvidence, covered: set[str]) -> tuple[dict[str, Value], dict[str, str]]:
    """Return constants, and further fields, for the required columns that the profile does not cover."""
    constants: dict[str, Value] = {}
    fields: dict[str, str] = {}
    for column in table.columns.values():
        if not column.required or column.name in covered or column.is_generated:
            continue
        constant = find_constant(column, table.values(column.name))
        if constant is None:
            fields[column.name] = column.name
        else:
            constants[column.name] = constant
    return constants, fields


def _fill_nullable(table: TableEvidence, covered: Collection[str]) -> tuple[dict[str, Value], list[str]]:
    """Return constants for columns that are never NULL although they may be, and the columns whose values differ."""
    constants, varied = dict[str, Value](), list[str]()
    for column in table.columns.values():
        stored = table.values(column.name)
        is_candidate = column.nullable and not column.is_generated and column.name not in covered
        if not is_candidate or len(stored) < LEAST_ROWS or len(stored) != len(table.rows):
            continue
        constant = None if values.is_time(column, stored) else find_constant(column, stored)
        if constant is None or len(set(map(repr, stored))) > 1:
            varied.append(column.name)
        else:
            constants[column.name] = constant
    return constants, varied


def _draft_companions(evidence: Evidence, users: TableEvidence) -> Iterator[tuple[str, Part]]:
    """Yield each table in which every user has exactly one row, and a candidate for the row of a new user."""
    keys = list(map(str, users.values(users.key)))
    if len(keys) < LEAST_ROWS:
        return
    for reference in find_user_references(evidence, users, users.key):
        table = evidence.tables[reference.table]
        if sorted(map(str, table.values(reference.column))) != sorted(keys):
            continue
        constants = {
            column.name: constant
            for column in table.columns.values()
            if column.name not in (reference.column, table.key)
            and len(table.values(column.name)) == len(table.rows)
            and (constant := find_constant(column, table.values(column.name))) is not None
        }
        lines = [Line("table", table.name), Line("user", reference.column)]
        lines += (
            [Line("values", constants, "the values of all rows, and the time of now")] if constants else []
        )
        remarks = [f"Each of {len(keys)} users has one row in {table.name}. If the app requires it:"]
        yield (
            table.name,
            Part(header="users.create", is_array=True, remarks=remarks, lines=lines, is_candidate=True),
        )


def _decide_new_users(
    users: TableEvidence, varied: Sequence[str], companions: Sequence[str]
) -> list[Decision]:
    decisions = []
    if companions:
        text = f"each user has one row in {join_names(companions)}, which a new user would lack"
        decisions.append(Decision("new-users", text))
    if varied:
        text = f"{users.name}.{', '.join(varied[:MOST_LISTED])} would be NULL for a new user, and is so for none of {len(users.rows)}"
        decisions.append(Decision("new-users", text))
    return decisions


def find_constant(column: Column, stored: Sequence[object]) -> Value | None:
    """Return the value of a required column in a new row: the current time, or the only value of all sampled rows."""
    if values.is_time(column, stored):
        return ":now"
    distinct = set(map(repr, stored))
    if values.is_boolean(column, stored):
        return bool(stored[0]) if len(distinct) == 1 else False
    first = stored[0] if stored else None
    if len(distinct) != 1 or (first not in ("", 0) and (len(stored) == 1 or has_secret_name(column.name))):
        return None
    if isinstance(first, int) or (
        isinstance(first, str) and len(first) <= LONGEST_CONSTANT and first.isprintable()
    ):
        return first
    return None
