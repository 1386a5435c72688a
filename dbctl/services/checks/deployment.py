"""Checks of databases on servers: settings, warnings of the engine, indexes, leftovers of drills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract import (
    Advisor,
    AnyOf,
    Condition,
    Index,
    IndexMonitor,
    ProgramUser,
    ReplicaMonitor,
    SettingComparison,
    Table,
    require_replica,
)
from dbctl.errors import BusyError, DbctlError, HashExpensiveError
from dbctl.model import Finding, Secret, format_count, format_size
from dbctl.profiles.model import KnownLogin
from dbctl.services.app import App, UserTable, command_line, open_users
from dbctl.services.checks.context import CheckContext
from dbctl.services.users import Passwords, admin_role, list_admins, may_sign_in

MAX_NAMED = 5  #: constraints in a message


def check_indexes(context: CheckContext, db: IndexMonitor, tables: Mapping[str, Table]) -> Iterator[Finding]:
    """Yield duplicate constraints, and columns that lack the index of the profile."""
    indexes = db.list_indexes()
    yield from _check_constraints(context, indexes)
    yield from _check_columns(context, indexes, tables)


def _check_constraints(context: CheckContext, indexes: Sequence[Index]) -> Iterator[Finding]:
    """Yield tables with several unique constraints over the same columns, which some libraries add at every start.

    Other duplicate indexes are reported by ``stats indexes`` only: the app creates them again when it starts.
    """
    groups: dict[tuple[str, Sequence[str]], list[Index]] = {}
    for index in indexes:
        if index.constraint and index.unique and not index.primary and not index.where:
            groups.setdefault((index.table, tuple(index.columns)), []).append(index)
    for (table, columns), group in groups.items():
        # Constraints that foreign keys need come first, then the oldest, whose name has no number.
        group.sort(key=lambda index: (not index.is_referenced, len(index.name), index.name))
        removable = [index for index in group[1:] if not index.is_referenced]
        if removable:
            names = ", ".join(index.name for index in removable[:MAX_NAMED]) + (
                " …" if len(removable) > MAX_NAMED else ""
            )
            message = f"{table} has {len(group)} unique constraints over {', '.join(columns)}, which slow every write: {names}"
            drop = "; ".join(index.drop_statement.rstrip("; ") for index in removable)
            yield context.create_finding("warning", "duplicate-constraint", message, f"{drop};")


def _check_columns(
    context: CheckContext, indexes: Sequence[Index], tables: Mapping[str, Table]
) -> Iterator[Finding]:
    """Yield the columns that the profile lists as indexed, and with which no index of all rows begins."""
    first = {
        (index.table, index.columns[0].split(" ")[0].strip('"`'))
        for index in indexes
        if index.columns and index.valid and not index.where
    }
    for path in context.section.indexed:
        table, _, column = path.partition(".")
        if table in tables and column in tables[table].columns and (table, column) not in first:
            message = f"no index begins with {path}, so each read by this column reads every row of {table}"
            hint = f"create index idx_{table}_{column} on {table} ({column});"
            yield context.create_finding("warning", "column-unindexed", message, hint)


def check_server(context: CheckContext, db: Advisor) -> Iterator[Finding]:
    """Yield warnings of the engine, and settings that differ from the recommendations of the profile."""
    for warning in db.server_findings(writing=context.is_writable):
        yield warning.locate(context.target)
    engine = context.app.url(context.database).engine
    recommended = next(
        (settings for name, settings in context.section.recommended.items() if name == engine), {}
    )
    for setting in db.compare_settings({name: _format_value(value) for name, value in recommended.items()}):
        if not setting.is_sufficient:
            yield _describe_setting(context, setting)


def check_programs(dumps: ProgramUser) -> Iterator[Finding]:
    """Yield nothing; raise the error of the first backup if its programs are missing or older than the server."""
    dumps.require_programs()
    yield from ()


def check_scratch(app: App) -> Iterator[Finding]:
    """Yield leftovers of drills on the configured scratch server.

    Raises:
        DbctlError: the server cannot be reached.
    """
    url = app.configured.scratch
    if url is None:
        return
    with closing(registry.load_engine(url.engine).open_for_reading(url, app.name, timeout=app.timeout)) as db:
        if advisor := db.part(Advisor):
            for warning in advisor.find_abandoned():
                yield warning.locate(app.name)


def _describe_setting(context: CheckContext, setting: SettingComparison) -> Finding:
    if setting.actual is None:
        message = (
            f"the server has no setting {setting.name}, which is recommended for {context.app.profile.title}"
        )
        return context.create_finding("info", "setting-unknown", message)
    text = (
        f"{setting.name} is {setting.actual}; recommended for {context.app.profile.title}: {setting.required}"
    )
    if setting.is_pending:
        return context.create_finding(
            "info", "setting-below", f"{text}; the new value is active after a restart of the server"
        )
    method = (
        "requires a restart of the server"
        if setting.requires_restart
        else "requires a reload of the configuration"
    )
    return context.create_finding("info", "setting-below", f"{text} ({method})", setting.statement)


def _format_value(value: str | float | bool) -> str:  # noqa: FBT001 - a value, not a flag
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


EXAMPLES = 5
MAX_IDS = 50  #: ids in one hint


def find_users_database(app: App) -> str:
    """Return the name of the database with the app's users, or an empty string."""
    section = app.profile.users
    return app.resolve_database(section) if section else ""


