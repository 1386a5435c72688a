"""The result of a drill: each database, its findings, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dbctl.errors.base import Exit, load_registry, worst_status
from dbctl.model import ChangeResult, Effect, Finding, Findings, Row, count_severities
from dbctl.services.backup.verification_record import Drill
from dbctl.services.migrations.ledger.state import SchemaState
from dbctl.services.restore.source import count_content


class DatabaseDrill(Drill, frozen=True, kw_only=True):
    """One database of a drill, with its result."""

    app: str
    database: str
    backup: str
    created_at: datetime  #: of the backup
    passed: bool  #: whether the backup was restored without an error
    migrations: SchemaState | None  #: state of its migrations; None: no migrations, or unknown


class DrillResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup drill``."""

    is_timed = True

    databases: Sequence[DatabaseDrill]
    findings: Sequence[Finding]
    failed: Sequence[Finding] = ()  #: apps whose backups could not be restored, and why
    unrecorded: Sequence[str] = ()  #: errors of results that could not be recorded next to the backup

    @property
    def all_findings(self) -> Findings:
        return Findings(checked=len(self.databases), findings=[*self.findings, *self.failed])

    @property
    def effect(self) -> Effect | None:
        counts = {
            "passed": sum(database.passed for database in self.databases),
            **count_content(self.databases),
            **count_severities([*self.findings, *self.failed]),
        }
        return Effect("drilled", "database", count=len(self.databases), counts=counts)

    @property
    def remarks(self) -> Sequence[str]:
        messages = [
            f"{finding.target}: {finding.message}"
            for finding in self.all_findings.findings
            if finding.severity != "info"
        ]
        return [*messages, *self.unrecorded]

    @property
    def exit_status(self) -> int:
        if any(finding.severity == "error" for finding in self.findings):
            return Exit.CHECK_FAILED
        if self.failed and self.databases:
            return Exit.PARTIAL
        return worst_status([load_registry()[finding.code].exit_status for finding in self.failed])

    def summary(self) -> Sequence[Row]:
        names = ["database", "backup", "created_at", "passed", "duration", "tables", "rows", "digests"]
        names[:0] = ["app"] if len({database.app for database in self.databases}) > 1 else []
        targets = [finding.target for finding in self.findings]
        return [
            {name: getattr(database, name) for name in names}
            | {"problems": targets.count(f"{database.app}/{database.database}")}
            for database in self.databases
        ]
