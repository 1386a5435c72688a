"""What follows once a backup is back: a record of it, and what somebody has to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract import Capability, Checks
from dbctl.errors import DbctlError
from dbctl.model import Finding, Value, counted
from dbctl.services.app import App, audit
from dbctl.services.backup import Manifest, Member, schema_of
from dbctl.services.migrations.ledger import Standing, State
from dbctl.services.restore import preview

#: States of a migration that is to be run.
PENDING: tuple[State, ...] = ("pending", "out-of-order")


def recorded(app: App, manifest: Manifest, safety: Manifest, purpose: str) -> Iterator[Finding]:
    """Record it where the app keeps such records; yield what kept it from being recorded.

    In a transaction of its own: what the backup holds came in by another way than statements.
    """
    if app.profile.audit is None or app.main() not in {one.database for one in manifest.members}:
        return
    if app.only not in ("", app.main()):
        return
    told = {"created_at": manifest.created_at, "safety_backup": safety.id if safety.members else None}
    try:
        with app.writer(app.main(), purpose) as db, db.transaction():
            audit.record(app, db, "restore.apply", "backup", manifest.id, told)
    except DbctlError as error:
        message = f"it was done, but could not be recorded in the app: {error}"
        target = app.target(app.main())
        yield Finding(target=target, severity="warning", code="not-recorded", message=message)


def looked_at(app: App, one: Member, before: Before) -> Iterator[Finding]:
    """Yield what is to be known of a database that was brought back; ``before`` is what it was."""
    target, schema = app.target(one.database), one.schema
    try:
        live = app.reader(one.database)
        schema = schema_of(live)
        checks = live if Capability.CHECK in live.capabilities and isinstance(live, Checks) else None
        damage = checks.damage(quick=True) if checks else []
    except DbctlError as error:
        message = f"it was restored, but could not be looked at: {error}"
        hint = "dbctl integrity check does that."
        yield Finding(target=target, severity="warning", code="not-checked", message=message, hint=hint)
    else:
        for line in damage:
            hint = "dbctl restore undo goes back."
            yield Finding(target=target, severity="error", code="corrupt", message=line, hint=hint)
    if before.schema and schema and before.schema != schema:
        yield Finding(
            target=target,
            severity="warning",
            code="schema-changed",
            message="its schema is another one than before the restore",
            hint="Restart the app"
            + (
                "; dbctl migrate status tells what is pending."
                if app.database(one.database).migrations
                else "."
            ),
        )
    yield from _migrations(app, one, target, before)
    if any(search.text and search.database == one.database for search in app.profile.search):
        yield Finding(
            target=target,
            severity="info",
            code="search-indexes",
            message="its indexes for searching are those of the backup",
            hint="dbctl search index check tells whether they fit their tables.",
        )
    if app.profile.users and app.profile.users.signed_in and one.database == app.main():
        yield Finding(
            target=target,
            severity="info",
            code="sessions-of-then",
            message="passwords, roles and sessions are those of the backup: what was revoked since is valid again",
            hint="dbctl sessions revoke LOGIN ends those of one user.",
        )


class Before(Value, frozen=True, kw_only=True):
    """What a database was before a restore; empty where that could not be told."""

    schema: str  #: its fingerprint
    pending: Sequence[str]  #: migrations


def pending_in(app: App, database: str) -> Sequence[str]:
    """Return the migrations that are to be run on a database; none where that cannot be told."""
    found = _standing(app, database)
    return found.named(*PENDING) if found else ()


def _standing(app: App, database: str) -> Standing | None:
    try:
        found = preview.stands(app, database, app.reader(database))
    except DbctlError:  # which whoever migrates is told; it is no failure of the restore
        return None
    return found if found and found.recorded else None


def _migrations(app: App, one: Member, target: str, before: Before) -> Iterator[Finding]:
    """Yield how the migrations of a database stand that was brought back, where that is not as it was."""
    found = _standing(app, one.database)
    if found is None:
        return
    if pending := [name for name in found.named(*PENDING) if name not in before.pending]:
        yield Finding(
            target=target,
            severity="warning",
            code="migrations-behind",
            message=f"{counted(len(pending), 'migration')} of now came after the backup: {', '.join(pending)}",
            hint="dbctl migrate status shows them, dbctl migrate up runs them.",
        )
    if ahead := found.named("ahead"):
        yield Finding(
            target=target,
            severity="warning",
            code="migrations-ahead",
            message=f"the backup is newer than the files of the app: it holds {', '.join(ahead)}",
            hint="Bring the app to the version that the backup was made of; dbctl migrate status tells more.",
        )


def around(app: App, restored: Sequence[str]) -> Iterator[Finding]:
    """Yield what is to be known of the app around the databases that were brought back."""
    others = [name for name in app.configured.databases if name not in restored]
    told = app.profile.databases
    others = [name for name in others if name in told and told[name].mode == "read-write"]
    if app.profile.link and others:
        yield Finding(
            target=app.name,
            severity="info",
            code="others-of-now",
            message=f"{', '.join(others)} of the app {'is' if len(others) == 1 else 'are'} as before, and may not fit what came back",
            hint="dbctl integrity cross-check compares them.",
        )
    yield Finding(
        target=app.name,
        severity="info",
        code="held-in-memory",
        message="what the app keeps in memory is of before the restore",
        hint="restart it, and empty the caches that it has elsewhere.",
    )
