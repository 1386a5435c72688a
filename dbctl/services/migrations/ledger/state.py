"""How each migration of a database stands: what its files say, against what its ledger says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract import Readable
from dbctl.errors import MigrationInvalidError, MigrationShapeOtherError, WrongAppError
from dbctl.model import Row, Value
from dbctl.services.app import find_column, ledger_detection, recognised_as
from dbctl.services.migrations.files import MigrationFile, place_of, variants
from dbctl.services.migrations.ledger.journal import Unfinished, unfinished
from dbctl.services.migrations.ledger.ledger import Record, Track, read_foreign, recorded_in

#: ``pending``: to be run. ``out-of-order``: later ones were applied. ``missing-file``: applied, and there is no file.
#: ``changed``: the file is not what was applied. ``failed``: it was begun and did not come to its end. ``ahead``: applied,
#: and later than any file: the database is newer than the code. ``duplicate-version``: another one has its number.
#: ``baseline``: it counts as applied since another one does. ``retired``: the app has removed the file since, and its
#: profile says so.
#: How a database stands to its migrations; ``unrecorded``: there is no ledger; ``none``: it has no migrations.
Schema = Literal["current", "pending", "unsound", "unrecorded", "none"]
State = Literal[
    "applied",
    "pending",
    "out-of-order",
    "missing-file",
    "changed",
    "failed",
    "ahead",
    "duplicate-version",
    "baseline",
    "retired",
]
UNSOUND: frozenset[State] = frozenset(
    {"missing-file", "changed", "out-of-order", "failed", "ahead", "duplicate-version"}
)


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
    detail: str = ""  #: of one that is half done: how far it came

    def brief(self) -> Row:
        words = ("app", "database", "name", "state", "applied_at", "duration")
        return {word: getattr(self, word) for word in words} | (
            {"detail": self.detail} if self.detail else {}
        )


class Standing(Value, frozen=True, kw_only=True):
    """How one database stands to its migrations."""

    track: Track  #: with the folder of the shape that the database has
    migrations: Sequence[Migration]
    recorded: bool  #: it has a ledger
    empty: bool  #: it has no table at all
    unfinished: Mapping[str, Unfinished] = {}  #: those that are half done, by name

    def named(self, *states: State) -> list[str]:
        """Return the names of those in a state, in order."""
        return [one.name for one in self.migrations if one.state in states]

    def recorded_checksum(self, name: str) -> str:
        """Return the checksum that the ledger holds of a migration that was applied; empty where it holds none."""
        return next((one.checksum or "" for one in self.migrations if one.name == name), "").lower()

    @property
    def checksums(self) -> Mapping[str, str]:
        """The checksum that the ledger holds of each migration that was applied."""
        return {
            one.name: (one.checksum or "").lower()
            for one in self.migrations
            if one.state in ("applied", "changed", "retired")
        }

    @property
    def schema(self) -> Schema:
        """All of that in a word."""
        if self.unmigrated:
            return "none"
        if self.unrecorded:
            return "unrecorded"
        return "unsound" if self.unsound else "pending" if self.named("pending") else "current"

    @property
    def unsound(self) -> bool:
        """Whether ``up`` would refuse: a migration is in a wrong state, or nothing tells what was applied."""
        return any(one.state in UNSOUND for one in self.migrations) or self.unrecorded

    @property
    def unmigrated(self) -> bool:
        """Whether nothing tells that this database has migrations: no ledger, no files, and no word of its profile."""
        return (
            not (self.recorded or self.track.folder.is_there)
            and self.track.told.ledger == ledger_detection.FOUND
        )

    @property
    def unrecorded(self) -> bool:
        """Whether there are tables, and nothing tells which migrations were applied."""
        return not (self.recorded or self.empty or self.unmigrated)


def standing(track: Track, db: Readable) -> Standing:
    """Return how an open database stands to its migrations.

    Raises:
        WrongAppError: it has tables, but neither those of the app nor a ledger like the app's.
        SchemaLacksError: its ledger has other columns.
        MigrationShapeOtherError: its ledger or schema is of another shape than the one that is asked for.
    """
    ledger, tables = track.ledger, db.tables()
    named = find_column(tables.get(ledger.table), ledger.version or ledger.name)
    recorded = named is not None or track.foreign is not None
    lacking = [table for table in track.profile.databases[track.database].needs if table not in tables]
    if tables and lacking and not recorded:
        raise WrongAppError(
            target=db.target,
            profile=track.profile.title,
            what=f"table {', '.join(lacking)}",
            instead=recognised_as(track.profile.databases[track.database], tables)
            or "Check the path in the configuration; nothing was run.",
        )
    recorded = ledger.table in tables or track.foreign is not None
    rows = (
        read_foreign(track.foreign, db, track.engine)
        if track.foreign
        else recorded_in(track, db)
        if recorded
        else []
    )
    track = _shaped(_completed(track, rows), db, rows)
    half_done = unfinished(db)
    if not (rows or lacking or half_done or track.foreign) and track.profile.databases[track.database].needs:
        recorded = False  # the app's tables were there before anything was recorded
    found = judged(track, rows)
    recorded_ones = {one.name for one in found if one.state in ("applied", "changed")}
    # What the ledger tells as applied is: the app's own runner may have completed it.
    half = {name: one for name, one in half_done.items() if (one.way == "down") == (name in recorded_ones)}
    return Standing(
        track=track,
        migrations=_halved(track, found, half),
        recorded=recorded,
        empty=not tables,
        unfinished=half,
    )


def _completed(track: Track, recorded: Sequence[Record]) -> Track:
    """Return the migrations with the files of those that dbctl brought along and applied, where the app's folder lacks them."""
    own = track.folder.files
    strange = [row for row in recorded if not any(map(row.is_of, own.values()))]
    taken = {
        file.name: file
        for folder in track.shipped.values()
        for file in folder.files.values()
        if any(row.is_of(file) and row.checksum == file.checksum for row in strange)
    }
    if not taken:
        return track
    files = sorted([*taken.values(), *own.values()], key=lambda file: file.place)
    folder = structs.replace(track.folder, files={file.name: file for file in files})
    return structs.replace(track, folder=folder)


