"""Create a backup while the app writes: a consistent copy of each database, verified before the backup is listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from dbctl import __version__, signals
from dbctl.errors import DbctlError, Exit, NotSupportedError
from dbctl.files import RateLimiter
from dbctl.model import ChangeResult, Compression, Plan, Row, format_count, now
from dbctl.services.app import App
from dbctl.services.backup.app_files import AppFiles
from dbctl.services.backup.encryption import EncryptionPolicy
from dbctl.services.backup.manifest import (
    Kind,
    Manifest,
    Member,
    OmittedDatabase,
    Origin,
    next_free_id,
    serialize,
)
from dbctl.services.backup.repository import Backup, Repository
from dbctl.services.backup.sources import (
    SINGLE_DATABASE_ERRORS,
    ByteProgress,
    Source,
    call_both,
    check_form,
    find_database_with,
    list_copyable,
    no_rate_limit,
    open_dumps,
    record_failure,
    select_databases,
)
from dbctl.services.backup.writer import BackupWriter, open_writer

T = TypeVar("T")

#: A clock that is further behind the newest backup was set back.
CLOCK_TOLERANCE = timedelta(minutes=1)


class BackupCreated(Backup, ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup create``."""

    remarks: Sequence[str] = ()

    @property
    def exit_status(self) -> int:
        return Exit.OK if self.complete else Exit.PARTIAL

    def summary(self) -> Row:
        return {"id": self.id, "path": self.path, "bytes": self.bytes, **self.time_span()} | {
            member.database or "files": format_count(int(member.facts["files"]), "file")
            if member.form == "files"
            else f"{format_count(sum(member.rows.values()), 'row')} of {format_count(len(member.rows), 'table')}"
            for member in self.members
            if member.form != "key"
        }


class CreateBackup:
    """A planned ``backup create``."""

    def __init__(
        self,
        app: App,
        repository: Repository,
        *,
        timeout: float,
        form: str = "",
        tables: Sequence[str] = (),
        compress: Compression | None = None,
        rate: int = 0,
        advance: ByteProgress = lambda _bytes: None,
    ) -> None:
        """Select the databases: the one of ``--db``, or all that the profile does not exclude.

        Args:
            app: the app.
            repository: the destination.
            timeout: seconds to wait for a lock.
            form: format of dumps, for engines that support several; empty: the configured or default format.
            tables: only these tables of one database; empty: all tables.
            compress: compression of dumps that their engine does not compress; None: as configured.
            rate: maximum bytes per second; 0: unlimited.
            advance: receives the number of bytes processed since the last call.

        Raises:
            DatabaseNotConfiguredError: a required database is not configured.
            NotSupportedError: all databases are excluded, one cannot be copied partially, or no dump can be compressed.
            UsageError: no database supports the form, or several have the tables.
            SchemaMismatchError: no database has the tables.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._app, self._repository, self._timeout = app, repository, timeout
        self._encryption = EncryptionPolicy(app)
        with suggest_other_databases(app, [] if tables else select_databases(app)[0]):
            self._select_sources(form, tables, compress, rate, advance)

    def _select_sources(
        self, form: str, tables: Sequence[str], compress: Compression | None, rate: int, advance: ByteProgress
    ) -> None:
        app = self._app
        databases, self._left_out = select_databases(app)
        self._kind: Kind = "partial" if tables else "backup"
        if tables:
            self._left_out, databases = [], [find_database_with(app, databases, tables)]
        else:
            databases, failed = list_copyable(app, databases)
            self._left_out += failed
        check_form(app, databases, form)
        settings = app.configured.backup
        dump_form = form or (settings.format if settings else "")
        if compress and all(open_dumps(app, name).is_compressed for name in databases):
            raise NotSupportedError(
                feature="another compression of the backup",
                subject=app.name,
                hint="The programs of its server compress their dumps. Omit --compress.",
            )
        compression = compress or (settings.compress if settings else "gzip")
        rate_limit = RateLimiter(rate) if rate else no_rate_limit
        self._database_sources = [
            Source(
                app, name, advance, form=dump_form, tables=tables, compress=compression, rate_limit=rate_limit
            )
            for name in databases
        ]
        app_files = AppFiles(app, call_both(advance, rate_limit))
        self._database_names = databases
        self._all_sources: list[Source | AppFiles] = [*self._database_sources]
        self._all_sources += [app_files] if app_files and not (tables or app.only) else []

    def plan(self) -> Plan:
        """Return the files to write; writes nothing."""
        with suggest_other_databases(self._app, self._database_names):
            steps = [source.plan_step() for source in self._all_sources]
        steps += [self._encryption.plan_step()] if self._encryption else []
        steps += [f"omit {omitted.database}: {omitted.reason}" for omitted in self._left_out]
        title = f"Back up to {self._repository.store.location}"
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, confirmed: str | None = None) -> BackupCreated:
        """Create the backup; after an error, no part of it remains.

        Raises:
            BackupFailedError: a copy is invalid, because its database is.
            InsufficientSpaceError, DiskFullError: not enough disk space.
            BusyError: another dbctl process uses the repository, or a writer locks a database for too long.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        repository = self._repository
        with ExitStack() as stack:
            with (
                suggest_other_databases(self._app, self._database_names),
                repository.store.lock("backup create", timeout=self._timeout),
            ):
                earlier, _ = repository.manifests()
                created = create_backup(
                    self._database_sources[0].app,
                    repository,
                    self._all_sources,
                    self._encryption,
                    left_out=self._left_out,
                    kind=self._kind,
                    stack=stack,
                    allow_missing=True,
                )
            newest = max((manifest.created_at for manifest in earlier), default=created.created_at)
            remarks = [*_clock_remarks(created.created_at, newest), *self._collect_remarks(created)]
            result = repository.describe(created, BackupCreated, remarks=remarks)
            signals.commit_point()  # the backup is complete: report it even if a signal arrives
        return result

    def _collect_remarks(self, manifest: Manifest) -> Iterator[str]:
        """Yield warnings about databases in the backup, and about missing ones."""
        for member in manifest.members:
            if remark_text := member.facts.get("remarks"):
                yield f"{self._database_sources[0].app.target(member.database)}: {remark_text}"
        app = self._database_sources[0].app
        for omitted in manifest.left_out:
            target = app.target(omitted.database)
            if omitted.failed:
                reason = omitted.reason.removeprefix(f"backup of {target} failed: ")
                yield f"{target} is not in the backup: {reason}"
            elif omitted.database in app.configured.databases and omitted.reason == app.engine(
                omitted.database
            ).no_backup_reason(app.url(omitted.database)):
                yield f"{target} is not in the backup: {omitted.reason}"


