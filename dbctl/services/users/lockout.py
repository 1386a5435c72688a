"""Lockout: logins and addresses that reached the app's limit of failed sign-ins, and the affected users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import structs

from dbctl.engines.contract.database import AllOf, Condition, Readable, Writable
from dbctl.errors.base import Remedy
from dbctl.model import ChangeResult, Effect, Page, PageRequest, Plan, Struct, format_count, group, now
from dbctl.profiles.codecs import TIMES, read_time
from dbctl.profiles.model.users import Lockout, SettingOrDefault
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.row_writes import write_rows
from dbctl.services.app.user_table import User, UserSelector, UserTable, open_users, users_database
from dbctl.services.deletion.cascade import add_dependent_rows
from dbctl.services.settings.queries import open_settings
from dbctl.services.settings.store import find_section
from dbctl.services.users import sign_in_state
from dbctl.services.users.queries import UserFilter, list_users, mask_secrets
from dbctl.services.users.update import join_logins

_DATE = len("2026-01-31")


class Lock(Struct, frozen=True, kw_only=True):
    """A login or address that is locked now."""

    attempts: int  #: failed attempts within the window
    until: datetime | None  #: the end of the lock; None: no stored time can be read


class Locks(Struct, frozen=True, kw_only=True):
    logins: Mapping[str, Lock]  #: by the login as typed
    addresses: Mapping[str, Lock]
    typed_at: Mapping[str, Sequence[str]]  #: logins typed at each locked address


class LockedUsers(Struct, frozen=True, kw_only=True):
    """Users who are locked out now, and warnings about locked addresses."""

    page: Page[User]
    remarks: Sequence[str]  #: warnings about locked addresses


class Unlocked(ChangeResult, frozen=True, kw_only=True):
    """Result of ``users unlock``."""

    users: Sequence[User]
    cleared: int  #: number of deleted failed attempts

    @property
    def effect(self) -> Effect | None:
        if not (self.users and self.cleared):
            return Effect("deleted", "failed attempt", count=self.cleared) if self.cleared else None
        counts = {"failed attempts cleared": self.cleared}
        return Effect("unlocked", "user", [user.login for user in self.users], counts=counts)


def list_locked(app: App, selection: UserFilter, page_request: PageRequest) -> LockedUsers:
    """Return the locked users that match ``selection``, each with the attempts and the end of the lock.

    Raises:
        FeatureMissingError: the app has no lockout.
    """
    users = open_users(app)
    locks = find_locks(users)
    locked = locked_users(users, locks)
    page = list_users(app, selection, page_request, among=list(locked))
    items = []
    for user in page.items:
        lock = locked[user.id]
        extra = {**user.extra, "failed_attempts": lock.attempts, "locked_until": lock.until}
        items.append(structs.replace(user, extra=extra))
    names = [*page.column_names, "failed_attempts", "locked_until"]
    page = structs.replace(page, items=items, column_names=names)
    return LockedUsers(page=page, remarks=list(_address_remarks(locks)))


LOCKED = Remedy(
    "sign-ins from {address} are locked{until}; unlock them with: `users unlock --address {address}`"
)


def _address_remarks(locks: Locks) -> Iterator[str]:
    for address, lock in locks.addresses.items():
        until = f" until {lock.until:%Y-%m-%d %H:%M} UTC" if lock.until else ""
        yield LOCKED.write(facts={"address": address, "until": until})


def find_locks(users: UserTable) -> Locks:
    """Return the logins and addresses that the app refuses now.

    Raises:
        FeatureMissingError: the app has no lockout.
    """
    config = users.app.require_section(users.section.lockout, "lockout")
    live = LiveTable(users.app.core, users.db, config.table, "failed sign-ins")
    typed, time_column = live.column(config.login), live.column(config.attempted_at)
    address = live.optional_column(config.address)
    window = timedelta(minutes=_read_number(users, config.minutes))
    since = now() - window
    where = live.conditions(config.failed)
    where.append(Condition(time_column, ">", TIMES[config.compared](since) if config.compared else since))
    columns = [typed, time_column, *([address] if address else [])]
    logins: dict[str, list[datetime | None]] = {}
    addresses: dict[str, list[datetime | None]] = {}
    typed_at: dict[str, dict[str, None]] = {}
    for row in users.db.select(live.name, columns, where):
        end = _expiry(row[1], window, config)
        logins.setdefault(str(row[0]), []).append(end)
        if address and row[2]:
            addresses.setdefault(str(row[2]), []).append(end)
            typed_at.setdefault(str(row[2]), {})[str(row[0])] = None
    limit = max(1, _read_number(users, config.limit))
    locked = dict(_find_locked(addresses, limit))
    return Locks(
        logins=dict(_find_locked(logins, limit)),
        addresses=locked,
        typed_at={name: list(typed_at[name]) for name in locked},
    )


def locked_users(users: UserTable, locks: Locks) -> dict[object, Lock]:
    """Return the users that ``locks`` affect, by id: ``users unlock`` unlocks these users."""
    typed = [
        (login, locks.addresses[address]) for address, names in locks.typed_at.items() for login in names
    ]
    by_login = group((login.lower(), lock) for login, lock in [*locks.logins.items(), *typed])
    locked = dict[object, Lock]()
    for user in users.read() if by_login else ():
        names = {name.lower() for name in user.login_texts}
        user_locks = [lock for name in names for lock in by_login.get(name, ())]
        if user_locks:
            locked[user.id] = max(user_locks, key=lambda lock: (lock.until is None, lock.until or now()))
    return locked


def _find_locked(expiries: Mapping[str, Sequence[datetime | None]], limit: int) -> Iterator[tuple[str, Lock]]:
    for name, ends in expiries.items():
        if len(ends) >= limit:
            known = sorted((end for end in ends if end), reverse=True)
            until = known[limit - 1] if len(known) >= limit else None
            yield name, Lock(attempts=len(ends), until=until)


def _expiry(stored: object, window: timedelta, config: Lockout) -> datetime | None:
    """Return the time until which an attempt is counted."""
    time = read_time(stored)
    if time is None:
        return None
    if config.compared and isinstance(stored, str):
        separator = str(TIMES[config.compared](time))[_DATE : _DATE + 1]
        if stored[_DATE : _DATE + 1] > separator:  # as text, it is greater than every time of the same day
            time = time.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return time + window


def _read_number(users: UserTable, source: SettingOrDefault) -> int:
    """Return the whole number that the app uses."""
    if source.from_ and find_section(users.app, "system"):
        settings = open_settings(users.app, users.db).read()
        value = next((setting.value for setting in settings if setting.key == source.from_), None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
    return source.default


def unlock(app: App, selector: UserSelector, addresses: Sequence[str] = ()) -> Change[Unlocked]:
    """Delete the failed sign-ins of users: with any spelling of their login, and from the same addresses.

    Attempts from ``addresses`` are deleted too, with any login.
    """

    def draft(db: Readable) -> UnlockUsers:
        users = UserTable(app, db)
        selected = [] if addresses and selector.is_empty else users.find_users(selector)
        return UnlockUsers(users, selected, addresses)

    def list_expendable_tables() -> set[str]:
        users = app.require_section(app.core.users, "users")
        return {app.require_section(users.lockout, "lockout").table}

    return Change(app, users_database(app), draft, expendable_tables=list_expendable_tables)


class UnlockUsers:
    """Delete the failed sign-ins of users and from addresses."""

    def __init__(self, users: UserTable, selected: Sequence[User], addresses: Sequence[str]) -> None:
        self._app, self._addresses = users.app, addresses
        self._selected = mask_secrets(users, selected)
        self._where = sign_in_state.failed_attempts(users, selected, addresses)
        self._table = users.app.require_section(users.section.lockout, "lockout").table
        count = users.db.count(self._table, self._where)
        step = f"delete {format_count(count, 'failed attempt')} to sign in, with any spelling and from the same addresses"
        plan = Plan(
            title=f"Unlock {', '.join([*([join_logins(selected)] if selected else []), *addresses])}",
            target=users.db.target,
            steps=[step] if count else [],
            rows={self._table: count} if count else {},
        )
        self.plan = add_dependent_rows(plan, users.db, {self._table: [AllOf(self._where)]})

    def apply(self, db: Writable) -> Unlocked:
        """Delete the rows and record each user and address."""
        if cleared := write_rows(db, self._table, self._where):
            for user in self._selected:
                audit.record(self._app, db, "users.unlock", "users", user.id, {"username": user.login})
            for address in self._addresses:
                audit.record(self._app, db, "users.unlock", "users", "", {"address": address})
        return Unlocked(users=self._selected, cleared=cleared)
