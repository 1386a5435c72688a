"""Create a backup while the app writes: a consistent copy of each database, verified before the backup is listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from msgspec import structs

from dbctl import __version__, progress, signals
from dbctl.errors.backup import BackupShrunkenError, RepositoryMissingError
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.usage import NotSupportedError
from dbctl.files import mounts
from dbctl.files.temp import RateLimiter
from dbctl.model import ChangeResult, Compression, Effect, Plan, Row, now
from dbctl.services.app.app import App
from dbctl.services.backup import deltas
from dbctl.services.backup.app_files import AppFiles, BackupOperation
from dbctl.services.backup.databases import (
    can_be_empty,
    describe_databases,
    find_database_with,
    require_known_entries,
    select_databases,
    suggest_other_databases,
)
from dbctl.services.backup.increments import Increments
from dbctl.services.backup.log_range import find_newest_log, read_sequence, state_restores
from dbctl.services.backup.manifest import (
    AuditEnd,
    Kind,
    Manifest,
    Member,
    OmittedDatabase,
    Origin,
    describe_members,
    next_free_id,
    serialize,
)
from dbctl.services.backup.member_files import BackupWriter, open_writer
from dbctl.services.backup.repository import Backup, Repository, verified_at
from dbctl.services.backup.safety import (
    Shrinkage,
    describe_shrinkage,
    find_lost_files,
    find_shrinkage,
    pin_larger,
)
from dbctl.services.backup.selection import require_form, require_streamable
from dbctl.services.backup.sources import SINGLE_DATABASE_ERRORS, MemberSource, Source, required_space
from dbctl.stores.directory import TemporaryWriter

#: A clock that is further behind the newest backup was set back.
CLOCK_TOLERANCE = timedelta(minutes=1)


class BackupCreated(Backup, ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup create``."""

    is_timed = True

    remarks: Sequence[str] = ()

    @property
    def effect(self) -> Effect | None:
        counts = {
            "rows": sum(sum(member.rows.values()) for member in self.members),
            "left out": 0 if self.complete else len(self.left_out),
            "files": sum(int(member.facts["files"]) for member in self.members if member.form == "files"),
            "role passwords": sum(
                int(member.facts["roles"]) for member in self.members if member.form == "passwords"
            ),
        }
        return Effect(
            "backed up",
            "database",
            count=len(self.databases),
            place=f"to {self.id}",
            details=describe_members(self.members),
            counts=counts,
            bytes=self.bytes,
        )

    @property
    def exit_status(self) -> int:
        return Exit.OK if self.complete else Exit.PARTIAL

    def summary(self) -> Row:
        return {}