def check_roles(context: CheckContext) -> Iterator[Finding]:
    """Yield a missing admin, and users with an unknown role."""
    user_table = open_users(context.app)
    if not user_table.roles:
        return
    problems = list(user_table.roles.find_problems())
    for key, reason in problems:
        hint = f"Correct users.{'.'.join(map(str, key))} of the profile."
        yield context.create_finding("error", "role-form", reason, hint)
    if not problems:  # otherwise the roles of users are not known
        yield from _check_admin(context, user_table)
        yield from _check_unknown_roles(context, user_table)


def check_known_login(context: CheckContext, account: KnownLogin) -> Iterator[Finding]:
    """Yield accounts with a published password; findings never contain the password."""
    user_table = open_users(context.app)
    passwords = Passwords(context.app, user_table.live)
    is_login = AnyOf([Condition(column, "same", account.login) for column in user_table.login_columns()])
    for user in user_table.read([is_login]):
        where = [Condition(user_table.id, "=", user.id)]
        rows = user_table.db.select(user_table.live.name, passwords.columns, where)
        stored = (passwords.join(rows[0]) if rows else None) or ""
        hint = account.hint or context.command("users", "set-password", "--id", str(user.id), "--generate")
        try:
            matches = passwords.verify(Secret(account.password), stored)
        except HashExpensiveError:
            message = f"{user.login} (id {user.id}) was not checked: its password hash is too expensive"
            yield context.create_finding("warning", "not-tried", message, hint)
            continue
        if matches:
            active = may_sign_in(user_table, user)
            inactive_note = "" if active else ", and is not active"
            message = f"{user.login} (id {user.id}) has a published password ({account.name}){inactive_note}"
            yield context.create_finding(account.severity if active else "info", "known-login", message, hint)


def _check_admin(context: CheckContext, user_table: UserTable) -> Iterator[Finding]:
    role, holders = admin_role(user_table), list_admins(user_table, for_update=False)
    if not user_table.section.admin_role or any(may_sign_in(user_table, user) for user in holders):
        return
    if holders:
        message = f"no {role} is active, so no user can administer the app"
        command = context.command("users", "activate", "--id", str(holders[0].id))
        yield context.create_finding("error", "no-admin", message, command)
    elif user_table.db.count(user_table.live.name):
        message = f"no user has the role {user_table.section.admin_role}, so no user can administer the app"
        command = context.command("users", "set-role", "LOGIN", role or user_table.section.admin_role)
        yield context.create_finding("error", "no-admin", message, command)
    else:
        message = "no users exist yet"
        command = context.command(
            "users", "create", "LOGIN", "--email", "ADDRESS", "--role", user_table.section.admin_role
        )
        yield context.create_finding("warning", "no-admin", message, command)


