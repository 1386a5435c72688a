"""Back up the log of a server, one part per call; and the physical copy from which a recovery replays it."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path

from msgspec import structs

from dbctl import progress, signals
from dbctl.config import environment
from dbctl.engines.contract.database import require_supported
from dbctl.errors.base import Remedy
from dbctl.errors.connection import report_file_errors
from dbctl.extensions.recover.contract import FetchedLog, ServerCopy, ServerLog
from dbctl.extensions.recover.errors import LogLostError, StateMissingError
from dbctl.files import atomic
from dbctl.files.codecs import SUFFIXES
from dbctl.model import ChangeResult, Compression, Effect, Plan, now
from dbctl.services.app.app import App
from dbctl.services.backup import verification_record
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.create import BackupCreated, create_backup
from dbctl.services.backup.log_range import LOST, find_newest_log
from dbctl.services.backup.manifest import SEQUENCE, Form, Manifest, Member
from dbctl.services.backup.member_files import BackupWriter
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.sources import COMPRESSION_RATIO, MemberSource

_LOG_HINT = "dbctl stores the log of PostgreSQL and MariaDB servers."
_COPY_HINT = "Omit --physical: dbctl copies the files of PostgreSQL servers. A backup of MariaDB has its position in the stored log."
_WITHOUT_LOG = Remedy(
    "no log was stored before this copy, so no moment can be recovered from it. Store the log with: `backup log`; then make another copy with: `backup create --physical`"
)
_WITHIN_LOG = Remedy(
    "this copy begins at the last checkpoint of the standby, before the end of the stored log, so no moment can be recovered from it. Run CHECKPOINT on the primary; then make another copy with: `backup create --physical`"
)

_WHOLE = "schema_only does not apply to a physical copy, nor to the backups that are recovered from it: they have the rows of all tables"


class LogArchived(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup log``."""

    is_timed = True

    id: str | None  #: of the new backup; None: the server has written nothing since the last one
    database: str
    bytes: int
    until: datetime | None  #: the last moment that the stored log has
    remarks: Sequence[str] = ()

    @property
    def effect(self) -> Effect | None:
        if self.id is None or self.until is None:
            return None
        return Effect(
            "archived",
            f"the log of {self.database}",
            place=f"to {self.id}",
            details=[f"up to {self.until:%Y-%m-%d %H:%M:%S} UTC"],
            bytes=self.bytes,
        )


class ServerCopied(BackupCreated, frozen=True, kw_only=True):
    """Result of ``backup create --physical``."""

    @property
    def effect(self) -> Effect | None:
        servers = f"{self.app}/{', '.join(self.databases)}"
        return Effect("copied", f"the server of {servers}", place=f"to {self.id}", bytes=self.bytes)


class BackUpLog(BackupOperation):
    def __init__(self, repository: Repository) -> None:
        """Select the database: that of ``--db``, or the main one.

        Raises:
            NotSupportedError: its engine has no log.
            StateMissingError: this machine has no folder that keeps what was fetched until it is stored.
        """
        app = repository.app
        self._database = app.only or app.main_database
        super().__init__(repository, self._database)
        db = app.reader(self._database)
        self._log = require_supported(
            db, db.extension_part(ServerLog), "a stored log of the server", _LOG_HINT
        )
        if (state := environment.app_state_folder(app.configured)) is None:
            raise StateMissingError(target=self.target)
        self._name = name_reader(repository, self._database)
        self._folder = state / "log" / self._name

    def plan(self) -> Plan:
        """Return what would be fetched; the server remembers nothing."""
        title = f"Archive the log of {self.target} in {self._repository.store.location}"
        return self._create_plan(title, self._log.describe_fetch(self._name))

    def apply(self, confirmed: str | None = None) -> LogArchived:
        """Fetch the log and store it.

        Raises:
            LogLostError: a part of the log was lost; what follows it is stored.
            As ``ServerLog.fetch`` and ``create_backup``.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        repository, database = self._repository, self._database
        with ExitStack() as stack, self._lock():
            known, called_at = repository.manifests(), now()
            newest = find_newest_log(known[0], database)
            with report_file_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fetched = self._log.fetch(self._folder, self._name, newest.facts if newest else {})
            if fetched is None:
                self._record_fetch(known[0], called_at)
                return LogArchived(
                    id=None, database=self.target, bytes=0, until=newest.taken_at if newest else None
                )
            source = LogSource(self._app, database, fetched)
            created = create_backup(repository, [source], known=known, kind="log", stack=stack)
            for path in fetched.finished:
                with suppress(OSError):  # it would be stored again, which is harmless
                    path.unlink()
            signals.commit_point()
        if fetched.lost:
            raise LogLostError(target=self.target, lost=fetched.lost, hint=self._log.copy_remedy)
        return LogArchived(
            id=created.id,
            database=self.target,
            bytes=created.bytes,
            until=fetched.read_at,
            remarks=[*_describe_clock(fetched.read_at, newest), *fetched.remarks],
        )

    def _record_fetch(self, manifests: Sequence[Manifest], called_at: datetime) -> None:
        """Record next to the newest part of the log that there is nothing after it."""
        parts = (
            manifest
            for manifest in manifests
            if manifest.kind == "log" and self._database in manifest.databases
        )
        if part := next(parts, None):
            verification_record.update(
                self._repository.store,
                part.id,
                lambda previous: structs.replace(previous, fetched_at=called_at),
            )


class CopyServer(BackupOperation):
    """A planned ``backup create --physical``."""

    def __init__(self, repository: Repository) -> None:
        """Select the server of the database of ``--db``, or of the main one.

        Raises:
            NotSupportedError: its engine has no log.
        """
        app = repository.app
        database = app.only or app.main_database
        super().__init__(repository, database)
        self._source = PhysicalSource(app, database)

    def size(self) -> int:
        return self._source.size()

    def plan(self) -> Plan:
        """Return what would be copied; writes nothing."""
        title = f"Copy the server of {self.target} to {self._repository.store.location}"
        return self._create_plan(title, list(self._source.plan_steps()))

    def apply(self, confirmed: str | None = None) -> ServerCopied:
        """Create the backup; after an error, no part of it remains.

        Raises:
            As ``ServerLog.copy`` and ``create_backup``.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        with ExitStack() as stack, self._lock():
            known = self._repository.manifests()
            self._source.newest_log = find_newest_log(known[0], self._source.database)
            created = create_backup(
                self._repository, [self._source], known=known, kind="physical", stack=stack
            )
            remarks = [self._source.gap.write()] if self._source.gap else []
            remarks += [_WHOLE] if self._app.configured.backup_settings.schema_only else []
            result = self._repository.describe_new(created, ServerCopied, remarks)
            signals.commit_point()
        return result


