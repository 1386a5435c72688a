"""After a restore: the audit record, and checks of the restored databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.errors.base import DbctlError, Remedy
from dbctl.model import Finding, Severity, Struct, format_count
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.backup.due import DUE_HINTS
from dbctl.services.backup.log_range import find_range
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.safety import schema_fingerprint
from dbctl.services.migrations.ledger.state import DatabaseState, State
from dbctl.services.restore import preview

#: States of a migration that has not run.
PENDING_STATES: tuple[State, ...] = ("pending", "out-of-order")


def record_restore(app: App, manifest: Manifest, safety: Manifest) -> Iterator[Finding]:
    """Write the audit record, if the app has an audit table; yield a finding if that fails.

    The record has its own transaction, because the restore itself is not a transaction.
    """
    if app.profile.audit is None or app.main_database not in {member.database for member in manifest.members}:
        return
    if app.only not in ("", app.main_database):
        return
    details = {"created_at": manifest.created_at, "safety_backup": safety.id if safety.members else None}
    try:
        with app.writer(app.main_database) as db, db.transaction():
            audit.record(app, db, "restore.apply", "backup", manifest.id, details)
    except DbctlError as error:
        message = f"the restore was not recorded in the app: {error}"
        target = app.target(app.main_database)
        yield Finding(target=target, severity="warning", code="not-recorded", message=message)


def check_restored(app: App, member: Member, before: StateBefore) -> Iterator[Finding]:
    """Yield findings about a restored database; ``before`` is its state before the restore."""
    for severity, code, message, hint in _check_database(app, member, before):
        target = app.target(member.database)
        yield Finding(target, severity, code, message, hint.write(app.name))


def _check_database(
    app: App, member: Member, before: StateBefore
) -> Iterator[tuple[Severity, str, str, Remedy]]:
    """Yield severity, code, message and hint of each finding."""
    database, schema = member.database, member.schema
    try:
        live = app.reader(database)
        schema = schema_fingerprint(live)
        damage = live.checks.find_damage(quick=True) if live.checks else []
    except DbctlError as error:
        message = f"it was restored but could not be checked: {error}"
        yield "warning", "not-checked", message, Remedy("Check it with: `integrity check`")
    else:
        for line in damage:
            yield "error", "corrupt", line, Remedy("Undo the restore with: `restore undo`")
    if before.schema and schema and before.schema != schema:
        has_migrations = app.database(database).migrations
        hint = Remedy("Restart the app; show pending migrations with: `migrate status`")
        message = "its schema differs from the schema before the restore"
        yield "warning", "schema-changed", message, hint if has_migrations else Remedy("Restart the app.")
    if state := _read_state(app, database):
        yield from _compare_migrations(state, before)
    if any(search.text and search.database == database for search in app.profile.search):
        hint = Remedy("Check that they match their tables with: `search index check`")
        yield "info", "search-indexes", "its search indexes are those of the backup", hint
    if app.profile.users and app.profile.users.signed_in and database == app.main_database:
        message = "passwords, roles and sessions are those of the backup: revoked sessions are valid again"
        hint = Remedy("Revoke the sessions of a user with: `sessions revoke LOGIN`")
        yield "info", "sessions-restored", message, hint


def _compare_migrations(
    state: DatabaseState, before: StateBefore
) -> Iterator[tuple[Severity, str, str, Remedy]]:
    """Yield findings about migrations whose state the restore has changed."""
    if pending := [name for name in state.names_in(*PENDING_STATES) if name not in before.pending]:
        count = format_count(len(pending), "migration")
        message = f"{count} newer than the backup: {', '.join(pending)}"
        yield "warning", "migrations-behind", message, Remedy("Run them with: `migrate up`")
    if ahead := state.names_in("ahead"):
        message = f"the backup is newer than the files of the app: it contains {', '.join(ahead)}"
        hint = Remedy("Install the app version of the backup. Show details with: `migrate status`")
        yield "warning", "migrations-ahead", message, hint


class StateBefore(Struct, frozen=True, kw_only=True):
    """State of a database before a restore; empty if it could not be read."""

    schema: str  #: its fingerprint
    pending: Sequence[str]  #: migrations


def list_pending_migrations(app: App, database: str) -> Sequence[str]:
    """Return the pending migrations of a database; none if its state cannot be read."""
    state = _read_state(app, database)
    return state.names_in(*PENDING_STATES) if state else ()


def _read_state(app: App, database: str) -> DatabaseState | None:
    try:
        state = preview.read_migration_state(app, database, app.reader(database))
    except DbctlError:  # dbctl migrate reports it; the restore did not fail
        return None
    return state if state and state.has_ledger else None


def check_log(repository: Repository, databases: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for each of the restored databases of servers whose stored log cannot be replayed past the restore."""
    app = repository.app
    try:
        manifests, _ = repository.manifests()
    except DbctlError:  # the next command on the repository reports it; the restore did not fail
        return
    for database in databases:
        moments = find_range(manifests, database)
        if moments and moments.restored_at:
            hint = DUE_HINTS["create"].write(app.name, {"database": database})
            yield Finding(app.target(database), "warning", "log-gap", moments.describe_gap(), hint)


def check_surroundings(app: App, restored: Sequence[str]) -> Iterator[Finding]:
    """Yield findings about the other databases and the caches of the app."""
    sections = app.profile.databases
    others = [
        name
        for name in app.configured.databases
        if name not in restored and name in sections and sections[name].mode == "read-write"
    ]
    if app.profile.link and others:
        verb = "was" if len(others) == 1 else "were"
        yield Finding(
            app.name,
            "info",
            "other-databases-unchanged",
            f"{', '.join(others)} {verb} not restored, and may not match the restored databases",
            Remedy("Compare them with: `integrity cross-check`").write(app.name),
        )
    yield Finding(
        app.name,
        "info",
        "held-in-memory",
        "the caches of the app still contain data from before the restore",
        "Restart the app, and clear its external caches.",
    )
