"""Find the rows in a table of users that are none: groups besides users, and accounts of the app itself."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from dbctl.model import Row, Struct
from dbctl.services.app.evidence import references
from dbctl.services.app.evidence.gather import TableEvidence
from dbctl.services.profiles.draft.document import Decision, Line, Value, join_names

#: Beginnings of values that are no password.
_NO_PASSWORD = ("!", "*")


class OtherRowsDraft(Struct, frozen=True, kw_only=True):
    """The users of a table, and the lines about its other rows."""

    table: TableEvidence  #: the table, with the sampled rows that are users
    columns: Sequence[str] = ()  #: the columns that the profile covers
    lines: Sequence[Line] = ()
    decisions: Sequence[Decision] = ()


def separate_users(table: TableEvidence, passwords: Sequence[str]) -> OtherRowsDraft:
    """Return the rows that are users; ``passwords`` are the columns that together are the hash of a password.

    A kind of rows without any login and password is no kind of users. Rows without a password alone may be users who sign in
    elsewhere, so their kind, or their name, is a candidate.
    """
    logins = references.find_names(table, references.LOGINS)
    for column in references.match_columns(table, references.KIND) if passwords and logins else ():
        kinds = {str(row[column]) for row in table.rows if isinstance(row.get(column), str)}
        able = [row for row in table.rows if _has_password(row, passwords)]
        users = sorted({str(row[column]) for row in able if isinstance(row.get(column), str)})
        others = sorted(kinds - set(users))
        if not users or not others or any(row.get(column) is None for row in able):
            continue
        is_shown = not any(
            row.get(login) for row in table.rows if row.get(column) in others for login in logins
        )
        only: Value = {column: users if len(users) > 1 else users[0]}
        evidence = f"rows with {join_names(others)} have no password{' and no login' if is_shown else ''}"
        text = (
            f"the rows of {table.name} that are users: those with {column} = {join_names(users)}; {evidence}"
        )
        decision = Decision("users", text)
        line = Line("only", only, evidence, is_candidate=not is_shown)
        if not is_shown:
            return OtherRowsDraft(table=table, lines=[line], decisions=[decision])
        rows = [row for row in table.rows if row.get(column) in users]
        own = structs.replace(table, rows=rows)
        return OtherRowsDraft(table=own, columns=[column], lines=[line], decisions=[decision])
    return _find_system_accounts(table, passwords, logins)


def _find_system_accounts(
    table: TableEvidence, passwords: Sequence[str], logins: Sequence[str]
) -> OtherRowsDraft:
    """Return the accounts without a password whose login is usual for those of an app itself, as candidates."""
    for login in logins:
        likely = [
            str(row[login])
            for row in table.rows
            if references.SYSTEM_LOGIN.search(str(row.get(login) or "")) and not _has_password(row, passwords)
        ]
        if likely and passwords and len(likely) < len(table.rows):
            evidence = "by the name; no password"
            line = Line("excluded", {login: likely}, evidence, is_candidate=True)
            text = f"{join_names(likely)} in {table.name} may be accounts of the app itself, as they have no password: add them to users.excluded"
            return OtherRowsDraft(table=table, lines=[line], decisions=[Decision("users", text)])
    return OtherRowsDraft(table=table)


def _has_password(row: Row, passwords: Sequence[str]) -> bool:
    stored = row.get(passwords[-1]) if passwords else None
    return bool(stored) and not (isinstance(stored, str) and stored.startswith(_NO_PASSWORD))