class CreateBackup(BackupOperation):
    def __init__(
        self,
        repository: Repository,
        *,
        form: str = "",
        tables: Sequence[str] = (),
        compress: Compression | None = None,
        rate: int = 0,
        secrets: bool = False,
        full: bool = False,
        schema_only: Sequence[str] | None = None,
        stream: bool | None = None,
        allow_missing: bool = True,
        with_files: bool = True,
        record: Callable[[App, Manifest], None] | None = None,
    ) -> None:
        """Select the databases: the one of ``--db``, or all that the profile does not exclude.

        Args:
            repository: the destination.
            form: format of dumps, for engines that support several; empty: the configured or default format.
            tables: only these tables of one database; empty: all tables.
            compress: compression of dumps that their engine does not compress; None: as configured.
            rate: maximum bytes per second; 0: unlimited.
            secrets: whether the backup contains the password hashes of the roles that its dumps name.
            full: whether no database is stored as the difference from an earlier backup.
            schema_only: names and patterns of tables whose rows are left out; None: as configured.
            stream: whether dumps are stored without a local copy; None: as configured.
            allow_missing: whether to omit a database that cannot be copied, if another one can.
            with_files: whether a backup of all databases contains the app's own files.
            record: gets the app and the new backup; it must not fail.

        Raises:
            DatabaseNotConfiguredError: a required database is not configured.
            NotSupportedError: all databases are excluded, one cannot be copied partially or without a local copy, no dump can be
                compressed, or no database has roles.
            UsageError: no database supports the form, or several have the tables.
            SchemaMismatchError: no database has the tables.
            FileMissingError, FileFailedError: the app's own files cannot be found, or read.
        """
        super().__init__(repository)
        app, settings = self._app, self._app.configured.backup_settings
        self._encryption = repository.encryption
        self._kind: Kind = "partial" if tables else "backup"
        if schema_only is None:
            schema_only = () if tables else settings.schema_only
        self._schema_only = schema_only
        self._record, self._allow_missing = record, allow_missing
        self._databases, self._left_out = select_databases(app)
        rate_limit = RateLimiter(rate) if rate else None
        is_incremental = settings.incremental and not tables
        self._increments = Increments(repository, settings, full=full) if is_incremental else None
        stream = settings.stream if stream is None else stream
        self._create_source = partial(
            Source,
            app,
            form=form or settings.format,
            tables=tables,
            compress=compress or settings.compress,
            compresses_files=True,
            rate_limit=rate_limit,
            with_passwords=secrets,
            increments=self._increments,
            schema_only=self._schema_only,
            stream=stream,
        )
        with suggest_other_databases(app, () if tables else self._databases):
            sources = self._select_sources(tables)
        self._databases = [source.database for source in sources]
        if stream:
            require_streamable(sources, self._increments)
        if form or compress:
            require_form(app, sources, form, compress)
        if secrets and not any(source.has_roles for source in sources):
            raise NotSupportedError(
                feature="a backup of the passwords of roles",
                subject=app.name,
                hint="None of its databases is on a server with roles. Omit --secrets.",
            )
        self._sources: list[Source | AppFiles] = [*sources]
        self._has_files = with_files and not (tables or app.only) and bool(app.profile.backup.extra)
        if self._has_files and (app_files := AppFiles(repository, rate_limit)):
            self._sources.append(app_files)

    def _select_sources(self, tables: Sequence[str]) -> list[Source]:
        """Return the sources of the databases that can be opened; the others are left out."""
        if tables:
            self._left_out = []
            return [self._create_source(find_database_with(self._app, self._databases, tables))]
        sources, errors = list[Source](), list[DbctlError]()
        for source in map(self._create_source, self._databases):
            try:
                source.size()
                _ = source.emptied
            except SINGLE_DATABASE_ERRORS as error:
                self._left_out.append(_record_failure(source, error))
                errors.append(error)
            else:
                sources.append(source)
        if errors and not (sources and self._allow_missing):
            raise errors[0]
        if self._schema_only and not (self._app.only or errors):
            require_known_entries(self._app, self._schema_only, [source.emptied for source in sources])
        return sources

    def size(self) -> int:
        with suggest_other_databases(self._app, self._databases):
            return sum(source.size() for source in self._sources)

    def plan(self) -> Plan:
        """Return the files to write; writes nothing."""
        with suppress(RepositoryMissingError):  # it will be created
            if self._increments:
                self._increments.manifests = self._repository.manifests()[0]
        with suggest_other_databases(self._app, self._databases):
            steps = [step for source in self._sources for step in source.plan_steps()]
        steps += [self._encryption.plan_step()] if self._encryption else []
        steps += [lock.plan_step] if (lock := self._repository.object_lock) else []
        steps += [f"omit {omitted.database}: {omitted.reason}" for omitted in self._left_out]
        return self._create_plan(f"Back up to {self._repository.store.location}", steps)

    def apply(self, confirmed: str | None = None) -> BackupCreated:
        """Create the backup; after an error, no part of it remains.

        Raises:
            BackupFailedError: a copy is invalid, because its database is.
            InsufficientSpaceError, DiskFullError: not enough disk space.
            BusyError: another dbctl process uses the repository, or a writer locks a database for too long.
            BackupShrunkenError: the backup exists, but lacks more rows than ``max_shrink``.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        repository = self._repository
        with ExitStack() as stack:
            with suggest_other_databases(self._app, self._databases), self._lock():
                known = repository.manifests()
                if self._increments:
                    self._increments.manifests = known[0]
                created = create_backup(
                    repository,
                    self._sources,
                    known=known,
                    left_out=self._left_out,
                    kind=self._kind,
                    stack=stack,
                    allow_missing=self._allow_missing,
                )
                shrunken = self._find_shrunken([created, *known[0]])
                fails = self._app.configured.backup_settings.max_shrink is not None
                larger = list(pin_larger(repository, shrunken, created.id)) if fails else []
            newest = max((manifest.created_at for manifest in known[0]), default=created.created_at)
            remarks = [*_clock_remarks(created.created_at, newest), *describe_databases(self._app, created)]
            losses = [
                f"{self._app.target(loss.database) if loss.database else self._app.name}: {describe_shrinkage(loss, created.id)}"
                for loss in shrunken
            ]
            remarks += [*losses, *(self._increments.remarks if self._increments else ())]
            result = repository.describe_new(created, BackupCreated, remarks)
            if self._record:
                self._record(self._app, created)
            signals.commit_point()  # the backup is complete: report it even if a signal arrives
        if larger:
            raise BackupShrunkenError(losses="; ".join(losses), larger=" ".join(larger))
        return result

    def _find_shrunken(self, manifests: Sequence[Manifest]) -> list[Shrinkage]:
        """Return the losses of rows and files in the first of the backups, which are newest first."""
        settings = self._app.configured.backup_settings
        losses = [
            find_shrinkage(name, self._repository.select_own(manifests, name), settings)
            for name in manifests[0].databases
        ]
        if self._has_files:
            losses.append(find_lost_files(self._repository.select_own(manifests), settings))
        return [loss for loss in losses if loss]


def _record_failure(source: MemberSource, error: DbctlError) -> OmittedDatabase:
    """Return the entry of the manifest for a database that could not be copied."""
    reason = str(error).removeprefix(f"{source.target}: ")
    return OmittedDatabase(database=source.database, reason=reason, failed=True)


def create_backup(
    repository: Repository,
    sources: Sequence[MemberSource],
    *,
    known: tuple[Sequence[Manifest], Mapping[str, str]] | None = None,
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
        repository: the destination.
        sources: the databases of its app, and the app's own files.
        known: the result of ``Repository.manifests``, if the caller has it.
        left_out: databases that are not in the backup.
        kind: the reason for the backup.
        restored: of a safety backup: the id of the backup that is restored after it.
        backup_time: the time of an adopted backup; None: now.
        origin: the source of an adopted backup.
        stack: blocks signals from the last file on; the caller closes it after it has reported or removed the backup.
        allow_missing: whether to omit a database that cannot be copied, if another one can.
    """
    app, store, encryption = repository.app, repository.store, repository.encryption
    local = [source for source in sources if not source.is_streamed]
    store.require_space(required_space(sources, encrypted=bool(encryption)), staged=False)
    store.require_space(required_space(local, encrypted=bool(encryption)))
    staged_sizes = [source.temporary_size() or source.stored_size() for source in local] if encryption else []
    earlier, unreadable = known or repository.manifests()
    for source in sources if kind != "recovered" else ():
        source.log_sequence = read_sequence(find_newest_log(earlier, source.database))
        source.allow_empty = source.allow_empty or can_be_empty(app, source.database, earlier)
    created_at = backup_time or now()
    name = next_free_id(created_at, set(store.list_folders()))
    with store.create_folder(name) as folder:
        with open_writer(
            folder, name, encryption if sources else None, max(staged_sizes, default=0)
        ) as writer:
            key = writer.write_key()
            copied, failed = _write_sources(sources, writer, allow_missing=allow_missing)
            if any(source.log_sequence for source in sources):
                copied = state_restores(copied, earlier)
        number = _next_number(created_at, earlier, len(unreadable), adopted=backup_time is not None)
        manifest = _create_manifest(app, writer.name, [*key, *copied], created_at=created_at, number=number)
        missing = [omitted.database for omitted in left_out] if kind == "safety" else []
        located = [] if origin else [*manifest.databases, *missing]
        holders = {member.stored_in for member in copied}
        verifications = [
            verified_at(holder, repository.read_verification(holder))
            for holder in earlier
            if holder.id in holders
        ]
        manifest = structs.replace(
            manifest,
            verified_at=min([manifest.verified_at, *verifications]),
            kind=kind,
            restored=restored,
            origin=origin,
            recipients=writer.recipients,
            addresses={name: app.addresses[name][0] for name in located},
            left_out=[*left_out, *failed],
            audit=_describe_audit_log(app),
        )
        if stack:  # a complete backup must not be reported as interrupted
            stack.enter_context(signals.block_signals())
        folder.write_manifest(serialize(manifest), deltas.add_bases(manifest.bases, earlier))
    return manifest


