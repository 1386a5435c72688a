"""Recognize the table of users."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.errors.usage import UsageError
from dbctl.model import Struct
from dbctl.profiles.passwords import identify_format
from dbctl.services.app.evidence import references as names
from dbctl.services.app.evidence.gather import Evidence, TableEvidence

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
    """Return the table that the caller names.

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
        and names.USERS_TABLE.search(names.normalize(candidate.table.name))
    ]


def _rate_tables(evidence: Evidence) -> list[UsersCandidate]:
    incoming: dict[str, int] = {}
    for table in evidence.tables.values():
        for target in {reference.table for reference in table.references} - {table.name}:
            incoming[target] = incoming.get(target, 0) + 1
    candidates = [_rate(table, incoming.get(table.name, 0)) for table in evidence.tables.values()]
    return sorted(
        candidates,
        key=lambda candidate: (-candidate.points, candidate.table.is_view, candidate.table.name),
    )


def _rate(table: TableEvidence, references: int) -> UsersCandidate:
    name = names.normalize(table.name)
    passwords = names.match_columns(table, names.PASSWORD)
    logins = names.find_names(
        table, ["username", "user_name", "login", "login_name", "user_login", *names.FIELDS["email"]]
    )
    if names.USERS_TABLE.search(name) and references:
        labels = names.find_names(table, names.FIELDS["username"])
        logins = list(dict.fromkeys([*logins, *(column for column in labels if table.is_unique(column))]))
    hashes = sum(
        bool(identify_format(value)) for column in passwords for value in map(_text, table.values(column))
    )
    rated = [
        (4, bool(names.USERS_TABLE.search(name)), "the name of the table"),
        (-6, bool(names.NOT_USERS.search(name)), "the name of another table"),
        (2, bool(passwords), f"the column {', '.join(passwords[:2])}"),
        (4, hashes > 0, f"password hashes: {hashes}"),
        (2, bool(logins), f"the login {', '.join(logins[:2])}"),
        (1, any(table.is_unique(column) for column in logins), "unique logins"),
        (min(references, MOST_REFERENCES), references > 0, f"tables that refer to it: {references}"),
        (1, bool(names.find_names(table, names.FIELDS["last_login_at"])), "times of logins"),
    ]
    if not (passwords or logins):
        return UsersCandidate(table, 0, ())
    return UsersCandidate(
        table,
        sum(points for points, applies, _ in rated if applies),
        [reason for points, applies, reason in rated if applies and points > 0],
    )


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
