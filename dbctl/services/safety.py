"""What a restore is about to replace, kept whatever state it is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dbctl import durable
from dbctl.engines import registry
from dbctl.engines.base import Capability, Describes, Readable
from dbctl.engines.dumps import Dumps
from dbctl.errors import (
    BackupFailedError,
    CorruptError,
    CutOffWriteError,
    DatabaseMissingError,
    FileFailedError,
    NotADatabaseError,
    QueryFailedError,
)
from dbctl.model import now
from dbctl.services.apps import App
from dbctl.services.backup_create import Source, file_name
from dbctl.services.backup_manifest import Member
from dbctl.stores.base import NewFolder

#: Failures that say that there are files, but no database which could be copied.
UNREADABLE = (CorruptError, CutOffWriteError, NotADatabaseError, QueryFailedError)


def schema_of(db: Readable) -> str:
    """Return the fingerprint of a live schema; empty where the engine has none."""
    return db.fingerprint() if Capability.SCHEMA in db.capabilities and isinstance(db, Describes) else ""


class Rescue(Source):
    """One database as it is now: copied as a backup copies it, or file by file where it cannot be read."""

    may_be_empty = True

    def __init__(self, app: App, database: str, advance: Callable[[int], None]) -> None:
        super().__init__(app, database, advance)
        self._files = registry.files(app.url(database), self.target)
        self.empty = not self._files  #: whether nothing is there that could be kept
        self._readable = not self.empty and self._open()

    def _open(self) -> bool:
        try:
            db = self.app.reader(self.database, may_be_empty=True)
        except (*UNREADABLE, DatabaseMissingError):
            return False
        return Capability.DUMP in db.capabilities and isinstance(db, Dumps)

    def schema(self) -> str:
        """Return the fingerprint of its schema; empty where it cannot be told."""
        try:
            return schema_of(self.app.reader(self.database, may_be_empty=True)) if self._readable else ""
        except UNREADABLE:
            return ""

    def size(self) -> int:
        if self._readable:
            try:
                return super().size()
            except UNREADABLE:
                self._readable = False
        return sum(one.stat().st_size for one in self._files)

    def members(self, folder: NewFolder, name: str) -> list[Member]:
        if self._readable:
            try:
                return super().members(folder, name)
            except (*UNREADABLE, BackupFailedError):
                folder.place(file_name(self.app, self.database, name)).unlink(missing_ok=True)
        return self._raw(folder, name)

    def _raw(self, folder: NewFolder, name: str) -> list[Member]:
        """Copy the files as they lie; no connection to them may be open, for it would lose its locks."""
        self.app.close()
        main, found = file_name(self.app, self.database, name), []
        base = Path(self.app.url(self.database).path).resolve().name
        for path in self._files:
            file = f"{main}{path.name.removeprefix(base)}"
            try:
                durable.copied(path, folder.place(file))
            except OSError as error:
                raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
            kept = folder.keep(file)
            found.append(
                Member(
                    database=self.database,
                    file=file,
                    bytes=kept.bytes,
                    sha256=kept.sha256,
                    form="raw",
                    engine=self.engine,
                    taken_at=now(),
                    rows={},
                    schema="",
                    facts={},
                )
            )
        return found
