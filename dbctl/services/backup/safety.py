"""Safety backup: the databases that a restore replaces, in any state; and the loss of rows since the backups before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from statistics import median_low

from msgspec import structs

from dbctl.config.model import BackupConfig
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.dumps import Dump, release_nothing
from dbctl.errors.backup import BackupFailedError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    CorruptError,
    DatabaseMissingError,
    InterruptedWriteError,
    NotADatabaseError,
    QueryFailedError,
    report_file_errors,
)
from dbctl.errors.usage import DriverMissingError
from dbctl.files.atomic import write_atomically
from dbctl.model import Struct, format_count, now
from dbctl.services.app.app import App
from dbctl.services.backup import verification_record
from dbctl.services.backup.manifest import Manifest, Member, member_file_name
from dbctl.services.backup.member_files import BackupWriter
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.sources import Source
from dbctl.services.backup.verification_record import Pin

#: Errors of files that exist, but cannot be copied as a database.
UNREADABLE_ERRORS = (CorruptError, InterruptedWriteError, NotADatabaseError, QueryFailedError)


def schema_fingerprint(db: Readable) -> str:
    """Return the fingerprint of a live schema; empty if the engine has none."""
    return db.schema_reader.fingerprint() if db.schema_reader else ""


class SafetyBackupSource(Source):
    """A database before its replacement: copied as in a backup, or file by file if it cannot be read."""

    allow_empty = True

    def __init__(self, app: App, database: str, dump: Dump) -> None:
        """Read the state of the database; ``dump`` is its replacement."""
        super().__init__(app, database)
        self._dump, self.familiar_tables = dump, dump.tables  # missing tables are a reason for restoring
        self._restore_target = app.engine(database).restore_target(app.url(database), self.target)
        self._files = self._restore_target.files()
        self.is_empty = not self._restore_target.exists()  #: whether there is nothing to back up
        self._is_retained = not self.is_empty and self._restore_target.strategy(dump).retains_previous
        # Read before other writers are blocked: closing a connection later would release that lock.
        self._markers = {} if self.is_empty or self._is_retained else self._restore_target.markers()
        self._is_readable = not self.is_empty and self._can_open()

    def _can_open(self) -> bool:
        try:
            return self._open().dumps is not None
        except (*UNREADABLE_ERRORS, DatabaseMissingError):
            return False
        except DriverMissingError:
            if not self._is_retained:  # a retained database is not read
                raise
            return False

    def _open(self) -> Readable:
        return self.app.reader(self.database, allow_empty=True, familiar_tables=self.familiar_tables)

    def block_writers(self, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        """Block other writers with the restore target; an unreadable database is not locked."""
        return (
            self._restore_target.block_writers(self._dump, timeout=timeout)
            if self._is_readable
            else nullcontext(release_nothing)
        )

    def schema(self) -> str:
        """Return the fingerprint of its schema; empty if it cannot be read."""
        try:
            return schema_fingerprint(self._open()) if self._is_readable else ""
        except UNREADABLE_ERRORS:
            return ""

    def pin_snapshot(self) -> bool:
        if self._is_retained or not self._is_readable:
            return False
        try:
            return super().pin_snapshot()
        except UNREADABLE_ERRORS:
            self._is_readable = False
            return False

    def size(self) -> int:
        if self._is_retained:
            return 0
        if self._is_readable:
            try:
                return super().size()
            except UNREADABLE_ERRORS:
                self._is_readable = False
        return sum(path.stat().st_size for path in self._files)

    def stored_size(self) -> int:
        size = self.size()
        return super().stored_size() if self._is_readable and not self._is_retained else size

    def write_members(self, folder: BackupWriter) -> list[Member]:
        if self._is_retained:
            return [self._write_retained(folder)]
        if self._is_readable:
            try:
                members = super().write_members(folder)
                return [
                    structs.replace(member, facts={**member.facts, **self._markers}) for member in members
                ]
            except (*UNREADABLE_ERRORS, BackupFailedError):
                if not self._files:
                    raise
                self.discard(folder)
        return self._copy_raw_files(folder)

    def _write_retained(self, folder: BackupWriter) -> Member:
        """Write the script for a retained database; its rows are counted if it can be read."""
        retained, taken_at = self._restore_target.describe_retained(folder.name), now()
        file = member_file_name(self.app, self.database, folder.name, ending=retained.script_suffix)
        with report_file_errors(file), write_atomically(folder.path_for(file)) as script:
            script.write(retained.revert_script)
        stored, rows = folder.store(file), dict[str, int]()
        with suppress(DbctlError):
            rows = dict(self._open().count_dump_rows())
        return structs.replace(
            stored,
            form="kept",
            database=self.database,
            engine=self.engine,
            taken_at=taken_at,
            rows=rows,
            schema=self.schema(),
            facts=retained.metadata,
        )

    def _copy_raw_files(self, folder: BackupWriter) -> list[Member]:
        """Copy the files unchanged; its connection is closed first, because reading a file releases the locks on it."""
        self.app.close(self.database)  # those of other databases have their snapshots
        main_name, members = member_file_name(self.app, self.database, folder.name), []
        base = Path(self.app.url(self.database).path).resolve().name
        for path in self._files:
            stored = folder.copy(path, f"{main_name}{path.name.removeprefix(base)}")
            members.append(structs.replace(stored, form="raw", database=self.database, engine=self.engine))
        return members


#: The largest and smallest number of earlier backups that are compared. The median follows an intended loss after half.
COMPARED, REQUIRED = 10, 3
#: The share of rows that a backup may lack without ``max_shrink``.
DEFAULT_LIMIT = 0.5


class Shrinkage(Struct, frozen=True, kw_only=True):
    """The loss of rows of one database in a backup, or of the app's own files."""

    database: str  #: empty for the files, which are counted in place of rows
    rows: int  #: in the backup
    median: int  #: rows in the compared backups before it
    compared: int  #: their number
    lost: float  #: the missing share of the median, 0 to 1
    larger: str  #: the newest of the compared backups with at least the median of rows


