"""Find stored rows that violate rules of the app. Findings never contain secret values."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from dbctl import signals
from dbctl.engines.contract import Condition, Not, Readable, TimeFormCount, TimeForms, Where
from dbctl.errors import SchemaMismatchError
from dbctl.model import Finding, PageRequest, Severity, format_count
from dbctl.profiles import has_hash_form
from dbctl.profiles.model import ColumnNames, Settings, Values
from dbctl.services.app import (
    App,
    LiveTable,
    UserTable,
    find_column,
    find_secret_columns,
    is_time,
    require_streams,
    time_columns,
    truncate,
)
from dbctl.services.roles import BuiltInPermissions, RoleTable
from dbctl.services.rules import find_unlisted, known_states
from dbctl.services.settings import find_text_violation, open_settings
from dbctl.services.users import Passwords, find_holder_problem

EXAMPLES = 5
MISSING_ROLE_HINT = "Add the roles of the app again, with their ids: dbctl undo restores roles that dbctl deleted; dbctl restore preview compares a backup."
#: Names of time forms in messages.
FORMS = {
    "iso-ms": "text with T and Z",
    "iso-without-z": "text with T, without Z",
    "sqlite-time": "text without T",
    "epoch-ms": "milliseconds since 1970",
    "epoch-s": "seconds since 1970",
}


def find_stored_violations(app: App, database: str, db: Readable, table: str = "") -> Iterator[Finding]:
    """Yield violations in the rows of one open database; memory use does not depend on the size of the tables.

    Args:
        app: the app.
        database: its name.
        db: the open database.
        table: restricts the checks to one table.
    """
    checks = _StoredRowChecks(app, database, db, table)
    for check in (
        checks.check_passwords,
        checks.check_roles,
        checks.check_values,
        checks.check_settings,
        checks.check_permissions,
    ):
        with suppress(SchemaMismatchError):  # a variant without these columns cannot be checked
            yield from check()


def find_mixed_times(app: App, database: str, db: Readable, table: str = "") -> Iterator[Finding]:
    """Yield findings about columns with times in several forms; reads every row once per column."""
    yield from _StoredRowChecks(app, database, db, table).check_times()


def list_mixed_columns(
    app: App, database: str, db: Readable, table: str = ""
) -> Iterator[tuple[LiveTable, str, Sequence[TimeFormCount]]]:
    """Yield the columns with times in several forms, and the forms."""
    time_forms = db.part(TimeForms)
    if time_forms is None:
        return
    for entry in db.tables().values():
        if entry.is_view or table not in ("", entry.name):
            continue
        live_table = LiveTable(app.profile, db, entry.name, "times")
        time_names = time_columns(app, database, live_table)
        for column in entry.columns.values():
            if is_time(db, column, time_names):
                signals.raise_if_interrupted()
                forms = time_forms.count_time_forms(entry.name, column.name)
                if len(forms) > 1:
                    yield live_table, column.name, forms


class _StoredRowChecks:
    def __init__(self, app: App, database: str, db: Readable, table: str) -> None:
        self._app, self._database, self._db, self._table = app, database, db, table

    def check_passwords(self) -> Iterator[Finding]:
        """Yield users whose stored password is not a hash, and the number of hashes in undeclared formats."""
        section = self._app.profile.users
        if (
            section is None
            or section.password is None
            or not self._is_included(section.database, section.table)
        ):
            return
        users = UserTable(self._app, self._db)
        passwords = Passwords(self._app, users.live)
        logins, unknown = self._find_unhashed(users, passwords)
        if unknown:
            message = f"{format_count(unknown, 'user')} with a password hash in a format that the profile does not declare"
            yield self._create_finding(
                "info",
                "password-unknown",
                message,
                "The app may accept it: dbctl does not replace it. Compare users.password of the profile with the app.",
            )
        if logins:
            verb = "has" if len(logins) == 1 else "have"
            message = (
                f"{format_count(len(logins), 'user')} {verb} a password that is not stored as a {' or '.join(passwords.formats)} hash:"
                f" {_format_examples(logins)}"
            )
            yield self._create_finding(
                "error", "password-not-hashed", message, "dbctl users set-password LOGIN"
            )

    def _find_unhashed(self, users: UserTable, passwords: Passwords) -> tuple[list[str], int]:
        """Return the users whose password is no hash, and the number of hashes in undeclared formats."""
        result, unknown, login_columns = list[str](), 0, users.login_columns()
        columns = [*login_columns, *passwords.columns]
        with require_streams(self._db).stream(users.live.name, columns) as stream:
            for batch in stream.batches:
                signals.raise_if_interrupted()
                for row in batch:
                    logins, stored = row[: len(login_columns)], passwords.join(row[len(login_columns) :])
                    if stored is None or passwords.is_declared(stored):
                        continue
                    if has_hash_form(stored):
                        unknown += 1
                    else:
                        result.append(next((str(login) for login in logins if login), "(no login)"))
        return result, unknown

    def check_roles(self) -> Iterator[Finding]:
        """Yield missing roles, users with an unknown role, and an exclusive role that not exactly one user has."""
        section = self._app.profile.users
        if section is None or section.role is None or not self._is_included(section.database, section.table):
            return
        users = UserTable(self._app, self._db)
        if section.role.role_table:
            yield from self._find_missing_roles(users)
        where = [users.require_roles().where_unknown()]
        affected = users.read(where, page_request=PageRequest(limit=EXAMPLES + 1))
        if affected:
            row_count = users.db.count(users.live.name, [*where, *users.only])
            examples = [f"{', '.join(user.role_names)} of {user.login}" for user in affected]
            message = f"{format_count(row_count, 'user')} with an unknown role: {_format_examples(examples)}"
            yield self._create_finding("error", "role-unknown", message, "dbctl users set-role LOGIN ROLE")
        if problem := find_holder_problem(users):
            yield self._create_finding("error", "role-exclusive", problem, "dbctl users set-role LOGIN ROLE")

    def _find_missing_roles(self, users: UserTable) -> Iterator[Finding]:
        """Yield the roles that the app needs and its table of roles lacks: the default, that of admins, the built-in ones."""
        section, roles = self._app.require_section(self._app.profile.users, "users"), self._app.profile.roles
        table, names = (section.role.role_table if section.role else ""), users.require_roles().names()
        if not names:
            message = f"{table} has no rows, so that no user has a role"
            yield self._create_finding("error", "roles-incomplete", message, MISSING_ROLE_HINT)
            return
        default = section.role.default if section.role else ""
        needed = {default: "the role of new users", section.admin_role: "the role of admins"}
        missing = [
            f"{name} ({purpose})"
            for name, purpose in needed.items()
            if name and name.casefold() not in map(str.casefold, names)
        ]
        if roles and roles.built_in.ids:
            keys = {str(role.id) for role in RoleTable(self._app, self._db).read()}
            missing += [f"id {key} (built in)" for key in roles.built_in.ids if str(key) not in keys]
        if missing:
            message = f"{table} lacks {_format_examples(missing)}"
            yield self._create_finding("error", "roles-incomplete", message, MISSING_ROLE_HINT)

    def check_values(self) -> Iterator[Finding]:
        """Yield rows with values that the profile does not allow."""
        profile = self._app.profile
        for state in profile.states:
            yield from self._check_column(
                state.database, state.table, state.column, known_states(state), state.severity, state.hint
            )
        for rule in profile.values:
            if rule.format:
                yield from self._check_format(rule)
                continue
            yield from self._check_column(
                rule.database,
                rule.table.removesuffix("?"),
                rule.column,
                rule.allowed,
                rule.severity,
                rule.hint,
            )

    def _check_format(self, section: Values) -> Iterator[Finding]:
        table = section.table.removesuffix("?")
        column = find_column(self._db.tables().get(table), section.column)
        if column is None or not self._is_included(section.database, table):
            return
        invalid, examples = 0, list[str]()
        with require_streams(self._db).stream(table, [column]) as stream:
            for batch in stream.batches:
                signals.raise_if_interrupted()
                for (value,) in batch:
                    if value is not None and find_unlisted(section, value):
                        invalid += 1
                        examples += [repr(truncate(str(value)))] if len(examples) <= EXAMPLES else []
        if invalid:
            message = f"{format_count(invalid, 'row')} with a value of {table}.{column} that is not allowed: {_format_examples(examples)}"
            hint = section.hint or f"dbctl data set {shlex.quote(table)} KEY {column}=VALUE"
            yield self._create_finding(section.severity, "value-unknown", message, hint)

    def _check_column(
        self,
        database: str,
        table: str,
        name: ColumnNames,
        allowed: Sequence[object],
        severity: Severity,
        hint: str,
    ) -> Iterator[Finding]:
        column = find_column(self._db.tables().get(table), name)
        if column is None or not self._is_included(database, table):
            return
        live_table = LiveTable(self._app.profile, self._db, table, "values")
        where: list[Where] = [Condition(column, "!=", None), Not(Condition(column, "in", list(allowed)))]
        hint = (
            hint
            or f"Allowed: {', '.join(map(str, allowed))}: dbctl data set {shlex.quote(table)} KEY {column}=VALUE."
        )
        yield from self._report_values(live_table, column, where, severity, "value-unknown", hint)

    def _report_values(
        self,
        live_table: LiveTable,
        column: str,
        where: Sequence[Where],
        severity: Severity,
        code: str,
        hint: str,
    ) -> Iterator[Finding]:
        key = [
            name for name, column_info in live_table.table.columns.items() if column_info.is_primary_key
        ] or [column]
        rows = self._db.select(live_table.name, [column, *key], where, limit=EXAMPLES + 1)
        if rows:
            row_count = self._db.count(live_table.name, where) if len(rows) > EXAMPLES else len(rows)
            examples = [f"{value!r} in {' '.join(map(str, key_values))}" for value, *key_values in rows]
            column_name = f"{live_table.name}.{column}"
            message = f"{format_count(row_count, 'row')} with a value of {column_name} that is not allowed: {_format_examples(examples)}"
            yield self._create_finding(severity, code, message, hint)

    def check_settings(self) -> Iterator[Finding]:
        """Yield settings that violate their type, schema or rule, and missing settings."""
        for section in self._app.profile.settings:
            if not self._is_included(section.database, section.table) or section.object:
                continue
            if section.scope == "object":  # each object has its own store
                continue
            if section.scope == "user":
                yield from self._check_user_settings(section)
                continue
            store = open_settings(self._app, self._db)
            yield from store.find_invalid()
            if missing := store.missing_keys():
                message = (
                    f"{format_count(len(missing), 'setting')} of the app missing: {_format_examples(missing)}"
                )
                yield self._create_finding(
                    "warning", "setting-missing", message, f"dbctl settings reset {missing[0]}"
                )

    def _check_user_settings(self, section: Settings) -> Iterator[Finding]:
        live_table = LiveTable(self._app.profile, self._db, section.table, "settings of users")
        user, key, value = (
            live_table.column(section.user),
            live_table.column(section.key or ""),
            live_table.column(section.fields["value"]),
        )
        for name, rule in section.keys.items():
            where: list[Where] = [Condition(key, "=", name)]
            where += [Not(Condition(value, "in", list(rule.values)))] if rule.values else []
            invalid = [
                f"{stored!r} of user {owner}"
                for owner, stored in self._db.select(section.table, [user, value], where)
                if find_text_violation(section, name, str(stored))
            ]
            if invalid:
                message = f"{format_count(len(invalid), 'user')} with a value of {name} that is not allowed: {_format_examples(invalid)}"
                yield self._create_finding(
                    "warning",
                    "value-unknown",
                    message,
                    f"dbctl settings reset {shlex.quote(name)} --user LOGIN",
                )

    def check_permissions(self) -> Iterator[Finding]:
        """Yield built-in roles with missing or additional permissions."""
        section, users = self._app.profile.roles, self._app.profile.users
        if section is None or section.permissions is None or not section.built_in.permissions:
            return
        if not self._is_included(users.database if users else "", section.permissions.link.table):
            return
        table = RoleTable(self._app, self._db)
        built_in, permission_keys = BuiltInPermissions(table), list(table.permission_keys())
        for role in built_in.roles:
            permissions = role.permissions or ()
            missing = [
                name for name in permission_keys if name not in permissions and built_in.must_have(role, name)
            ]
            extra = [
                name for name in permissions if built_in.is_listed(role) and not built_in.may_have(role, name)
            ]
            if missing:
                severity: Severity = (
                    "error" if users and role.name.casefold() == users.admin_role.casefold() else "warning"
                )
                message = f"the built-in role {role.name} lacks {_format_examples(missing)}"
                hint = f"dbctl roles grant {shlex.join([role.name, *missing])}"
                yield self._create_finding(severity, "permission-missing", message, hint)
            if extra:
                message = (
                    f"the built-in role {role.name} has additional permissions: {_format_examples(extra)}"
                )
                hint = f"dbctl roles revoke {shlex.join([role.name, *extra])}"
                yield self._create_finding("warning", "permission-extra", message, hint)

    def check_times(self) -> Iterator[Finding]:
        """Yield columns with times in several forms, which sort in a wrong order."""
        for live_table, column, forms in list_mixed_columns(self._app, self._database, self._db, self._table):
            yield self._create_times_finding(live_table, column, forms)

    def _create_times_finding(
        self, live_table: LiveTable, column: str, forms: Sequence[TimeFormCount]
    ) -> Finding:
        secret = find_secret_columns(self._app, self._database, self._db, [live_table.name]).get(
            live_table.name, []
        )
        forms_text = "; ".join(
            f"{format_count(times.rows, 'row')} as {FORMS[times.form]}{_format_example(times, column, secret)}"
            for times in forms
        )
        message = f"{live_table.name}.{column} has times in {len(forms)} forms, which do not sort together: {forms_text}"
        section = self._app.database(self._database)
        hint = (
            f"dbctl data set {shlex.quote(live_table.name)} KEY {column}=TIME rewrites one row, dbctl integrity repair --times"
            f" all rows, in the form of the app."
        )
        if section.mode == "read-only":
            hint = f"{section.owner or 'the program that writes it'} owns this database; dbctl does not write it."
            hint = hint[:1].upper() + hint[1:]
        elif not any(entry.is_primary_key for entry in live_table.table.columns.values()):
            hint = "The table has no primary key, so dbctl cannot change single rows."
        return self._create_finding("warning", "times-mixed", message, hint)

    def _is_included(self, database: str, table: str) -> bool:
        return (
            (database or self._app.main()) == self._database
            and table in self._db.tables()
            and self._table in ("", table)
        )

    def _create_finding(self, severity: Severity, code: str, message: str, hint: str) -> Finding:
        return Finding(self._app.target(self._database), severity, code, message, hint)


def _format_example(times: TimeFormCount, column: str, secret: Collection[str]) -> str:
    if {column, *times.key} & set(secret):
        return ""
    key = " ".join(truncate(str(value)) for value in times.key.values())
    return f" ({times.example}{f' of {key}' if key else ''})"


def _format_examples(examples: Sequence[str]) -> str:
    return ", ".join(examples[:EXAMPLES]) + (" …" if len(examples) > EXAMPLES else "")
