"""The drill of one app: restore its databases into a temporary location, check them, and record the result."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import structs

from dbctl import __version__
from dbctl.config import model
from dbctl.engines import registry
from dbctl.engines.contract import Checks, TrialRestore
from dbctl.errors import (
    BackupMissingError,
    DbctlError,
    Exit,
    FeatureMissingError,
    KeyWrongError,
    load_registry,
    worst_status,
)
from dbctl.model import ChangeResult, Finding, Row, Severity, Struct, now
from dbctl.services.app import App
from dbctl.services.backup import DecryptionKeys, Drill, Manifest, Member, Repository, open_reader, verify
from dbctl.services.integrity import check, cross_database
from dbctl.services.migrations import status
from dbctl.services.migrations.ledger import SchemaState, read_state
from dbctl.url import Url

IN_BACKUP_HINT = "The backup contains it as it was. Check the live database with: dbctl integrity check, integrity cross-check"
Advance = Callable[[int], None]


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

    databases: Sequence[DatabaseDrill]
    findings: Sequence[Finding]
    failed: Sequence[Finding] = ()  #: apps whose backups could not be restored, and why
    unrecorded: Sequence[str] = ()  #: errors of results that could not be recorded next to the backup

    @property
    def remarks(self) -> Sequence[str]:
        findings = [*self.findings, *self.failed]
        messages = [
            f"{finding.target}: {finding.message}" for finding in findings if finding.severity != "info"
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


class _RestoredDatabase(Struct, kw_only=True, frozen=True):
    """One database of the drill, restored or failed."""

    manifest: Manifest
    member: Member
    url: Url | None  #: of the restored database; None: the restore failed
    duration: timedelta
    digests: int

    def create_record(self, timestamp: datetime, checks: int) -> Drill:
        """Return the record for the verification history."""
        return Drill(
            at=timestamp,
            duration=self.duration,
            bytes=self.member.bytes,
            tables=len(self.member.rows),
            rows=sum(self.member.rows.values()),
            digests=self.digests,
            checks=checks,
            host=os.uname().nodename,
            dbctl=__version__,
        )


class DrillRun:
    """Drill of one app, which restores all databases at the same time to check the references between them."""

    def __init__(
        self, app: App, repository: Repository, keys: DecryptionKeys, stack: ExitStack, folder: Path
    ) -> None:
        self._app, self._repository, self._stack, self._folder = app, repository, stack, folder
        self._keys, self._reader = keys, stack.enter_context(open_reader(repository.store, keys))
        self._restored = list[_RestoredDatabase]()
        self._problems = dict[str, list[Finding]]()  #: errors by backup id
        #: problems of the rows that existed when the backup was created
        self._original_problems = list[Finding]()
        self._migrations = dict[str, SchemaState | None]()
        self._checks = 0

    def restore(self, manifest: Manifest, member: Member, advance: Advance) -> None:
        """Restore one member and measure the duration: read it, load it, check it and count its rows."""
        start, url, digests = time.monotonic(), None, 0
        findings = self._verify_files(manifest, member.database, advance)
        if not findings:
            try:
                trial = self._load(manifest, member)
            except (KeyWrongError, *verify.ENVIRONMENT_ERRORS):
                raise
            except DbctlError as error:
                findings.append(self._finding("error", error.code, manifest, member, str(error)))
            else:
                url, digests = trial.url, len(trial.verification.digests.keys() & member.digests.keys())
                for code, difference in verify.compare_with_manifest(trial.verification, member):
                    severity: Severity = "warning" if code == verify.SCHEMA_DIFFERS else "error"
                    findings.append(self._finding(severity, code, manifest, member, difference))
        if findings and self._repository.is_deleted(manifest):
            address = self._repository.store.location
            raise BackupMissingError(name=manifest.id, app=self._app.name, place=address, suggestion="")
        advance(member.bytes)
        self._problems.setdefault(manifest.id, []).extend(findings)
        duration = timedelta(milliseconds=round(1000 * (time.monotonic() - start)))
        self._restored.append(
            _RestoredDatabase(manifest=manifest, member=member, url=url, duration=duration, digests=digests)
        )

    def _verify_files(
        self, manifest: Manifest, database: str, advance: Advance = lambda _bytes: None
    ) -> list[Finding]:
        findings = verify.find_problems(
            self._app,
            self._repository.store,
            manifest,
            deep=False,
            keys=self._keys,
            advance=advance,
            databases=[database],
        )
        return [finding for finding in findings if finding.severity == "error"]

    def _load(self, manifest: Manifest, member: Member) -> TrialRestore:
        target = self._app.target(member.database)
        path = self._stack.enter_context(self._reader.open_decoded(manifest, member, target))
        url = create_temporary_url(self._app, member, self._folder)
        return self._stack.enter_context(
            registry.load_engine(member.engine).trial_restore(
                url, path, member.dump, target, timeout=self._app.timeout
            )
        )

    def check(self) -> None:
        """Check the restored databases with the rules of the app, and verify the app files of the backups."""
        for manifest in {restored.manifest.id: restored.manifest for restored in self._restored}.values():
            if not self._app.only:
                self._problems[manifest.id] += self._verify_files(manifest, "")
        urls = {
            restored.member.database: restored.url for restored in self._restored if restored.url is not None
        }
        configured = structs.replace(self._app.configured, databases=urls, protected=False, backup=None)
        for restored in self._restored:
            if restored.url is not None:
                with closing(self._open_restored(configured, only=restored.member.database)) as copy:
                    self._check_database(copy, restored)
        with closing(self._open_restored(configured)) as copy, suppress(FeatureMissingError):
            checked = cross_database.cross_check(copy).findings
            self._checks = checked.checked
            self._original_problems += [
                _as_original_problem(finding) for finding in checked.findings if finding.severity != "info"
            ]

    def _open_restored(self, configured: model.App, *, only: str = "") -> App:
        return App(configured, self._app.profile, timeout=self._app.timeout, only=only)

    def _check_database(self, copy: App, restored: _RestoredDatabase) -> None:
        name = restored.member.database
        try:
            findings = check.check(copy, quick=True).findings.findings
            db = copy.reader(name)
            checks = db.part(Checks)
            indexes = checks.list_text_indexes() if checks else ()
            if indexes:
                findings = [*findings, *check.check_text_indexes(copy, name, indexes)]
            self._original_problems += [
                _as_original_problem(finding) for finding in findings if finding.severity != "info"
            ]
            self._migrations[name] = _read_schema_state(copy, name)
        except verify.ENVIRONMENT_ERRORS:
            raise
        except DbctlError as error:  # for example, it is not a database of this app
            problem = self._finding("error", error.code, restored.manifest, restored.member, str(error))
            self._problems[restored.manifest.id].append(problem)

    def create_result(self) -> DrillResult:
        """Record the verification next to the backups and return the result."""
        timestamp, unrecorded, databases = now(), list[str](), list[DatabaseDrill]()
        for backup_id, problems in self._problems.items():
            restored = [database for database in self._restored if database.manifest.id == backup_id]
            drills = {
                database.member.database: database.create_record(timestamp, self._checks)
                for database in restored
            }
            manifest, passed = (
                restored[0].manifest,
                not any(finding.severity == "error" for finding in problems),
            )
            is_complete = not self._app.only and drills.keys() == set(manifest.databases)
            unrecorded += verify.record_result(
                self._repository, manifest, problems, all_files=is_complete, deep=True, drills=drills
            )
            databases += [
                DatabaseDrill(
                    **structs.asdict(drill),
                    app=self._app.name,
                    database=database,
                    backup=backup_id,
                    created_at=manifest.created_at,
                    passed=passed,
                    migrations=self._migrations.get(database),
                )
                for database, drill in drills.items()
            ]
        findings = [
            *(finding for problems in self._problems.values() for finding in problems),
            *self._original_problems,
        ]
        return DrillResult(databases=databases, findings=findings, unrecorded=unrecorded)

    def _finding(
        self, severity: Severity, code: str, manifest: Manifest, member: Member, text: str
    ) -> Finding:
        message = f"backup {manifest.id}, {member.file}: {text}"
        hint = verify.INVALID_HINT if severity == "error" else ""
        return Finding(
            target=self._app.target(member.database), severity=severity, code=code, message=message, hint=hint
        )


def create_temporary_url(app: App, member: Member, folder: Path) -> Url | None:
    """Return the address of the restored database: a file in ``folder``, or a server; None: no server is configured."""
    url = Url(engine=member.engine, path=str(folder / f"{member.database}.restored"))
    return url if url.is_local else verify.trial_server(app, member)


def _read_schema_state(copy: App, name: str) -> SchemaState | None:
    """Return the state of the migrations of a copy; None: no migrations, or unknown."""
    if copy.database(name).migrations is None:
        return None
    try:
        (target,) = status.find_targets(copy, name, may_lack_folder=True)
        return read_state(target, copy.reader(name)).schema
    except DbctlError:  # for example, a missing folder of migrations: not an error of the backup
        return None


def _as_original_problem(finding: Finding) -> Finding:
    """Return a finding about rows as information: they are backed up correctly, as they were."""
    return structs.replace(finding, severity="info", hint=IN_BACKUP_HINT)
