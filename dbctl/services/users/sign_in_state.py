"""What keeps users signed in, or out: sign-in tokens and failed attempts, ended and cleared as the app does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract import AnyOf, Condition, Readable, Where, Writable
from dbctl.errors import UsageError
from dbctl.model import Value, now
from dbctl.profiles.model import SignedIn
from dbctl.services.app import Live, User, UserTable, exactly


class Tokens(Value, frozen=True, kw_only=True):
    """Sign-in tokens of a user, counted; their values are never shown."""

    valid: int
    expired: int
    revoked: int


def count_tokens(users: UserTable, user: User) -> Tokens | None:
    """Return how many tokens of each state a user has; None where the app stores none."""
    if not keeps_any(users):
        return None
    total = expired = revoked = 0
    for told, live in _tokens(users, users.db):
        owned: Where = Condition(live.get(told.user), "=", user.id)
        count = users.db.count(live.name, [owned])
        open_ones = [owned, *_not_ended(live, told)]
        still = users.db.count(live.name, open_ones)
        expiry = live.find(told.expires_at)
        late = users.db.count(live.name, [*open_ones, Condition(expiry, "<=", now())]) if expiry else 0
        total, expired, revoked = total + count, expired + late, revoked + count - still
    return Tokens(valid=total - expired - revoked, expired=expired, revoked=revoked)


def keeps_any(users: UserTable) -> bool:
    """Whether the app stores anything that keeps users signed in."""
    return any(True for _ in _tokens(users, users.db))


def planned_end(users: UserTable, gone: Sequence[User]) -> dict[str, int]:
    """Return, by table, how many rows ``end`` would touch."""
    counted = {}
    for told, live in _tokens(users, users.db):
        counted[live.name] = users.db.count(live.name, _open_of(live, told, gone))
    return {table: rows for table, rows in counted.items() if rows}


def end(users: UserTable, db: Writable, gone: Sequence[User]) -> int:
    """End whatever keeps these users signed in; return how many sessions that were."""
    ended = 0
    for told, live in _tokens(users, db):
        values = live.constants(told.end)
        changed = live.find(users.changed_at) if values else None
        if changed:
            values.setdefault(changed, live.encode(changed, now()))
        where = _open_of(live, told, gone)
        open_ones = db.count(live.name, where)
        done = db.update(live.name, values, where) if values else db.delete(live.name, where)
        exactly(done, open_ones, db)
        ended += done
    return ended


def remarks(signed_in_for: str | None, *, changed: bool) -> Sequence[str]:
    """Return what to say where a cookie that the app has signed goes on saying who somebody is."""
    if not (signed_in_for and changed):
        return ()
    said = (
        "the app signs a cookie and stores nothing that could be ended: whoever is signed in stays so, as they were,"
        f" for up to {signed_in_for}; only a new signing secret of the app ends that"
    )
    return [said]


def failed_attempts(users: UserTable, locked: Sequence[User], addresses: Sequence[str] = ()) -> list[Where]:
    """Return the condition for the failed attempts of these users: every spelling, and all from their addresses.

    Those from ``addresses`` meet it, too.

    Raises:
        UsageError: an address is given, and the app stores none.
    """
    told = users.app.ability(users.section.lockout, "lockout")
    live = Live(users.app.profile, users.db, told.table, "failed sign-ins")
    failed = [Condition(column, "=", value) for column, value in live.constants(told.failed).items()]
    typed = live.get(told.login)
    spelled = typed_by(typed, locked)
    address = live.find(told.address)
    if address is None and addresses:
        raise UsageError(detail="the app stores no addresses of failed attempts; name users")
    if address is None:
        return [*failed, spelled]
    rows = users.db.select(told.table, [address], [*failed, spelled])
    seen = sorted({*addresses, *(str(found) for (found,) in rows if found)})
    return [*failed, AnyOf([spelled, Condition(address, "in", seen)])]


def typed_by(column: str, users: Sequence[User]) -> Where:
    """Return the condition that a column holds a login of these users, in any spelling."""
    return AnyOf(
        [
            Condition(column, "same", text)
            for user in users
            for text in (user.username, user.email, user.login)
            if text
        ]
    )


def _tokens(users: UserTable, db: Readable) -> Iterator[tuple[SignedIn, Live]]:
    """Yield the tables that keep users signed in, but for those that may be missing and are."""
    for told in users.section.signed_in:
        table = told.table.removesuffix("?")
        if table in db.tables() or table == told.table:
            yield told, Live(users.app.profile, db, table, "sign-in tokens")


def _open_of(live: Live, told: SignedIn, gone: Sequence[User]) -> list[Where]:
    return [live.among(told.user, [user.id for user in gone]), *_not_ended(live, told)]


def _not_ended(live: Live, told: SignedIn) -> list[Where]:
    """Return the conditions of a row that ``told.end`` has not touched: a time is unset, another value differs."""
    conditions: list[Where] = []
    for name, constant in told.end.items():
        column = live.find(name)
        if column is None:
            continue
        if constant == ":now":
            conditions.append(AnyOf([Condition(column, "=", None), Condition(column, "=", "")]))
        else:
            value = live.constants({name: constant})[column]
            conditions.append(AnyOf([Condition(column, "=", None), Condition(column, "!=", value)]))
    return conditions