def estimate_size(app: App) -> int:
    """Estimate the bytes that a backup of the app copies; raises as ``CreateBackup`` does."""
    app_files_bytes = 0 if app.only else AppFiles(app, lambda _bytes: None).size()
    databases = select_databases(app)[0]
    with suggest_other_databases(app, databases):
        names, _ = list_copyable(app, databases)
        return sum(open_dumps(app, name).estimate_dump_size() for name in names) + app_files_bytes


@contextmanager
def suggest_other_databases(app: App, names: Sequence[str]) -> Iterator[None]:
    """If one of several databases fails, add to the error how to back up the others."""
    try:
        yield
    except DbctlError as error:
        failed_target = error.context.get("target")
        others = [name for name in names if app.target(name) != failed_target]
        if others and len(others) < len(names) and not error.details:
            _add_suggestion(app, others, error)
        raise


def _add_suggestion(app: App, names: Sequence[str], error: DbctlError) -> None:
    error_by_database = {name: _read_error(app, name) for name in names}
    readable = [name for name, reason in error_by_database.items() if not reason]
    error.details = [
        f"No backup of {app.name} was created: a backup must include all of its databases.",
        *(reason for reason in error_by_database.values() if reason),
        *([f"{', '.join(readable)} can be read."] if readable else []),
    ]
    if readable:
        commands = "; ".join(f"dbctl backup create --db {name}" for name in readable)
        error.hint = f"{error.hint} Back up the others separately: {commands}"


def _read_error(app: App, database: str) -> str:
    try:
        open_dumps(app, database).estimate_dump_size()
    except DbctlError as error:
        return str(error)
    return ""


class MemberSource(Protocol):
    """A source of members for a backup."""

    def pin_snapshot(self) -> bool:
        """Open a snapshot if that blocks no writer; return whether it did."""
        ...

    def size(self) -> int:
        """Estimate the number of bytes to copy."""
        ...

    def stored_size(self) -> int:
        """Estimate the bytes in the backup."""
        ...

    def write_members(self, folder: BackupWriter) -> list[Member]:
        """Write the members into the folder of a backup."""
        ...


