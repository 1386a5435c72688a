"""What a file says of users, checked line by line against the app's rules, against itself and against who is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Readable, Writable
from dbctl.errors import AlreadyExistsError, DbctlError, ImportInvalidError, UsageError, ValueInvalidError
from dbctl.model import Done, Page, Plan, Secret, Value, Window, counted
from dbctl.profiles import HASHES, KEYS, new_password
from dbctl.services.app import App, Change, Draft, UserTable, audit, database_of, exactly
from dbctl.services.users.create import check_new, check_password, hash_password, with_password
from dbctl.services.users.files import Existing, Line
from dbctl.services.users.queries import open_user_table as user_table

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
    name, skipped = users.section.login[0], 0
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
    told, name = users.section.password, users.section.login[0]
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


class MadeUp(Value, frozen=True, kw_only=True):
    """A password that dbctl made up; shown this once."""

    login: str
    password: str


class UsersImported(Done, frozen=True, kw_only=True):
    """Answer of ``users import``."""

    added: int
    skipped: int
    generated: Sequence[MadeUp] = ()

    @property
    def tells(self) -> bool:
        return bool(self.generated)


def import_users(
    app: App,
    lines: Sequence[Line],
    *,
    file: str,
    existing: Existing = Existing.FAIL,
    generate: bool = False,
    advance: Callable[[int], None] = lambda _done: None,
) -> Change[UsersImported]:
    """Add every user of a file in one transaction, or none.

    Passwords are hashed before the transaction begins, on all cores, so that the app waits only for the inserts.

    Args:
        app: the app.
        lines: the users.
        file: what they came from, for messages.
        existing: what to do with users who are there already.
        generate: make up a password for those who come without one.
        advance: called with 1 for each password that has been hashed.

    Raises (when planned and when applied):
        ImportInvalidError: with every line that is wrong.
        UsageError: a column is unknown.
    """
    prepared: dict[int, Entry] = {}
    hashes: dict[int, str] = {}
    made: dict[int, Secret] = {}

    def prepare() -> None:
        entries, _skipped = checked(user_table(app), lines, file, existing=existing, generate=generate)
        prepared.update(entries)
        hashes.update({number: entry.hashed for number, entry in entries.items() if entry.hashed})
        passwords = {number: entry.password for number, entry in entries.items() if entry.password}
        if app.ability(app.profile.users, "users").password:
            without = [number for number in entries if number not in hashes and number not in passwords]
            made.update({number: new_password() for number in without})
        hashes.update(_hashed(app, passwords | made, advance=advance))

    def draft(db: Readable) -> Draft[UsersImported]:
        users = UserTable(app, db)
        entries, skipped = checked(users, lines, file, existing=existing, generate=generate, before=prepared)

        def work(db: Writable) -> UsersImported:
            new = [
                with_password(users, entry.row, hashes.get(number, "")) for number, entry in entries.items()
            ]
            added = sum(  # in the order of the file, which becomes the order of the ids
                db.insert_many(users.live.name, columns, [tuple(row.values()) for row in alike])
                for columns, alike in groupby(new, key=tuple)
            )
            exactly(added, len(entries), db)
            if added:
                audit.record(app, db, "users.import", "users", "", {"added": added, "file": Path(file).name})
            generated = [
                MadeUp(login=entries[number].login, password=password.reveal())
                for number, password in made.items()
                if number in entries
            ]
            return UsersImported(added=added, skipped=skipped, generated=generated)

        steps = [f"add {counted(len(entries), 'user')}"] if entries else []
        steps += [f"skip {skipped} who are there"] if skipped and entries else []
        rows = {users.live.name: len(entries)} if entries else {}
        return Draft(Plan(title=f"Import users from {file}", target=db.target, steps=steps, rows=rows), work)

    return Change(app, database_of(app), "users import", draft, prepare=prepare)


def export_users(app: App, *, secrets: bool) -> Page[Mapping[str, object]]:
    """Return every user as ``users import`` takes them; the password hash only where secrets are asked for."""
    users = user_table(app)
    hashes: dict[object, object] = {}
    if secrets and users.section.password:
        column = users.live.get(users.section.password.column)
        hashes = {row[0]: row[1] for row in users.db.select(users.live.name, [users.id, column])}
    # New keys that are no numbers fall in any order, and the same users must make the same file.
    order = Window(sort="" if KEYS[users.section.id.codec] is None else users.section.login[0])
    items = []
    for user in users.read(window=order):
        row: dict[str, object] = {
            field: user.extra.get(field, getattr(user, field, None)) for field in users.fields
        }
        if users.section.role:
            row["role"] = user.role
        if hashes:
            row["password_hash"] = hashes.get(user.id)
        items.append(row)
    return Page(items=items, total=len(items), names=list(items[0]) if items else ())


# Hashing -------------------------------------------------------------------------------------------------------


def _hashed(app: App, passwords: Mapping[int, Secret], *, advance: Callable[[int], None]) -> dict[int, str]:
    """Return the hash of every password, made on all cores that this process may use."""
    if not passwords:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int) -> tuple[int, str]:
        signals.check()
        return number, hash_password(app, passwords[number])

    found = {}
    with signals.held():
        pool = ThreadPoolExecutor(_cores())
        try:
            for number, hashed in pool.map(one, passwords):
                signals.check()
                found[number] = hashed
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)  # a signal must not wait for a thousand hashes
    return found


def _cores() -> int:
    """Return how many cores this process may use; containers and ``taskset`` give fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
