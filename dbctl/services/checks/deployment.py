"""Checks of a deployment: server, indexes, migrations, users, programs, replicas, and what killed processes left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from dbctl.config import model
from dbctl.engines import registry
from dbctl.engines.contract.checks import SettingComparison
from dbctl.engines.contract.database import AnyOf, Condition, Table
from dbctl.engines.contract.monitoring import Index, require_replica
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import BusyError
from dbctl.errors.users import HashExpensiveError
from dbctl.model import Finding, Secret, Severity, format_count
from dbctl.services.app import command_line
from dbctl.services.app.app import App
from dbctl.services.app.evidence.subjects import Check, DoesNotApplyError, Needs, Subject, check, require
from dbctl.services.app.user_table import UserTable, open_users
from dbctl.services.backup.databases import select_tables
from dbctl.services.checks.base import join_examples
from dbctl.services.checks.index_advice import read_column, write_statement
from dbctl.services.hooks.maintenance_mode import find_leftover
from dbctl.services.hooks.program import find_unusable_programs
from dbctl.services.migrations import status as migration_status
from dbctl.services.migrations.ledger.state import INCONSISTENT_STATES, read_state
from dbctl.services.sessions.cleanup import GRACE_PERIOD, CleanUp
from dbctl.services.users.last_admin import admin_role, list_admins, may_sign_in
from dbctl.services.users.passwords import Passwords
from dbctl.units import format_size

MAX_IDS = 50  #: ids in one hint
CODE = "restore-interrupted"
HINT = Remedy("Stop the app. Continue by repeating the restore, or revert it with: `restore undo`")
SET_PASSWORD = Remedy("`users set-password --id {id} --generate`")


@check("duplicate-constraint")
def check_indexes(subject: Subject) -> Iterator[Finding]:
    """Yield duplicate constraints, and columns that lack the index of the profile."""
    indexes = subject.db.storage.list_indexes(sized=False)
    if indexes is None:  # a database without any index lacks those that it requires
        raise DoesNotApplyError
    yield from _check_constraints(subject, indexes)
    yield from _check_columns(subject, indexes, subject.db.tables())


def _check_constraints(subject: Subject, indexes: Sequence[Index]) -> Iterator[Finding]:
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
            names = join_examples([index.name for index in removable])
            message = f"{table} has {len(group)} unique constraints over {', '.join(columns)}, which slow every write: {names}"
            drop = "; ".join(index.drop_statement.rstrip("; ") for index in removable)
            yield subject.finding("warning", "duplicate-constraint", message, f"{drop};")


def _check_columns(
    subject: Subject, indexes: Sequence[Index], tables: Mapping[str, Table]
) -> Iterator[Finding]:
    """Yield the columns that the profile lists as indexed, and with which no index of all rows begins."""
    first = {
        (index.table, term)
        for index in indexes
        if index.columns and index.valid and not (index.where or index.is_ignored)
        for term in (read_column(index.columns[0]), index.columns[0])
    }
    for path in subject.section.indexed:
        table, _, column = path.partition(".")
        if table in tables and column in tables[table].columns and (table, column) not in first:
            message = f"no index begins with {path}, so each read by this column reads every row of {table}"
            yield subject.finding(
                "warning", "column-unindexed", message, write_statement(subject.db, table, [column])
            )


@check("setting-below")
def check_server(subject: Subject) -> Iterator[Finding]:
    """Yield warnings of the engine, and settings that differ from the recommendations of the profile."""
    db = require(subject.db.checks)
    require(db.gives_advice)
    for warning in db.server_findings(writing=subject.is_writable):
        yield warning.locate(subject.target)
    engine = subject.app.url(subject.database).engine
    recommended = {str(name): settings for name, settings in subject.section.recommended.items()}.get(
        engine, {}
    )
    for setting in db.compare_settings({name: _format_value(value) for name, value in recommended.items()}):
        if not setting.is_sufficient:
            yield _describe_setting(subject, setting)


@check("client-missing")
def check_programs(subject: Subject) -> Sequence[Finding]:
    """Return nothing; raise the error of the first backup if its programs are missing or old, or it may not read something."""
    app = subject.app
    dumps = require(subject.db.dumps if app.configured.backup else None)
    require(dumps.require_programs())
    emptied = select_tables(app, subject.database, dumps, app.configured.backup_settings.schema_only)
    dumps.require_rights(emptied.tables)
    return ()


@check("leftover-files", "app", Needs.NOTHING)
def check_scratch(subject: Subject) -> Iterator[Finding]:
    """Yield leftovers of drills on the configured scratch server.

    Raises:
        DbctlError: the server cannot be reached.
    """
    app, url = subject.app, subject.app.configured.scratch
    if url is None:
        return
    with closing(registry.load_engine(url.engine).open_for_reading(url, app.name, timeout=app.timeout)) as db:
        for warning in db.checks.find_abandoned() if db.checks else ():
            yield warning.locate(app.name)


def _describe_setting(subject: Subject, setting: SettingComparison) -> Finding:
    title = subject.app.profile.title
    if setting.actual is None:
        message = f"the server has no setting {setting.name}, which is recommended for {title}"
        return subject.finding("info", "setting-unknown", message)
    text = f"{setting.name} is {setting.actual}; recommended for {title}: {setting.required}"
    if setting.is_pending:
        message = f"{text}; the new value is active after a restart of the server"
        return subject.finding("info", "setting-below", message)
    method = "a restart of the server" if setting.requires_restart else "a reload of the configuration"
    return subject.finding("info", "setting-below", f"{text} (requires {method})", setting.statement)


def _format_value(value: str | float | bool) -> str:  # noqa: FBT001 - a value, not a flag
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


@check("no-admin", "users")
def check_roles(subject: Subject) -> Iterator[Finding]:
    """Yield a missing admin, and users with an unknown role."""
    user_table = open_users(subject.app)
    if not user_table.roles:
        return
    problems = list(user_table.roles.find_problems())
    for key, reason in problems:
        hint = f"Correct users.{'.'.join(map(str, key))} of the profile."
        yield subject.finding("error", "role-form", reason, hint)
    if not problems:  # otherwise the roles of users are not known
        yield from _check_admin(subject, user_table)
        yield from _check_unknown_roles(subject, user_table)


@check("known-login", "known_login")
def check_known_login(subject: Subject) -> Iterator[Finding]:
    """Yield accounts with a published password; findings never contain the password."""
    account, user_table = subject.entry, open_users(subject.app)
    passwords = Passwords(subject.app, user_table.live)
    is_login = AnyOf([Condition(column, "same", account.login) for column in user_table.login_columns()])
    for user in user_table.read([is_login]):
        where = [Condition(user_table.id, "=", user.id)]
        rows = user_table.db.select(user_table.live.name, passwords.columns, where)
        stored = (passwords.join(rows[0]) if rows else None) or ""
        hint = account.hint or SET_PASSWORD
        try:
            matches = passwords.verify(Secret(account.password), stored)
        except HashExpensiveError:
            message = f"{user.login} (id {user.id}) was not checked: its password hash is too expensive"
            yield subject.finding("warning", "not-tried", message, hint, id=user.id)
            continue
        if matches:
            active = may_sign_in(user_table, user)
            inactive_note = "" if active else ", and is not active"
            message = f"{user.login} (id {user.id}) has a published password ({account.name}){inactive_note}"
            yield subject.finding(
                account.severity if active else "info", "known-login", message, hint, id=user.id
            )


def _check_admin(subject: Subject, user_table: UserTable) -> Iterator[Finding]:
    role, holders = admin_role(user_table), list_admins(user_table, for_update=False)
    if not user_table.section.admin_role or any(may_sign_in(user_table, user) for user in holders):
        return
    severity: Severity = "error"
    if holders:
        message = f"no {role} is active, so no user can administer the app"
        hint, facts = Remedy("`users activate --id {id}`"), {"id": holders[0].id}
    elif user_table.db.count(user_table.live.name):
        message = f"no user has the role {user_table.section.admin_role}, so no user can administer the app"
        hint, facts = Remedy("`users set-role LOGIN {role}`"), {"role": role or user_table.section.admin_role}
    else:
        severity, message = "warning", "no users exist yet"
        hint = Remedy("`users create LOGIN --email ADDRESS --role {role}`")
        facts = {"role": user_table.section.admin_role}
    yield subject.finding(severity, "no-admin", message, hint, **facts)


def _check_unknown_roles(subject: Subject, user_table: UserTable) -> Iterator[Finding]:
    roles = user_table.require_roles()
    affected = user_table.read([roles.where_unknown()])
    if not affected:
        return
    role = roles.section.default if roles.section.default in roles.keys.values() else "ROLE"
    examples = join_examples([f"{user.login} {', '.join(user.role_names)}" for user in affected])
    message = f"{format_count(len(affected), 'user')} with an unknown role may be locked out: {examples}"
    id_options = [option for user in affected[:MAX_IDS] for option in ("--id", str(user.id))]
    hint = Remedy("`users set-role {ids} {role}`")
    yield subject.finding("error", "role-unknown", message, hint, ids=id_options, role=role)


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
            yield Finding(target, "error", CODE, message, HINT.write(app.name))


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
            if server := db.server:
                yield from _compare_identity(app, database, server.read_identity())
                for limit in server.find_read_limits():
                    yield limit.locate(target)
    except DbctlError as error:
        yield Finding.from_error(target, error)


def _compare_identity(app: App, database: str, replica_identity: str) -> Iterator[Finding]:
    primary_identity = ""
    with suppress(DbctlError):  # reported by the check of the database itself
        if server := app.reader(database).server:
            primary_identity = server.read_identity()
    if replica_identity and primary_identity and replica_identity != primary_identity:
        message = "the configured replica is a copy of another server or database"
        hint = f"Correct url under [apps.{app.name}.replicas.{database}] of the configuration."
        yield Finding(app.target(database), "error", "replica-foreign", message, hint)


@check("migrations-pending")
def check_migrations(subject: Subject) -> Iterator[Finding]:
    """Yield migrations that are pending, or that the ledger contradicts."""
    require(subject.section.migrations)
    (migration_target,) = migration_status.find_targets(subject.app, subject.database, may_lack_folder=True)
    state = read_state(migration_target, subject.app.reader(subject.database))
    inconsistent = [migration for migration in state.migrations if migration.state in INCONSISTENT_STATES]
    if state.is_unrecorded:
        message = f"the ledger ({migration_target.ledger.table}) is missing: applied migrations are unknown"
        yield subject.finding(
            "warning", "ledger-missing", message, Remedy("`migrate baseline --db {database}`")
        )
    elif inconsistent:
        # The migrations in dbctl may differ from those of the deployed version of the app.
        source = "the app's own" if migration_target.folder.is_custom else "dbctl's own"
        names = ", ".join(f"{migration.name} ({migration.state})" for migration in inconsistent)
        message = f"the ledger does not agree with {source} migrations: {names}"
        yield subject.finding(
            "error" if migration_target.folder.is_custom else "warning",
            "migrations-inconsistent",
            message,
            Remedy("`migrate verify --db {database}`"),
        )
    elif pending := state.names_in("pending"):
        message = f"{format_count(len(pending), 'migration')} pending: {', '.join(pending)}"
        hint = Remedy("`migrate up --db {database}`")
        yield subject.finding("warning", "migrations-pending", message, hint)


@check("cleanup-due", "cleanup")
def check_cleanup(subject: Subject) -> Iterator[Finding]:
    """Yield rules of the cleanup that have been due for more than a day."""
    overdue = [entry for entry in CleanUp(subject.app).count_due(since=GRACE_PERIOD).items if entry.matched]
    if overdue:
        rows = ", ".join(f"{entry.rule} ({format_count(entry.matched, 'row')})" for entry in overdue)
        message = f"cleanup has been due for more than a day: {rows}"
        yield subject.finding("warning", "cleanup-due", message, Remedy("`sessions cleanup`"))


def _check_hooks(subject: Subject, find: Callable[[model.App], Iterator[Finding]]) -> Iterator[Finding]:
    """Return problems of the hooks and the maintenance mode, if configured."""
    configured = subject.app.configured
    require(configured.hooks or configured.maintenance_mode)
    return find(configured)


def _check_configured(subject: Subject, find: Callable[[App, str], Iterator[Finding]]) -> Iterator[Finding]:
    require(subject.database in subject.app.configured.databases)
    return find(subject.app, subject.database)


INTERRUPTED = Check(CODE, lambda subject: find_interrupted_restore(subject.app), "app", Needs.NOTHING)
HOOKS_LEFT = Check(
    "maintenance-mode-left-on", partial(_check_hooks, find=find_leftover), "app", Needs.NOTHING
)
HOOKS_UNUSABLE = Check(
    "hook-program-missing", partial(_check_hooks, find=find_unusable_programs), "app", Needs.NOTHING
)
LEFTOVERS = Check("leftover-files", partial(_check_configured, find=find_leftover_files), needs=Needs.NOTHING)
REPLICA = Check("replica-foreign", partial(_check_configured, find=check_replica), needs=Needs.NOTHING)