def create_snapshot(app: App, databases: Sequence[str], folder: Path) -> Manifest:
    """Copy databases into a private temporary folder, verified as those of a backup, but not synced.

    The manifest is returned and not written; copies of files have no SHA-256, and dumps in binary formats are compressed with zstd.

    Raises:
        InsufficientSpaceError: the folder has not enough free space.
        Others, as ``create_backup``.
    """
    sources = [
        source
        if (source := Source(app, name, compress="zstd")).accepts_compression("zstd")
        else Source(app, name, compress="none")
        for name in databases
    ]
    mounts.require_space(folder, required_space(sources, encrypted=False))
    created_at = now()
    writer = BackupWriter(TemporaryWriter(folder), next_free_id(created_at, ()))
    members, _failed = _write_sources(sources, writer, allow_missing=False)
    return _create_manifest(
        app, writer.name, members, created_at=created_at, number=int(created_at.timestamp())
    )


def _create_manifest(
    app: App, name: str, members: Sequence[Member], *, created_at: datetime, number: int
) -> Manifest:
    return Manifest(
        id=name,
        number=number,
        kind="backup",
        app=app.name,
        profile=app.profile.name,
        created_at=created_at,
        verified_at=now(),
        host=os.uname().nodename,
        dbctl=__version__,
        members=members,
        left_out=(),
    )


