"""Rows that are stored and break a rule of the app, whoever wrote them. Values of secrets are never shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from dbctl import signals
from dbctl.engines.contract import Condition, HeldTimes, HoldsTimeForms, Not, Readable, Where
from dbctl.errors import SchemaLacksError
from dbctl.model import Finding, Severity, counted
from dbctl.profiles.model import Name, Password, Settings
from dbctl.services.app import (
    App,
    Live,
    UserTable,
    cut,
    find_column,
    hash_fault,
    hidden,
    is_time,
    streams,
    time_columns,
)
from dbctl.services.roles import BuiltInPermissions, RoleTable
from dbctl.services.rules import known_states
from dbctl.services.settings import queries, setting_text_fault

EXAMPLES = 5
#: How messages call the forms of a time.
FORMS = {
    "iso-ms": "text with T and Z",
    "iso-without-z": "text with T, without Z",
    "sqlite-time": "text without T",
    "epoch-ms": "milliseconds since 1970",
    "epoch-s": "seconds since 1970",
}


def stored_faults(app: App, database: str, db: Readable, table: str = "") -> Iterator[Finding]:
    """Yield what is wrong with the rows of one open database; memory does not grow with its tables.

    Args:
        app: the app.
        database: its name.
        db: it, open.
        table: the one table that is looked at.
    """
    look = _Look(app, database, db, table)
    for part in (look.passwords, look.roles, look.values, look.settings, look.permissions):
        with suppress(SchemaLacksError):  # of a variant that lacks a column nothing can be judged
            yield from part()


def mixed_times(app: App, database: str, db: Readable, table: str = "") -> Iterator[Finding]:
    """Yield columns whose times have several forms; every row is read once for each. The arguments are as above."""
    yield from _Look(app, database, db, table).times()


def mixed_columns(
    app: App, database: str, db: Readable, table: str = ""
) -> Iterator[tuple[Live, str, Sequence[HeldTimes]]]:
    """Yield the columns whose times have several forms, each with these; the arguments are as above."""
    if not isinstance(db, HoldsTimeForms):
        return
    for each in db.tables().values():
        if each.view or table not in ("", each.name):
            continue
        live = Live(app.profile, db, each.name, "times")
        named = time_columns(app, database, live)
        for column in each.columns.values():
            if is_time(db, column, named):
                signals.check()
                held = db.count_time_forms(each.name, column.name)
                if len(held) > 1:
                    yield live, column.name, held


class _Look:
    def __init__(self, app: App, database: str, db: Readable, table: str) -> None:
        self._app, self._database, self._db, self._table = app, database, db, table

    def passwords(self) -> Iterator[Finding]:
        """Yield who has a password that is no hash."""
        told = self._app.profile.users
        if told is None or told.password is None or not self._is_looked_at(told.database, told.table):
            return
        users = UserTable(self._app, self._db)
        logins = self._unhashed(users, told.password, users.live.get(told.password.column))
        if logins:
            has = "has" if len(logins) == 1 else "have"
            message = (
                f"{counted(len(logins), 'user')} {has} a password that is not stored as a {told.password.codec} hash:"
                f" {_listed(logins)}"
            )
            yield self._finding("error", "password-not-hashed", message, "dbctl users set-password LOGIN")

    def _unhashed(self, users: UserTable, told: Password, column: str) -> list[str]:
        found = []
        with streams(self._db).stream(users.live.name, [*users.login_columns(), column]) as answer:
            for batch in answer.batches:
                signals.check()
                for *logins, stored in batch:
                    if stored is not None and hash_fault(told, stored):
                        found.append(next((str(login) for login in logins if login), "(no login)"))
        return found

    def roles(self) -> Iterator[Finding]:
        """Yield who has a role that the app does not know."""
        told = self._app.profile.users
        if told is None or told.role is None or not self._is_looked_at(told.database, told.table):
            return
        users = UserTable(self._app, self._db)
        column, known = users.role_column(), list(users.roles())
        where: list[Where] = [Condition(column, "!=", None), Not(Condition(column, "in", known))]
        hint = "dbctl users set-role LOGIN ROLE"
        yield from self._outside(users.live, column, where, "error", "unknown-role", hint)

    def values(self) -> Iterator[Finding]:
        """Yield rows that hold what the app does not know."""
        profile = self._app.profile
        for state in profile.states:
            yield from self._listed(
                state.database, state.table, state.column, known_states(state), state.severity, state.hint
            )
        for one in profile.values:
            yield from self._listed(
                one.database, one.table.removesuffix("?"), one.column, one.among, one.severity, one.hint
            )

    def _listed(
        self,
        database: str,
        table: str,
        name: Name,
        known: Sequence[object],
        severity: Severity,
        hint: str,
    ) -> Iterator[Finding]:
        column = find_column(self._db.tables().get(table), name)
        if column is None or not self._is_looked_at(database, table):
            return
        live = Live(self._app.profile, self._db, table, "values")
        where: list[Where] = [Condition(column, "!=", None), Not(Condition(column, "in", list(known)))]
        hint = (
            hint or f"The app knows {', '.join(map(str, known))}: dbctl data set {table} KEY {column}=VALUE."
        )
        yield from self._outside(live, column, where, severity, "value-unknown", hint)

    def _outside(
        self, live: Live, column: str, where: Sequence[Where], severity: Severity, code: str, hint: str
    ) -> Iterator[Finding]:
        key = [name for name, told in live.table.columns.items() if told.key] or [column]
        rows = self._db.select(live.name, [column, *key], where, limit=EXAMPLES + 1)
        if rows:
            number = self._db.count(live.name, where) if len(rows) > EXAMPLES else len(rows)
            examples = [f"{value!r} in {' '.join(map(str, of))}" for value, *of in rows]
            what = f"{live.name}.{column}"
            message = f"{counted(number, 'row')} with a value of {what} that the app does not know: {_listed(examples)}"
            yield self._finding(severity, code, message, hint)

    def settings(self) -> Iterator[Finding]:
        """Yield settings that break their type, their schema or their rule, and those that are missing."""
        for told in self._app.profile.settings:
            if not self._is_looked_at(told.database, told.table) or told.object:
                continue
            if told.scope == "user":
                yield from self._settings_of_users(told)
                continue
            table = queries.opened(self._app, self._db)
            yield from queries.faults(table)
            if missing := table.missing():
                message = f"{counted(len(missing), 'setting')} that the app comes with, and that is missing: {_listed(missing)}"
                yield self._finding(
                    "warning", "setting-missing", message, f"dbctl settings reset {missing[0]}"
                )

    def _settings_of_users(self, told: Settings) -> Iterator[Finding]:
        live = Live(self._app.profile, self._db, told.table, "settings of users")
        user, key, value = live.get(told.user), live.get(told.key or ""), live.get(told.fields["value"])
        for name, rule in told.keys.items():
            where: list[Where] = [Condition(key, "=", name)]
            where += [Not(Condition(value, "in", list(rule.values)))] if rule.values else []
            wrong = [
                f"{stored!r} of user {owner}"
                for owner, stored in self._db.select(told.table, [user, value], where)
                if setting_text_fault(told, name, str(stored))
            ]
            if wrong:
                message = f"{counted(len(wrong), 'user')} with a value of {name} that the app does not know: {_listed(wrong)}"
                yield self._finding(
                    "warning", "value-unknown", message, f"dbctl settings reset {name} --user LOGIN"
                )

    def permissions(self) -> Iterator[Finding]:
        """Yield built-in roles that lack a permission, or have one that the app does not give them."""
        told, users = self._app.profile.roles, self._app.profile.users
        if told is None or told.permissions is None or not told.built_in.permissions:
            return
        if not self._is_looked_at(users.database if users else "", told.permissions.link.table):
            return
        table = RoleTable(self._app, self._db)
        built_in, known = BuiltInPermissions(table), list(table.permission_keys())
        for role in built_in.roles:
            held = role.permissions or ()
            lacking = [name for name in known if name not in held and built_in.must_have(role, name)]
            extra = [name for name in held if built_in.is_listed(role) and not built_in.may_have(role, name)]
            if lacking:
                severity: Severity = (
                    "error" if users and role.name.casefold() == users.admin.casefold() else "warning"
                )
                message = f"the built-in role {role.name} lacks {_listed(lacking)}"
                hint = f"dbctl roles grant {role.name} {' '.join(lacking)}"
                yield self._finding(severity, "permission-missing", message, hint)
            if extra:
                message = (
                    f"the built-in role {role.name} has {_listed(extra)}, which the app does not give it"
                )
                hint = f"dbctl roles revoke {role.name} {' '.join(extra)}"
                yield self._finding("warning", "permission-extra", message, hint)

    def times(self) -> Iterator[Finding]:
        """Yield columns whose times have several forms, so that sorting by them gives a wrong order."""
        if not isinstance(self._db, HoldsTimeForms):
            return
        for live, column, held in mixed_columns(self._app, self._database, self._db, self._table):
            yield self._mixed_times(live, column, held)

    def _mixed_times(self, live: Live, column: str, held: Sequence[HeldTimes]) -> Finding:
        secret = hidden(self._app, self._database, self._db, [live.name]).get(live.name, [])
        forms = "; ".join(
            f"{counted(times.rows, 'row')} as {FORMS[times.form]}{_example(times, column, secret)}"
            for times in held
        )
        message = (
            f"{live.name}.{column} holds times in {len(held)} forms, which do not sort together: {forms}"
        )
        told = self._app.database(self._database)
        hint = (
            f"dbctl data set {live.name} KEY {column}=TIME rewrites one row in the form of the newest rows,"
            f" dbctl integrity repair --times all of them in the app's form."
        )
        if told.mode == "read-only":
            hint = f"{told.owner or 'the program that writes it'} writes this database; dbctl does not."
            hint = hint[:1].upper() + hint[1:]
        elif not any(each.key for each in live.table.columns.values()):
            hint = "The table has no primary key, so that dbctl can change no single row of it."
        return self._finding("warning", "times-mixed", message, hint)

    def _is_looked_at(self, database: str, table: str) -> bool:
        return (
            (database or self._app.main()) == self._database
            and table in self._db.tables()
            and self._table in ("", table)
        )

    def _finding(self, severity: Severity, code: str, message: str, hint: str) -> Finding:
        return Finding(
            target=self._app.target(self._database), severity=severity, code=code, message=message, hint=hint
        )


def _example(times: HeldTimes, column: str, secret: Collection[str]) -> str:
    if {column, *times.key} & set(secret):
        return ""
    key = " ".join(cut(str(value)) for value in times.key.values())
    return f" ({times.example}{f' of {key}' if key else ''})"


def _listed(examples: Sequence[str]) -> str:
    return ", ".join(examples[:EXAMPLES]) + (" …" if len(examples) > EXAMPLES else "")
