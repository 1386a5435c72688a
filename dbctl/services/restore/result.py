"""The result of ``restore apply`` and ``restore undo``: the restored databases, and findings about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.errors import Exit
from dbctl.model import ChangeResult, Finding, Row, Struct, format_count
from dbctl.services.app import App
from dbctl.services.backup import Manifest, Member, SafetyBackupSource, report_unchanged_files
from dbctl.services.restore.post_checks import (
    StateBefore,
    check_restored,
    check_surroundings,
    list_pending_migrations,
    record_restore,
)
from dbctl.services.restore.replacement import DropOlderRetained, Replacement, create_maintenance_findings
from dbctl.services.restore.steps import Step

IDENTITY_MISSING = "its identity is not available: restore undo requires it"


class RestoredDatabase(Struct, frozen=True, kw_only=True):
    """One restored database."""

    database: str
    strategy: str  #: ``LoadResult.method``
    rows: int
    tables: int


class RestoreResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``restore apply`` and ``restore undo``."""

    backup: str
    safety_backup: str | None  #: id of the backup of the previous state; None: no database existed
    databases: Sequence[RestoredDatabase]
    findings: Sequence[Finding]

    @property
    def remarks(self) -> Sequence[str]:
        return [
            f"{finding.target}: {finding.message}. {finding.hint}".rstrip()
            for finding in self.findings
            if finding.severity != "info"
        ]

    @property
    def exit_status(self) -> int:
        return Exit.CHECK_FAILED if any(finding.severity == "error" for finding in self.findings) else Exit.OK

    def summary(self) -> Row:
        row: dict[str, object] = {"backup": self.backup, "safety_backup": self.safety_backup}
        for database in self.databases:
            row[database.database] = (
                f"{format_count(database.rows, 'row')} of {format_count(database.tables, 'table')}, {database.strategy}"
            )
        notes = [
            f"{finding.message}; {finding.hint}" if finding.hint else finding.message
            for finding in self.findings
            if finding.severity == "info"
        ]
        return row | ({"notes": notes} if notes else {})


class ReadStates(Step):
    """Read the state of each database, to compare it with the state after the restore."""

    def __init__(self, app: App, sources: Sequence[SafetyBackupSource]) -> None:
        """Read the pending migrations; the schemas are read when no other process writes."""
        self._sources = sources
        self._pending = {source.database: list_pending_migrations(app, source.database) for source in sources}
        self.states = dict[str, StateBefore]()  #: by database

    def run(self) -> None:
        for source in self._sources:
            self.states[source.database] = StateBefore(
                schema=source.schema(), pending=self._pending[source.database]
            )


class CreateResult(Step):
    """Record the restore in the app, check the restored databases, and create the result."""

    def __init__(
        self,
        replacement: Replacement,
        members: Sequence[Member],
        read_states: ReadStates,
        drop_retained: DropOlderRetained,
        *,
        purpose: str,
        can_undo: bool,
    ) -> None:
        """Set the steps before this one.

        Args:
            replacement: the replacement of the databases.
            members: the restored members.
            read_states: read the states before the replacement.
            drop_retained: dropped the databases that earlier restores retained.
            purpose: the command, for the audit record.
            can_undo: whether the identity is available that decrypts the safety backup.
        """
        self._replacement, self._members = replacement, members
        self._read_states, self._drop_retained = read_states, drop_retained
        self._purpose, self._can_undo = purpose, can_undo
        self._result: RestoreResult | None = None

    @property
    def result(self) -> RestoreResult:
        """The result."""
        if self._result is None:
            raise RuntimeError("run was not called")
        return self._result

    def run(self) -> None:
        safety, results = self._replacement.safety, self._replacement.results
        self._result = RestoreResult(
            backup=self._replacement.manifest.id,
            safety_backup=safety.id if safety.members else None,
            databases=[
                RestoredDatabase(
                    database=member.database,
                    strategy=results[member.database].method,
                    rows=sum(member.rows.values()),
                    tables=len(member.rows),
                )
                for member in self._members
            ],
            findings=list(self._create_findings(safety)),
        )

    def _create_findings(self, safety: Manifest) -> Iterator[Finding]:
        app, manifest = self._replacement.app, self._replacement.manifest
        for member in self._members:
            remarks = self._replacement.results[member.database].remarks
            yield from create_maintenance_findings(app.target(member.database), remarks)
        yield from self._drop_retained.findings
        if safety.members and not self._can_undo:
            yield Finding(
                target=app.name,
                severity="warning",
                code="undo-needs-identity",
                message=f"the safety backup {safety.id} is encrypted, and {IDENTITY_MISSING}",
                hint="Make its identity available before you run dbctl restore undo.",
            )
        for target, reason in list_unchanged_databases(app, manifest):
            message = f"it stays unchanged: {reason}"
            yield Finding(target=target, severity="warning", code="not-undone", message=message)
        yield from report_unchanged_files(app, manifest)
        yield from record_restore(app, manifest, safety, self._purpose)
        for member in self._members:
            yield from check_restored(app, member, self._read_states.states[member.database])
        yield from check_surroundings(app, [member.database for member in self._members])


def list_unchanged_databases(app: App, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield databases that the backup does not contain and that stay unchanged, each with the reason."""
    for omitted in manifest.left_out if manifest.kind == "safety" else ():
        if app.only in ("", omitted.database):
            reason = f"it did not exist before the restore of {manifest.restored}"
            yield app.target(omitted.database), reason
    for failure in manifest.failed:
        if app.only in ("", failure.database):
            yield app.target(failure.database), f"the backup lacks it: {failure.reason}"
