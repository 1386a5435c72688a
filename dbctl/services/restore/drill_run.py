"""The drill of one app: restore its databases into a temporary location, check them, and record the result."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from msgspec import structs

from dbctl import __version__, progress
from dbctl.config import model
from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.dumps import LoadRequest, RolePolicy, TrialRestore
from dbctl.engines.sql.checks import list_comparable
from dbctl.errors.backup import KeyWrongError
from dbctl.errors.base import DbctlError, Exit, Remedy, load_registry, worst_status
from dbctl.errors.usage import FeatureMissingError, NotSupportedError
from dbctl.model import ChangeResult, Effect, Finding, Findings, Row, Struct, count_severities, now
from dbctl.services.app.app import App
from dbctl.services.app.session import Session
from dbctl.services.backup import verifier
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.member_files import MemberReader, open_reader, open_temp_dir
from dbctl.services.backup.repository import LATEST, Repository
from dbctl.services.backup.verification_record import Drill
from dbctl.services.checks.run import check, cross_check
from dbctl.services.migrations.ledger.state import SchemaState
from dbctl.services.restore.preview import read_migration_state
from dbctl.services.restore.source import (
    BackupSource,
    count_content,
    count_rows,
    describe_left_out,
    partial_backup_error,
    plan_roles,
    refuse_server_files,
)
from dbctl.services.search.indexes.text import check_text_indexes
from dbctl.url import Url

IN_BACKUP_HINT = Remedy(
    "The backup contains it as it was. Check the live database with: `integrity check`; and with: `integrity cross-check`"
)


VIEW_HINT = "Read it in the live database. If that fails, too, create what it refers to, or replace the view."


class DatabaseDrill(Drill, frozen=True, kw_only=True):
    """One database of a drill, with its result."""

    app: str
    database: str
    backup: str  #: of a moment: the copy from which it was recovered; empty: another program made that
    created_at: datetime  #: of the backup; of a moment: of what was recovered
    passed: bool  #: whether the backup was restored without an error
    schema_only: Sequence[str] = ()  #: the tables whose rows the backup lacks
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
        times = [database.as_of for database in self.databases if database.as_of]
        details = [f"as of {time:%Y-%m-%d %H:%M:%S.%f} UTC" for time in times]
        details += describe_left_out(self.databases)
        return Effect("drilled", "database", count=len(self.databases), details=details, counts=counts)

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
        names += ["as_of"] if any(database.as_of for database in self.databases) else []
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
    rows: int  #: that it has; 0 if the restore failed
    digests: int

    def create_record(self, timestamp: datetime, checks: int) -> Drill:
        """Return the record for the verification history."""
        return Drill(
            at=timestamp,
            duration=self.duration,
            bytes=self.member.bytes,
            tables=len(self.member.rows) if self.url else 0,
            rows=self.rows,
            digests=self.digests,
            checks=checks,
            host=os.uname().nodename,
            dbctl=__version__,
        )


class AppDrill:
    """The drill of one app; its live databases are neither changed nor read.

    All databases are restored at the same time, to check the references between them.
    """

    def __init__(
        self,
        repository: Repository,
        keys: DecryptionKeys,
        name: str = LATEST,
        roles: RolePolicy = RolePolicy(),  # noqa: B008 - immutable
    ) -> None:
        """Select the members: those of one backup, or the newest of each database.

        Raises:
            BackupMissingError: there is no backup, or it does not contain that database.
            BackupCorruptError: its manifest cannot be read.
            BackupPartialError, NotSupportedError: it contains no database that can be restored.
            KeyMissingError: a backup is encrypted, and no identity is available; and as ``DecryptionKeys.prepare``.
        """
        self._app, self._repository, self._keys = repository.app, repository, keys
        self.name, self._roles = self._app.name, roles
        selected = _select_newest(repository) if name == LATEST else _select_backup(repository, name, keys)
        self._selected, self._manifests = selected, {manifest.id: manifest for manifest, _ in selected}
        for manifest in self._manifests.values():
            keys.prepare(repository.store, manifest)
        self._restored = list[_RestoredDatabase]()
        #: errors by backup id
        self._problems: dict[str, list[Finding]] = {name: [] for name in self._manifests}
        #: of each temporary database: its target, its remarks, and the number of those that are reported
        self._trial_remarks = list[tuple[str, Sequence[str], int]]()
        #: problems of the rows that existed when the backup was created
        self._original_problems = list[Finding]()
        self._migrations = dict[str, SchemaState | None]()
        self._checks = 0

    def size(self) -> int:
        """Return the approximate number of bytes to read: each file twice."""
        return sum(2 * member.bytes for _, member in self._selected)

    def describe_steps(self) -> Iterator[str]:
        """Yield what is restored where, and the roles that the server lacks.

        Raises:
            RolesMissingError: a server lacks roles of a backup; and as ``plan_roles``.
        """
        for manifest, member in self._selected:
            url = create_temporary_url(self._app, member, Path())
            into = "nothing: no server for it is configured"
            if url and url.is_local:
                into = "a temporary file" if url.is_file else "a temporary folder"
            elif url:
                into = f"a new database on the server of {url}"
            target = self._app.target(member.database)
            content = f"{member.size:,} bytes, {count_rows(member)}"
            if address := self._repository.find_others(manifest).get(member.database):
                content += f", a backup of {address}"
            yield f"restore {target} of {manifest.id} ({content}) into {into}"
            yield from self._plan_roles(member)

    def _plan_roles(self, member: Member) -> list[str]:
        url, target = create_temporary_url(self._app, member, Path()), self._app.target(member.database)
        if url is None or url.is_local:
            return []
        restore_target = registry.load_engine(url.engine).restore_target(url, target)
        return list(plan_roles(restore_target, member, self._roles, target))

    def drill(self) -> DrillResult:
        """Restore and verify the members, and record the result; called once.

        Raises:
            BackupMissingError: a backup was pruned since the plan.
            NotSupportedError: no server for it is configured.
            RolesMissingError: a server lacks roles of a backup; nothing was restored.
            KeyWrongError: a backup is encrypted for other identities than the available ones.
            PrivilegeMissingError, InsufficientSpaceError, UnreachableError, ClientMissingError: not an error of the backup.
        """
        for _, member in self._selected:
            self._plan_roles(member)
        store = self._repository.store
        files = [member for _, member in self._selected if Url(engine=member.engine, path="").is_local]
        members = [member for _, member in self._selected]
        with ExitStack() as stack:
            folder = stack.enter_context(
                open_temp_dir(store, self._keys, members, sum(member.size for member in files))
            )
            reader = stack.enter_context(open_reader(store, self._keys))
            for manifest, member in progress.list_parts(self._selected, "database"):
                self._restore(manifest, member, partial(self._load, stack, reader, folder))
            progress.start_stage("checking")
            self._check()
            result = self._create_result()
        # A temporary database that could not be dropped still has all rows.
        leftovers = [
            Finding(target, "warning", "maintenance", remark)
            for target, remarks, known in self._trial_remarks
            for remark in remarks[known:]
        ]
        return structs.replace(result, findings=[*result.findings, *leftovers])

    def _restore(
        self, manifest: Manifest, member: Member, load: Callable[[Manifest, Member], TrialRestore]
    ) -> None:
        """Restore one member and measure the duration: read it, load it, check it and count its rows."""
        start, url, rows, digests = time.monotonic(), None, 0, 0
        target = self._app.target(member.database)
        findings = self._verify_files(manifest, member.database)
        if not findings:
            try:
                trial = load(manifest, member)
            except (KeyWrongError, *verifier.ENVIRONMENT_ERRORS):
                raise
            except DbctlError as error:
                findings.append(verifier.describe_problem(target, manifest, member, error.code, str(error)))
            else:
                self._trial_remarks.append((target, trial.remarks, len(trial.remarks)))
                url, rows = trial.url, sum(trial.verification.tables.values())
                digests = len(list_comparable(trial.verification.digests, member.digests))
                # such as what the server of the drill lacks, although the backup is valid
                findings += [
                    Finding(target, "info", "maintenance", f"backup {manifest.id}, {member.file}: {remark}")
                    for remark in trial.remarks
                ]
                findings += [
                    verifier.describe_problem(target, manifest, member, code, difference)
                    for code, difference in verifier.compare_with_manifest(trial.verification, member)
                ]
        if findings and self._repository.is_deleted(manifest):
            raise BackupSource(self._repository, manifest, self._keys).missing_error()
        progress.advance(member.bytes)
        self._problems[manifest.id] += findings
        duration = timedelta(milliseconds=round(1000 * (time.monotonic() - start)))
        self._restored.append(
            _RestoredDatabase(
                manifest=manifest, member=member, url=url, duration=duration, rows=rows, digests=digests
            )
        )

    def _verify_files(self, manifest: Manifest, database: str) -> list[Finding]:
        problems = verifier.BackupVerifier(self._repository, self._keys, deep=False).find_problems(
            manifest, [database]
        )
        return [finding for finding in problems if finding.severity == "error"]

    def _load(
        self, stack: ExitStack, reader: MemberReader, folder: Path, manifest: Manifest, member: Member
    ) -> TrialRestore:
        """Load a member into a temporary database, which exists until ``stack`` is closed."""
        target, url = self._app.target(member.database), create_temporary_url(self._app, member, folder)
        path = reader.decode(manifest, member, target)
        engine = registry.load_engine(member.engine)
        request = LoadRequest(path=path, dump=member.dump, timeout=self._app.timeout, roles=self._roles)
        return stack.enter_context(engine.trial_restore(url, request, target))

    def _check(self) -> None:
        """Check the restored databases with the rules of the app, and verify the app files of the backups."""
        for manifest in self._manifests.values() if not self._app.only else ():
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
            checked = cross_check(copy).findings
            self._checks = checked.checked
            self._original_problems += [
                _as_original_problem(finding) for finding in checked.findings if finding.severity != "info"
            ]

    def _open_restored(self, configured: model.App, *, only: str = "") -> App:
        # A backup may be from before a migration: its main database selects the variant of the profile.
        has_main = self._app.main_database in configured.databases
        profile = self._app.base_profile if has_main else self._app.profile
        session = Session(Selection(configured=configured), timeout=self._app.timeout, only=only)
        copy = App(session, configured, profile)
        copy.resolve_profile()
        return copy

    def _check_database(self, copy: App, restored: _RestoredDatabase) -> None:
        name = restored.member.database
        try:
            findings = check(copy, quick=True).findings.findings
            db = copy.reader(name)
            if db.checks and (indexes := db.checks.list_text_indexes()):
                findings = [*findings, *check_text_indexes(copy, name, indexes)]
            self._original_problems += [
                _as_original_problem(finding) for finding in findings if finding.severity != "info"
            ]
            self._original_problems += [finding for finding in findings if finding.code == "not-checked"]
            # A check of text indexes closes the reader.
            self._original_problems += _find_unreadable_views(copy.reader(name), self._app.target(name))
            self._migrations[name] = _read_schema_state(copy, name)
        except verifier.ENVIRONMENT_ERRORS:
            raise
        except DbctlError as error:  # for example, it is not a database of this app
            problem = verifier.describe_problem(
                self._app.target(name), restored.manifest, restored.member, error.code, str(error)
            )
            self._problems[restored.manifest.id].append(problem)

    def _create_result(self) -> DrillResult:
        """Record the verification next to the backups and return the result."""
        timestamp, unrecorded, databases = now(), list[str](), list[DatabaseDrill]()
        for backup_id, problems in self._problems.items():
            manifest = self._manifests[backup_id]
            drills = {
                restored.member.database: restored.create_record(timestamp, self._checks)
                for restored in self._restored
                if restored.manifest.id == backup_id
            }
            passed = not any(finding.severity == "error" for finding in problems)
            is_complete = not self._app.only and drills.keys() == set(manifest.databases)
            unrecorded += verifier.record_result(
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
                    schema_only=next(
                        member.schema_only for member in manifest.members if member.database == database
                    ),
                    migrations=self._migrations.get(database),
                )
                for database, drill in drills.items()
            ]
        findings = [
            *(finding for problems in self._problems.values() for finding in problems),
            *self._original_problems,
        ]
        return DrillResult(databases=databases, findings=findings, unrecorded=unrecorded)


def _find_unreadable_views(db: Readable, target: str) -> Iterator[Finding]:
    """Yield the views that cannot be read, such as one whose definer does not exist."""
    for name, table in db.tables().items():
        if not table.is_view:
            continue
        try:
            db.select(name, list(table.columns), limit=1)
        except verifier.ENVIRONMENT_ERRORS:
            raise
        except DbctlError as error:
            message = f"view {name} cannot be read in the restored database: {error}"
            yield Finding(target, "error", "view-unreadable", message, VIEW_HINT)


def create_temporary_url(app: App, member: Member, folder: Path) -> Url | None:
    """Return the address of the restored database: a file in ``folder``, or a server; None: no server is configured."""
    # not the name of the database: in a manifest that another program wrote, it could be a path
    url = Url(engine=member.engine, path=str(folder / f"{secrets.token_hex(4)}.restored"))
    return url if url.is_local else verifier.trial_server(app, member)


def _read_schema_state(copy: App, name: str) -> SchemaState | None:
    """Return the state of the migrations of a copy; None: no migrations, or unknown."""
    with suppress(DbctlError):  # for example, a missing folder of migrations: not an error of the backup
        state = read_migration_state(copy, name, copy.reader(name))
        return state.schema if state else None
    return None


def _as_original_problem(finding: Finding) -> Finding:
    """Return a finding about rows as information: they are backed up correctly, as they were."""
    return structs.replace(finding, severity="info", hint=IN_BACKUP_HINT.write())


def _select_newest(repository: Repository) -> list[tuple[Manifest, Member]]:
    """Return the newest member of each database; ``backup status`` reports databases without a backup."""
    manifests, _ = repository.manifests()
    newest = dict[str, tuple[Manifest, Member]]()
    names = [name for manifest in manifests for name in manifest.databases if manifest.kind == "backup"]
    for name in dict.fromkeys(names):
        for manifest in [*repository.select_own(manifests, name), *manifests]:
            member = manifest.restorable_member(name) if manifest.kind == "backup" else None
            if member and repository.app.only in ("", name):
                newest.setdefault(name, (manifest, member))
    if not newest:
        repository.find(LATEST)  # raises BackupMissingError
    return list(newest.values())


def _select_backup(repository: Repository, name: str, keys: DecryptionKeys) -> list[tuple[Manifest, Member]]:
    manifest, app = repository.find(name), repository.app
    if manifest.kind == "partial":
        raise partial_backup_error(repository, manifest)
    refuse_server_files(manifest, f"a drill with {manifest.id}")
    databases = [name for name in manifest.databases if app.only in ("", name)]
    if not databases:
        raise BackupSource(repository, manifest, keys).missing_error(app.only)
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
