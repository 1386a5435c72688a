"""The app's own ledger of migrations, and how each migration stands to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import structs

from dbctl.engines.base import Condition, Readable, Where
from dbctl.errors import MigrationShapeOtherError, SchemaLacksError, WrongAppError
from dbctl.model import Row, Value, now
from dbctl.profiles.codecs import KEYS, read_time
from dbctl.profiles.model import Migrations, Profile
from dbctl.services import migration_files, migration_shapes
from dbctl.services.apps import recognised_as
from dbctl.services.live import Live
from dbctl.services.migration_files import Folder, MigrationFile

#: ``failed``: it was begun and did not come to its end. ``retired``: the app has removed the file since, and its
#: profile says so.
State = Literal["applied", "pending", "missing-file", "changed", "out-of-order", "failed", "retired"]
UNSOUND: frozenset[State] = frozenset({"missing-file", "changed", "out-of-order", "failed"})


class Track(Value, frozen=True, kw_only=True):
    """One database's migrations: where its files are and how the app records them."""

    app: str  #: the name of the app
    database: str
    profile: Profile
    told: Migrations
    folder: Folder
    engine: str  #: the name of the one that the database lives in
    #: the folders of all shapes that the database may have, by name, where the files are dbctl's own
    shapes: Mapping[str, Folder] = {}
    shape: str = ""  #: the one that the folder is of, once it is told or found

    @property
    def target(self) -> str:
        """``app/database``."""
        return f"{self.app}/{self.database}"


class Migration(Value, frozen=True, kw_only=True):
    """One migration, of the folder or of the ledger."""

    app: str
    database: str
    version: str
    name: str
    state: State
    applied_at: datetime | None = None
    checksum: str | None = None  #: as recorded; of the file where nothing is recorded yet
    duration: timedelta | None = None

    def brief(self) -> Row:
        words = ("app", "database", "name", "state", "applied_at", "duration")
        return {word: getattr(self, word) for word in words}


class Standing(Value, frozen=True, kw_only=True):
    """How one database stands to its migrations."""

    track: Track  #: with the folder of the shape that the database has
    migrations: Sequence[Migration]
    recorded: bool  #: it has a ledger
    empty: bool  #: it has no table at all

    def named(self, state: State) -> list[str]:
        """Return the names of those in a state, in order."""
        return [one.name for one in self.migrations if one.state == state]

    def recorded_checksum(self, name: str) -> str:
        """Return the checksum that the ledger holds of a migration that was applied; empty where it holds none."""
        return next((one.checksum or "" for one in self.migrations if one.name == name), "").lower()

    @property
    def unsound(self) -> bool:
        """Whether ``up`` would refuse: a migration is in a wrong state, or nothing tells what was applied."""
        return any(one.state in UNSOUND for one in self.migrations) or not (self.recorded or self.empty)


def standing(track: Track, db: Readable) -> Standing:
    """Return how an open database stands to its migrations.

    Raises:
        WrongAppError: it has tables, but neither those of the app nor a ledger like the app's.
        SchemaLacksError: its ledger has other columns.
        MigrationShapeOtherError: its ledger or schema is of another shape than the one that is asked for.
    """
    ledger, tables = track.told.ledger, db.tables()
    recorded = ledger.table in tables and ledger.name in tables[ledger.table].columns
    lacking = [table for table in track.profile.databases[track.database].needs if table not in tables]
    if tables and lacking and not recorded:
        raise WrongAppError(
            target=db.target,
            profile=track.profile.title,
            what=f"table {', '.join(lacking)}",
            instead=recognised_as(track.profile.databases[track.database], tables)
            or "Check the path in the configuration; nothing was run.",
        )
    rows = _recorded(track, db) if ledger.table in tables else {}
    track = _shaped(track, db, rows)
    return Standing(
        track=track, migrations=judged(track, rows), recorded=ledger.table in tables, empty=not tables
    )


def _shaped(track: Track, db: Readable, recorded: Mapping[str, Migration]) -> Track:
    """Return the migrations with the folder of the shape that the database has; an empty one has what is asked for."""
    if not track.shapes:
        return track
    found = migration_shapes.fitting(track.told.shape, track.shapes, db, recorded)
    if track.shape and found and track.shape not in found:
        raise MigrationShapeOtherError(target=db.target, found=" or ".join(found), shape=track.shape)
    shape = track.shape or [*found, *track.shapes][0]
    return structs.replace(track, shape=shape, folder=track.shapes[shape])


