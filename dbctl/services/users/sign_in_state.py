"""Sign-in tokens and failed attempts of users: count, end and clear them as the app does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract import AnyOf, Condition, Readable, Where, Writable
from dbctl.errors import UsageError
from dbctl.model import Struct, now
from dbctl.profiles.model import SignInTable
from dbctl.services.app import LiveTable, User, UserTable, require_row_count


class Tokens(Struct, frozen=True, kw_only=True):
    """The number of sign-in tokens of a user; their values are never shown."""

    valid: int
    expired: int
    revoked: int


def count_tokens(users: UserTable, user: User) -> Tokens | None:
    """Return the number of a user's tokens by state; None if the app stores no tokens."""
    if not stores_tokens(users):
        return None
    total = expired = revoked = 0
    for section, live in _token_tables(users, users.db):
        owned_rows = [Condition(live.column(section.user), "=", user.id), *live.conditions(section.only)]
        count = users.db.count(live.name, owned_rows)
        open_rows = [*owned_rows, *_not_ended(live, section)]
        open_count = users.db.count(live.name, open_rows)
        expiry = live.optional_column(section.expires_at)
        expired_count = (
            users.db.count(live.name, [*open_rows, Condition(expiry, "<=", now())]) if expiry else 0
        )
        total, expired, revoked = total + count, expired + expired_count, revoked + count - open_count
    return Tokens(valid=total - expired - revoked, expired=expired, revoked=revoked)


def stores_tokens(users: UserTable) -> bool:
    """Return whether the app stores sign-in tokens."""
    return any(True for _ in _token_tables(users, users.db))


def count_open_sessions(users: UserTable, leaving: Sequence[User]) -> dict[str, int]:
    """Return, by table, the number of rows that ``end_sessions`` would change."""
    counts = {}
    for section, live in _token_tables(users, users.db):
        counts[live.name] = users.db.count(live.name, _open_rows(live, section, leaving))
    return {table: rows for table, rows in counts.items() if rows}


def end_sessions(users: UserTable, db: Writable, users_to_sign_out: Sequence[User]) -> int:
    """End all sessions of users; return their number."""
    ended = 0
    for section, live in _token_tables(users, db):
        values = live.encode_constants(section.on_end)
        changed = live.optional_column(users.updated_at_names) if values else None
        if changed:
            values.setdefault(changed, live.encode(changed, now()))
        where = _open_rows(live, section, users_to_sign_out)
        open_count = db.count(live.name, where)
        changed_count = db.update(live.name, values, where) if values else db.delete(live.name, where)
        require_row_count(changed_count, open_count, db)
        ended += changed_count
    return ended


def remarks(signed_in_for: str | None, *, changed: bool) -> Sequence[str]:
    """Return a warning if the app uses signed cookies, which remain valid after a change."""
    if not (signed_in_for and changed):
        return ()
    remark = f"the app signs cookies and stores no sessions: users stay signed in, with their old role, for up to {signed_in_for}"
    return [f"{remark}; only a new signing secret of the app ends that"]


def failed_attempts(users: UserTable, locked: Sequence[User], addresses: Sequence[str] = ()) -> list[Where]:
    """Return the conditions of the failed attempts of users: with any spelling of a login, and from the same addresses.

    Attempts from ``addresses`` match too.

    Raises:
        UsageError: ``addresses`` is not empty, but the app stores no addresses.
    """
    lockout = users.app.require_section(users.section.lockout, "lockout")
    live = LiveTable(users.app.profile, users.db, lockout.table, "failed sign-ins")
    failed = live.conditions(lockout.failed)
    typed = live.column(lockout.login)
    by_login = match_logins(typed, locked)
    address = live.optional_column(lockout.address)
    if address is None and addresses:
        raise UsageError(detail="the app stores no addresses of failed attempts; select users")
    if address is None:
        return [*failed, by_login]
    rows = users.db.select(lockout.table, [address], [*failed, by_login])
    known_addresses = sorted({*addresses, *(str(value) for (value,) in rows if value)})
    return [*failed, AnyOf([by_login, Condition(address, "in", known_addresses)])]


def match_logins(column: str, users: Sequence[User]) -> Where:
    """Return the condition that a column has a login of these users, in any spelling."""
    logins = [text for user in users for text in (user.username, user.email, user.login) if text]
    return AnyOf([Condition(column, "same", text) for text in logins])


def _token_tables(users: UserTable, db: Readable) -> Iterator[tuple[SignInTable, LiveTable]]:
    """Yield the tables of sign-in tokens, without missing optional ones."""
    for section in users.section.signed_in:
        table = section.table.removesuffix("?")
        if table in db.tables() or table == section.table:
            yield section, LiveTable(users.app.profile, db, table, "sign-in tokens")


def _open_rows(live: LiveTable, section: SignInTable, leaving: Sequence[User]) -> list[Where]:
    owned_rows = Condition(live.column(section.user), "in", [user.id for user in leaving])
    return [owned_rows, *live.conditions(section.only), *_not_ended(live, section)]


def _not_ended(live: LiveTable, section: SignInTable) -> list[Where]:
    """Return the conditions of a row without the values of ``on_end``: a time is unset, another value differs."""
    conditions: list[Where] = []
    for name, constant in section.on_end.items():
        for column, value in live.encode_constants({name: constant}).items():
            differs = Condition(column, "=", "") if constant == ":now" else Condition(column, "!=", value)
            conditions.append(AnyOf([Condition(column, "=", None), differs]))
    return conditions
