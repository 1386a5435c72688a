"""Sign-in tokens and failed attempts of users: count, end and clear them as the app does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    Not,
    Readable,
    Table,
    Where,
    Writable,
    after_key,
)
from dbctl.errors.usage import SchemaMismatchError, UsageError, ValueInvalidError
from dbctl.model import Row, Struct, format_count, now
from dbctl.profiles.codecs import EPOCH
from dbctl.profiles.model.base import ExpectedValue, NewValue
from dbctl.profiles.model.users import Payload, SignInTable
from dbctl.profiles.payloads import read_payload
from dbctl.services.app.app import App
from dbctl.services.app.change import require_row_count
from dbctl.services.app.live_table import LiveTable, find_column, where_before
from dbctl.services.app.row_writes import write_rows
from dbctl.services.app.user_table import User, UserTable, users_database
from dbctl.services.users.companions import fill_row

#: The value of a column that counts changes, such as sign-outs: the stored number plus one.
NEXT = ":next"
#: By table, rows before and after a change; an empty row does not exist.
ChangedRows: TypeAlias = Mapping[str, Sequence[tuple[Row, Row]]]
PAGE_ROWS = 1000  #: rows with encoded data that one query reads


class Tokens(Struct, frozen=True, kw_only=True):
    """The number of sign-in tokens of a user; their values are never shown."""

    valid: int
    expired: int
    revoked: int


def count_tokens(users: UserTable, user: User) -> Tokens | None:
    """Return the number of a user's tokens by state; None if the app stores no tokens."""
    tables = list(_token_tables(users, users.db))
    if not tables:
        return None
    total = expired = revoked = 0
    for table in tables:
        owned = table.where_users([user.id])
        count = table.count(owned)
        open_count = table.count([*owned, *table.not_ended])
        expired_count = (
            table.count([*owned, *table.not_ended, *table.where_expired]) if table.where_expired else 0
        )
        total, expired, revoked = total + count, expired + expired_count, revoked + count - open_count
    return Tokens(valid=total - expired - revoked, expired=expired, revoked=revoked)


def can_sign_out(users: UserTable) -> bool:
    """Return whether sign-ins can be ended: the app stores them, or compares them with a column of the user."""
    return bool(list_renewed(users)) or any(True for _ in _token_tables(users, users.db))


def list_renewed(users: UserTable) -> list[str]:
    """Return the columns of users whose change ends their sign-ins, without missing optional ones."""
    return [column for name in users.section.on_sign_out if (column := users.live.optional_column(name))]


def find_signed_in(users: UserTable, selected: Sequence[User]) -> list[User]:
    """Return the users of whom ``SignOut`` would change a row."""
    if list_renewed(users):
        return list(selected)
    owners = {owner for table in _token_tables(users, users.db) for owner in table.find_owners(selected)}
    return [user for user in selected if str(user.id) in owners]


def list_expendable_tables(app: App) -> set[str]:
    """Return the tables from which changes of users delete rows: their sessions and roles."""
    users = app.require_section(app.core.users, "users")
    members = users.role.members if users.role else None
    return {*users.sign_in_tables, *([members.table.removesuffix("?")] if members else ())}


class SignOut:
    """The rows of users that store their sessions, found once for the plan and for the change."""

    def __init__(self, users: UserTable, leaving: Sequence[User]) -> None:
        self._users, self._leaving = users, leaving
        ids = [user.id for user in leaving]
        tables = _token_tables(users, users.db) if leaving else ()
        self._open_rows = [(table, table.open_rows(ids)) for table in tables]
        #: the columns that name the users of sessions
        self.places = [f"{table.live.name}.{table.user_column}" for table, _ in self._open_rows]
        #: by table, the rows to delete or end
        self.counts = dict(
            sum(
                (Counter({table.live.name: table.count(where)}) for table, where in self._open_rows),
                Counter(),
            )
        )
        #: by table, the conditions of the rows to delete
        self.deleted: dict[str, list[Where]] = {}
        for table, where in self._open_rows:
            if not table.values:
                self.deleted.setdefault(table.live.name, []).append(AllOf(where))

    def plan_steps(self) -> list[str]:
        """Return the steps of ``apply``, without the rows that foreign keys delete."""
        steps = [f"end {format_count(count, 'session')} ({table})" for table, count in self.counts.items()]
        if self._leaving and (renewed := list_renewed(self._users)):
            users = format_count(len(self._leaving), "user")
            steps.append(f"change {', '.join(renewed)} of {users}, which ends all of their sessions")
        return steps

    def apply(self, db: Writable) -> int:
        """End the sessions; return the number of rows that stored them."""
        ended, app = 0, self._users.app
        names = app.core.databases[users_database(app)].updated_at
        for table, where in self._open_rows:
            live, values = table.live, table.values
            changed = find_column(live.table, names) if values else None
            stamps = {changed: live.encode(changed, now())} if changed and changed not in values else {}
            ended += write_rows(db, live.name, where, values, stamps=stamps)
        if list_renewed(self._users):
            renew_columns(self._users, db, self._leaving, self._users.section.on_sign_out)
        return ended


