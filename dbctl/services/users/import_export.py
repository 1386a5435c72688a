"""Import users from files, checked line by line against the rules, other lines and existing users; export users."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from msgspec import structs

from dbctl import progress, signals
from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.base import DbctlError
from dbctl.errors.databases import AlreadyExistsError, ImportInvalidError
from dbctl.errors.usage import UsageError, ValueInvalidError
from dbctl.model import ChangeResult, Effect, Page, PageRequest, Plan, Row, Secret, Struct, format_count
from dbctl.profiles.codecs import KEYS
from dbctl.profiles.passwords import new_password
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.row_writes import insert_exactly
from dbctl.services.app.user_table import UserTable, open_users, users_database
from dbctl.services.users.create import ROLE_FIELDS, NewUserRows, UserRow, check_password, hash_password
from dbctl.services.users.files import Existing, Line
from dbctl.services.users.passwords import Passwords, describe_lost_password, require_pepper
from dbctl.services.users.queries import find_secret_fields

#: Columns of a file that are not fields of the profile.
EXTRA_COLUMNS = (*ROLE_FIELDS, "password", "password_hash")
#: Columns of exported lists that an import ignores if they are not fields: the database generates them.
IGNORED_COLUMNS = ("id", "login")


class Entry(Struct, frozen=True, kw_only=True):
    """One checked user of a file, without the password in the row."""

    login: str
    logins: Sequence[tuple[str, str]]  #: login fields and folded values
    row: UserRow
    password_hash: str  #: empty before the password is hashed
    password: Secret | None  #: None if the file contains its hash
    is_generated: bool = False  #: whether dbctl generated the password


def check_lines(
    rows: NewUserRows,
    lines: Sequence[Line],
    file: str,
    *,
    existing: Existing,
    generate: bool,
    checked: Mapping[int, Entry] = {},
) -> tuple[dict[int, Entry], int]:
    """Return the users to add, by line number, and the number of skipped users.

    Args:
        rows: adds users.
        lines: the lines of the file.
        file: its name, for messages.
        existing: what to do with existing users.
        generate: whether a password may be missing.
        checked: earlier results for the same lines. Only their logins are checked again, to keep the transaction short.

    Raises:
        ImportInvalidError: has every invalid line with its first error.
        UsageError: a column is unknown.
    """
    users = rows.users
    if not checked:
        _refuse_unknown(users, lines, file)
    entries: dict[int, Entry] = {}
    errors: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    existing_logins = _existing_logins(users)
    name, skipped = users.section.login[0], 0
    for line in lines:
        entry = checked.get(line.number)
        if entry and not any(login in existing_logins[field] for field, login in entry.logins):
            entries[line.number] = entry
            continue
        try:
            fields = _read_fields(users, line)
            if existing is Existing.SKIP and users.fold_login(fields.get(name, "")) in existing_logins[name]:
                skipped += 1
                continue
            logins = [
                (field, users.fold_login(fields[field])) for field in users.login_fields if field in fields
            ]
            _refuse_duplicates(line, logins, seen)
            entries[line.number] = _check_entry(
                rows, line, fields, logins, existing_logins, generate=generate
            )
        except AlreadyExistsError as error:
            # a user exists by the first login: --existing skip refuses another one with a login of that user
            is_skippable = existing is Existing.FAIL and error.context["kind"] == name
            advice = "; use --existing skip to skip existing users" if is_skippable else ""
            errors.append(f"{line.place}: {error}{advice}")
        except DbctlError as error:
            errors.append(f"{line.place}: {error}")
    if errors:
        raise ImportInvalidError(errors=errors, rows=len(lines), file=file)
    return entries, skipped


def _refuse_unknown(users: UserTable, lines: Sequence[Line], file: str) -> None:
    known = [*users.field_names, *EXTRA_COLUMNS]
    for line in lines:
        for column in line.values:
            if (
                column not in known
                and column not in IGNORED_COLUMNS
                and line.values[column] not in (None, "")
            ):
                raise UsageError(
                    detail=f"{file}, {line.place}: unknown column {column!r}; known: {', '.join(known)}"
                )


def _refuse_duplicates(
    line: Line, logins: Sequence[tuple[str, str]], seen: dict[tuple[str, str], str]
) -> None:
    """Refuse a login that another line has, and add the logins of this line to ``seen``."""
    for login in logins:
        if login in seen:
            raise ValueInvalidError(
                name=f"the {login[0]}", value=ascii(login[1]), reason=f"{seen[login]} has it too"
            )
    seen.update(dict.fromkeys(logins, line.place))


def _existing_logins(users: UserTable) -> dict[str, set[str]]:
    """Return, by field, the folded logins of all users."""
    fields = users.login_fields
    rows = users.db.select(users.live.name, users.login_columns(), users.only)
    return {
        field: {users.fold_login(str(row[index])) for row in rows if row[index]}
        for index, field in enumerate(fields)
    }


def _read_fields(users: UserTable, line: Line) -> dict[str, str]:
    """Return the fields of a line as text.

    Raises:
        ValueInvalidError: a value is a list or an object, or a boolean in another field than ``active``.
    """
    fields = {}
    for name, value in line.values.items():
        if value in (None, "") or (name in IGNORED_COLUMNS and name not in users.field_names):
            continue
        if name == "roles" and isinstance(value, list):
            fields[name] = json.dumps(value)
            continue
        if not isinstance(value, str | int | float) or (isinstance(value, bool) and name != "active"):
            raise ValueInvalidError(name=name, value="(not shown)", reason="it is not text")
        fields[name] = str(value)
    return fields


def _check_entry(
    rows: NewUserRows,
    line: Line,
    fields: dict[str, str],
    logins: Sequence[tuple[str, str]],
    existing_logins: Mapping[str, set[str]],
    *,
    generate: bool,
) -> Entry:
    users, passwords = rows.users, rows.passwords
    name = users.section.login[0]
    if name not in fields:
        raise UsageError(detail=f"{name} is missing")
    hashed = fields.pop("password_hash", "")
    password = fields.pop("password", "")
    if passwords and not (hashed or password or generate):
        raise UsageError(detail="password is missing (or add password_hash, or use --generate)")
    if hashed and password:
        raise UsageError(detail="it has both password and password_hash")
    if hashed:
        problem = passwords.find_problem(hashed) if passwords else "the app stores none"
        if problem:
            raise ValueInvalidError(name="password_hash", value="(not shown)", reason=problem)
    if password:
        check_password(users.app, Secret(password))
        if not isinstance(line.values["password"], str):
            raise ValueInvalidError(name="the password", value="(not shown)", reason="it is not text")
    return Entry(
        login=fields[name],
        logins=logins,
        row=rows.build(fields, existing_logins=existing_logins),
        password_hash=hashed,
        password=Secret(password) if password else None,
    )


class GeneratedPassword(Struct, frozen=True, kw_only=True):
    """A password that dbctl generated; shown once."""

    login: str
    password: str


class UsersImported(ChangeResult, frozen=True, kw_only=True):
    """Result of ``users import``."""

    is_timed = True

    added: int
    skipped: int
    generated: Sequence[GeneratedPassword] = ()

    @property
    def effect(self) -> Effect | None:
        if not self.added:
            return None
        return Effect("imported", "user", count=self.added, counts={"skipped": self.skipped})

    @property
    def lost_output(self) -> Callable[[], str] | None:
        return partial(describe_lost_password, "LOGIN") if self.generated else None

    def summary(self) -> Row | Sequence[Row]:
        return [{"login": item.login, "password": item.password} for item in self.generated] or {}


def import_users(
    app: App, lines: Sequence[Line], *, file: str, existing: Existing = Existing.FAIL, generate: bool = False
) -> Change[UsersImported]:
    """Add all users of a file in one transaction, or none; with ``generate``, those without a password get one.

    Passwords are hashed before the transaction begins, on all cores, so the app waits only for the inserts.

    Raises (when planned and when applied):
        ImportInvalidError: lines are invalid.
        UsageError: a column is unknown.
        RoleExclusiveError: several users would have the exclusive role.
    """
    entries: dict[int, Entry] = {}

    def check(rows: NewUserRows) -> tuple[dict[int, Entry], int]:
        return check_lines(rows, lines, file, existing=existing, generate=generate, checked=entries)

    def prepare() -> None:
        entries.update(_hash_passwords(app, check(NewUserRows(open_users(app)))[0]))

    def draft(db: Readable) -> ImportUsers:
        rows = NewUserRows(UserTable(app, db))
        return ImportUsers(rows, *check(rows), file)

    return Change(app, users_database(app), draft, prepare=prepare)


class ImportUsers:
    """Add the checked users of a file."""

    def __init__(self, rows: NewUserRows, entries: Mapping[int, Entry], skipped: int, file: str) -> None:
        self._rows, self._entries, self._skipped, self._file = rows, entries, skipped, file
        if rows.passwords:
            rows.passwords.require_declared_formats()
            if rows.passwords.section.pepper and not all(entry.password_hash for entry in entries.values()):
                require_pepper(rows.users.app)
        added_steps, counts = rows.plan([entry.row for entry in entries.values()])
        steps = [f"add {format_count(len(entries), 'user')}", *added_steps] if entries else []
        steps += [f"skip {format_count(skipped, 'existing user')}"] if skipped and entries else []
        self.plan = Plan(
            title=f"Import users from {file}",
            target=rows.users.db.target,
            steps=steps,
            rows=counts if entries else {},
        )

    def apply(self, db: Writable) -> UsersImported:
        """Insert the rows in the order of the file, so that ids have the same order."""
        users, entries = self._rows.users, self._entries.values()
        added = len(entries)
        if added:
            insert_exactly(db, users.live.name, added, partial(self._insert, db))
            details = {"added": added, "file": Path(self._file).name}
            audit.record(users.app, db, "users.import", "users", "", details)
        generated = [
            GeneratedPassword(login=entry.login, password=entry.password.reveal())
            for entry in entries
            if entry.is_generated and entry.password
        ]
        return UsersImported(added=added, skipped=self._skipped, generated=generated)

    def _insert(self, db: Writable) -> int:
        """Insert the rows, and return their number."""
        users, entries = self._rows.users, self._entries.values()
        new_rows = [self._rows.add_password(entry.row, entry.password_hash) for entry in entries]
        if self._rows.companions or users.joined.names or (users.roles and users.roles.has_rows):
            for entry, values in zip(entries, new_rows, strict=True):
                self._rows.insert(db, values, entry.row)
            return len(new_rows)
        return sum(
            db.insert_many(users.live.name, columns, [tuple(row.values()) for row in rows])
            for columns, rows in groupby(new_rows, key=tuple)
        )


def export_users(app: App, *, secrets: bool) -> Page[Mapping[str, object]]:
    """Return all users in the format of ``users import``; with password hashes and secret fields only if ``secrets`` is true."""
    users = open_users(app)
    with users.db.read_all_rows(users.live.name):
        return _export_users(app, users, secrets=secrets)


def _export_users(app: App, users: UserTable, *, secrets: bool) -> Page[Mapping[str, object]]:
    hidden = set() if secrets else find_secret_fields(users)
    hashes: dict[object, object] = {}
    if secrets and users.section.password:
        passwords = Passwords(app, users.live)
        rows = users.db.select(users.live.name, [users.id, *passwords.columns])
        hashes = {key: passwords.join(values) for key, *values in rows}
    # Keys that are not numbers have no meaningful order, and the same users must produce the same file.
    order = PageRequest(sort="" if KEYS[users.section.id.codec] is None else users.section.login[0])
    items = []
    for user in users.read(page_request=order):
        row: dict[str, object] = {
            field: user.extra.get(field, getattr(user, field, None))
            for field in users.field_names
            if field not in hidden
        }
        if users.roles:
            row |= {"roles": user.roles} if users.roles.has_several else {"role": user.role}
        if hashes:
            row["password_hash"] = hashes.get(user.id)
        items.append(row)
    return Page(items=items, total=len(items), column_names=list(items[0]) if items else ())


# Password hashing ----------------------------------------------------------------------------------------------


def _hash_passwords(app: App, entries: Mapping[int, Entry]) -> dict[int, Entry]:
    """Return the entries with hashes of all passwords, computed on all available cores; missing passwords are generated."""
    if not app.require_section(app.core.users, "users").password:
        return dict(entries)
    from concurrent.futures import ThreadPoolExecutor

    def add_hash(entry: Entry) -> Entry:
        if entry.password_hash:
            return entry
        password = entry.password or new_password()
        is_generated, hashed = entry.password is None, hash_password(app, password)
        return structs.replace(entry, password=password, is_generated=is_generated, password_hash=hashed)

    hashed_entries = {}
    with signals.defer_signals():
        pool = ThreadPoolExecutor(_core_count())
        try:
            for number, entry in zip(entries, pool.map(add_hash, entries.values()), strict=True):
                signals.raise_if_interrupted()
                hashed_entries[number] = entry
                progress.advance(1)
        finally:
            pool.shutdown(cancel_futures=True)  # a signal must not wait for a thousand hashes
    return hashed_entries


def _core_count() -> int:
    """Return the number of cores that this process may use, which containers and ``taskset`` limit."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