def _check_unknown_roles(context: CheckContext, user_table: UserTable) -> Iterator[Finding]:
    roles = user_table.require_roles()
    affected = user_table.read([roles.where_unknown()])
    if not affected:
        return
    role = roles.section.default if roles.section.default in roles.names() else "ROLE"
    examples = ", ".join(f"{user.login} {', '.join(user.role_names)}" for user in affected[:EXAMPLES])
    examples += " …" if len(affected) > EXAMPLES else ""
    message = f"{format_count(len(affected), 'user')} with an unknown role may be locked out: {examples}"
    id_options = [option for user in affected[:MAX_IDS] for option in ("--id", str(user.id))]
    yield context.create_finding(
        "error", "role-unknown", message, context.command("users", "set-role", *id_options, role)
    )


CODE = "restore-interrupted"
HINT = "Stop the app. Revert with dbctl restore undo, or continue by repeating the restore."


def find_interrupted_restore(app: App) -> Iterator[Finding]:
    """Yield the databases that an interrupted restore did not replace; a running restore is not reported."""
    for name, url in app.configured.databases.items():
        if app.only not in ("", name) or name not in app.profile.databases:
            continue
        target = app.target(name)
        with suppress(DbctlError):  # reported by commands that open the database
            if not registry.load_engine(url.engine).has_unfinished_restore(url):
                continue
            try:
                with (
                    registry.load_engine(url.engine)
                    .restore_target(url, target)
                    .lock(app.spec.name, timeout=0)
                ):
                    pass
            except BusyError:
                continue
            other_databases = [
                other
                for other in app.profile.databases
                if other != name and other in app.configured.databases
            ]
            message = "a restore was interrupted before it replaced this database"
            message += (
                f"; {', '.join(other_databases)} may have been replaced, so they may be inconsistent"
                if other_databases
                else ""
            )
            yield Finding(target, "error", CODE, message, HINT)


def find_leftover_files(app: App, database: str) -> Iterator[Finding]:
    """Yield temporary files next to a database that no dbctl process uses; the hint removes them."""
    paths = app.engine(database).find_leftovers(app.url(database))
    if paths:
        names = ", ".join(map(str, paths))
        size = format_size(sum(_list_sizes(paths)))
        message = f"{names} ({size}) {'is' if len(paths) == 1 else 'are'} left over from a dbctl process that was killed"
        hint = command_line.command_for_owner(paths[0].lstat().st_uid, ["rm", "-r", *map(str, paths)])
        yield Finding(app.target(database), "warning", "leftover-files", message, hint)


def _list_sizes(paths: Sequence[Path]) -> Iterator[int]:
    for path in paths:
        for entry in (path, *path.rglob("*")):
            with suppress(OSError):  # the file may be removed concurrently
                yield entry.lstat().st_size


def check_replica(app: App, database: str) -> Iterator[Finding]:
    """Yield the problems of the replica of a database, if one is configured."""
    replica, target = app.configured.replicas.get(database), app.target(database)
    if replica is None:
        return
    engine = registry.load_engine(replica.url.engine)
    try:
        with closing(engine.open_for_reading(replica.url, target, timeout=app.timeout)) as db:
            require_replica(db, max_lag=replica.max_lag, timeout=app.timeout)
            if monitor := db.part(ReplicaMonitor):
                yield from _compare_identity(app, database, monitor.read_identity())
                for limit in monitor.find_read_limits():
                    yield limit.locate(target)
    except DbctlError as error:
        yield Finding.from_error(target, error)


def _compare_identity(app: App, database: str, replica_identity: str) -> Iterator[Finding]:
    primary_identity = ""
    with suppress(DbctlError):  # reported by the check of the database itself
        if monitor := app.reader(database).part(ReplicaMonitor):
            primary_identity = monitor.read_identity()
    if replica_identity and primary_identity and replica_identity != primary_identity:
        message = "the configured replica is a copy of another server or database"
        hint = f"Correct url under [apps.{app.name}.replicas.{database}] of the configuration."
        yield Finding(app.target(database), "error", "replica-foreign", message, hint)