def renew_columns(
    users: UserTable, db: Writable, changed: Sequence[User], section: Mapping[str, NewValue]
) -> None:
    """Write new values to columns, such as those that end all sign-ins; random ones differ between users.

    Raises:
        ValueInvalidError: a number that counts changes is not an integer.
    """
    live = users.live
    counters = [
        column for name, value in section.items() if value == NEXT and (column := live.optional_column(name))
    ]
    others = {name: value for name, value in section.items() if value != NEXT}
    for key, *numbers in db.select(live.name, [users.id, *counters], [users.where_ids(changed)]):
        values = fill_row(live, others, {})
        for column, number in zip(counters, numbers, strict=True):
            if not isinstance(number, int | None):
                raise ValueInvalidError(name=column, value=ascii(number), reason="it is not an integer")
            values[column] = (number or 0) + 1
        if values:  # the deployment may lack the columns
            require_row_count(db.update(live.name, values, [Condition(users.id, "=", key)]), 1, db)


def remaining_sign_in(users: UserTable, changed: Collection[str] = ()) -> str | None:
    """Return how long signed cookies remain valid after a change of these fields, or a deletion; None: they end.

    An app that compares any field in each request reads the row, so that a deletion ends them too.
    """
    section = users.section
    ends = set(changed) <= set(section.checked) if changed else section.checked
    return None if ends else section.cookie or None


def remarks(signed_in_for: str | None, *, changed: bool) -> Sequence[str]:
    """Return a warning if the app uses signed cookies, which remain valid after a change."""
    if not (signed_in_for and changed):
        return ()
    remark = f"the app signs cookies, which dbctl cannot revoke: users stay signed in as before for up to {signed_in_for}"
    return [f"{remark}; only a new signing secret of the app ends that"]


def list_undecided(users: UserTable) -> Sequence[str]:
    """Return notes about tables that may have sign-ins, which no command ends."""
    return [f"sessions were not ended: {note}" for note in users.app.core.list_open("sign-ins")]


def failed_attempts(users: UserTable, locked: Sequence[User], addresses: Sequence[str] = ()) -> list[Where]:
    """Return the conditions of the failed attempts of users: with any spelling of a login, and from the same addresses.

    Attempts from ``addresses`` match too.

    Raises:
        UsageError: ``addresses`` is not empty, but the app stores no addresses.
    """
    lockout = users.app.require_section(users.section.lockout, "lockout")
    live = LiveTable(users.app.core, users.db, lockout.table, "failed sign-ins")
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
    return AnyOf([Condition(column, "same", text) for user in users for text in user.login_texts])


