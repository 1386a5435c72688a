"""What a file says of users, checked line by line against the app's rules, against itself and against who is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.errors import AlreadyExistsError, DbctlError, ImportInvalidError, UsageError, ValueInvalidError
from dbctl.model import Secret, Value
from dbctl.profiles.codecs import HASHES
from dbctl.services.user_creation import check_new, check_password
from dbctl.services.user_files import Existing, Line
from dbctl.services.user_table import UserTable

#: Columns of a file that are no fields of the profile.
OWN = ("role", "password", "password_hash")
#: Columns that a list of users has and an import leaves alone, where they are no fields: the database gives them.
GIVEN = ("id", "login")


class Entry(Value, frozen=True, kw_only=True):
    """One user of a file, checked, and still without a password."""

    login: str
    logins: Sequence[tuple[str, str]]  #: every field by which users sign in, and the folded value
    row: Mapping[str, object]
    hashed: str  #: where the file has the hash itself
    password: Secret | None  #: where the file has the password


def checked(
    users: UserTable,
    lines: Sequence[Line],
    file: str,
    *,
    existing: Existing,
    generate: bool,
    before: Mapping[int, Entry] = {},
) -> tuple[dict[int, Entry], int]:
    """Return the users to add, by the number of their line, and how many are skipped.

    Args:
        users: who is there.
        lines: what the file says.
        file: its name, for messages.
        existing: what to do with users who are there already.
        generate: whether a password may be missing.
        before: what this returned earlier for the same lines. Only whether their logins are still free is looked at
            again, because the app waits meanwhile.

    Raises:
        ImportInvalidError: with every line that is wrong, and the first thing that is wrong in it.
        UsageError: a column is unknown.
    """
    if not before:
        _refuse_unknown(users, lines, file)
    entries: dict[int, Entry] = {}
    wrong: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    taken = _taken(users)
    name, skipped = users.told.login[0], 0
    for line in lines:
        entry = before.get(line.number)
        if entry and not any(login in taken[field] for field, login in entry.logins):
            entries[line.number] = entry
            continue
        try:
            fields = _fields(users, line)
            logins = [(field, users.fold(fields[field])) for field in users.logins() if field in fields]
            _refuse_twice(line, logins, seen)
            if existing is Existing.SKIP and users.fold(fields.get(name, "")) in taken[name]:
                skipped += 1
            else:
                entries[line.number] = _entry(users, line, fields, logins, taken, generate=generate)
        except AlreadyExistsError as error:
            wrong.append(f"{line.place}: {error}; --existing skip leaves out whom it has")
        except DbctlError as error:
            wrong.append(f"{line.place}: {error}")
    if wrong:
        raise ImportInvalidError(wrong=wrong, rows=len(lines), file=file)
    return entries, skipped


def _refuse_unknown(users: UserTable, lines: Sequence[Line], file: str) -> None:
    known = [*users.fields, *OWN]
    for line in lines:
        for column in line.values:
            if column not in known and column not in GIVEN and line.values[column] not in (None, ""):
                raise UsageError(
                    detail=f"{file}, {line.place}: unknown column {column!r}; known: {', '.join(known)}"
                )


def _refuse_twice(line: Line, logins: Sequence[tuple[str, str]], seen: dict[tuple[str, str], str]) -> None:
    """Refuse a login that another line has; remember those of this one."""
    for login in logins:
        if login in seen:
            raise ValueInvalidError(
                what=f"the {login[0]}", value=ascii(login[1]), reason=f"{seen[login]} has it too"
            )
    seen.update(dict.fromkeys(logins, line.place))


def _taken(users: UserTable) -> dict[str, set[str]]:
    """Return, by field, every login there is, folded."""
    fields = users.logins()
    rows = users.db.select(users.live.name, users.login_columns())
    return {field: {users.fold(str(row[at])) for row in rows if row[at]} for at, field in enumerate(fields)}


def _fields(users: UserTable, line: Line) -> dict[str, str]:
    """Return what a line says of the user's fields, as text.

    Raises:
        ValueInvalidError: a value is a list or a thing, or a yes or no that is not ``active``.
    """
    found = {}
    for name, value in line.values.items():
        if value in (None, "") or (name in GIVEN and name not in users.fields):
            continue
        if not isinstance(value, str | int | float) or (isinstance(value, bool) and name != "active"):
            raise ValueInvalidError(what=name, value="(not shown)", reason="it is no text")
        found[name] = str(value)
    return found


def _entry(
    users: UserTable,
    line: Line,
    fields: dict[str, str],
    logins: Sequence[tuple[str, str]],
    taken: Mapping[str, set[str]],
    *,
    generate: bool,
) -> Entry:
    told, name = users.told.password, users.told.login[0]
    if name not in fields:
        raise UsageError(detail=f"{name} is missing")
    hashed = fields.pop("password_hash", "")
    given = fields.pop("password", "")
    if told and not (hashed or given or generate):
        raise UsageError(detail="password is missing (or give password_hash, or --generate)")
    if hashed and given:
        raise UsageError(detail="it has both password and password_hash")
    if hashed and not (told and HASHES[told.codec].recognises(hashed)):
        kind = f"it is no {told.codec} hash" if told else "the app stores none"
        raise ValueInvalidError(what="password_hash", value="(not shown)", reason=kind)
    if given:
        check_password(users.app, Secret(given))
        if not isinstance(line.values["password"], str):
            raise ValueInvalidError(what="the password", value="(not shown)", reason="it is no text")
    return Entry(
        login=fields[name],
        logins=logins,
        row=check_new(users, fields, taken=taken),
        hashed=hashed,
        password=Secret(given) if given else None,
    )
