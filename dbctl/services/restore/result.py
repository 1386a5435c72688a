"""The result of ``restore apply`` and ``restore undo``: the restored databases, and findings about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.errors.base import Exit, Remedy
from dbctl.model import ChangeResult, Effect, Finding, Row, Struct, count_severities, join_hint
from dbctl.services.app.app import App
from dbctl.services.backup.app_files import report_unchanged_files
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.restore.post_checks import check_log, check_restored, check_surroundings, record_restore
from dbctl.services.restore.replacement import Replacement
from dbctl.services.restore.source import BackupSource, count_content, describe_left_out

IDENTITY_MISSING = "its identity is not available: restore undo requires it"


class RestoredDatabase(Struct, frozen=True, kw_only=True):
    """One restored database."""

    database: str
    strategy: str  #: ``LoadResult.method``
    rows: int
    tables: int
    schema_only: Sequence[str]  #: the tables that are empty, because the backup lacks their rows


class RestoreResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore apply`` and ``restore undo``."""

    is_timed = True

    backup: str
    safety_backup: str | None  #: id of the backup of the previous state; None: no database existed
    databases: Sequence[RestoredDatabase]
    findings: Sequence[Finding]

    @property
    def effect(self) -> Effect | None:
        counts = {**count_content(self.databases), **count_severities(self.findings)}
        place = f"from {self.backup}"
        details = describe_left_out(self.databases)
        return Effect(
            "restored", "database", count=len(self.databases), place=place, details=details, counts=counts
        )

    @property
    def remarks(self) -> Sequence[str]:
        return [
            join_hint(f"{finding.target}: {finding.message}", finding.hint)
            for finding in self.findings
            if finding.severity != "info"
        ]

    @property
    def notes(self) -> Sequence[str]:
        return [
            join_hint(f"{finding.target}: {finding.message}", finding.hint)
            for finding in self.findings
            if finding.severity == "info"
        ]

    @property
    def exit_status(self) -> int:
        return Exit.CHECK_FAILED if any(finding.severity == "error" for finding in self.findings) else Exit.OK

    def summary(self) -> Row:
        return {"safety_backup": self.safety_backup} if self.safety_backup else {}


def create_result(
    replacement: Replacement, source: BackupSource, members: Sequence[Member], *, can_undo: bool
) -> RestoreResult:
    """Record the restore in the app, check the restored databases, and return the result.

    ``replacement`` has ended; ``can_undo``: the identity is available that decrypts the safety backup.
    """
    safety = replacement.safety
    return RestoreResult(
        backup=source.manifest.id,
        safety_backup=safety.id if safety.members else None,
        databases=[
            RestoredDatabase(
                database=member.database,
                strategy=replacement.results[member.database].method,
                rows=sum(member.rows.values()),
                tables=len(member.rows),
                schema_only=member.schema_only,
            )
            for member in members
        ],
        findings=list(_find_remaining_work(replacement, source, members, can_undo=can_undo)),
    )


def _find_remaining_work(
    replacement: Replacement, source: BackupSource, members: Sequence[Member], *, can_undo: bool
) -> Iterator[Finding]:
    app, manifest, safety = source.app, source.manifest, replacement.safety
    yield from replacement.find_remarks()
    if safety.members and not can_undo:
        yield Finding(
            app.name,
            "warning",
            "undo-needs-identity",
            f"the safety backup {safety.id} is encrypted, and {IDENTITY_MISSING}",
            Remedy("Make its identity available before you run: `restore undo`").write(app.name),
        )
    for target, reason in list_unchanged_databases(app, manifest):
        message = f"it stays unchanged: {reason}"
        yield Finding(target=target, severity="warning", code="not-undone", message=message)
    yield from report_unchanged_files(app, manifest)
    yield from record_restore(app, manifest, safety)
    for member in members:
        yield from check_restored(app, member, replacement.states[member.database])
    if retained := [member.database for member in safety.members if member.form == "kept"]:
        yield from check_log(source.repository, retained)
    yield from check_surroundings(app, [member.database for member in members])


def list_unchanged_databases(app: App, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield databases that the backup does not contain and that stay unchanged, each with the reason."""
    for omitted in manifest.left_out if manifest.kind == "safety" else ():
        if app.only in ("", omitted.database):
            reason = f"it did not exist before the restore of {manifest.restored}"
            yield app.target(omitted.database), reason
    for failure in manifest.failed:
        if app.only in ("", failure.database):
            yield app.target(failure.database), f"the backup lacks it: {failure.reason}"