class TokenTable:
    """A table of sign-in tokens of one open database."""

    def __init__(self, section: SignInTable, live: LiveTable) -> None:
        self.section, self.live = section, live
        #: the column with the user, or with the payload that contains it
        self.user_column = live.column(section.payload.column if section.payload else section.user)
        expiry = live.optional_column(section.expires_at)
        self.where_expired = [AllOf(where_before(expiry, now(), "<="))] if expiry else []
        self.not_ended = list(_not_ended(live, section))
        #: which end a token; without them, its row is deleted
        self.values = live.encode_constants(section.on_end)

    def where_users(self, ids: Sequence[object]) -> list[Where]:
        """Return the conditions of the tokens of users; if payloads contain the user, expired tokens are omitted."""
        only = self.live.conditions(self.section.only)
        if self.section.payload is None:
            return [Condition(self.user_column, "in", ids), *only]
        current: list[Where] = [*only, *map(Not, self.where_expired)]
        return [where_payload(self.live, self.section.payload, ids, current)]

    def open_rows(self, ids: Sequence[object]) -> list[Where]:
        """Return the conditions of the tokens of users that have not ended."""
        return [*self.where_users(ids), *self.not_ended]

    def count(self, where: Sequence[Where]) -> int:
        return self.live.db.count(self.live.name, where)

    def find_owners(self, users: Sequence[User]) -> set[str]:
        """Return the keys, as text, of those of the users who have open rows."""
        if self.section.payload is None:
            where = self.open_rows([user.id for user in users])
            return {str(key) for key in self.live.db.count_by(self.live.name, self.user_column, where)}
        where = [*self.live.conditions(self.section.only), *self.not_ended, *map(Not, self.where_expired)]
        return {user for _, user in read_payload_users(self.live, self.section.payload, where)}


def _token_tables(users: UserTable, db: Readable) -> Iterator[TokenTable]:
    """Yield the tables of sign-in tokens, without missing optional ones."""
    for section in users.section.signed_in:
        table = section.table.removesuffix("?")
        if table in db.tables() or table == section.table:
            yield TokenTable(section, LiveTable(users.app.core, db, table, "sign-in tokens"))


def _not_ended(live: LiveTable, section: SignInTable) -> Iterator[Where]:
    """Yield the conditions of a row without the values of ``on_end``: a time is unset, another value differs."""
    for name, constant in section.on_end.items():
        for column, value in live.encode_constants({name: constant}).items():
            if constant == ":now":
                yield Not(Condition(column, ">", EPOCH))
            elif value is None:
                yield Not(Condition(column, "=", None))
            else:
                yield AnyOf([Condition(column, "=", None), Condition(column, "!=", value)])


# Rows whose user is part of encoded data: no condition selects them, so they are read in pages ---------------------


def where_payload(
    live: LiveTable, payload: Payload, ids: Sequence[object], where: Sequence[Where] = ()
) -> Condition:
    """Return the condition of the rows of these users, read now; ``where`` limits the rows that are read.

    Raises:
        SchemaMismatchError: the table has no primary key of one column.
    """
    users = {str(key) for key in ids}
    keys = [key for key, user in read_payload_users(live, payload, where) if user in users]
    return Condition(require_single_key(live.db, live.name, "sessions"), "in", keys)


def read_payload_users(
    live: LiveTable, payload: Payload, where: Sequence[Where] = ()
) -> Iterator[tuple[object, str]]:
    """Yield the primary key and the key of the user, as text, of each row whose payload contains a user."""
    key = require_single_key(live.db, live.name, "sessions")
    column = live.column(payload.column)
    cursor: list[Where] = []
    while rows := live.db.select(live.name, [key, column], [*where, *cursor], limit=PAGE_ROWS):
        for row_key, stored in rows:
            if user := read_payload(payload.codec, payload.key, stored):
                yield row_key, user
        cursor = [after_key([key], [rows[-1][0]])]


def require_single_key(db: Readable, table: str, purpose: str) -> str:
    """Return the only column of the primary key.

    Raises:
        SchemaMismatchError: the table has no primary key, or one of several columns.
    """
    keys = db.tables()[table].primary_key
    if len(keys) != 1:
        missing = f"a primary key of {table} with one column"
        raise SchemaMismatchError(target=db.target, missing=missing, purpose=purpose)
    return keys[0]


class SignInRows(NamedTuple):
    """Rows of a table that are sign-ins or second factors, whose secrets are not in the audit log."""

    only: Mapping[str, ExpectedValue]  #: their values; empty: all rows of the table
    #: the columns of a second factor, if ``users reset-2fa`` keeps the row; otherwise empty
    columns: Sequence[str]