class _ServerSource(MemberSource):
    """An archive of a server."""

    form: Form
    prefix: str  #: of its file

    def __init__(self, app: App, database: str) -> None:
        self.database, self.target, self._engine = database, app.target(database), app.url(database).engine
        self._compress: Compression = app.configured.backup_settings.compress

    def stored_size(self) -> int:
        return self.size() if self._compress == "none" else self.size() // COMPRESSION_RATIO

    def file_name(self, name: str) -> str:
        return f"{self.prefix}_{self.database}_{name}.tar{SUFFIXES[self._compress]}"

    def discard(self, folder: BackupWriter) -> None:
        folder.discard(self.file_name(folder.name))

    def store(self, folder: BackupWriter, blocks: Iterator[bytes]) -> Member:
        """Store the archive, and count its bytes as progress."""
        blocks = progress.count_blocks(blocks)
        member = folder.compress_blocks(blocks, self.file_name(folder.name), self._compress)
        return structs.replace(member, database=self.database, form=self.form, engine=self._engine)


class LogSource(_ServerSource):
    """The files of a log."""

    form, prefix = "log", "log"

    def __init__(self, app: App, database: str, fetched: FetchedLog) -> None:
        super().__init__(app, database)
        self._fetched = fetched

    def size(self) -> int:
        return sum(path.stat().st_size for path in self._fetched.files)

    def write_members(self, folder: BackupWriter) -> list[Member]:
        fetched = self._fetched
        facts = {**fetched.facts, SEQUENCE: str(self.log_sequence + 1)}
        facts |= {LOST: fetched.lost} if fetched.lost else {}
        member = self.store(folder, _archive(fetched.files))
        return [structs.replace(member, taken_at=fetched.read_at, facts=facts)]


class PhysicalSource(_ServerSource):
    """The files of the server of a database."""

    form, prefix = "physical", "server"
    newest_log: Member | None = None  #: before the copy
    gap: Remedy | None = None  #: after the copy: why no log follows it; None: log does

    def __init__(self, app: App, database: str) -> None:
        super().__init__(app, database)
        db = app.reader(database)
        self._server = require_supported(
            db, db.extension_part(ServerCopy), "a physical copy of the server", _COPY_HINT
        )

    @cached_property
    def _size(self) -> int:
        return self._server.estimate_size()

    def size(self) -> int:
        return self._size

    def plan_steps(self) -> Iterator[str]:
        """Yield what is copied."""
        yield f"copy {self._server.describe_copy()} (about {self._size:,} bytes) as {self.file_name('TIME')}"

    def write_members(self, folder: BackupWriter) -> list[Member]:
        copied = self._server.copy(partial(self.store, folder))
        log = self.newest_log
        self.gap = None if log else _WITHOUT_LOG
        if log and self._server.begins_within(copied.facts, log.facts):
            self.gap = _WITHIN_LOG
        facts = {**copied.facts, SEQUENCE: "0" if self.gap else str(self.log_sequence)}
        return [structs.replace(copied.member, taken_at=copied.ended_at, facts=facts)]


def name_reader(repository: Repository, database: str) -> str:
    """Return the name by which a server remembers up to where its log was fetched; each repository has its own."""
    place = hashlib.sha256(repository.store.location.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"dbctl_{_simplify(repository.app.name)}_{_simplify(database)}_{place}"


def _describe_clock(read_at: datetime, newest: Member | None) -> Iterator[str]:
    """Yield a remark if the clock of the server was set back since the last part of its log."""
    if newest and read_at < newest.taken_at:
        yield (
            f"the clock of the server was set back: the last part of its log ends at {newest.taken_at:%Y-%m-%d %H:%M:%S} UTC,"
            f" this one at {read_at:%Y-%m-%d %H:%M:%S}; a moment that it had twice is recovered as the first of them after the copy"
        )


def _archive(paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield an archive of files, which do not change."""
    for path in paths:
        info = tarfile.TarInfo(path.name)
        info.size = path.stat().st_size
        yield info.tobuf()
        yield from atomic.read_blocks(path)
        yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _simplify(name: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", name.lower())[:20]
