"""Examine the deployments of apps; each finding has a command as hint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from dbctl.config import Selection
from dbctl.engines.contract import Advisor, Dumps, IndexMonitor, ProgramUser, SizeMonitor
from dbctl.errors import (
    BusyError,
    DatabaseNotConfiguredError,
    DbctlError,
    InterruptedWriteError,
    RepositoryNotConfiguredError,
)
from dbctl.model import CheckResult, Finding, format_count
from dbctl.services import app as app_service
from dbctl.services.app import App, clock, unconfigured
from dbctl.services.backup import status
from dbctl.services.checks import deployment, disk_space, files, keys, known_problems
from dbctl.services.checks.context import CheckContext
from dbctl.services.checks.damage import CheckReport, find_exit_status
from dbctl.services.checks.deployment import check_replica, find_interrupted_restore, find_leftover_files
from dbctl.services.checks.stored_rows import find_stored_violations
from dbctl.services.events.location import locate_journal
from dbctl.services.events.monitor import find_problems
from dbctl.services.hooks import find_leftover, find_unusable_programs
from dbctl.services.migrations import status as migration_status
from dbctl.services.migrations.ledger import INCONSISTENT_STATES, read_state
from dbctl.services.search.indexes import RENAME_HINT, find_broken, list_external_indexes
from dbctl.services.sessions import GRACE_PERIOD, CleanUp

VERSIONS_HINT = "A lifecycle rule of the bucket can delete old versions."


class Diagnosis(CheckReport, frozen=True, kw_only=True):
    """The findings, and the examined apps."""

    apps: Sequence[str]


class Examination:
    """Findings and failures of checks."""

    def __init__(self) -> None:
        self.checked = 0
        self.apps: list[str] = []
        self.findings: list[Finding] = []
        self.failures: list[DbctlError] = []

    def add_findings(self, target: str, findings: Iterable[Finding]) -> bool:
        """Add the findings of a check, or its failure; return whether the check finished."""
        try:
            self.findings += findings
        except DbctlError as error:
            self.add_failure(target, error)
            return False
        self.checked += 1
        return True

    def add_failure(self, target: str, error: DbctlError, hint: str = "") -> None:
        """Add the failure of a check as a finding; ``hint`` replaces the hint of the error."""
        self.failures.append(error)
        self.findings.append(Finding.from_error(target, error, hint=hint))


def examine(selections: Sequence[Selection], *, timeout: float, only: str = "") -> Diagnosis:
    """Examine apps; writes nothing, not even the shared memory of SQLite readers.

    Args:
        selections: the apps.
        timeout: for locks, in seconds.
        only: restricts the checks to one database.

    Raises:
        DbctlError: the only app cannot be opened. With several apps, the error is a finding.
    """
    examination = Examination()
    for selection in selections:
        try:
            with app_service.open_app(selection, timeout=timeout, only=only, traceless=True) as app:
                _examine_app(examination, app, selection)
        except DbctlError as error:
            if len(selections) == 1:
                raise
            examination.add_failure(selection.app, error)
    for file in files.list_configurations(selections):
        examination.add_findings(str(file), files.check_configuration(file))
    findings = list(dict.fromkeys(examination.findings))  # several checks may fail for the same reason
    return Diagnosis(
        findings=CheckResult(checked=examination.checked, unit="target", findings=findings),
        status=find_exit_status(findings, examination.failures),
        apps=examination.apps,
    )


def _examine_app(examination: Examination, app: App, selection: Selection) -> None:
    examination.apps.append(app.name)
    contexts = {
        name: CheckContext(app, selection, name) for name in app.profile.databases if app.only in ("", name)
    }
    readable = {
        name: context for name, context in contexts.items() if _examine_database(examination, context)
    }
    for context in readable.values():
        if context.section.migrations:
            examination.add_findings(context.target, _check_migrations(context))
    if user_subject := readable.get(deployment.find_users_database(app)):
        examination.add_findings(user_subject.target, deployment.check_roles(user_subject))
        for account in app.profile.known_login:
            examination.add_findings(user_subject.target, deployment.check_known_login(user_subject, account))
    for context in readable.values():
        examination.add_findings(context.target, _check_known_problems(context))
        examination.add_findings(context.target, _check_stored_rows(context))
    examination.add_findings(app.name, find_interrupted_restore(app))
    _examine_programs(examination, app)
    for context in contexts.values():
        if context.database in app.configured.databases:
            examination.add_findings(context.target, find_leftover_files(app, context.database))
            examination.add_findings(context.target, check_replica(app, context.database))
    examination.add_findings(app.name, _check_backups(app, selection, list(contexts.values())))
    examination.add_findings(app.name, _check_runs(app, selection))
    examination.add_findings(app.name, keys.check_encryption(app))
    if app.configured.embedder:
        examination.add_findings(app.name, keys.check_embedder(app, app.configured.embedder))
    examination.add_findings(app.name, deployment.check_scratch(app))
    rules = {app.resolve_database(rule) for rule in app.profile.cleanup}
    if rules and rules <= readable.keys():
        context = readable[min(rules)]
        examination.add_findings(context.target, _check_cleanup(context))


def _examine_programs(examination: Examination, app: App) -> None:
    """Check the hooks and the maintenance mode, if configured."""
    if app.configured.hooks or app.configured.maintenance_mode:
        examination.add_findings(app.name, find_leftover(app.configured))
        examination.add_findings(app.name, find_unusable_programs(app.configured))


def _examine_database(examination: Examination, context: CheckContext) -> bool:
    """Check one database and its files; return whether it can be read."""
    app, name, target = context.app, context.database, context.target
    try:
        database_files = app.engine(name).database_files(app.url(name))
        if database_files:
            if not examination.add_findings(target, files.check_files(context, database_files)):
                return False
            examination.add_findings(target, disk_space.check_disk(context, database_files))
        db = app.reader(name)
    except DatabaseNotConfiguredError as error:
        if app.only == name:
            examination.add_failure(target, error)
        elif not context.section.optional:
            examination.findings.append(Finding.from_error(target, error, "warning"))
        else:
            examination.findings += unconfigured.check_unconfigured(app, name)
        return False
    except DbctlError as error:
        examination.add_failure(target, error, _find_hint(context, error))
        return False
    if advisor := db.part(Advisor):
        examination.add_findings(target, deployment.check_server(context, advisor))
    if app.configured.backup and isinstance(dumps := db.part(Dumps), ProgramUser):
        examination.add_findings(target, deployment.check_programs(dumps))
    if indexes := db.part(IndexMonitor):
        examination.add_findings(target, deployment.check_indexes(context, indexes, db.tables()))
    sizes = db.part(SizeMonitor)
    return not sizes or examination.add_findings(
        target, disk_space.check_storage(context, sizes, database_files)
    )


def _find_hint(context: CheckContext, error: DbctlError) -> str:
    """Return the command that helps against a read error; empty if no command is safe."""
    if isinstance(error, BusyError):
        return context.command("stats", "locks")
    if isinstance(error, InterruptedWriteError) and context.is_writable:
        # It rolls back the interrupted write, then checks the database.
        return context.command("integrity", "check")
    return ""


def _check_migrations(context: CheckContext) -> Iterator[Finding]:
    (migration_target,) = migration_status.find_targets(context.app, context.database, may_lack_folder=True)
    state = read_state(migration_target, context.app.reader(context.database))
    database = ("--db", context.database)
    verify = context.command("migrate", "verify", *database)
    inconsistent = [migration for migration in state.migrations if migration.state in INCONSISTENT_STATES]
    if state.is_unrecorded:
        message = f"the ledger ({migration_target.ledger.table}) is missing: applied migrations are unknown"
        yield context.create_finding(
            "warning", "ledger-missing", message, context.command("migrate", "baseline", *database)
        )
    elif inconsistent:
        # The migrations in dbctl may differ from those of the deployed version of the app.
        source = "the app's own" if migration_target.folder.is_custom else "dbctl's own"
        names = ", ".join(f"{migration.name} ({migration.state})" for migration in inconsistent)
        message = f"the ledger does not agree with {source} migrations: {names}"
        yield context.create_finding(
            "error" if migration_target.folder.is_custom else "warning",
            "migrations-inconsistent",
            message,
            verify,
        )
    elif pending := state.names_in("pending"):
        message = f"{format_count(len(pending), 'migration')} pending: {', '.join(pending)}"
        up = context.command("migrate", "up", *database)
        yield context.create_finding("warning", "migrations-pending", message, up)


def _check_known_problems(context: CheckContext) -> Iterator[Finding]:
    app, database, db = context.app, context.database, context.app.reader(context.database)
    for search, state, message in find_broken(app, database):
        repair = (
            RENAME_HINT if state.is_foreign else context.command("search", "index", "repair", search.name)
        )
        yield context.create_finding("warning", "text-index-broken", message, repair)
    for external_index in list_external_indexes(app, database):
        build = context.command("search", "index", "build", external_index.search.name)
        for finding in external_index.check_state():
            yield structs.replace(finding, hint=build)
    for known_secret in app.profile.known_secret:
        if app.resolve_database(known_secret) == database and (
            problem := known_problems.find_known_secret(app, db, known_secret)
        ):
            yield context.create_finding(
                known_secret.severity, "known-secret", problem.message, known_secret.hint
            )
    for flaw in app.profile.invariant:
        if app.resolve_database(flaw) == database and (problem := known_problems.find_flaw(app, db, flaw)):
            yield context.create_finding(flaw.severity, "invariant-violated", problem.message, flaw.hint)


def _check_stored_rows(context: CheckContext) -> Iterator[Finding]:
    db = context.app.reader(context.database)
    for finding in find_stored_violations(context.app, context.database, db):
        if finding.code != "role-unknown":  # the check of users has a better hint
            yield finding


def _check_backups(app: App, selection: Selection, contexts: Sequence[CheckContext]) -> Iterator[Finding]:
    app_backups = status.read_status(app)
    configured = not (selection.profile and selection.urls)
    if app.configured.backup is None and configured and any(context.section.backup for context in contexts):
        yield Finding.from_error(app.name, RepositoryNotConfiguredError(app=app.name), "warning")
    for code, message in app_backups.invalid_backups() if app_backups else ():
        yield contexts[0].create_finding("error", code, message, contexts[0].command("backup", "verify"))
    for name in app_backups.repository.interrupted if app_backups else ():
        message = status.describe_interrupted(name)
        yield contexts[0].create_finding(
            "warning", "backup-incomplete", message, contexts[0].command("backup", "prune")
        )
    for name in app_backups.repository.future if app_backups else ():
        message = status.describe_future(name)
        yield contexts[0].create_finding(
            "warning", "backup-from-future", message, contexts[0].command("backup", "delete", name)
        )
    if app_backups and app_backups.repository.keeps_versions:
        yield contexts[0].create_finding(
            "info", "storage-versioned", status.describe_versions(app_backups.repository), VERSIONS_HINT
        )
    if reason := clock.find_app_contradiction(app):
        yield contexts[0].create_finding(
            "warning", "clock-implausible", f"the system clock is implausible: {reason}", "date"
        )
    for context in contexts:
        backups = app_backups.find_database(context.database) if app_backups else None
        for finding, words in backups.find_warnings() if backups else ():
            yield structs.replace(finding, hint=context.command(*words))


def _check_runs(app: App, selection: Selection) -> Iterator[Finding]:
    for problem in find_problems(locate_journal(selection), app.name, backup_config=None):
        yield Finding(app.name, "warning", f"run-{problem.kind}", problem.message, problem.hint)


def _check_cleanup(context: CheckContext) -> Iterator[Finding]:
    overdue = [entry for entry in CleanUp(context.app).count_due(since=GRACE_PERIOD).items if entry.matched]
    if overdue:
        rows = ", ".join(f"{entry.rule} ({format_count(entry.matched, 'row')})" for entry in overdue)
        message = f"cleanup has been due for more than a day: {rows}"
        yield context.create_finding(
            "warning", "cleanup-due", message, context.command("sessions", "cleanup")
        )