def _recorded(track: Track, db: Readable) -> dict[str, Migration]:
    """Return what the ledger holds, by name; the state is not judged yet."""
    ledger = Ledger(track, db)
    rows = dict[str, Migration]()
    for found in db.select(ledger.live.name, ledger.columns()):
        values = dict(zip(ledger.columns(), found, strict=True))
        name, ended = str(values[ledger.name]), values[ledger.applied_at]
        if values.get(ledger.rolled_back_at or "") is not None:
            continue  # it does not count any more
        broken = bool(ledger.started_at) and ended is None
        if broken and name in rows:
            continue  # tried again since, or before
        checksum, lasted = values.get(ledger.checksum or ""), values.get(ledger.duration or "")
        rows[name] = Migration(
            app=track.app,
            database=track.database,
            version=_version(name),
            name=name,
            state="failed" if broken else "missing-file",
            applied_at=read_time(ended),
            checksum=str(checksum) if checksum else None,
            duration=timedelta(milliseconds=lasted)
            if isinstance(lasted, int | float)
            else ledger.between(values),
        )
    return rows


class Ledger:
    """The app's own registry of applied migrations, in the live schema."""

    def __init__(self, track: Track, db: Readable) -> None:
        told = track.told.ledger
        self.live = Live(track.profile, db, told.table, "the ledger of migrations")
        self.name, self.applied_at = self.live.get(told.name), self.live.get(told.applied_at)
        self.checksum, self.duration = self.live.find(told.checksum), self.live.find(told.duration_ms)
        self.started_at = self.live.find(told.started_at)
        self.rolled_back_at = self.live.find(told.rolled_back_at)
        self._told, self._failing = told, track.told.failing

    def cure(self, reason: str) -> str:
        """Return what the profile says to do where a database refuses a migration for that reason."""
        return "".join(f" {says}" for part, says in self._failing.items() if part in reason)

    def columns(self) -> list[str]:
        """Return the columns that tell how a migration stands."""
        further = (self.checksum, self.duration, self.started_at, self.rolled_back_at)
        return [self.name, self.applied_at, *(name for name in further if name)]

    def applied(self, name: str) -> list[Where]:
        """Return the conditions of the row that says a migration was applied."""
        where: list[Where] = [Condition(self.name, "=", name)]
        if self.started_at:
            where.append(Condition(self.applied_at, "!=", None))
        if self.rolled_back_at:
            where.append(Condition(self.rolled_back_at, "=", None))
        return where

    def between(self, values: Mapping[str, object]) -> timedelta | None:
        """Return how long a migration took whose row says when it began and ended."""
        began, ended = (read_time(values.get(name or "")) for name in (self.started_at, self.applied_at))
        return ended - began if began and ended and ended >= began else None

    def row(self, file: MigrationFile, lasted: float) -> dict[str, object]:
        """Return what is recorded of a migration that took ``lasted`` seconds."""
        ended = now()
        values = self.live.constants(self._told.new)
        values |= {self.name: file.name, self.applied_at: self.live.encode(self.applied_at, ended)}
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


def judged(track: Track, recorded: Mapping[str, Migration]) -> list[Migration]:
    """Return what is in the folder or ``recorded``, each in its state, in order."""
    files, told = track.folder.files, track.told.ledger
    newest = max((files[name].place for name in recorded if name in files), default=None)
    found = []
    for name in sorted({*files, *recorded}, key=migration_files.place_of):
        file, row = files.get(name), recorded.get(name)
        if row is None and file is not None:
            state: State = "out-of-order" if newest and file.place < newest else "pending"
            found.append(
                Migration(
                    app=track.app,
                    database=track.database,
                    version=file.version,
                    name=name,
                    state=state,
                    checksum=file.checksum,
                )
            )
        elif row is not None and row.state == "failed":
            found.append(row)
        elif row is not None:
            if file is None:  # only the app's own folder can show that a file was removed on purpose
                state = "retired" if track.folder.own and name in told.retired else "missing-file"
            else:
                known = {file.checksum, *told.published.get(name, ())}
                state = "applied" if row.checksum is None or row.checksum.lower() in known else "changed"
            found.append(structs.replace(row, state=state))
    return found


def _version(name: str) -> str:
    number, _ = migration_files.place_of(name)
    return "" if number < 0 else name[: len(name) - len(name.lstrip("0123456789"))]