def _shaped(track: Track, db: Readable, recorded: Sequence[Record]) -> Track:
    """Return the migrations with the folder of the shape that the database has; an empty one has what is asked for."""
    if not track.shapes:
        return track
    found = variants.fitting(track.told.shape, track.shapes, db, recorded)
    if track.shape and not variants.leads_to(track.told.shape, found, track.shape):
        raise MigrationShapeOtherError(target=db.target, found=" or ".join(found), shape=track.shape)
    shape = track.shape or [*found, *track.shapes][0]
    return structs.replace(track, shape=shape, folder=track.shapes[shape])


def _halved(track: Track, found: Sequence[Migration], half: Mapping[str, Unfinished]) -> Sequence[Migration]:
    """Return the migrations with those marked that are half done, either way."""
    lacking = [
        _migration(track, name, _version(name), "failed", Record())
        for name in half
        if name not in {one.name for one in found}
    ]
    marked = [
        structs.replace(one, state="failed", detail=half[one.name].told(_statements(track, half[one.name])))
        if one.name in half
        else one
        for one in (*found, *lacking)
    ]
    return sorted(marked, key=lambda one: place_of(one.name)) if half else found


def _statements(track: Track, half: Unfinished) -> int:
    """Return how many statements the way has that is half gone; 0 where its file does not tell."""
    file, language = track.folder.files.get(half.name), registry.language(track.engine)
    try:
        steps = file and (file.up(language) if half.way == "up" else file.down(language))
    except MigrationInvalidError:
        return 0
    return len(steps.statements) if steps else 0


def judged(track: Track, recorded: Sequence[Record]) -> list[Migration]:
    """Return what is in the folder or ``recorded``, each in its state, in order."""
    folder = track.folder
    files = list(folder.files.values())
    rows: dict[str, Record] = {}
    strangers: list[Record] = []
    numbered = defaultdict[int, list[MigrationFile]](list)
    for file in files:
        numbered[file.place[0]].append(file)
    for row in recorded:
        fitting = numbered.get(row.number, [])
        about = next((file.name for file in fitting if row.is_of(file)), "") if row.version else row.name
        if about in folder.files and about not in rows:
            rows[about] = row
        else:
            strangers.append(row)
    single = (file for file in files if not _is_stood_for(track, file, rows))
    numbers = Counter(file.place[0] for file in single) if folder.format != "prisma" else Counter()
    numbers.update(row.number for row in strangers)
    newest = max((folder.files[name].place for name in rows), default=None)
    level = max((row for row in recorded if row.level), key=lambda row: row.number, default=Record())
    found: list[Migration] = []
    for file in files:
        recorded_as = rows.get(file.name)
        state: State
        if recorded_as is not None:
            state = _as_recorded(track, file, recorded_as)
        elif _is_stood_for(track, file, rows):
            state = "baseline"
        elif level.level and file.place[0] < level.number:
            state = level.level
        elif newest and file.place < newest and not (track.ledger.version and numbers[file.place[0]] > 1):
            state = "out-of-order"
        else:
            state = "duplicate-version" if numbers[file.place[0]] > 1 else "pending"
        found.append(
            _migration(track, file.name, file.version, state, recorded_as or Record(checksum=file.checksum))
        )
    found += [
        _migration(track, row.title, row.version or _version(row.title), _without_file(track, row), row)
        for row in strangers
    ]
    return sorted(found, key=lambda one: place_of(one.name))


def _is_stood_for(track: Track, file: MigrationFile, rows: Mapping[str, Record]) -> bool:
    """Whether another file, of which the app's runner records either, stands for this one: one that is recorded, else the first."""
    others = next((names for names in track.told.one_of if file.name in names), [file.name])
    there = [name for name in others if name in track.folder.files]
    recorded = [name for name in there if name in rows]
    return (recorded or there)[:1] != [file.name]


def _without_file(track: Track, row: Record) -> State:
    """Return how a row stands that is about none of the files."""
    folder = track.folder
    if row.failed:
        return "failed"
    if not folder.is_there:
        return "applied"
    # Which files are missing on purpose only the app's own folder can show, or one that was chosen by the schema.
    if (folder.own or track.shapes) and row.title in track.told.retired:
        return "retired"
    last = max((file.place[0] for file in folder.files.values()), default=None)
    ahead = last is not None and place_of(row.title)[0] > last
    return "ahead" if ahead else "missing-file"


def _as_recorded(track: Track, file: MigrationFile, row: Record) -> State:
    """Return how a file stands to the row that is about it; line ends and a byte order mark change nothing."""
    if row.failed or row.level:
        return "failed" if row.failed else row.level or "applied"
    published = track.told.published.get(file.name, ())
    if row.checksum is None or row.checksum.lower() in published or file.is_known_by(row.checksum):
        return "applied"
    return "changed"


def _migration(track: Track, name: str, version: str, state: State, row: Record) -> Migration:
    return Migration(
        app=track.app,
        database=track.database,
        version=version,
        name=name,
        state=state,
        applied_at=row.applied_at,
        checksum=row.checksum,
        duration=row.duration,
    )


def _version(name: str) -> str:
    number, _ = place_of(name)
    return "" if number < 0 else name[: len(name) - len(name.lstrip("0123456789"))]
