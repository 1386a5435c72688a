"""The app's own ledger of migrations, and how each migration stands to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, cast

from dbctl.engines.contract import Condition, Readable, Where, Writable
from dbctl.errors import SchemaLacksError
from dbctl.model import Value, now
from dbctl.profiles import KEYS, read_time
from dbctl.profiles.model import ForeignLedger, Migrations, Profile, databases
from dbctl.services.app import Live, ledger_detection
from dbctl.services.migrations.files import Folder, MigrationFile
from dbctl.services.migrations.ledger import journal

#: Endings of names in the ledgers of runners whose migrations are programs.
_PROGRAMS = (".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".sql", ".py")


Level = Literal["", "applied", "baseline"]


class Track(Value, frozen=True, kw_only=True):
    """One database's migrations: where its files are and how the app records them."""

    app: str  #: the name of the app
    database: str
    profile: Profile
    told: Migrations
    ledger: databases.Ledger  #: the one that dbctl writes
    foreign: ForeignLedger | None = None  #: another runner's, which says instead of it what was applied
    folder: Folder
    engine: str  #: the name of the one that the database lives in
    #: the folders of all shapes that the database may have, by name, where the files are dbctl's own
    shapes: Mapping[str, Folder] = {}
    #: where the files are the app's own, those that travel with dbctl: the ledger may name them, too
    shipped: Mapping[str, Folder] = {}
    shape: str = ""  #: the one that the folder is of, once it is told or found

    @property
    def target(self) -> str:
        """``app/database``."""
        return f"{self.app}/{self.database}"

    @property
    def ledgers(self) -> frozenset[str]:
        """The tables that are no part of the schema."""
        return frozenset({self.ledger.table, self.foreign.table if self.foreign else "", journal.TABLE})


class Record(Value, frozen=True, kw_only=True):
    """One row of a ledger."""

    version: str = ""  #: digits, where the ledger holds any
    name: str = ""  #: whole, or of what follows the digits; empty where the ledger holds none
    applied_at: datetime | None = None
    checksum: str | None = None
    duration: timedelta | None = None
    failed: bool = False
    level: Level = ""  #: what those before it count as, too

    @property
    def number(self) -> int:
        """Its place among the files, or -1."""
        return int(self.version) if self.version.isdigit() else -1

    @property
    def title(self) -> str:
        """What it is called where no file says it better."""
        return "_".join(part for part in (self.version, self.name) if part)

    def is_of(self, file: MigrationFile) -> bool:
        """Whether it is about that file."""
        if not self.version:
            return self.name == file.name
        if self.number != file.place[0]:
            return False
        # Runners that keep no name are believed, and so are those that only say how far they are.
        return not self.name or bool(self.level) or _alike(self.name) == _alike(file.words)


def _alike(name: str) -> str:
    """Return a name as it is compared: some runners keep a description with blanks."""
    return name.replace(" ", "_").replace("-", "_").lower()


def read_foreign(ledger: ForeignLedger, db: Readable, engine: str) -> list[Record]:
    """Return what another runner's ledger holds."""
    return [
        Record(
            version=str(version) if version is not None else "",
            name=str(name or "").removesuffix(
                next((end for end in _PROGRAMS if str(name or "").endswith(end)), "")
            ),
            applied_at=read_time(at),
            failed=bool(failed),
            level=cast("Level", level),
            checksum=None if checksum is None else str(checksum),
        )
        for version, name, at, failed, level, checksum in ledger_detection.query_foreign(ledger, db, engine)
    ]


def recorded_in(track: Track, db: Readable) -> list[Record]:
    """Return what the ledger holds, in no order."""
    ledger = Ledger(track, db)
    rows = dict[tuple[str, str], Record]()
    for found in db.select(ledger.live.name, ledger.columns()):
        values = dict(zip(ledger.columns(), found, strict=True))
        version, name = (str(values.get(word or "") or "") for word in (ledger.version, ledger.name))
        ended = values.get(ledger.applied_at or "")
        if values.get(ledger.rolled_back_at or "") is not None:
            continue  # it does not count any more
        broken = bool(ledger.started_at) and ended is None
        if broken and (version, name) in rows:
            continue  # tried again since, or before
        checksum, lasted = values.get(ledger.checksum or ""), values.get(ledger.duration or "")
        rows[version, name] = Record(
            version=version,
            name=name,
            failed=broken,
            applied_at=read_time(ended),
            checksum=str(checksum) if checksum else None,
            duration=timedelta(milliseconds=lasted)
            if isinstance(lasted, int | float)
            else ledger.between(values),
        )
    return list(rows.values())