class SignInChanges:
    """Ends the sessions of users whose role or active state differs at the end of an open transaction."""

    def __init__(self, app: App, changes: Mapping[str, ChangedRows]) -> None:
        """Read the users whose state ``changes``, by database as for ``plan``, may change, if it writes their database."""
        self._changes = changes.get(users_database(app), {}) if app.core.users else {}
        self._before = self._read_states(app)

    def end_sessions(self, app: App) -> int:
        """End the sessions of users with another state; return the number of rows that stored them."""
        after = self._read_states(app)
        keys = [key for key, state in after.items() if self._before.get(key, state) != state]
        if not keys:
            return 0
        db = app.writers[users_database(app)]
        users = UserTable(app, db)
        return SignOut(users, users.read([Condition(users.id, "in", keys)])).apply(db)

    def _read_states(self, app: App) -> Mapping[object, object]:
        """Return roles and active state by the key of the user.

        An app can have a million users, so those whom no changed row names are not read.
        """
        if not self._changes:
            return {}
        users = UserTable(app, app.writers[users_database(app)])
        concerned = _Concerned(users, self._changes)
        where = [] if concerned.can_be_any else [Condition(users.id, "in", concerned.keys)]
        return _describe_states(users.read(where))

    @staticmethod
    def plan(
        app: App, db: Readable, database: str, changes: ChangedRows
    ) -> tuple[Sequence[str], Mapping[str, int]]:
        """Return the steps of ``end_sessions`` after ``changes``, and its rows by table.

        ``changes`` are by table the rows before and after; an empty row does not exist. Sessions are counted if a row
        of a user, or a pair of user and role or group, changes; other rows can change the state of any user.
        """
        if app.core.users is None or users_database(app) != database:
            return (), {}
        users = UserTable(app, db)
        concerned = _Concerned(users, changes)
        before, after = (
            _describe_states(users.build_users([rows[side] for rows in concerned.changed])) for side in (0, 1)
        )
        keys = [key for key, state in before.items() if after.get(key, state) != state]
        keys += concerned.linked
        sign_out = SignOut(users, users.read([Condition(users.id, "in", keys)]) if keys else [])
        steps = sign_out.plan_steps()
        if can_sign_out(users) and concerned.can_be_any:
            steps.append("end the sessions of users whose role or active state this changes")
        return steps, sign_out.counts

    @staticmethod
    def list_rows(app: App, database: str, live: Table) -> Sequence[SignInRows]:
        """Return the kinds of rows of a table that are sign-ins or second factors."""
        users = app.core.users
        if users is None or users_database(app) != database:
            return ()
        tables = [(section.table, SignInRows(section.only, ())) for section in users.signed_in]
        for factor in users.second_factor:
            columns = [column for name in factor.on_reset if (column := find_column(live, name))]
            if columns or not factor.on_reset:
                tables.append((factor.table, SignInRows(factor.only, columns)))
        return [rows for name, rows in tables if name.removesuffix("?") == live.name]

    @staticmethod
    def list_columns(app: App, database: str, live: Table) -> Sequence[str]:
        """Return the columns of a table of users that end their sign-ins."""
        users = app.core.users
        if users is None or users_database(app) != database or live.name != users.table:
            return ()
        return [column for name in users.on_sign_out if (column := find_column(live, name))]


class _Concerned:
    """The users whose role or active state changes of rows can change."""

    def __init__(self, users: UserTable, changes: ChangedRows) -> None:
        role = users.section.role
        members = role.members if role else None
        links = {
            pairs.table.removesuffix("?"): pairs.user
            for pairs in (members, members and members.groups)
            if pairs
        }
        others = users.section.rights_tables - {users.live.name, *links}
        #: the rows of users that remain, before and after
        self.changed = [rows for rows in changes.get(users.live.name, ()) if all(rows)]
        #: the keys of users who are in a changed pair of user and role or group
        self.linked = [
            row[column]
            for table, column in links.items()
            for rows in changes.get(table, ())
            for row in rows
            if row
        ]
        #: whether a row that names no user changed, such as one of a role
        self.can_be_any = any(changes.get(name) for name in others)
        self.keys = [*(before[users.id] for before, _ in self.changed), *self.linked]


def _describe_states(users: Iterable[User]) -> Mapping[object, object]:
    return {user.id: (list(user.role_names), user.active) for user in users}
