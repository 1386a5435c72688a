"""After a restore: the audit record, and checks of the restored databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract import Checks
from dbctl.errors import DbctlError
from dbctl.model import Finding, Struct, format_count
from dbctl.services.app import App, audit
from dbctl.services.backup import Manifest, Member, schema_fingerprint
from dbctl.services.migrations.ledger import DatabaseState, State
from dbctl.services.restore import preview

#: States of a migration that has not run.
PENDING_STATES: tuple[State, ...] = ("pending", "out-of-order")


def record_restore(app: App, manifest: Manifest, safety: Manifest, purpose: str) -> Iterator[Finding]:
    """Write the audit record, if the app has an audit table; yield a finding if that fails.

    The record has its own transaction, because the restore itself is not a transaction.
    """
    if app.profile.audit is None or app.main() not in {member.database for member in manifest.members}:
        return
    if app.only not in ("", app.main()):
        return
    details = {"created_at": manifest.created_at, "safety_backup": safety.id if safety.members else None}
    try:
        with app.writer(app.main(), purpose) as db, db.transaction():
            audit.record(app, db, "restore.apply", "backup", manifest.id, details)
    except DbctlError as error:
        message = f"the restore was not recorded in the app: {error}"
        target = app.target(app.main())
        yield Finding(target=target, severity="warning", code="not-recorded", message=message)


def check_restored(app: App, member: Member, before: StateBefore) -> Iterator[Finding]:
    """Yield findings about a restored database; ``before`` is its state before the restore."""
    target, schema = app.target(member.database), member.schema
    try:
        live = app.reader(member.database)
        schema = schema_fingerprint(live)
        checks = live.part(Checks)
        damage = checks.find_damage(quick=True) if checks else []
    except DbctlError as error:
        message = f"it was restored but could not be checked: {error}"
        hint = "Check it with: dbctl integrity check"
        yield Finding(target=target, severity="warning", code="not-checked", message=message, hint=hint)
    else:
        for line in damage:
            hint = "Undo the restore with: dbctl restore undo"
            yield Finding(target=target, severity="error", code="corrupt", message=line, hint=hint)
    if before.schema and schema and before.schema != schema:
        yield Finding(
            target=target,
            severity="warning",
            code="schema-changed",
            message="its schema differs from the schema before the restore",
            hint="Restart the app"
            + (
                "; show pending migrations with: dbctl migrate status"
                if app.database(member.database).migrations
                else "."
            ),
        )
    yield from _compare_migrations(app, member, target, before)
    if any(search.text and search.database == member.database for search in app.profile.search):
        yield Finding(
            target=target,
            severity="info",
            code="search-indexes",
            message="its search indexes are those of the backup",
            hint="Check that they match their tables: dbctl search index check",
        )
    if app.profile.users and app.profile.users.signed_in and member.database == app.main():
        yield Finding(
            target=target,
            severity="info",
            code="sessions-restored",
            message="passwords, roles and sessions are those of the backup: revoked sessions are valid again",
            hint="Revoke the sessions of a user with: dbctl sessions revoke LOGIN",
        )


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


def _compare_migrations(app: App, member: Member, target: str, before: StateBefore) -> Iterator[Finding]:
    """Yield findings about migrations whose state the restore has changed."""
    state = _read_state(app, member.database)
    if state is None:
        return
    if pending := [name for name in state.names_in(*PENDING_STATES) if name not in before.pending]:
        yield Finding(
            target=target,
            severity="warning",
            code="migrations-behind",
            message=f"{format_count(len(pending), 'migration')} newer than the backup: {', '.join(pending)}",
            hint="Run them with: dbctl migrate up",
        )
    if ahead := state.names_in("ahead"):
        yield Finding(
            target=target,
            severity="warning",
            code="migrations-ahead",
            message=f"the backup is newer than the files of the app: it contains {', '.join(ahead)}",
            hint="Install the app version of the backup. Show details with: dbctl migrate status",
        )


def check_surroundings(app: App, restored: Sequence[str]) -> Iterator[Finding]:
    """Yield findings about the other databases and the caches of the app."""
    other_databases = [name for name in app.configured.databases if name not in restored]
    sections = app.profile.databases
    other_databases = [
        name for name in other_databases if name in sections and sections[name].mode == "read-write"
    ]
    if app.profile.link and other_databases:
        yield Finding(
            target=app.name,
            severity="info",
            code="other-databases-unchanged",
            message=f"{', '.join(other_databases)} {'was' if len(other_databases) == 1 else 'were'} not restored, and may not match the restored databases",
            hint="Compare them with: dbctl integrity cross-check",
        )
    yield Finding(
        target=app.name,
        severity="info",
        code="held-in-memory",
        message="the caches of the app still contain data from before the restore",
        hint="Restart the app, and clear its external caches.",
    )
