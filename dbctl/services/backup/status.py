"""Status of backups: age, verification, drills and due jobs, without reading their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from dbctl.config.sections import Selection
from dbctl.errors.backup import RepositoryMissingError, RepositoryNotConfiguredError
from dbctl.errors.base import DbctlError, Exit, Remedy, worst_status
from dbctl.model import Closing, Finding, Findings, Row, Struct, format_count, now
from dbctl.services.app import clock
from dbctl.services.app.app import App
from dbctl.services.backup import log_range
from dbctl.services.backup.due import (
    DUE_CODES,
    DUE_HINTS,
    Job,
    find_due_jobs,
    find_overdue_log,
    write_prune_command,
)
from dbctl.services.backup.log_range import LogRange, find_range
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import Repository, RepositoryContent, verified_at
from dbctl.services.backup.safety import Shrinkage, describe_shrinkage, find_shrinkage
from dbctl.services.backup.verification_record import Verification
from dbctl.stores.base import Protection

LOAD = Remedy("Load their content with: `backup verify --deep`")
COPY_SERVER = Remedy("`backup create --physical`")
MOVED = Remedy(
    "No rule of this configuration deletes them. If this database was moved from there: `backup prune --moved {address}`"
)
COMPARE_HINT = Remedy("`backup verify {larger} --against-live`")


class DatabaseBackups(Struct, frozen=True, kw_only=True):
    """Status of the backups of one database; partial and damaged backups are excluded."""

    app: str
    database: str
    backups: int
    newest: str | None  #: its id; None, like the dependent fields, without a backup
    created_at: datetime | None
    age: timedelta | None
    bytes: int | None  #: in the folder of the newest backup
    unchanged_since: str | None  #: the backup with its file, if the newest refers to it
    #: compared with the backup before; None without one, or if only one of the two is a difference
    growth_bytes: int | None
    verified_at: datetime | None  #: last complete verification of the newest backup
    drilled_at: datetime | None  #: last drill of any backup
    drilled_backup: str | None  #: the backup of that drill
    drill_duration: timedelta | None
    unapplied: Sequence[str]  #: the backups whose difference was never applied to its base, newest first
    due: Mapping[Job, str]  #: the due jobs with the reasons
    shrunken: Shrinkage | None  #: the loss of rows in the newest backup
    recoverable: LogRange | None = None  #: the moments that can be recovered; None: its server has no copy
    others: Mapping[str, int] = {}  #: by address: the complete backups of other databases with this name

    def find_warnings(self) -> Iterator[Finding]:
        """Yield the due jobs, the loss of rows, and a log that cannot be used."""
        target = f"{self.app}/{self.database}"
        for job, text in self.due.items():
            hint = DUE_HINTS[job].write(self.app, {"database": self.database})
            yield Finding(target, "warning", DUE_CODES[job], text, hint)
        if self.shrunken and self.newest:
            message = describe_shrinkage(self.shrunken, self.newest)
            hint = COMPARE_HINT.write(self.app, {"larger": self.shrunken.larger})
            yield Finding(target, "warning", "backup-shrunken", message, hint)
        if self.recoverable and (message := self.recoverable.describe_gap()):
            remedy = COPY_SERVER if self.recoverable.form == "physical" else DUE_HINTS["create"]
            yield Finding(target, "warning", "log-gap", message, remedy.write(self.app))

    def find_unapplied(self) -> Iterator[Finding]:
        """Yield the differences that were never applied, which is no problem by itself: encrypted ones cannot be applied without the key."""
        if self.unapplied:
            count = format_count(len(self.unapplied), "difference")
            message = f"{count} never applied to a base, the oldest {min(self.unapplied)}"
            hint = LOAD.write(self.app)
            yield Finding(f"{self.app}/{self.database}", "info", "difference-unapplied", message, hint)

    def find_others(self) -> Iterator[Finding]:
        """Yield the backups of other databases, which are not counted."""
        for address, count in self.others.items():
            message = describe_others(address, count)
            hint = MOVED.write(self.app, {"address": address})
            yield Finding(f"{self.app}/{self.database}", "info", "backup-of-other-database", message, hint)


class RepositoryStatus(Struct, frozen=True, kw_only=True):
    """Status of the repository of one app."""

    app: str
    location: str
    backups: int  #: of every kind
    bytes: int
    free_bytes: int | None  #: None: unknown
    incomplete: Sequence[str]  #: interrupted, or being created
    interrupted: Sequence[str]  #: incomplete ones that no process is writing
    unreadable: Mapping[str, str]  #: backups whose manifest cannot be read, with the reason
    lost: Mapping[str, str]  #: safety backups whose retained database no longer exists
    damaged: Mapping[str, str]  #: with the known damage; ``backup verify`` detects more
    keeps_versions: bool  #: whether pruned files remain in the storage as old versions
    #: the retention of the newest backup by the storage, as far as it reports it
    retained_until: datetime | None
    future: Sequence[str]  #: later than the clock; ``backup prune`` refuses to run until they are deleted


class BackupStatus(Struct, frozen=True, kw_only=True):
    """Result of ``backup status``."""

    databases: Sequence[DatabaseBackups]
    repositories: Sequence[RepositoryStatus]

    @property
    def closing(self) -> Closing:
        due = sum(bool(database.due) for database in self.databases)
        return Closing(
            f"Checked the backups of {format_count(len(self.databases), 'database')}", [f"{due} due"]
        )

    def summary(self) -> Sequence[Row]:
        names = ["database", "created_at", "bytes", "backups", "verified_at", "drilled_at"]
        names += ["unchanged_since"] if any(database.unchanged_since for database in self.databases) else []
        names[:0] = ["app"] if len({database.app for database in self.databases}) > 1 else []
        has_range = any(database.recoverable for database in self.databases)
        return [
            {name: getattr(database, name) for name in names}
            | (log_range.summarize(database.recoverable) if has_range else {})
            | {"drill": database.drill_duration, "due": "; ".join(database.due.values()) or None}
            for database in self.databases
        ]


class StatusReport(Struct, frozen=True, kw_only=True):
    """Status of the backups of several apps, with the exit codes."""

    backups: BackupStatus
    findings: Findings  #: all problems; a due job is a warning
    check_status: Exit  #: the exit code with ``--check``
    status: Exit  #: the exit code without ``--check``: errors while reading

    @property
    def problems(self) -> Sequence[str]:
        """Messages about all problems, each with its app or database."""
        return [f"{finding.target}: {describe_finding(finding)}" for finding in self.findings.findings]


def collect_status(
    selections: Sequence[Selection], *, timeout: float, only: str = "", repository: str = ""
) -> StatusReport:
    """Collect the status of the backups of apps; of several, those without a repository are skipped.

    ``only`` restricts the report to one database; ``repository`` is an address that replaces the configured one.

    Raises:
        RepositoryNotConfiguredError: the only selected app has no repository.
        DbctlError: the backups of the only app cannot be read; for several apps, the error is reported.
    """
    statuses, failed = list[AppBackups](), list[tuple[str, DbctlError]]()
    for selection in selections:
        from dbctl.services.app.session import open_app

        try:
            with open_app(selection, timeout=timeout, only=only) as app:
                if app_backups := read_status(app, repository):
                    statuses.append(app_backups)
                elif len(selections) == 1:
                    raise RepositoryNotConfiguredError(app=app.name)
        except DbctlError as error:
            if len(selections) == 1:
                raise
            failed.append((selection.app, error))
    overall = worst_status([error.exit_status for _, error in failed])
    if failed and statuses:
        overall = Exit.PARTIAL
    return StatusReport(
        backups=BackupStatus(
            databases=[
                database
                for status in statuses
                for database in status.databases
                if only in ("", database.database)
            ],
            repositories=[status.repository for status in statuses],
        ),
        findings=Findings(
            checked=sum(len(status.databases) for status in statuses) + len(failed),
            findings=[
                *(finding for status in statuses for finding in status.find_problems(only)),
                *(Finding.from_error(app, error) for app, error in failed),
            ],
        ),
        check_status=overall or worst_status([status.exit_status for status in statuses]),
        status=overall,
    )


#: Comparing checksums does not clear damage that loading the files detected.
_DAMAGED = Remedy("`backup verify {id} --deep`")
#: With a clock that is behind, each valid backup is from the future.
_FROM_FUTURE = Remedy(
    "Compare the clock with the time; if it is right, delete the backup with: `backup delete {id}`"
)


class AppBackups(Struct, frozen=True, kw_only=True):
    """Status of the backups of one app."""

    databases: Sequence[DatabaseBackups]
    repository: RepositoryStatus
    prune_command: str  #: that removes interrupted backups

    def find_database(self, database: str) -> DatabaseBackups | None:
        """Return the status of a database, or None."""
        return next((entry for entry in self.databases if entry.database == database), None)

    @property
    def exit_status(self) -> Exit:
        """The exit code of a check of the status."""
        repository = self.repository
        if repository.unreadable or repository.damaged:
            return Exit.CHECK_FAILED
        has_warnings = any(
            database.due
            or database.shrunken
            or (database.recoverable and database.recoverable.describe_gap())
            for database in self.databases
        )
        return Exit.ACTION_NEEDED if has_warnings or repository.future or repository.interrupted else Exit.OK

    def find_broken(self) -> Iterator[Finding]:
        """Yield the invalid, interrupted and future backups."""
        app, repository = self.repository.app, self.repository
        verify = DUE_HINTS["verify"].write(app)
        for folder, reason in repository.unreadable.items():
            message = f"the manifest of backup {folder} cannot be read: {reason}"
            yield Finding(app, "error", "manifest-unreadable", message, verify)
        for folder, reason in repository.damaged.items():
            hint = _DAMAGED.write(app, {"id": folder})
            yield Finding(app, "error", "backup-damaged", f"backup {folder} is damaged: {reason}", hint)
        for name in repository.interrupted:
            message = f"{name} is an incomplete backup, and no process is writing it"
            yield Finding(app, "warning", "backup-incomplete", message, self.prune_command)
        for name in repository.future:
            hint = _FROM_FUTURE.write(app, {"id": name})
            message = (
                f"backup {name} is from the future, so backup prune refuses to run: a clock is or was wrong"
            )
            yield Finding(app, "warning", "backup-from-future", message, hint)

    def find_problems(self, only: str = "") -> Iterator[Finding]:
        """Yield all problems, due jobs and losses of rows."""
        app = self.repository.app
        yield from self.find_broken()
        if self.repository.lost:
            lost = format_count(len(self.repository.lost), "safety backup")
            names = ", ".join(sorted(self.repository.lost))
            message = f"{lost} cannot be restored, because the retained database no longer exists: {names}"
            yield Finding(app, "info", "retained-database-missing", message)
        for database in self.databases:
            if only in ("", database.database):
                yield from database.find_warnings()
                yield from database.find_unapplied()
                yield from database.find_others()


def describe_others(address: str, count: int) -> str:
    """Return the remark on backups of another database with the same name."""
    return f"not counted: {format_count(count, 'backup')} of another database, {address}"


def describe_finding(finding: Finding) -> str:
    """Return the message with the hint, for warnings, which have none."""
    return f"{finding.message} ({finding.hint})" if finding.hint else finding.message


def describe_versions(repository: RepositoryStatus) -> str:
    """Describe what remains in the storage after backups were pruned."""
    until = repository.retained_until
    retention = f", the newest backup under retention until {until:%Y-%m-%d %H:%M} UTC" if until else ""
    return f"{repository.location} keeps deleted objects as old versions{retention}"


def read_status(app: App, address: str = "") -> AppBackups | None:
    """Return the status of the backups of an app; None without a repository.

    ``address`` is that of a repository that replaces the configured one.

    Raises:
        RepositoryFailedError: the repository cannot be read.
    """
    if app.configured.backup is None and not address:
        return None
    repository = Repository(app, address)
    content, incomplete, missing_note = RepositoryContent(), list[str](), ""
    try:
        content, incomplete = repository.read_content(), list(repository.incomplete())
    except RepositoryMissingError as error:  # no backup was created yet, or the disk is not mounted
        missing_note = f" ({error})"
    manifests = content.manifests
    valid = [manifest for manifest in repository.select_own(content.valid) if manifest.kind == "backup"]
    protection = repository.store.read_protection(manifests[0].id) if manifests else Protection()
    omissions = {
        omitted.database: f"{newest.id} lacks it: {omitted.reason}"
        for newest in valid[:1]
        for omitted in newest.failed
    }
    databases = [
        _read_database_status(
            app,
            name,
            [
                (manifest, content.verifications[manifest.id])
                for manifest in repository.select_own(content.valid, name)
                if manifest.kind == "backup" and manifest.restorable_member(name)
            ],
            missing_note,
            omissions.get(name, ""),
            content,
            _count_others(repository, content, name),
        )
        for name, section in app.profile.databases.items()
        if (section.backup and name in app.configured.databases)
        or any(name in manifest.databases for manifest in valid)
    ]
    return AppBackups(
        databases=databases,
        repository=RepositoryStatus(
            app=app.name,
            location=repository.store.location,
            backups=len(manifests),
            bytes=sum(manifest.bytes for manifest in manifests),
            free_bytes=None if missing_note else repository.store.free_space(),
            incomplete=incomplete,
            interrupted=() if incomplete and repository.store.is_locked() else incomplete,
            unreadable=content.unreadable,
            lost=repository.find_lost_databases(manifests),
            damaged=content.damaged,
            keeps_versions=protection.keeps_versions,
            retained_until=protection.retained_until,
            future=clock.find_future((manifest.id, manifest.created_at) for manifest in manifests),
        ),
        prune_command=write_prune_command(app),
    )


def _count_others(repository: Repository, content: RepositoryContent, name: str) -> Mapping[str, int]:
    others = [
        repository.find_others(manifest).get(name) for manifest in content.valid if manifest.kind == "backup"
    ]
    return Counter(address for address in others if address)


def _read_database_status(
    app: App,
    name: str,
    valid: Sequence[tuple[Manifest, Verification]],
    missing_note: str,
    omission: str,
    content: RepositoryContent,
    others: Mapping[str, int],
) -> DatabaseBackups:
    """Return the status of a database from its ``valid`` backups, newest first; ``omission``: why the newest lacks it."""
    # Comparing the files of a difference does not show that it has the content of the database.
    holders = {manifest.id: holder for manifest, _ in valid if (holder := _find_unapplied(name, manifest))}
    # References to the file of a difference are loaded with it.
    times = dict[str, datetime | None]()
    for manifest, verification in valid:
        if manifest.id in holders:
            known = [times.get(holders[manifest.id]), _find_loaded(name, verification)]
            times[holders[manifest.id]] = max(filter(None, known), default=None)
    loaded = {backup_id: times[holder] for backup_id, holder in holders.items()}
    verified = {
        manifest.id: loaded[manifest.id] or manifest.verified_at
        if manifest.id in loaded
        else verified_at(manifest, verification)
        for manifest, verification in valid
    }
    drills = {
        manifest.id: verification.drills[name]
        for manifest, verification in valid
        if name in verification.drills
    }
    future = clock.find_future((backup_id, drill.at) for backup_id, drill in drills.items())
    last_drilled = max(
        drills, key=lambda backup_id: (backup_id not in future, drills[backup_id].at), default=None
    )
    drill = drills[last_drilled] if last_drilled else None
    newest, current_time = (valid[0][0] if valid else None), now()
    due, shrunken = dict[Job, str](), None
    recoverable, settings = find_range(content.valid, name), app.configured.backup_settings
    if app.profile.databases[name].backup and name in app.configured.databases:
        due = {"create": f"no backup exists{missing_note}"}
        if newest:
            due = dict(find_due_jobs(name, settings, newest, current_time, verified, drill, loaded))
        if omission:
            due["create"] = f"the newest backup {omission}"
        if overdue := find_overdue_log(name, settings, content, recoverable, current_time):
            due["log"] = overdue
        shrunken = find_shrinkage(name, [manifest for manifest, _ in valid], settings)
    members = [
        [member for member in manifest.members if member.database == name] for manifest, _ in valid[:2]
    ]
    sizes = [sum(member.bytes for member in files if not member.stored_in) for files in members]
    kinds = {
        (any(member.delta for member in files), any(member.stored_in for member in files))
        for files in members
    }
    return DatabaseBackups(
        app=app.name,
        database=name,
        backups=len(valid),
        newest=newest.id if newest else None,
        created_at=newest.created_at if newest else None,
        age=max(current_time - newest.created_at, timedelta()) if newest else None,
        bytes=sizes[0] if newest else None,
        unchanged_since=next(filter(None, (member.stored_in for member in members[0])), None)
        if newest
        else None,
        growth_bytes=sizes[0] - sizes[1] if len(sizes) > 1 and len(kinds) == 1 else None,
        verified_at=verified[newest.id] if newest else None,
        drilled_at=drill.at if drill else None,
        drilled_backup=last_drilled,
        drill_duration=drill.duration if drill else None,
        unapplied=[holder for holder, time in times.items() if time is None],
        due=due,
        shrunken=shrunken,
        recoverable=recoverable,
        others=others,
    )


def _find_unapplied(database: str, manifest: Manifest) -> str:
    """Return the backup with the file of a difference whose result was not compared when it was created; empty: there is none."""
    return next(
        (
            member.stored_in or manifest.id
            for member in manifest.members
            if member.database == database and member.delta and not member.delta.applied
        ),
        "",
    )


def _find_loaded(database: str, verification: Verification) -> datetime | None:
    """Return when the content of a database was last loaded from a backup after its creation, or None."""
    drill = verification.drills.get(database)
    return max(filter(None, [verification.loaded_at, drill.at if drill else None]), default=None)
