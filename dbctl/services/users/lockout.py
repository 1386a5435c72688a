"""Lockout: logins and addresses that reached the app's limit of failed sign-ins, and the affected users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import structs

from dbctl.engines.contract import Condition
from dbctl.model import Page, Value, Window, now
from dbctl.profiles import TIMES, read_time
from dbctl.profiles.model import Lockout, SettingOrDefault
from dbctl.services.app import App, Live, User, UserTable
from dbctl.services.settings import queries, section
from dbctl.services.users.queries import Filter, conditions
from dbctl.services.users.queries import open_user_table as user_table

_DATE = len("2026-01-31")


class Lock(Value, frozen=True, kw_only=True):
    """A login or address that is locked now."""

    attempts: int  #: failed attempts within the window
    until: datetime | None  #: the end of the lock; None: no stored time can be read


class Locks(Value, frozen=True, kw_only=True):
    """All locks at one time."""

    logins: Mapping[str, Lock]  #: by the login as typed
    addresses: Mapping[str, Lock]
    typed_at: Mapping[str, Sequence[str]]  #: logins typed at each locked address


class LockedUsers(Value, frozen=True, kw_only=True):
    """Users who are locked out now, and warnings about locked addresses."""

    page: Page[User]
    remarks: Sequence[str]  #: warnings about locked addresses


def list_locked(app: App, selection: Filter, window: Window) -> LockedUsers:
    """Return the locked users that match ``selection``, each with the attempts and the end of the lock.

    Raises:
        AbilityMissingError: the app has no lockout.
    """
    users = user_table(app)
    locks = find_locks(users)
    locked = locked_users(users, locks)
    where = [*conditions(users, selection), users.live.among(users.section.id.column, list(locked))]
    items = [
        structs.replace(
            user,
            extra={
                **user.extra,
                "failed_attempts": locked[user.id].attempts,
                "locked_until": locked[user.id].until,
            },
        )
        for user in users.read(where, window=window)
    ]
    fields = dict.fromkeys([*User.__struct_fields__, *users.fields, "failed_attempts", "locked_until"])
    page = Page(
        items=items,
        total=users.db.count(users.live.name, where),
        limit=window.limit,
        offset=window.offset,
        names=[field for field in fields if field != "extra"],
    )
    return LockedUsers(page=page, remarks=list(_address_remarks(locks)))


def _address_remarks(locks: Locks) -> Iterator[str]:
    for address, lock in locks.addresses.items():
        until = f" until {lock.until:%Y-%m-%d %H:%M} UTC" if lock.until else ""
        yield f"sign-ins from {address} are locked{until}; dbctl users unlock --address {address} clears the lock"


def find_locks(users: UserTable) -> Locks:
    """Return the logins and addresses that the app refuses now.

    Raises:
        AbilityMissingError: the app has no lockout.
    """
    config = users.app.ability(users.section.lockout, "lockout")
    live = Live(users.app.profile, users.db, config.table, "failed sign-ins")
    typed, at, address = live.get(config.login), live.get(config.at), live.find(config.address)
    window = timedelta(minutes=_number(users, config.minutes))
    since = now() - window
    where = [Condition(column, "=", value) for column, value in live.constants(config.failed).items()]
    where.append(Condition(at, ">", TIMES[config.compared](since) if config.compared else since))
    columns = [typed, at, *([address] if address else [])]
    logins: dict[str, list[datetime | None]] = {}
    addresses: dict[str, list[datetime | None]] = {}
    typed_at: dict[str, dict[str, None]] = {}
    for row in users.db.select(live.name, columns, where):
        end = _expiry(row[1], window, config)
        logins.setdefault(str(row[0]), []).append(end)
        if address and row[2]:
            addresses.setdefault(str(row[2]), []).append(end)
            typed_at.setdefault(str(row[2]), {})[str(row[0])] = None
    limit = max(1, _number(users, config.limit))
    locked = dict(_locked(addresses, limit))
    return Locks(
        logins=dict(_locked(logins, limit)),
        addresses=locked,
        typed_at={name: list(typed_at[name]) for name in locked},
    )


def locked_users(users: UserTable, locks: Locks) -> dict[object, Lock]:
    """Return the users that ``locks`` affect, by id: ``users unlock`` unlocks these users."""
    by_login: dict[str, list[Lock]] = {}
    for login, lock in locks.logins.items():
        by_login.setdefault(login.lower(), []).append(lock)
    for address, logins in locks.typed_at.items():
        for login in logins:
            by_login.setdefault(login.lower(), []).append(locks.addresses[address])
    locked = dict[object, Lock]()
    for user in users.read() if by_login else ():
        names = {name.lower() for name in (user.username, user.email, user.login) if name}
        user_locks = [lock for name in names for lock in by_login.get(name, ())]
        if user_locks:
            locked[user.id] = max(user_locks, key=lambda lock: (lock.until is None, lock.until or now()))
    return locked


def _locked(expiries: Mapping[str, Sequence[datetime | None]], limit: int) -> Iterator[tuple[str, Lock]]:
    for name, ends in expiries.items():
        if len(ends) >= limit:
            known = sorted((end for end in ends if end), reverse=True)
            until = known[limit - 1] if len(known) >= limit else None
            yield name, Lock(attempts=len(ends), until=until)


def _expiry(stored: object, window: timedelta, config: Lockout) -> datetime | None:
    """Return when an attempt no longer counts."""
    time = read_time(stored)
    if time is None:
        return None
    if config.compared and isinstance(stored, str):
        separator = str(TIMES[config.compared](time))[_DATE : _DATE + 1]
        if stored[_DATE : _DATE + 1] > separator:  # as text, it sorts after every time of its day
            time = time.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return time + window


def _number(users: UserTable, source: SettingOrDefault) -> int:
    """Return the whole number that the app uses."""
    if source.from_ and section(users.app, "system"):
        values = {setting.key: setting.value for setting in queries.opened(users.app, users.db).read()}
        value = values.get(source.from_)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
    return source.otherwise
