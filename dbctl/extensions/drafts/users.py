"""Recognize the table of users, and draft the sections about them: table, key, logins, fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from dbctl.engines.contract.database import Readable
from dbctl.errors.usage import UsageError
from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.content import separate_users
from dbctl.extensions.drafts.document import Decision, Draft, Line, Part, Value, join_names
from dbctl.extensions.drafts.new_users import LONGEST_CONSTANT, draft_new_users
from dbctl.extensions.drafts.roles import draft_role
from dbctl.extensions.drafts.sign_ins import draft_password, read_passwords
from dbctl.model import Struct, format_count
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.secrets import has_secret_name

#: Candidates with fewer points are not users; a second candidate is named if it has nearly as many as the first.
LEAST_POINTS, NEAR_POINTS = 7, 3
MOST_REFERENCES = 3  #: points for foreign keys that refer to the table


class UsersCandidate(Struct, frozen=True):
    """A table that may be that of the users."""

    table: TableEvidence
    points: int
    reasons: Sequence[str]

    @property
    def evidence(self) -> str:
        return ", ".join(self.reasons)


def rank_users_tables(evidence: Evidence) -> list[UsersCandidate]:
    """Return the tables that may be that of the users, the most probable first; views are among them."""
    return [candidate for candidate in _rate_tables(evidence) if candidate.points >= LEAST_POINTS]


def choose_users_table(evidence: Evidence, name: str) -> UsersCandidate:
    """Return the table that the caller references.

    Raises:
        UsageError: there is no such table, or its rows have no key of one column.
    """
    table = evidence.tables.get(name)
    if table is None or table.is_view or not table.key:
        reason = "no such table" if table is None else "a view, or no column identifies its rows"
        raise UsageError(detail=f"--users {name!r}: {reason}")
    return UsersCandidate(table, LEAST_POINTS, ["chosen with --users"])


def list_similar_tables(evidence: Evidence) -> list[str]:
    """Return the tables that are named like users, but show too little of them."""
    return [
        candidate.table.name
        for candidate in _rate_tables(evidence)
        if not candidate.table.is_view
        and candidate.table.key
        and usual_names.USERS_TABLE.search(references.normalize(candidate.table.name))
    ]


def _rate_tables(evidence: Evidence) -> list[UsersCandidate]:
    incoming: dict[str, int] = {}
    for table in evidence.tables.values():
        for target in {reference.table for reference in table.references} - {table.name}:
            incoming[target] = incoming.get(target, 0) + 1
    candidates = [_rate(table, incoming.get(table.name, 0)) for table in evidence.tables.values()]
    return sorted(
        candidates, key=lambda candidate: (-candidate.points, candidate.table.is_view, candidate.table.name)
    )


def _rate(table: TableEvidence, incoming: int) -> UsersCandidate:
    name = references.normalize(table.name)
    passwords = references.match_columns(table, usual_names.PASSWORD)
    logins = usual_names.find_names(table, usual_names.LOGINS)
    if usual_names.USERS_TABLE.search(name) and incoming:
        labels = usual_names.find_names(table, usual_names.FIELDS["username"])
        logins = list(dict.fromkeys([*logins, *(column for column in labels if table.is_unique(column))]))
    hashes = sum(read_passwords(table, [column]).formats.total() for column in passwords)
    rated = [
        (4, bool(usual_names.USERS_TABLE.search(name)), "the name of the table"),
        (-6, bool(usual_names.NOT_USERS.search(name)), "the name of another table"),
        (2, bool(passwords), f"the column {', '.join(passwords[:2])}"),
        (4, hashes > 0, f"password hashes: {hashes}"),
        (2, bool(logins), f"the login {', '.join(logins[:2])}"),
        (1, any(table.is_unique(column) for column in logins), "unique logins"),
        (min(incoming, MOST_REFERENCES), incoming > 0, f"tables that refer to it: {incoming}"),
        (1, bool(usual_names.find_names(table, usual_names.FIELDS["last_login_at"])), "times of logins"),
    ]
    if not (passwords or logins):
        return UsersCandidate(table, 0, ())
    return UsersCandidate(
        table,
        sum(points for points, applies, _ in rated if applies),
        [reason for points, applies, reason in rated if applies and points > 0],
    )


#: The values of a column that is true for users who cannot sign in.
_INVERTED: Mapping[str, Value] = {"values": [False], "inactive": True}


class UsersDraft(Draft, frozen=True, kw_only=True):
    """The sections about users; the tables are those with roles."""

    table: TableEvidence
    logins: Sequence[str]  #: the columns that identify a user


def draft_users(
    evidence: Evidence,
    db: Readable,
    best: UsersCandidate,
    candidates: Sequence[UsersCandidate],
    signed_in: Collection[str],
) -> UsersDraft:
    """Return the sections about the candidate ``best``; ``signed_in`` are the tables whose rows end with a sign-in."""
    password = draft_password(evidence, best.table)
    others = separate_users(best.table, password.columns)
    table = others.table
    fields, logins = _map_fields(table)
    key = table.columns[table.key]
    codec, key_evidence = subjects.guess_key_codec(key, table.values(key.name))
    if not logins:
        logins = ["id"]
    if codec == "given" or "id" in logins:
        fields = {"id": key.name, **fields}
    flags = [] if "active" in fields else _list_inactive_flags(table)
    several = _find_composite_logins(table, fields, logins)
    composite = [
        Line(
            "login",
            [field],
            f"if {fields[field]} alone identifies users: unique are {' and '.join(key)}",
            is_candidate=True,
        )
        for field, key in several
    ]
    role = draft_role(evidence, table, others.columns)
    covered = {key.name, *fields.values(), *password.columns, *role.columns, *others.columns}
    new = draft_new_users(evidence, db, table, fields, covered=covered, described={*signed_in, *role.tables})
    fields |= new.fields
    lines: list[Line | str] = [
        Line("table", table.name, best.evidence),
        *(
            f"{other.table.name} may be that of the users, too ({other.evidence}): draft it with --users"
            for other in _list_other_candidates(best, candidates)
        ),
        Line("id", {"column": key.name, "codec": codec}, key_evidence),
        Line("login", logins, _describe_logins(table, fields, logins)),
        *composite,
        *others.lines,
        Line("match", "exact", "if the app distinguishes Ida and ida", is_candidate=True),
        *role.lines,
        *password.lines,
    ]
    if flags:
        description = f"by its name, {' or '.join(flags)} is true for users who cannot sign in"
        lines.append(Line("active", _INVERTED, description, is_candidate=True))
    lines += new.lines
    parts = [
        Part(header="users", remarks=["Users"], lines=lines),
        Part(header="users.fields", lines=list(_describe_fields(table, fields, new.fields))),
        *role.parts,
        *new.parts,
    ]
    decisions = [
        *_decide_table(best, candidates),
        *others.decisions,
        *role.decisions,
        *password.decisions,
        *new.decisions,
    ]
    decisions += [
        Decision(
            "login" if "id" in logins else "users",
            f"the login of users: {' and '.join(key)} are unique together in {table.name}"
            f" ({f'index {index}' if (index := table.keys[key]) else 'the primary key'}), and a profile names one column",
        )
        for key in dict.fromkeys(key for _, key in several)
    ]
    if "active" not in fields:
        columns = [*flags, *references.match_columns(table, usual_names.INACTIVE)]
        text = f"users without the field active: {join_names(columns)} of {table.name} may show who cannot sign in"
        decisions += [Decision("active", text)] if columns else []
    return UsersDraft(
        table=table,
        parts=parts,
        fields=fields,
        logins=[
            fields[field]
            for field in ("username", "email")
            if field in fields and _identifies(table, fields[field])
        ],
        tables=role.tables,
        secrets=[f"{table.name}.{column}" for column in password.columns],
        decisions=decisions,
    )


# Table ----------------------------------------------------------------------------------------------------------------


def _list_other_candidates(
    best: UsersCandidate, candidates: Sequence[UsersCandidate]
) -> Iterable[UsersCandidate]:
    for candidate in candidates:
        if (
            candidate is not best
            and not candidate.table.is_view
            and candidate.points + NEAR_POINTS >= best.points
        ):
            yield candidate


def _decide_table(best: UsersCandidate, candidates: Sequence[UsersCandidate]) -> list[Decision]:
    others = [candidate.table.name for candidate in _list_other_candidates(best, candidates)]
    text = (
        f"the table of users: {best.table.name}, or {', '.join(others)}, which is drafted with --users TABLE"
    )
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
    for field, candidates in usual_names.FIELDS.items():
        for column in usual_names.find_names(table, candidates):
            if column not in fields.values() and _suits(field, table, column):
                fields[field] = column
                break
    logins: list[str] = [
        field for field in ("username", "email") if field in fields and _identifies(table, fields[field])
    ]
    if "username" in fields and "username" not in logins and "name" not in fields:
        fields["name"] = fields.pop("username")
    for column in table.columns:
        short = references.shorten(table, column)
        if usual_names.PERSONAL.search(short) and column not in fields.values() and short not in fields:
            fields[short] = column
    return fields, logins


def _suits(field: str, table: TableEvidence, name: str) -> bool:
    column, stored = table.columns[name], table.values(name)
    if column.is_generated or has_secret_name(name):
        return False
    if field in usual_names.TIME_FIELDS:
        return subjects.is_time(column, stored)
    if field == "active":
        return subjects.is_boolean(column, stored)
    return subjects.is_text(column) or (all(isinstance(value, str) for value in stored) and bool(stored))


def _identifies(table: TableEvidence, column: str) -> bool:
    """Return whether a column distinguishes users: by a unique index, or by the sampled values."""
    if table.is_unique(column):
        return True
    is_part = any(column in key for key in table.keys)
    # Names of persons are often different by chance.
    if is_part or references.shorten(table, column) == "name" or references.normalize(column) == "name":
        return False
    stored = [value for value in table.values(column) if value != ""]
    return len(stored) > 1 and len(set(map(str, stored))) == len(stored)


def _find_composite_logins(
    table: TableEvidence, fields: Mapping[str, str], logins: Sequence[str]
) -> list[tuple[str, Sequence[str]]]:
    """Return the fields that identify a user only together with other columns, and these columns."""
    composite = []
    for field in ("username", "email", "name"):
        column = fields.get(field, "")
        key = next((key for key in table.keys if column in key and len(key) > 1), None)
        if key and field not in logins:
            composite.append((field, key))
    return composite


def _describe_logins(table: TableEvidence, fields: Mapping[str, str], logins: Sequence[str]) -> str:
    unique = [field for field in logins if table.is_unique(fields[field])]
    others = [field for field in logins if field not in unique]
    texts = [f"unique: {', '.join(unique)}"] if unique else []
    texts += (
        [f"different in {format_count(len(table.rows), 'sampled row')}: {', '.join(others)}"]
        if others
        else []
    )
    return "; ".join(texts)


def _describe_fields(
    table: TableEvidence, fields: Mapping[str, str], further: Mapping[str, str]
) -> Iterable[Line]:
    for field, column in fields.items():
        yield Line(field, column, _describe_field(table, field, column, further))
    if "active" in fields:
        return
    for column in _list_inactive_flags(table):
        yield Line("active", column, "with the candidate active above", is_candidate=True)
    for column in references.match_columns(table, usual_names.INACTIVE):
        stored = Counter(map(str, table.values(column))).most_common(3)
        shown = ", ".join(value for value, _ in stored if len(value) <= LONGEST_CONSTANT)
        evidence = f"only if true means active; values: {shown or 'none'}"
        yield Line("active", column, evidence, is_candidate=True)


def _describe_field(table: TableEvidence, field: str, column: str, further: Mapping[str, str]) -> str:
    stored = table.values(column)
    if field in further:
        return "NOT NULL without a default: a new user requires it"
    if field in usual_names.TIME_FIELDS:
        if table.columns[column].native == "time":
            return "the type of the column"
        forms = subjects.count_time_forms(stored)
        return (
            ", ".join(f"{count} of {len(stored)} are {form}" for form, count in forms.most_common())
            or "no value"
        )
    if field == "active":
        return f"{sum(map(bool, stored))} of {len(stored)} are true"
    return ""


def _list_inactive_flags(table: TableEvidence) -> list[str]:
    columns = references.match_columns(table, references.INACTIVE_FLAG)
    return [column for column in columns if _suits("active", table, column)]