def _describe_audit_log(app: App) -> AuditEnd | None:
    folder, anchor = app.recorder.find_end() if app.recorder else ("", "")
    return AuditEnd(folder=folder, anchor=anchor) if anchor else None


def _write_sources(
    sources: Sequence[MemberSource], writer: BackupWriter, *, allow_missing: bool
) -> tuple[list[Member], list[OmittedDatabase]]:
    """Write the members of all sources; return them, and the databases that had to be omitted.

    Raises:
        DbctlError: a source failed and must not be omitted, or no database remains.
    """
    members, pinned, errors = list[Member](), set[MemberSource](), dict[MemberSource, DbctlError]()

    @contextmanager
    def omit_failed(source: MemberSource) -> Iterator[None]:
        try:
            yield
        except SINGLE_DATABASE_ERRORS as error:
            if not (allow_missing and source.database):
                raise
            source.discard(writer)
            errors[source] = error

    for source in sources:
        with omit_failed(source):
            if source.pin_snapshot():
                pinned.add(source)
    # Sources without a snapshot are copied first, so that the times of all copies are close.
    for source in progress.list_parts(sorted(sources, key=lambda source: source in pinned), "database"):
        if source not in errors:
            with omit_failed(source):
                members += source.write_members(writer)
            writer.clean_up()
    if errors and not any(member.database for member in members):
        raise next(iter(errors.values()))
    return members, [_record_failure(source, error) for source, error in errors.items()]


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


def _clock_remarks(created_at: datetime, newest: datetime) -> list[str]:
    if created_at + CLOCK_TOLERANCE >= newest:
        return []
    description = (
        f"the clock ({created_at:%Y-%m-%d %H:%M}) is behind the newest backup ({newest:%Y-%m-%d %H:%M}, UTC)"
    )
    return [f"{description}; one of the two times is wrong"]
