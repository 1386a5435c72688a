"""Users in and out of files: all of them or none, and every error with its line."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from msgspec import structs

from dbctl import interrupt
from dbctl.engines.base import Readable, Writable
from dbctl.errors import (
    DbctlError,
    ImportInvalidError,
    PlanChangedError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import Done, Page, Plan, Secret, Value
from dbctl.profiles.codecs import HASHES, new_password, read_boolean
from dbctl.services import audit
from dbctl.services.apps import App
from dbctl.services.change import Change, Draft
from dbctl.services.setting_table import load_json
from dbctl.services.user_changes import NewUser, check_new, hash_password, row_of
from dbctl.services.user_table import UserTable, database_of
from dbctl.services.users import table as user_table


class Existing(StrEnum):
    """What an import does with users who are there already."""

    FAIL = "fail"
    SKIP = "skip"


#: Columns of a file that are no fields of the profile.
OWN = ("role", "active", "password", "password_hash")
#: Columns that an export writes and an import leaves alone: the database gives them.
GIVEN = ("id", "login", "created_at", "updated_at", "last_login_at")
BOOLEAN_WORDS = ("1", "0", "true", "false", "yes", "no", "on", "off", "t", "f", "y", "n")
LONGEST_LIST = 20  #: errors told; more are counted


class Line(Value, frozen=True, kw_only=True):
    """One user in a file."""

    number: int  #: line of a CSV file, place in a JSON list, from 1
    values: Mapping[str, object]


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


def read_lines(raw: bytes, name: str) -> list[Line]:
    """Read users from CSV, JSON (a list, or what ``-o json`` printed) or JSON lines (by the end of ``name``).

    Raises:
        UsageError: it is none of them, or not UTF-8.
    """
    import csv  # noqa: PLC0415 - only files want it

    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(detail=f"{name}, line {line}: it is not UTF-8") from error
    try:
        if name.endswith((".jsonl", ".ndjson")):
            return [
                _line(number, load_json(line))
                for number, line in enumerate(text.splitlines(), 1)
                if line.strip()
            ]
        if name.endswith(".json") or text.lstrip()[:1] in ("[", "{"):
            return _json_lines(load_json(text))
        return list(_csv_lines(text))
    except (ValueError, csv.Error) as error:
        raise UsageError(detail=f"{name}: {error}") from error


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
    """
    hashes: dict[int, tuple[str, Secret | None]] = {}

    def prepare() -> None:
        new, _skipped = _checked(user_table(app), lines, file, existing=existing, generate=generate)
        unhashed = [line for line in lines if line.number in new]
        hashes.update(_hashed(app, unhashed, advance=advance))

    def draft(db: Readable) -> Draft[UsersImported]:
        users = UserTable(app, db)
        new, skipped = _checked(users, lines, file, existing=existing, generate=generate)
        logins = [login for login, _ in new.values()]

        def work(db: Writable) -> UsersImported:
            made = []
            rows: dict[tuple[str, ...], list[tuple[object, ...]]] = {}
            for number, (login, user) in new.items():
                if number not in hashes:  # it was there, and skipped, when the passwords were hashed
                    raise PlanChangedError(target=db.target)
                hashed, password = hashes[number]
                row = row_of(users, structs.replace(user, hashed=hashed))
                rows.setdefault(tuple(row), []).append(tuple(row.values()))
                if password:
                    made.append(MadeUp(login=login, password=password.reveal()))
            added = sum(db.insert_many(users.live.name, columns, values) for columns, values in rows.items())
            if added:
                audit.record(app, db, "users.import", "users", "", {"added": added, "file": Path(file).name})
            return UsersImported(added=added, skipped=skipped, generated=made)

        steps = [f"add {len(logins)} users"] if logins else []
        steps += [f"skip {skipped} who are there"] if skipped else []
        rows = {users.live.name: len(logins)} if logins else {}
        return Draft(Plan(title=f"Import users from {file}", target=db.target, steps=steps, rows=rows), work)

    return Change(app, database_of(app), "users import", draft, prepare=prepare)


def export_users(app: App, *, secrets: bool) -> Page[Mapping[str, object]]:
    """Return every user as ``users import`` takes them; the password hash only where secrets are asked for."""
    users = user_table(app)
    people = users.read()
    hashes: dict[object, object] = {}
    if secrets and users.told.password:
        column = users.live.get(users.told.password.column)
        pairs = users.db.select(users.live.name, [users.id, column])
        hashes = {pair[0]: pair[1] for pair in pairs}
    fields = ["id", *users.fields]
    items = []
    for user in people:
        row: dict[str, object] = {
            field: user.extra.get(field, getattr(user, field, None)) for field in fields
        }
        if users.told.role:
            row["role"] = user.role
        if hashes:
            row["password_hash"] = hashes[user.id]
        items.append(row)
    return Page(items=items, total=len(items))


def _json_lines(told: object) -> list[Line]:
    if isinstance(told, dict):
        told = told.get("data", told)
    if isinstance(told, dict):
        told = told.get("items", told)
    if not isinstance(told, list):
        raise ValueError("it does not hold a list of users")  # noqa: TRY004 - what the file says, not how it is called
    return [_line(number, one) for number, one in enumerate(told, 1)]


