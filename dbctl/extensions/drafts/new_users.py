"""Draft what a new user needs: values of its row, rows of other tables, and columns that refer to users only by their values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta

from dbctl.engines.contract.database import Column, Condition, InSubquery, Not, Readable
from dbctl.errors.connection import BusyError, PrivilegeMissingError, QueryFailedError
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Decision, Draft, Line, Part, Value, join_names
from dbctl.model import Row, Struct, format_count
from dbctl.profiles.payloads import KEY_IN_TEXT, has_row_path
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import SAMPLE_ROWS, Evidence, TableEvidence
from dbctl.services.app.evidence.references import UserReference, find_user_references
from dbctl.services.app.secrets import has_secret_name

#: Users from which on a row for each, or a column without NULL, is no chance; without a unique index a row for each needs more.
LEAST_USERS, MANY_USERS = 2, 5
#: The most characters of a constant that a draft copies from rows.
LONGEST_CONSTANT = 40
#: The time limit of a query about all users.
QUERY_LIMIT = timedelta(seconds=1)
#: Names of fields with a meaning of their own.
_RESERVED = ("role", "roles", "active")
#: Fields that each new user has.
_SOURCES = ("id", "username", "email")


class _Values(Struct, frozen=True, kw_only=True):
    """The values of a new row."""

    known: Mapping[str, Value]
    #: columns that have a value in each row, but the rows do not show which a new one gets
    unknown: Sequence[str]


def draft_new_users(
    evidence: Evidence,
    db: Readable,
    users: TableEvidence,
    fields: Mapping[str, str],
    *,
    covered: Collection[str],
    described: Collection[str],
) -> Draft:
    """Return the values of a new user's columns, and the rows of other tables.

    Args:
        evidence: the evidence.
        db: the database.
        users: the table of users.
        fields: by field, its column.
        covered: columns that the profile covers without fields: key, password, roles.
        described: tables that other sections describe.
    """
    known_before = {field: column for field, column in fields.items() if field in _SOURCES and field != "id"}
    same = {
        column
        for field, column in fields.items()
        if usual_names.PREFERENCE.search(field) and len(set(map(str, users.values(column)))) == 1
    }
    own = _find_values(
        users, users, [(row, row) for row in users.rows], known_before, {*covered, *fields.values()} - same
    )
    required = [column for column in own.unknown if users.columns[column].required]
    varied = [column for column in own.unknown if column not in required]
    known = {**own.known, **_find_empty_texts(users, fields)}
    lines = []
    if known:
        lines.append(Line("new", known, _explain_values(users, known)))
    decisions = list[Decision]()
    parts = list[Part]()
    sources = {**known_before, "id": users.key}
    for reference in find_companions(evidence, db, users, described):
        part, decision = _draft_companion(evidence, users, reference, sources)
        parts.append(part)
        decisions += [decision] if decision else []
    if varied:
        text = f"{users.name}.{join_names(varied)} would be NULL for a new user, and is so for none of {len(users.rows)}"
        decisions.append(Decision("new-users", text))
    return Draft(
        fields={f"{name}_value" if name in _RESERVED else name: name for name in required},
        lines=lines,
        parts=parts,
        decisions=decisions,
    )


# Values ---------------------------------------------------------------------------------------------------------------


def _find_values(
    table: TableEvidence,
    users: TableEvidence,
    rows: Sequence[tuple[Row, Row]],
    sources: Mapping[str, str],
    covered: Collection[str],
) -> _Values:
    """Return the values of a new row by those of all sampled rows, each with the row of its user."""
    known, unknown = dict[str, Value](), list[str]()
    for column in table.columns.values():
        if column.name in covered or column.is_generated:
            continue
        stored = table.values(column.name)
        is_full = len(stored) == len(table.rows) and len(stored) >= LEAST_USERS
        if not (column.required or (column.nullable and is_full)):
            continue  # the database has a default, or other rows have no value
        if table is not users and _gives_rights(table, column):
            unknown.append(column.name)
            continue
        value = find_constant(column, stored) if column.required else _find_optional_constant(table, column)
        if value is None and is_full:
            value = _derive(table, column, rows, {} if _refers_elsewhere(table, column, users) else sources)
        if value is None:
            unknown.append(column.name)
        else:
            known[column.name] = value
    return _Values(known=known, unknown=unknown)


def find_constant(column: Column, stored: Sequence[object]) -> Value | None:
    """Return the value of a required column in a new row: the current time, or the only value of all sampled rows."""
    if subjects.is_time(column, stored):
        return ":now"
    distinct = set(map(repr, stored))
    if subjects.is_boolean(column, stored) and (len(distinct) > 1 or not subjects.is_whole(column)):
        return bool(stored[0]) if len(distinct) == 1 else False
    first = stored[0] if stored else None
    if len(distinct) != 1 or (first not in ("", 0) and (len(stored) == 1 or has_secret_name(column.name))):
        return None
    if isinstance(first, int) or (
        isinstance(first, str) and len(first) <= LONGEST_CONSTANT and first.isprintable()
    ):
        return first
    return None


def _find_optional_constant(table: TableEvidence, column: Column) -> Value | None:
    """Return the only value of a column that may be NULL; a time only if its name shows that it is that of the row."""
    stored = table.values(column.name)
    if subjects.is_time(column, stored):
        usual = usual_names.find_names(
            table, [*usual_names.FIELDS["created_at"], *usual_names.FIELDS["updated_at"]]
        )
        return ":now" if column.name in usual else None
    return find_constant(column, stored) if len(set(map(repr, stored))) == 1 else None


def _gives_rights(table: TableEvidence, column: Column) -> bool:
    """Return whether a column has roles or permissions: those of all present users are not those of each new one."""
    if target := table.target(column.name):
        name = references.normalize(target[0])
        return bool(usual_names.ROLES_TABLE.search(name) or usual_names.PERMISSIONS_TABLE.search(name))
    return bool(usual_names.ROLE_OF_PAIR.search(references.shorten(table, column.name)))


def _refers_elsewhere(table: TableEvidence, column: Column, users: TableEvidence) -> bool:
    """Return whether a column has keys of rows that are no users, which are equal to those of users by chance."""
    target = table.target(column.name)
    return target is not None and target[0] != users.name


def _derive(
    table: TableEvidence, column: Column, rows: Sequence[tuple[Row, Row]], sources: Mapping[str, str]
) -> Value | None:
    """Return the generator or the field of the user that has the values of all rows; None: neither."""
    stored = [str(row[column.name]) for row, _ in rows if row.get(column.name) is not None]
    if len(stored) != len(table.rows) or len(set(stored)) < len(stored):
        return None
    for field, source in sources.items():
        copied = [str(user.get(source)) for _, user in rows]
        if stored == copied:
            return f"{{{field}}}"
        if stored == [text.lower() for text in copied]:
            return f"{{{field}:lower}}"
    return None if table.target(column.name) else _find_generator(column, stored)


def _find_generator(column: Column, stored: Sequence[str]) -> Value | None:
    # A row with a new key of a program would let it sign in.
    is_key = has_secret_name(column.name) or bool(usual_names.TOKEN.search(references.normalize(column.name)))
    generator = subjects.guess_generator(stored)
    return generator if generator and (generator == ":uuid4" or not is_key) else None


def _find_empty_texts(users: TableEvidence, fields: Mapping[str, str]) -> dict[str, Value]:
    """Return the required fields that are empty in all rows, so that a new user needs none."""
    return {
        column: ""
        for field, column in fields.items()
        if field != "username"
        and users.columns[column].required
        and users.rows
        and not users.is_unique(column)
        and all(row.get(column) == "" for row in users.rows)
    }


def _explain_values(table: TableEvidence, known: Mapping[str, Value]) -> str:
    """Return the evidence for the values of a new row; a required boolean is false if the rows have both values."""
    mixed = [
        column
        for column, value in known.items()
        if value is False and len(set(map(bool, table.values(column)))) > 1
    ]
    counted = f"as in all of {format_count(len(table.rows), 'sampled row')}"
    return f"{counted}; not {join_names(mixed)}, which has both values" if mixed else counted


# Rows of other tables -------------------------------------------------------------------------------------------------


def find_companions(
    evidence: Evidence, db: Readable, users: TableEvidence, described: Collection[str]
) -> Iterator[UserReference]:
    """Yield the columns of tables in which every user has one row, or each of many users has rows."""
    keys = sorted(map(str, users.values(users.key)))
    if len(keys) < LEAST_USERS:
        return
    for reference in find_user_references(evidence, users, users.key):
        table = evidence.tables[reference.table]
        if table.name in described or table.unread:
            continue
        if _is_whole(users) and _is_whole(table):
            owners = sorted(map(str, table.values(reference.column)))
            if owners == keys or (len(keys) >= MANY_USERS and sorted(set(owners)) == keys):
                yield reference
        elif table.is_unique(reference.column) and table.rows and _has_each_user(db, users, reference):
            yield reference


def _is_whole(table: TableEvidence) -> bool:
    """Return whether the sample has all rows of a table."""
    return len(table.rows) < 2 * SAMPLE_ROWS


def _has_each_user(db: Readable, users: TableEvidence, reference: UserReference) -> bool:
    rows = InSubquery([users.key], reference.table, [reference.column])
    try:
        return db.exists(users.name, [Not(rows)], timeout=QUERY_LIMIT) is False
    except (BusyError, PrivilegeMissingError, QueryFailedError):
        return False


def _draft_companion(
    evidence: Evidence, users: TableEvidence, reference: UserReference, sources: Mapping[str, str]
) -> tuple[Part, Decision | None]:
    """Return the section about a row that every user has: active if the rows show each of its values."""
    table = evidence.tables[reference.table]
    users_by_key = {str(row.get(users.key)): row for row in users.rows}
    rows = [(row, user) for row in table.rows if (user := users_by_key.get(str(row.get(reference.column))))]
    shown = _find_values(table, users, rows, sources, {reference.column})
    unread = [name for name in table.columns if table.rows and name not in table.rows[0]]
    unknown = list(dict.fromkeys([*shown.unknown, *unread]))
    lines = [Line("table", table.name), Line("user", reference.column)]
    if shown.known:
        lines.append(Line("values", shown.known, _explain_values(table, shown.known)))
    is_own = table.is_unique(reference.column) or len(table.rows) >= MANY_USERS
    is_personal = reference.deletion != "unhandled" or usual_names.PERSONAL_ROWS.search(
        references.normalize(table.name)
    )
    is_single = len(rows) == len(users_by_key) or not _is_whole(table)
    reasons = [
        "" if is_single else "some users have several",
        f"the values of {join_names(unknown)} differ" if unknown else "",
        "" if is_own else "it may be chance",
        "" if is_personal else "its rows would be deleted with their user",
    ]
    doubt = "; ".join(filter(None, reasons))
    owned = "one row" if is_single else "rows"
    counted = (
        f"Each of {len(users.rows)} {'' if _is_whole(users) else 'sampled '}users has {owned} in {table.name}"
    )
    remark = f"{counted}. If the app requires it:" if doubt else f"{counted}, with values that are known."
    part = Part(header="users.create", is_array=True, remarks=[remark], lines=lines, is_candidate=bool(doubt))
    if not doubt:
        return part, None
    text = f"each user has {owned} in {table.name}, which a new user would lack: {doubt}"
    return part, Decision("new-users", text)


#: Different values from which on it is no chance that all are logins or keys, unless they are addresses or the column is named after users.
LEAST_VALUES = 2


class ValueReference(Struct, frozen=True, kw_only=True):
    """A column whose values are those of users."""

    table: str
    column: str
    path: str  #: as in ``users.cascade``; empty: a profile cannot express it
    evidence: str

    @property
    def place(self) -> str:
        return f"{self.table}.{self.column}"


def find_value_references(
    evidence: Evidence, db: Readable, users: TableEvidence, logins: Sequence[str], described: Collection[str]
) -> Iterator[ValueReference]:
    """Yield the columns without a foreign key whose values all are logins, or keys, of users.

    ``logins`` are the columns of users with logins; the draft has the columns (``table.column``) or tables ``described`` already.
    """
    sources = [*(column for column in logins if column != users.key), users.key]
    for table in evidence.base_tables():
        if table.name == users.name or table.name in described:
            continue
        in_keys = {name for reference in table.references for name in reference.columns}
        for column in table.columns.values():
            is_other = column.name in in_keys or f"{table.name}.{column.name}" in described
            stored = table.values(column.name)
            if is_other or not stored or column.is_generated or has_secret_name(column.name):
                continue
            for source in sources:
                if _fits(
                    evidence, table, column, users.columns[source], is_key=source == users.key
                ) and contains_all(db, users, source, stored):
                    kind = "keys" if source == users.key else "logins"
                    yield ValueReference(
                        table=table.name,
                        column=column.name,
                        path=_write_path(users, table.name, column.name, source),
                        evidence=f"{len(stored)} of {len(stored)} sampled values are {kind} of users ({source})",
                    )
                    break


def _fits(evidence: Evidence, table: TableEvidence, column: Column, source: Column, *, is_key: bool) -> bool:
    """Return whether equal values are no chance."""
    stored = {str(value) for value in table.values(column.name)} - {""}
    word = usual_names.find_user_word(column.name)
    is_named = bool(word) and all(
        references.list_words(other.name)[-1] != word for other in evidence.base_tables()
    )
    if subjects.is_whole(source):
        return is_key and is_named and subjects.is_whole(column) and not stored <= {"0", "1"}
    if column.native != source.native or subjects.is_whole(column) or not stored:
        return False
    return is_named or len(stored) >= LEAST_VALUES or all("@" in value for value in stored)


def contains_all(db: Readable, users: TableEvidence, source: str, stored: Sequence[object]) -> bool:
    """Return whether all values are those of users; values that are not among the sampled users are looked up."""
    known = set(map(str, users.values(source)))
    missing = sorted({str(value) for value in stored if value != ""} - known)
    if not missing:
        return True
    if len(users.rows) < 2 * len(missing) or users.columns[source].native or not users.is_unique(source):
        return False
    try:
        where = [Condition(source, "in", missing)]
        return db.count(users.name, where) == len(missing)
    except (BusyError, PrivilegeMissingError, QueryFailedError):
        return False


def _write_path(users: TableEvidence, table: str, column: str, source: str) -> str:
    if not (has_row_path(table, column) and has_row_path(users.name, source)):
        return ""
    return (
        f"{table}.{column}"
        if source == users.key
        else f"{table}.{column} -> {users.name}({source}).{users.key}"
    )


def find_named_rows(evidence: Evidence, users: TableEvidence) -> Mapping[str, list[str]]:
    """Return, by column (``table.column``) with names such as ``__user_5__``, their paths, as in ``users.cascade``."""
    keys = set(map(str, users.values(users.key)))
    paths = dict[str, list[str]]()
    for table in evidence.base_tables():
        for column in usual_names.find_names(table, usual_names.LABEL) if table.name != users.name else ():
            for value in map(str, table.values(column)):
                match = usual_names.KEY_IN_NAME.search(value)
                if match is None or match[1] not in keys:
                    continue
                templates = paths.setdefault(f"{table.name}.{column}", [])
                text = f"{value[: match.start(1)]}{KEY_IN_TEXT}{value[match.end(1) :]}"
                is_text = not any(sign in text for sign in (".", "?", " -> ")) and has_row_path(
                    table.name, column
                )
                path = f"{table.name}.{column}={text}"
                if is_text and path not in templates:
                    templates.append(path)
    return paths
