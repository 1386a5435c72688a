"""Safety backup: the databases that a restore replaces, in any state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from msgspec import structs

from dbctl.engines.contract.checks import SchemaReader
from dbctl.engines.contract.database import Readable
from dbctl.engines.contract.dumps import Dump, Dumps, count_dump_rows
from dbctl.errors.backup import BackupFailedError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    CorruptError,
    DatabaseMissingError,
    FileFailedError,
    InterruptedWriteError,
    NotADatabaseError,
    QueryFailedError,
)
from dbctl.errors.usage import DriverMissingError
from dbctl.files.atomic import write_atomically
from dbctl.files.progress import release_nothing
from dbctl.model import now
from dbctl.services.app.app import App
from dbctl.services.backup.manifest import Member, member_file_name
from dbctl.services.backup.member_files import BackupWriter
from dbctl.services.backup.sources import Source

#: Errors of files that exist, but cannot be copied as a database.
UNREADABLE_ERRORS = (CorruptError, InterruptedWriteError, NotADatabaseError, QueryFailedError)


def schema_fingerprint(db: Readable) -> str:
    """Return the fingerprint of a live schema; empty if the engine has none."""
    schema_reader = db.part(SchemaReader)
    return schema_reader.fingerprint() if schema_reader else ""


class SafetyBackupSource(Source):
    """A database before its replacement: copied as in a backup, or file by file if it cannot be read."""

    allow_empty = True

    def __init__(self, app: App, database: str, advance: Callable[[int], None], dump: Dump) -> None:
        """Read the state of the database; ``dump`` is its replacement."""
        super().__init__(app, database, advance)
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
            return self._open().part(Dumps) is not None
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
                folder.discard(member_file_name(self.app, self.database, folder.name))
        return self._copy_raw_files(folder)

    def _write_retained(self, folder: BackupWriter) -> Member:
        """Write the script for a retained database; its rows are counted if it can be read."""
        retained, taken_at = self._restore_target.describe_retained(folder.name), now()
        file = member_file_name(self.app, self.database, folder.name, ending=retained.script_suffix)
        try:
            with write_atomically(folder.path_for(file)) as script:
                script.write(retained.revert_script)
        except OSError as error:
            raise FileFailedError(path=Path(file), reason=error.strerror or str(error)) from error
        stored, rows = folder.store(file), dict[str, int]()
        with suppress(DbctlError):
            rows = dict(count_dump_rows(self._open()))
        return stored.as_member(
            "kept",
            database=self.database,
            engine=self.engine,
            taken_at=taken_at,
            rows=rows,
            schema=self.schema(),
            facts=retained.metadata,
        )

    def _copy_raw_files(self, folder: BackupWriter) -> list[Member]:
        """Copy the files unchanged; connections are closed first, because reading a file releases their locks on it."""
        self.app.close()
        main_name, members = member_file_name(self.app, self.database, folder.name), []
        base = Path(self.app.url(self.database).path).resolve().name
        for path in self._files:
            stored = folder.copy(path, f"{main_name}{path.name.removeprefix(base)}")
            members.append(stored.as_member("raw", database=self.database, engine=self.engine))
        return members
