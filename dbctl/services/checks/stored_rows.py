"""Find stored rows that violate rules of the app. Findings never contain secret values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial

from dbctl import signals
from dbctl.engines.contract.database import Condition, Not, Readable, Where
from dbctl.engines.contract.streaming import TimeFormCount
from dbctl.errors.base import Remedy
from dbctl.errors.usage import SchemaMismatchError
from dbctl.model import Finding, PageRequest, Severity, format_count
from dbctl.profiles.model.integrity import States, Values
from dbctl.profiles.model.roles import UserRole
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.passwords import has_hash_form
from dbctl.services.app.app import App
from dbctl.services.app.evidence.subjects import Check, Needs, Subject, require
from dbctl.services.app.live_table import LiveTable, find_column, require_streams
from dbctl.services.app.results import is_time, time_columns
from dbctl.services.app.secrets import find_secret_columns
from dbctl.services.app.user_table import UserTable
from dbctl.services.app.validation import truncate
from dbctl.services.checks.base import EXAMPLES, join_examples
from dbctl.services.roles.role_table import BuiltInPermissions, RoleTable
from dbctl.services.rules.columns import known_states
from dbctl.services.rules.rows import find_unlisted
from dbctl.services.settings.queries import open_settings
from dbctl.services.settings.store import find_text_violation
from dbctl.services.users.last_admin import find_holder_problem
from dbctl.services.users.passwords import Passwords

SET_HINT = Remedy("`data set {table} KEY {column}=VALUE --db {database}`")
LISTED_HINT = Remedy("Allowed: {listed}. Set one with: `data set {table} KEY {column}=VALUE --db {database}`")
TIMES_HINT = Remedy(
    "Rewrite one row, in the form of the app, with: `data set {table} KEY {column}=TIME --db {database}`;"
    " or all rows with: `integrity repair --times --db {database}`"
)
MISSING_ROLE_HINT = Remedy(
    "Add the roles of the app again, with their ids. Restore roles that dbctl deleted with: `undo OPERATION`; compare a backup with: `restore preview`"
)
UNKNOWN_HINT = (
    "The app may accept it: dbctl does not replace it. Compare users.password of the profile with the app."
)
#: Names of time forms in messages.
FORMS = {
    "iso-ms": "text with T and Z",
    "iso-without-z": "text with T, without Z",
    "sqlite-time": "text without T",
    "compact": "14 digits",
    "epoch-ms": "milliseconds since 1970",
    "epoch-s": "seconds since 1970",
}


def find_stored_violations(subject: Subject) -> Iterator[Finding]:
    """Yield violations in the rows of a database; memory use does not depend on the size of the tables."""
    for check in (_check_passwords, _check_roles, _check_values, _check_settings, _check_permissions):
        with suppress(SchemaMismatchError):  # a variant without these columns cannot be checked
            yield from check(subject)


def find_mixed_times(subject: Subject) -> Iterator[Finding]:
    """Yield findings about columns with times in several forms; reads every row once per column."""
    app, database, db = subject.app, subject.database, subject.db
    for live_table, column, forms in list_mixed_columns(app, database, db, subject.table):
        secret = find_secret_columns(app, database, db, [live_table.name]).get(live_table.name, [])
        forms_text = "; ".join(
            f"{format_count(times.rows, 'row')} as {FORMS[times.form]}{_format_example(times, column, secret)}"
            for times in forms
        )
        message = f"{live_table.name}.{column} has times in {len(forms)} forms, which do not sort together: {forms_text}"
        hint: Remedy | str = TIMES_HINT
        if subject.section.mode == "read-only":
            owner = subject.section.owner or "the program that writes it"
            hint = f"{owner[:1].upper()}{owner[1:]} owns this database; dbctl does not write it."
        elif not live_table.table.primary_key:
            hint = "The table has no primary key, so dbctl cannot change single rows."
        yield subject.finding("warning", "times-mixed", message, hint, table=live_table.name, column=column)


def _find_unreported(subject: Subject) -> Iterator[Finding]:
    """Yield the violations without those of roles: the check of users has a better hint."""
    return (finding for finding in find_stored_violations(subject) if finding.code != "role-unknown")


def list_mixed_columns(
    app: App, database: str, db: Readable, table: str = ""
) -> Iterator[tuple[LiveTable, str, Sequence[TimeFormCount]]]:
    """Yield the columns with times in several forms, and the forms."""
    if db.times is None:
        return
    for entry in db.tables().values():
        if entry.is_view or table not in ("", entry.name):
            continue
        live_table = LiveTable(app.profile, db, entry.name, "times")
        time_names = time_columns(app, database, live_table)
        for column in entry.columns.values():
            if is_time(db, column, time_names):
                signals.raise_if_interrupted()
                forms = db.times.count_time_forms(entry.name, column.name)
                if len(forms) > 1:
                    yield live_table, column.name, forms


def _check_passwords(subject: Subject) -> Iterator[Finding]:
    """Yield users whose stored password is not a hash, and the number of hashes in undeclared formats."""
    section = subject.app.profile.users
    if not (section and section.password and _is_included(subject, section.database, section.table)):
        return
    users = UserTable(subject.app, subject.db)
    passwords = Passwords(subject.app, users.live)
    logins, unknown = _find_unhashed(subject, users, passwords)
    if unknown:
        message = f"{format_count(unknown, 'user')} with a password hash in a format that the profile does not declare"
        yield subject.finding("info", "password-unknown", message, UNKNOWN_HINT)
    if logins:
        verb = "has" if len(logins) == 1 else "have"
        message = (
            f"{format_count(len(logins), 'user')} {verb} a password that is not stored as a {' or '.join(passwords.formats)} hash:"
            f" {join_examples(logins)}"
        )
        yield subject.finding("error", "password-not-hashed", message, Remedy("`users set-password LOGIN`"))


def _find_unhashed(subject: Subject, users: UserTable, passwords: Passwords) -> tuple[list[str], int]:
    """Return the users whose password is no hash, and the number of hashes in undeclared formats."""
    result, unknown, login_columns = list[str](), 0, users.login_columns()
    for row in _stream(subject, users.live.name, [*login_columns, *passwords.columns]):
        logins, stored = row[: len(login_columns)], passwords.join(row[len(login_columns) :])
        if stored is None or passwords.is_declared(stored):
            continue
        if has_hash_form(stored):
            unknown += 1
        else:
            result.append(next((str(login) for login in logins if login), "(no login)"))
    return result, unknown


def _stream(subject: Subject, table: str, columns: Sequence[str]) -> Iterator[tuple[object, ...]]:
    with require_streams(subject.db).stream(table, columns) as stream:
        for batch in stream.batches:
            signals.raise_if_interrupted()
            yield from batch


def _check_roles(subject: Subject) -> Iterator[Finding]:
    """Yield missing roles, users with an unknown role, and an exclusive role that not exactly one user has."""
    section = subject.app.profile.users
    if not (section and section.role and _is_included(subject, section.database, section.table)):
        return
    users = UserTable(subject.app, subject.db)
    if section.role.role_table:
        yield from _find_missing_roles(subject, users, section.role)
    where = [users.require_roles().where_unknown()]
    affected = users.read(where, page_request=PageRequest(limit=EXAMPLES + 1))
    if affected:
        row_count = users.db.count(users.live.name, [*where, *users.only])
        examples = [f"{', '.join(user.role_names)} of {user.login}" for user in affected]
        message = f"{format_count(row_count, 'user')} with an unknown role: {join_examples(examples)}"
        yield subject.finding("error", "role-unknown", message, Remedy("`users set-role LOGIN ROLE`"))
    if problem := find_holder_problem(users):
        yield subject.finding("error", "role-exclusive", problem, Remedy("`users set-role LOGIN ROLE`"))


def _find_missing_roles(subject: Subject, users: UserTable, section: UserRole) -> Iterator[Finding]:
    """Yield the roles that the app needs and its table of roles lacks: the default, that of admins, the built-in ones."""
    roles, names = subject.app.profile.roles, users.require_roles().keys.values()
    if not names:
        message = f"{section.role_table} has no rows, so that no user has a role"
        yield subject.finding("error", "roles-incomplete", message, MISSING_ROLE_HINT)
        return
    needed = {section.default: "the role of new users", users.section.admin_role: "the role of admins"}
    missing = [
        f"{name} ({purpose})"
        for name, purpose in needed.items()
        if name and name.casefold() not in map(str.casefold, names)
    ]
    if roles and roles.built_in.ids:
        keys = {str(role.id) for role in RoleTable(subject.app, subject.db).read()}
        missing += [f"id {key} (built in)" for key in roles.built_in.ids if str(key) not in keys]
    if missing:
        message = f"{section.role_table} lacks {join_examples(missing)}"
        yield subject.finding("error", "roles-incomplete", message, MISSING_ROLE_HINT)


def _check_values(subject: Subject) -> Iterator[Finding]:
    """Yield rows with values that the profile does not allow."""
    for state in subject.app.profile.states:
        yield from _check_column(subject, state, known_states(state))
    for rule in subject.app.profile.values:
        yield from _check_format(subject, rule) if rule.format else _check_column(subject, rule, rule.allowed)


def _find_column(subject: Subject, section: States | Values) -> str | None:
    table = section.table.removesuffix("?")
    column = find_column(subject.db.tables().get(table), section.column)
    return column if _is_included(subject, section.database, table) else None


def _check_format(subject: Subject, section: Values) -> Iterator[Finding]:
    if column := _find_column(subject, section):
        stored = (value for (value,) in _stream(subject, section.table.removesuffix("?"), [column]))
        invalid, examples = 0, list[str]()
        for value in stored:
            if value is not None and find_unlisted(section, value):
                invalid += 1
                examples += [repr(truncate(str(value)))] if len(examples) <= EXAMPLES else []
        yield from _describe_values(subject, section, column, invalid, examples, "")


def _check_column(subject: Subject, section: States | Values, allowed: Sequence[object]) -> Iterator[Finding]:
    if column := _find_column(subject, section):
        live_table = LiveTable(subject.app.profile, subject.db, section.table.removesuffix("?"), "values")
        key = live_table.table.primary_key or [column]
        where: list[Where] = [Condition(column, "!=", None), Not(Condition(column, "in", list(allowed)))]
        rows = subject.db.select(live_table.name, [column, *key], where, limit=EXAMPLES + 1)
        row_count = subject.db.count(live_table.name, where) if len(rows) > EXAMPLES else len(rows)
        examples = [f"{value!r} in {' '.join(map(str, key_values))}" for value, *key_values in rows]
        listed = ", ".join(map(str, allowed))
        yield from _describe_values(subject, section, column, row_count, examples, listed)


def _describe_values(
    subject: Subject, section: States | Values, column: str, count: int, examples: Sequence[str], listed: str
) -> Iterator[Finding]:
    table = section.table.removesuffix("?")
    if count:
        message = f"{format_count(count, 'row')} with a value of {table}.{column} that is not allowed: {join_examples(examples)}"
        hint = section.hint or (LISTED_HINT if listed else SET_HINT)
        facts = {"listed": listed, "table": table, "column": column}
        yield subject.finding(section.severity, "value-unknown", message, hint, **facts)


def _check_settings(subject: Subject) -> Iterator[Finding]:
    """Yield settings that violate their type, schema or rule, and missing settings."""
    for section in subject.app.profile.settings:
        if not _is_included(subject, section.database, section.table) or section.object:
            continue
        if section.scope != "system":
            # each object has its own store
            yield from _check_user_settings(subject, section) if section.scope == "user" else ()
            continue
        store = open_settings(subject.app, subject.db)
        yield from store.find_invalid()
        if missing := store.missing_keys():
            count = format_count(len(missing), "setting")
            message = f"{count} of the app missing: {join_examples(missing)}"
            yield subject.finding(
                "warning", "setting-missing", message, Remedy("`settings reset {key}`"), key=missing[0]
            )


def _check_user_settings(subject: Subject, section: Settings) -> Iterator[Finding]:
    live_table = LiveTable(subject.app.profile, subject.db, section.table, "settings of users")
    user, key, value = map(live_table.column, (section.user, section.key or "", section.fields["value"]))
    for name, rule in section.keys.items():
        where: list[Where] = [Condition(key, "=", name)]
        where += [Not(Condition(value, "in", list(rule.values)))] if rule.values else []
        invalid = [
            f"{stored!r} of user {owner}"
            for owner, stored in subject.db.select(section.table, [user, value], where)
            if find_text_violation(section, name, str(stored))
        ]
        if invalid:
            message = f"{format_count(len(invalid), 'user')} with a value of {name} that is not allowed: {join_examples(invalid)}"
            hint = Remedy("`settings reset {key} --user LOGIN`")
            yield subject.finding("warning", "value-unknown", message, hint, key=name)


def _check_permissions(subject: Subject) -> Iterator[Finding]:
    """Yield built-in roles with missing or additional permissions."""
    section, users = subject.app.profile.roles, subject.app.profile.users
    if section is None or section.permissions is None or not section.built_in.permissions:
        return
    if not _is_included(subject, users.database if users else "", section.permissions.link.table):
        return
    table = RoleTable(subject.app, subject.db)
    built_in, permission_keys = BuiltInPermissions(table), list(table.permission_keys())
    for role in built_in.roles:
        permissions = role.permissions or ()
        absent = [name for name in permission_keys if name not in permissions]
        missing = [name for name in absent if built_in.must_have(role, name)]
        is_listed = built_in.is_listed(role)
        extra = [name for name in permissions if is_listed and not built_in.may_have(role, name)]
        if missing:
            is_admin = users and role.name.casefold() == users.admin_role.casefold()
            severity: Severity = "error" if is_admin else "warning"
            message = f"the built-in role {role.name} lacks {join_examples(missing)}"
            hint = Remedy("`roles grant {role} {permissions}`")
            words = {"role": role.name, "permissions": missing}
            yield subject.finding(severity, "permission-missing", message, hint, **words)
        if extra:
            message = f"the built-in role {role.name} has additional permissions: {join_examples(extra)}"
            hint = Remedy("`roles revoke {role} {permissions}`")
            words = {"role": role.name, "permissions": extra}
            yield subject.finding("warning", "permission-extra", message, hint, **words)


def _is_included(subject: Subject, database: str, table: str) -> bool:
    is_here = (database or subject.app.main_database) == subject.database
    return is_here and table in subject.db.tables() and subject.table in ("", table)


def _format_example(times: TimeFormCount, column: str, secret: Collection[str]) -> str:
    if {column, *times.key} & set(secret):
        return ""
    key = " ".join(truncate(str(value)) for value in times.key.values())
    return f" ({times.example}{f' of {key}' if key else ''})"


def _check_undamaged(subject: Subject, find: Callable[[Subject], Iterator[Finding]]) -> Iterator[Finding]:
    """Return the findings of a check; the rows of a damaged database are not reliable."""
    require(not subject.damage)
    return find(subject)


STORED_ROWS = Check("value-unknown", partial(_check_undamaged, find=find_stored_violations), needs=Needs.SCAN)
STORED_ROWS_BRIEF = Check("value-unknown", _find_unreported)
TIMES = Check("times-mixed", partial(_check_undamaged, find=find_mixed_times), needs=Needs.SCAN)
