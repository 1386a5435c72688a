"""Users in and out of files: all of them or none, and every error with its line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from dbctl import interrupt
from dbctl.engines.base import Readable, Writable
from dbctl.model import Done, Page, Plan, Secret, Value, Window, counted
from dbctl.profiles.codecs import KEYS, new_password
from dbctl.services import audit
from dbctl.services.apps import App
from dbctl.services.change import Change, Draft, exactly
from dbctl.services.user_creation import hash_password, with_password
from dbctl.services.user_entries import Entry, checked
from dbctl.services.user_files import Existing, Line
from dbctl.services.user_table import UserTable, database_of
from dbctl.services.users import table as user_table


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
    if secrets and users.told.password:
        column = users.live.get(users.told.password.column)
        hashes = {row[0]: row[1] for row in users.db.select(users.live.name, [users.id, column])}
    # New keys that are no numbers fall in any order, and the same users must make the same file.
    order = Window(sort="" if KEYS[users.told.id.codec] is None else users.told.login[0])
    items = []
    for user in users.read(window=order):
        row: dict[str, object] = {
            field: user.extra.get(field, getattr(user, field, None)) for field in users.fields
        }
        if users.told.role:
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
        interrupt.check()
        return number, hash_password(app, passwords[number])

    found = {}
    with interrupt.held():
        pool = ThreadPoolExecutor(_cores())
        try:
            for number, hashed in pool.map(one, passwords):
                interrupt.check()
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
