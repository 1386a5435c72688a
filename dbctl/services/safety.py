"""What a restore is about to replace, kept whatever state it is in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dbctl import durable
from dbctl.engines import registry
from dbctl.engines.base import Capability, Describes, Readable
from dbctl.engines.dumps import Dump, Dumps
from dbctl.errors import (
    BackupFailedError,
    CorruptError,
    CutOffWriteError,
    DatabaseMissingError,
    DbctlError,
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

    def __init__(self, app: App, database: str, advance: Callable[[int], None], dump: Dump) -> None:
        """Look what there is; ``dump`` is what replaces it."""
        super().__init__(app, database, advance)
        self.like = dump.tables  # a table that is gone is why one restores
        self._outside = registry.outside(app.url(database), self.target)
        self._files = self._outside.files()
        self.empty = not self._outside.is_there()  #: whether nothing is there that could be kept
        self._stays = not self.empty and self._outside.approach(dump).keeps
        self._readable = not self.empty and self._open()

    def _open(self) -> bool:
        try:
            db = self.app.reader(self.database, may_be_empty=True, like=self.like)
        except (*UNREADABLE, DatabaseMissingError):
            return False
        return Capability.DUMP in db.capabilities and isinstance(db, Dumps)

    def schema(self) -> str:
        """Return the fingerprint of its schema; empty where it cannot be told."""
        try:
            return (
                schema_of(self.app.reader(self.database, may_be_empty=True, like=self.like))
                if self._readable
                else ""
            )
        except UNREADABLE:
            return ""

    def size(self) -> int:
        if self._stays:
            return 0
        if self._readable:
            try:
                return super().size()
            except UNREADABLE:
                self._readable = False
        return sum(one.stat().st_size for one in self._files)

    def members(self, folder: NewFolder, name: str) -> list[Member]:
        if self._stays:
            return [self._left(folder, name)]
        if self._readable:
            try:
                return super().members(folder, name)
            except (*UNREADABLE, BackupFailedError):
                if not self._files:
                    raise
                folder.place(file_name(self.app, self.database, name)).unlink(missing_ok=True)
        return self._raw(folder, name)

    def _left(self, folder: NewFolder, name: str) -> Member:
        """Tell of a database that stays on its server; what it holds is counted as far as it can be read."""
        found, at = self._outside.kept(name), now()
        file = file_name(self.app, self.database, name, ending=".kept.sql")
        try:
            with durable.written_whole(folder.place(file)) as script:
                script.write(found.note)
        except OSError as error:
            raise FileFailedError(path=Path(file), reason=error.strerror or str(error)) from error
        kept, rows = folder.keep(file), dict[str, int]()
        with suppress(DbctlError):
            db = self.app.reader(self.database, may_be_empty=True, like=self.like)
            rows = {table: db.count(table) for table, one in db.tables().items() if not one.view}
        return Member(
            database=self.database,
            file=file,
            bytes=kept.bytes,
            sha256=kept.sha256,
            form="kept",
            engine=self.engine,
            taken_at=at,
            rows=rows,
            schema=self.schema(),
            facts=found.facts,
        )

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