class Ledger:
    """The app's own registry of applied migrations, in the live schema."""

    def __init__(self, track: Track, db: Readable) -> None:
        told = track.ledger
        self.live = Live(track.profile, db, told.table, "the ledger of migrations")
        self.version, self.name = self.live.find(told.version), self.live.find(told.name)
        self.applied_at = self.live.find(told.applied_at)
        self.checksum, self.duration = self.live.find(told.checksum), self.live.find(told.duration_ms)
        self.started_at = self.live.find(told.started_at)
        self.rolled_back_at = self.live.find(told.rolled_back_at)
        self._told, self._failing = told, track.told.failing

    def cure(self, reason: str) -> str:
        """Return what the profile says to do where a database refuses a migration for that reason."""
        return "".join(f" {says}" for part, says in self._failing.items() if part in reason)

    def columns(self) -> list[str]:
        """Return the columns that tell how a migration stands."""
        known = (self.version, self.name, self.applied_at, self.checksum, self.duration, self.started_at)
        return [name for name in (*known, self.rolled_back_at) if name]

    def applied(self, file: MigrationFile) -> list[Where]:
        """Return the conditions of the row that says a migration was applied."""
        column, value = next(iter(self._identity(file).items()))
        where: list[Where] = [Condition(column, "=", value)]
        if self.started_at and self.applied_at:
            where.append(Condition(self.applied_at, "!=", None))
        if self.rolled_back_at:
            where.append(Condition(self.rolled_back_at, "=", None))
        return where

    def rows_of(self, version: str, name: str) -> list[Where]:
        """Return the conditions of what the ledger holds of a migration, whether or not there is a file of it.

        Args:
            version: the digits.
            name: the whole name, where the ledger goes by names.
        """
        where: list[Where] = [Condition(self.rolled_back_at, "=", None)] if self.rolled_back_at else []
        if self.version is None:
            return [Condition(self.live.get(self._told.name or "name"), "=", name), *where]
        written: list[object] = [int(version)] if self._told.numeric else [version, str(int(version))]
        return [self.live.among(self.version, written), *where]

    def forget(self, db: Writable, where: Sequence[Where]) -> int:
        """Let rows count no more: marked as rolled back where the ledger knows that, else deleted; return how many."""
        if self.rolled_back_at:
            return db.update(
                self.live.name, {self.rolled_back_at: self.live.encode(self.rolled_back_at, now())}, where
            )
        return db.delete(self.live.name, where)

    def complete(self, db: Writable, file: MigrationFile) -> int:
        """Record that a migration which was begun has come to its end, without running anything; return how many rows."""
        ended = self.live.get(self.applied_at or "applied_at")
        where = [*self.rows_of(file.version, file.name), Condition(ended, "=", None)]
        values: dict[str, object] = {ended: self.live.encode(ended, now())}
        return db.update(
            self.live.name, values | ({self.checksum: file.checksum} if self.checksum else {}), where
        )

    def _identity(self, file: MigrationFile) -> dict[str, object]:
        """Return what says which migration a row is of; the first of it is enough to find it."""
        if self.version is None:
            return {self.live.get(self._told.name or "name"): file.name}
        version: object = int(file.version) if self._told.numeric else file.version
        return {self.version: version} | ({self.name: file.words} if self.name else {})

    def between(self, values: Mapping[str, object]) -> timedelta | None:
        """Return how long a migration took whose row says when it began and ended."""
        began, ended = (read_time(values.get(name or "")) for name in (self.started_at, self.applied_at))
        return ended - began if began and ended and ended >= began else None

    def row(self, file: MigrationFile, lasted: float) -> dict[str, object]:
        """Return what is recorded of a migration that took ``lasted`` seconds."""
        ended = now()
        values = self.live.constants(self._told.new)
        values |= self._identity(file)
        if self.applied_at:
            values[self.applied_at] = self.live.encode(self.applied_at, ended)
        if self._told.id and (made := KEYS[self._told.id.codec]):
            values[self.live.get(self._told.id.column)] = made()
        if self.started_at:
            began = ended - timedelta(milliseconds=round(lasted * 1000))
            values[self.started_at] = self.live.encode(self.started_at, began)
        if self.checksum:
            values[self.checksum] = file.checksum
        if self.duration:
            values[self.duration] = round(lasted * 1000)
        return values

    def refuse_uncovered(self) -> None:
        """Refuse a ledger that wants more of a row than dbctl knows.

        Raises:
            SchemaLacksError: it has a required column that nothing fills.
        """
        covered = {*self.columns(), *self.live.constants(self._told.new)}
        covered |= {self._told.id.column} if self._told.id else set()
        uncovered = self.live.uncovered(covered)
        if uncovered:
            what = f"a value for {self.live.name}.{', '.join(uncovered)} (not in the profile)"
            raise SchemaLacksError(target=self.live.db.target, what=what, purpose="the ledger of migrations")