def create_backup(
    app: App,
    repository: Repository,
    sources: Sequence[MemberSource],
    encryption: EncryptionPolicy,
    *,
    left_out: Sequence[OmittedDatabase] = (),
    kind: Kind = "backup",
    restored: str = "",
    backup_time: datetime | None = None,
    origin: Origin | None = None,
    stack: ExitStack | None = None,
    allow_missing: bool = False,
) -> Manifest:
    """Create a backup; the caller has the lock of the repository.

    Args:
        app: the app.
        repository: the destination.
        sources: its databases, and the app's own files.
        encryption: of its members.
        left_out: databases that are not in the backup.
        kind: the reason for the backup.
        restored: of a safety backup: the id of the backup that is restored after it.
        backup_time: the time of an adopted backup; None: now.
        origin: the source of an adopted backup.
        stack: blocks signals from the last file on; the caller closes it after it has reported or removed the backup.
        allow_missing: whether to omit a database that cannot be copied, if another one can.
    """
    store = repository.store
    store.require_space(_required_space(sources, encrypted=bool(encryption)))
    largest = max((source.size() for source in sources), default=0) if encryption else 0
    earlier, unreadable = repository.manifests()
    created_at = backup_time or now()
    name = next_free_id(created_at, set(store.list_folders()))
    with store.create_folder(name) as folder:
        with open_writer(folder, name, encryption if sources else None, largest) as writer:
            key = writer.write_key()
            copied, failed = _write_sources(sources, writer, allow_missing=allow_missing)
            members = [*key, *copied]
        manifest = Manifest(
            id=name,
            number=_next_number(created_at, earlier, len(unreadable), adopted=backup_time is not None),
            kind=kind,
            app=app.name,
            profile=app.profile.name,
            created_at=created_at,
            verified_at=now(),
            host=os.uname().nodename,
            dbctl=__version__,
            restored=restored,
            origin=origin,
            recipients=writer.recipients,
            members=members,
            left_out=[*left_out, *failed],
        )
        if stack:  # a complete backup must not be reported as interrupted
            stack.enter_context(signals.block_signals())
        folder.write_manifest(serialize(manifest))
    return manifest


def _write_sources(
    sources: Sequence[MemberSource], writer: BackupWriter, *, allow_missing: bool
) -> tuple[list[Member], list[OmittedDatabase]]:
    """Write the members of all sources; return them, and the databases that had to be omitted.

    Raises:
        DbctlError: a source failed and must not be omitted, or no database remains.
    """
    members, failed, errors = list[Member](), list[OmittedDatabase](), list[DbctlError]()

    def attempt(source: MemberSource, work: Callable[[], T], fallback: T) -> T:
        try:
            return work()
        except SINGLE_DATABASE_ERRORS as error:
            if not (allow_missing and isinstance(source, Source)):
                raise
            source.discard(writer)
            failed.append(record_failure(source.app, source.database, error))
            errors.append(error)
            return fallback

    pinned = [source for source in sources if attempt(source, source.pin_snapshot, False)]  # noqa: FBT003
    available = [source for source in sources if not _has_failed(source, failed)]
    # Sources without a snapshot are copied first, so that the times of all copies are close.
    for source in sorted(available, key=lambda source: source in pinned):
        members += attempt(source, partial(source.write_members, writer), [])
        writer.clean_up()
    if errors and not any(member.database for member in members):
        raise errors[0]
    return members, failed


def _has_failed(source: MemberSource, failed: Sequence[OmittedDatabase]) -> bool:
    return isinstance(source, Source) and any(omitted.database == source.database for omitted in failed)


def _next_number(
    created_at: datetime, earlier: Sequence[Manifest], unreadable_count: int, *, adopted: bool
) -> int:
    """Return a number greater than those of all earlier backups, including the ones with an unreadable manifest.

    It is the time in seconds unless the clock was set back, so that it also orders backups from several repositories.
    An adopted backup gets the number of the newest backup before it.
    """
    if adopted:
        return max((manifest.number for manifest in earlier if manifest.created_at <= created_at), default=0)
    return max(
        int(created_at.timestamp()),
        max((manifest.number for manifest in earlier), default=0) + unreadable_count + 1,
    )


def _required_space(sources: Sequence[MemberSource], *, encrypted: bool) -> int:
    """Return the peak disk space of the backup in bytes.

    An uncompressed copy takes space until it is compressed; with encryption, it is in another folder.
    """
    peak = stored_total = 0
    for source in sources:
        size, stored_size = source.size(), source.stored_size()
        peak = max(
            peak, stored_total + (stored_size if encrypted or size == stored_size else size + stored_size)
        )
        stored_total += stored_size
    return peak


def _clock_remarks(created_at: datetime, newest: datetime) -> list[str]:
    if created_at + CLOCK_TOLERANCE >= newest:
        return []
    description = (
        f"the clock ({created_at:%Y-%m-%d %H:%M}) is behind the newest backup ({newest:%Y-%m-%d %H:%M}, UTC)"
    )
    return [f"{description}; one of the two times is wrong"]