def describe_shrinkage(shrinkage: Shrinkage, backup: str) -> str:
    """Return the message about the loss in the backup of this id."""
    percent = (shrinkage.median - shrinkage.rows) * 100 // shrinkage.median
    unit = "row" if shrinkage.database else "app file"
    return (
        f"backup {backup} has {format_count(shrinkage.rows, unit)}, {percent}% fewer than the "
        f"median of the {shrinkage.compared} backups before it ({shrinkage.median:,})"
    )


def find_shrinkage(database: str, backups: Sequence[Manifest], settings: BackupConfig) -> Shrinkage | None:
    """Return the loss of rows of a database in the first of its backups, if it is over the limit.

    Args:
        database: its name.
        backups: of any kind, newest first; only complete ones with the database are compared, by the tables whose rows all have.
            One with the rows of all tables is not compared with one without.
        settings: of the app, with the limit.
    """
    members = [
        (manifest.id, member)
        for manifest in backups
        if manifest.kind == "backup" and (member := manifest.restorable_member(database))
    ]
    if not members or members[0][0] != backups[0].id:
        return None
    # Indexes of tables without rows have none either, and no backup states which.
    is_whole = not members[0][1].schema_only
    members = [entry for entry in members if is_whole == (not entry[1].schema_only)][: COMPARED + 1]
    without = {table for _, member in members for table in member.schema_only}
    counts = [
        (name, sum(count for table, count in member.rows.items() if table not in without))
        for name, member in members
    ]
    return _compare(database, counts, settings)


def find_lost_files(backups: Sequence[Manifest], settings: BackupConfig) -> Shrinkage | None:
    """Return the loss of the app's own files in the first backup, which is of all databases, as ``find_shrinkage`` does.

    Earlier backups without files are not compared: they may be of one database.
    """
    counts = [
        (
            manifest.id,
            sum(int(member.facts.get("files", 0)) for member in manifest.members if member.form == "files"),
        )
        for manifest in backups
        if manifest.kind == "backup"
    ]
    return _compare("", [*counts[:1], *(entry for entry in counts[1:] if entry[1])][: COMPARED + 1], settings)


def _compare(database: str, counts: Sequence[tuple[str, int]], settings: BackupConfig) -> Shrinkage | None:
    """Return the loss in the first backup; ``counts``: ids of backups, newest first, with their rows or files."""
    limit = settings.max_shrink or DEFAULT_LIMIT
    (_, rows), *earlier = counts
    if len(earlier) < REQUIRED:
        return None
    median = median_low(count for _, count in earlier)
    if rows >= median * (1 - limit):
        return None
    return Shrinkage(
        database=database,
        rows=rows,
        median=median,
        compared=len(earlier),
        lost=1 - rows / median,
        larger=next(name for name, count in earlier if count >= median),
    )


def pin_larger(repository: Repository, shrunken: Sequence[Shrinkage], backup: str) -> Iterator[str]:
    """Pin the larger backups before a shrunken one, and yield their ids; the caller has the lock of the repository.

    Raises:
        RepositoryFailedError, DiskFullError: a record cannot be written.
    """
    pin = Pin(at=now(), by="dbctl", reason=f"backup {backup} has far fewer rows")
    for name in dict.fromkeys(shrinkage.larger for shrinkage in shrunken):
        verification_record.update(
            repository.store, name, lambda record: structs.replace(record, pin=record.pin or pin)
        )
        yield name
