"""What follows once a backup is back: a record of it, and what somebody has to know."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.base import Capability, Checks
from dbctl.errors import DbctlError
from dbctl.model import Finding
from dbctl.services import audit
from dbctl.services.apps import App
from dbctl.services.backup_manifest import Manifest, Member


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


def looked_at(app: App, one: Member, before: str) -> Iterator[Finding]:
    """Yield what is to be known of a database that was brought back; ``before`` is the fingerprint of its old schema."""
    target = app.target(one.database)
    try:
        live = app.reader(one.database)
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
    if before and before != one.schema:
        yield Finding(
            target=target,
            severity="warning",
            code="schema-changed",
            message="its schema is another one than before the restore",
            hint="Restart the app; dbctl migrate status tells what is pending.",
        )
    if app.profile.users and app.profile.users.signed_in and one.database == app.main():
        yield Finding(
            target=target,
            severity="info",
            code="sessions-of-then",
            message="passwords, roles and sessions are those of the backup: what was revoked since is valid again",
            hint="dbctl sessions revoke LOGIN ends those of one user.",
        )