def _line(number: int, told: object) -> Line:
    if not isinstance(told, dict):
        raise ValueError(f"entry {number} is no user, but {type(told).__name__}")  # noqa: TRY004 - as above
    return Line(number=number, values=told)


def _csv_lines(text: str) -> Iterator[Line]:
    import csv  # noqa: PLC0415 - as above

    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = next(reader, None)
    if not names:
        raise ValueError("it is empty")
    for row in reader:
        if any(row):
            if len(row) != len(names):
                raise ValueError(f"line {reader.line_num} has {len(row)} fields, the first line {len(names)}")
            yield Line(number=reader.line_num, values=dict(zip(map(str.strip, names), row, strict=True)))


def _checked(
    users: UserTable, lines: Sequence[Line], file: str, *, existing: Existing, generate: bool
) -> tuple[dict[int, tuple[str, NewUser]], int]:
    """Return the users to add, by line, and how many are skipped.

    Raises:
        ImportInvalidError: with every line that is wrong.
    """
    new: dict[int, tuple[str, NewUser]] = {}
    wrong: list[str] = []
    seen: dict[str, int] = {}
    taken = _taken(users)
    skipped = 0
    for line in lines:
        try:
            user, login = _read(users, line, generate=generate)
            logins = [user.fields[field] for field in users.told.login if field in user.fields]
            before = next((seen[text.lower()] for text in logins if text.lower() in seen), None)
            if before is not None:
                raise ValueInvalidError(
                    what="the user", value=login, reason=f"line {before} has the same login"
                )
            if existing is Existing.SKIP and any(text.lower() in taken for text in logins):
                skipped += 1
                continue
            check_new(users, user, taken=taken)
            seen.update((text.lower(), line.number) for text in logins)
            new[line.number] = (login, user)
        except DbctlError as error:
            wrong.append(f"line {line.number}: {error}")
    if wrong:
        more = "\n".join(wrong[1 : LONGEST_LIST + 1])
        rest = f"\n… and {len(wrong) - LONGEST_LIST - 1} more" if len(wrong) > LONGEST_LIST + 1 else ""
        raise ImportInvalidError(
            count=f"{len(wrong)} of {len(lines)}", file=file, first=wrong[0], more=more + rest
        )
    return new, skipped


def _taken(users: UserTable) -> frozenset[str]:
    """Return every login there is, in lower case as far as the app folds it (ASCII)."""
    rows = users.db.select(users.live.name, users.login_columns())
    return frozenset(str(value).lower() for row in rows for value in row if value)


def _read(users: UserTable, line: Line, *, generate: bool) -> tuple[NewUser, str]:
    values = {
        name: value for name, value in line.values.items() if value not in (None, "") and name not in GIVEN
    }
    unknown = [name for name in values if name not in users.fields and name not in OWN]
    if unknown:
        raise UsageError(detail=f"unknown column {unknown[0]!r}; known: {', '.join([*users.fields, *OWN])}")
    lacking = [field for field in users.told.login[:1] if field not in values]
    if lacking:
        raise UsageError(detail=f"{lacking[0]} is missing")
    active = values.get("active", True)
    if isinstance(active, str) and active.strip().lower() not in BOOLEAN_WORDS:
        raise ValueInvalidError(what="active", value=repr(active), reason="it is neither true nor false")
    hashed = str(values.get("password_hash", ""))
    told = users.told.password
    if hashed and told and not HASHES[told.codec].recognises(hashed):
        raise ValueInvalidError(
            what="password_hash", value="(not shown)", reason=f"it is no {told.codec} hash"
        )
    if told and not hashed and "password" not in values and not generate:
        raise UsageError(detail="password is missing (or give password_hash, or --generate)")
    fields = {name: str(value) for name, value in values.items() if name not in OWN}
    new = NewUser(fields=fields, role=str(values.get("role", "")), active=read_boolean(active), hashed=hashed)
    if "password" in values:
        users.check_password(Secret(str(values["password"])))
    return new, fields[users.told.login[0]]


def _hashed(
    app: App, lines: Sequence[Line], *, advance: Callable[[int], None]
) -> dict[int, tuple[str, Secret | None]]:
    """Return the hash of every line's password, and the password where it was made up."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - slow to import, and only wanted here

    stores = app.ability(app.profile.users, "users").password is not None

    def one(line: Line) -> tuple[int, tuple[str, Secret | None]]:
        interrupt.check()
        hashed, given = line.values.get("password_hash"), line.values.get("password")
        if hashed or not stores:
            return line.number, (str(hashed or ""), None)
        made = new_password() if given in (None, "") else None
        return line.number, (hash_password(app, made or Secret(str(given))), made)

    found = {}
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        for number, hashed in pool.map(one, lines):
            found[number] = hashed
            advance(1)
    finally:
        pool.shutdown(cancel_futures=True)  # a signal must not wait for a thousand hashes
    return found
