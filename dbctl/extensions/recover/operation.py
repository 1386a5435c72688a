"""Create a backup of a database as of a moment: recover it with a private server, and back that up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path

from msgspec import structs

from dbctl import signals
from dbctl.config import environment
from dbctl.config.sections import Selection
from dbctl.engines import registry
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.recover.contract import (
    RecoveredDatabase,
    Recovery,
    RecoveryPlan,
    RecoveryRequest,
    show_time,
)
from dbctl.extensions.recover.errors import RecoveryNotConfiguredError, RecoveryTimeError
from dbctl.extensions.recover.section import Source as Archive
from dbctl.extensions.recover.section import find_sources
from dbctl.extensions.recover.stored import find_archive
from dbctl.model import Plan, now
from dbctl.services.app.app import App
from dbctl.services.app.session import Session
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.create import BackupCreated, create_backup
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.log_range import RANDOM, find_range
from dbctl.services.backup.manifest import Member
from dbctl.services.backup.member_files import BackupWriter
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.sources import Source


class RecoverBackup(BackupOperation):
    def __init__(self, repository: Repository, at: datetime, keys: DecryptionKeys) -> None:
        """Select the database: that of ``--db``, or the only one with an archive.

        Without a configured archive, the repository is one: ``backup log`` stores the log there, next to copies.

        Raises:
            RecoveryNotConfiguredError: it has no archive.
            RepositoryMissingError: it has none outside of the repository, whose directory does not exist.
            UsageError: several databases have one, and none is selected; or ``RANDOM``, and no log is stored.
            NotSupportedError: its engine cannot be recovered.
            RecoveryTimeError: the moment is in the future.
        """
        app = repository.app
        sources = find_sources(app.configured)
        for name in sources:
            app.database(name)  # a misspelled name
        if not app.only and len(sources) > 1:
            raise UsageError(detail=f"select one database (--db {' or --db '.join(sources)})")
        self.database = app.only or next(iter(sources), app.main_database)
        super().__init__(repository, self.database)
        self._url = app.url(self.database)
        engine = registry.load_engine(self._url.engine)
        part = engine.extension_part(Recovery)
        if part is None:
            raise NotSupportedError(
                feature="the recovery of a moment",
                subject=engine.title,
                hint="It is supported for PostgreSQL and MariaDB.",
            )
        self._recovery = part
        at = self._choose_time(repository) if at == RANDOM else at
        at = at.replace(microsecond=0) if part.has_whole_seconds else at
        if at > now():
            raise RecoveryTimeError(
                target=self.target,
                at=show_time(at),
                reason="it is in the future",
                hint="Choose an earlier time.",
            )
        self._keys, self._stored = keys, None
        if self.database not in sources:
            self._stored = find_archive(repository, self.database, at, self.target, part)
            if self._stored is None:
                raise RecoveryNotConfiguredError(target=self.target, app=app.name, database=self.database)
        self._request = RecoveryRequest(
            url=self._url,
            target=self.target,
            database=self.database,
            repository=repository,
            keys=keys,
            source=sources.get(self.database, Archive()),
            at=at,
            staging=environment.staging_folder(app.configured) or environment.default_staging_folder(),
        )

    def _choose_time(self, repository: Repository) -> datetime:
        """Return a random moment that the stored log has."""
        if moments := find_range(repository.read_content().valid, self.database):
            return moments.choose()
        raise UsageError(
            detail="--at random: the repository has no copy that a stored log follows; pass a time"
        )

    @cached_property
    def _plan(self) -> RecoveryPlan:
        return self._stored.plan(self._request.at) if self._stored else self._recovery.plan(self._request)

    @property
    def at(self) -> datetime:
        return self._request.at

    @property
    def staging(self) -> Path:
        """The folder in which private folders are created."""
        return self._request.staging

    def size(self) -> int:
        return self._plan.bytes

    def list_steps(self) -> Sequence[str]:
        """Return what would be replayed, from the files of the archive, and then backed up; writes nothing."""
        return [*self._plan.steps, f"back up {self.database} as it was then"]

    def plan(self) -> Plan:
        """Return the steps; writes nothing."""
        return self._create_plan(
            f"Recover {self.target} to {self._repository.store.location}", self.list_steps()
        )

    def apply(self, confirmed: str | None = None) -> BackupCreated:
        """Create the backup; after an error, no part of it remains, and the server has ended.

        Raises:
            As ``Recovery.recover`` and ``create_backup``.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        repository = self._repository
        with ExitStack() as stack:
            source = stack.enter_context(self.open_source())
            stack.enter_context(self._lock())
            created = create_backup(repository, [source], kind="recovered", stack=stack)
            result = repository.describe_new(created, BackupCreated, source.recovered.remarks)
            signals.commit_point()  # the backup is complete: report it even if a signal arrives
        return result

    @contextmanager
    def open_source(self) -> Iterator[RecoveredSource]:
        """Recover the database with a private server, which ends at the end of the block; raises as ``Recovery.recover``."""
        with ExitStack() as stack:
            request = self._request
            if self._stored:
                archive = self._stored.unpack(self._repository, self._keys, request.staging)
                source = stack.enter_context(archive)
                request = structs.replace(
                    request, source=source, known=self._stored.known, copy=self._stored.copy
                )
            recovered = stack.enter_context(self._recovery.recover(request))
            if self._stored:
                recovered = structs.replace(recovered, backup=self._stored.copy[0].id)
            copy = stack.enter_context(self._open_copy(recovered))
            yield RecoveredSource(copy, self.database, self._request.at, recovered)

    @contextmanager
    def _open_copy(self, recovered: RecoveredDatabase) -> Iterator[App]:
        """Open the app with the recovered database alone; the moment may be from before a migration."""
        app, name = self._app, self.database
        configured = structs.replace(
            app.configured,
            databases={name: recovered.url},
            replicas={},
            protected=False,
            backup=app.configured.backup,
        )
        is_main = name == app.main_database
        session = Session(Selection(configured=configured), timeout=app.timeout, spec=app.spec, only=name)
        with closing(App(session, configured, app.base_profile if is_main else app.profile)) as copy:
            if is_main:
                copy.resolve_profile()
            yield copy


class RecoveredSource(Source):
    """A database of a private server, which is backed up as it was at a moment."""

    def __init__(self, app: App, database: str, at: datetime, recovered: RecoveredDatabase) -> None:
        settings = app.configured.backup_settings
        super().__init__(
            app, database, form=settings.format, compress=settings.compress, compresses_files=True
        )
        self._at, self.recovered = at, recovered

    def write_members(self, folder: BackupWriter) -> list[Member]:
        members = super().write_members(folder)
        return [
            structs.replace(member, taken_at=self._at, facts={**member.facts, **self.recovered.facts})
            for member in members
        ]
