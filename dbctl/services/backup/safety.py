"""What a restore is about to replace, kept whatever state it is in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract import Capability, Describes, Dump, Dumps, Readable, count_dumped
from dbctl.errors import (
    BackupFailedError,
    CorruptError,
    CutOffWriteError,
    DatabaseMissingError,
    DbctlError,
    DriverMissingError,
    FileFailedError,
    NotADatabaseError,
    QueryFailedError,
)
from dbctl.files import at_once, written_whole
from dbctl.model import now
from dbctl.services.app import App
from dbctl.services.backup.manifest import Member, file_name
from dbctl.services.backup.sources import Source
from dbctl.services.backup.writer import Laying

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
        self._dump, self.like = dump, dump.tables  # a table that is gone is why one restores
        self._outside = registry.outside(app.url(database), self.target)
        self._files = self._outside.files()
        self.empty = not self._outside.is_there()  #: whether nothing is there that could be kept
        self._stays = not self.empty and self._outside.approach(dump).keeps
        # Told before anybody is kept from changing it: a connection that is closed later would lose that lock.
        self._standing = {} if self.empty or self._stays else self._outside.standing()
        self._readable = not self.empty and self._open()

    def _open(self) -> bool:
        try:
            db = self.app.reader(self.database, may_be_empty=True, like=self.like)
        except (*UNREADABLE, DatabaseMissingError):
            return False
        except DriverMissingError:
            if not self._stays:  # else nobody has to read it
                raise
            return False
        return Capability.DUMP in db.capabilities and isinstance(db, Dumps)

    def still(self, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        """Keep everybody from changing it: ``Outside.still``; what cannot be read is left as it lies."""
        return self._outside.still(self._dump, timeout=timeout) if self._readable else nullcontext(at_once)

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

    def pin(self) -> bool:
        if self._stays or not self._readable:
            return False
        try:
            return super().pin()
        except UNREADABLE:
            self._readable = False
            return False

    def size(self) -> int:
        if self._stays:
            return 0
        if self._readable:
            try:
                return super().size()
            except UNREADABLE:
                self._readable = False
        return sum(one.stat().st_size for one in self._files)

    def members(self, folder: Laying) -> list[Member]:
        if self._stays:
            return [self._left(folder)]
        if self._readable:
            try:
                made = super().members(folder)
                return [structs.replace(one, facts={**one.facts, **self._standing}) for one in made]
            except (*UNREADABLE, BackupFailedError):
                if not self._files:
                    raise
                folder.drop(file_name(self.app, self.database, folder.name))
        return self._raw(folder)

    def _left(self, folder: Laying) -> Member:
        """Tell of a database that stays on its server; what it holds is counted as far as it can be read."""
        found, at = self._outside.kept(folder.name), now()
        file = file_name(self.app, self.database, folder.name, ending=found.ending)
        try:
            with written_whole(folder.place(file)) as script:
                script.write(found.note)
        except OSError as error:
            raise FileFailedError(path=Path(file), reason=error.strerror or str(error)) from error
        kept, rows = folder.keep(file), dict[str, int]()
        with suppress(DbctlError):
            db = self.app.reader(self.database, may_be_empty=True, like=self.like)
            rows = dict(count_dumped(db))
        return Member(
            **structs.asdict(kept),
            database=self.database,
            form="kept",
            engine=self.engine,
            taken_at=at,
            rows=rows,
            schema=self.schema(),
            facts=found.facts,
        )

    def _raw(self, folder: Laying) -> list[Member]:
        """Copy the files as they lie; no connection to them may be open, for it would lose its locks."""
        self.app.close()
        main, found = file_name(self.app, self.database, folder.name), []
        base = Path(self.app.url(self.database).path).resolve().name
        for path in self._files:
            kept = folder.copy(path, f"{main}{path.name.removeprefix(base)}")
            found.append(
                Member(
                    **structs.asdict(kept),
                    database=self.database,
                    form="raw",
                    engine=self.engine,
                    taken_at=now(),
                    rows={},
                    schema="",
                    facts={},
                )
            )
        return found
