"""``backup drill``: restore the newest backups into a temporary location, verify them, and record the result."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
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
    NotSupportedError,
    load_registry,
    worst_status,
)
from dbctl.model import ChangeResult, Finding, Plan, Row, Severity, Struct, format_count, now
from dbctl.services.app import App
from dbctl.services.backup import (
    LATEST,
    DecryptionKeys,
    Drill,
    Manifest,
    Member,
    Repository,
    open_reader,
    partial_backup_error,
    verify,
)
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


class AppDrill:
    """The drill of one app; its live databases are neither changed nor read."""

    def __init__(self, app: App, repository: Repository, keys: DecryptionKeys, name: str = LATEST) -> None:
        """Select the members: those of one backup, or the newest of each database.

        Raises:
            BackupMissingError: there is no backup, or it does not contain that database.
            BackupCorruptError: its manifest cannot be read.
            BackupPartialError, NotSupportedError: it contains no database that can be restored.
            KeyMissingError: a backup is encrypted, and no identity is available; and as ``DecryptionKeys.prepare``.
        """
        self.app, self._open_app, self._repository = app.name, app, repository
        self._selected = (
            _select_newest(app, repository) if name == LATEST else _select_backup(app, repository, name)
        )
        self._keys = keys
        for manifest in {manifest.id: manifest for manifest, _ in self._selected}.values():
            keys.prepare(repository.store, manifest)

    def size(self) -> int:
        """Return the approximate number of bytes to read: each file twice."""
        return sum(2 * member.bytes for _, member in self._selected)

    def describe_steps(self) -> list[str]:
        """Return one step per database: what is restored where."""
        steps = []
        for manifest, member in self._selected:
            count = f"{format_count(sum(member.rows.values()), 'row')} of {format_count(len(member.rows), 'table')}"
            url = _create_temporary_url(self._open_app, member, Path())
            if url is None:
                into = "nothing: no server for it is configured"
            else:
                kind = "a temporary file" if url.is_file else "a temporary folder"
                into = kind if url.is_local else f"a new database on the server of {url}"
            target = self._open_app.target(member.database)
            steps.append(f"restore {target} of {manifest.id} ({member.size:,} bytes, {count}) into {into}")
        return steps

    def drill(self, advance: Advance) -> DrillResult:
        """Restore and verify the members, and record the result.

        Args:
            advance: receives the number of bytes read since the last call.

        Raises:
            BackupMissingError: a backup was pruned since the plan.
            NotSupportedError: no server for it is configured.
            KeyWrongError: a backup is encrypted for other identities than the available ones.
            PrivilegeMissingError, InsufficientSpaceError, UnreachableError, ClientMissingError: not an error of the backup.
        """
        store = self._repository.store
        files = [member for _, member in self._selected if Url(engine=member.engine, path="").is_local]
        with ExitStack() as stack:
            is_encrypted = any(member.encryption != "none" for _, member in self._selected)
            temp_folder = self._keys.staging.folder if is_encrypted else store.temp_dir
            folder = stack.enter_context(temp_folder(sum(member.size for member in files)))
            run = _DrillRun(self._open_app, self._repository, self._keys, stack, folder)
            for manifest, member in self._selected:
                run.restore(manifest, member, advance)
            run.check()
            return run.create_result()


class RunDrills:
    """Run the drills of several apps, one after the other."""

    protected = False  #: the drill does not change an app

    def __init__(
        self,
        apps: Sequence[App],
        keys: Callable[[App], DecryptionKeys],
        *,
        repository: str = "",
        name: str = LATEST,
    ) -> None:
        """Select the members of each app.

        Args:
            apps: the apps; of several apps, those without a repository are skipped.
            keys: returns the keys for the encrypted backups of an app.
            repository: the address of the backups, instead of the configured one.
            name: the backup: an id or ``latest``.

        Raises:
            DbctlError: as ``AppDrill``, if there is only one app; otherwise the other apps continue.
        """
        self._is_single, self._drills, self._failed = len(apps) == 1, list[AppDrill](), list[Finding]()
        self.target = self.app = ", ".join(app.name for app in apps)
        for app in apps:
            if self._is_single or repository or app.configured.backup:
                with self._collect_failure(app.name):
                    self._drills.append(AppDrill(app, Repository(app, repository), keys(app), name))
        self.advance: Advance = lambda _bytes: None  #: receives the number of bytes read since the last call

    def size(self) -> int:
        """Return the approximate number of bytes to read."""
        return sum(drill.size() for drill in self._drills)

    def plan(self) -> Plan:
        """Return the databases to restore; writes nothing."""
        steps = [step for drill in self._drills for step in drill.describe_steps()]
        if steps:
            steps.append("check the restored databases; compare rows, schema and content with the manifest")
            steps.append("record the results and durations next to the backups")
        steps += [f"skip {finding.target}: {finding.message}" for finding in self._failed]
        return Plan(
            title="Drill: restore into a temporary location", target=self.target, steps=steps, rows={}
        )

    def apply(self, confirmed: str | None = None) -> DrillResult:
        """Run the drills; with only one app, raises the errors of ``AppDrill.drill``."""
        del confirmed  # no confirmation: nothing is destroyed
        results = list[DrillResult]()
        for drill in self._drills:
            with self._collect_failure(drill.app):
                results.append(drill.drill(self.advance))
        return DrillResult(
            databases=[item for drill in results for item in drill.databases],
            findings=[item for drill in results for item in drill.findings],
            failed=self._failed,
            unrecorded=[item for result in results for item in result.unrecorded],
        )

    @contextmanager
    def _collect_failure(self, app: str) -> Iterator[None]:
        """Collect an error of one of several apps for the result."""
        try:
            yield
        except DbctlError as error:
            if self._is_single:
                raise
            self._failed.append(check.create_failure_finding(app, error))


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


class _DrillRun:
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
        url = _create_temporary_url(self._app, member, self._folder)
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


def _select_newest(app: App, repository: Repository) -> list[tuple[Manifest, Member]]:
    """Return the newest member of each database; ``backup status`` reports databases without a backup."""
    manifests, _ = repository.manifests()
    newest = dict[str, tuple[Manifest, Member]]()
    for manifest in manifests:
        for name in manifest.databases if manifest.kind == "backup" else ():
            if (member := manifest.restorable_member(name)) and app.only in ("", name):
                newest.setdefault(name, (manifest, member))
    if not newest:
        repository.find(LATEST)  # raises BackupMissingError
    return list(newest.values())


def _select_backup(app: App, repository: Repository, name: str) -> list[tuple[Manifest, Member]]:
    manifest = repository.find(name)
    if manifest.kind == "partial":
        raise partial_backup_error(repository, manifest)
    databases = [name for name in manifest.databases if app.only in ("", name)]
    if not databases:
        address = repository.store.location
        raise BackupMissingError(name=manifest.id, app=f"{app.name}/{app.only}", place=address, suggestion="")
    members = [
        member for member in manifest.members if member.form == "dump" and member.database in databases
    ]
    if not members:
        raise NotSupportedError(
            feature=f"a drill with {manifest.id}",
            subject="its contents: retained databases, or files that are not a valid database",
            hint=f"Its files are in {repository.path(manifest)}.",
        )
    return [(manifest, member) for member in members]


def _create_temporary_url(app: App, member: Member, folder: Path) -> Url | None:
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
