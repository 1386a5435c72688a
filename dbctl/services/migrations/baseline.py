"""``migrate baseline``: a database that was made without a ledger gets one that tells which migrations its schema shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import NamedTuple, cast

from msgspec import structs

from dbctl.engines import registry
from dbctl.errors import MigrationsUnfitError, PlanChangedError
from dbctl.model import Done, Plan, Value, counted
from dbctl.services.app import App
from dbctl.services.migrations.drift import schema_of
from dbctl.services.migrations.executor import migrating
from dbctl.services.migrations.files import MigrationFile, by_likelihood
from dbctl.services.migrations.ledger import Standing, Track, recorded_in, standing
from dbctl.services.migrations.schema_diff import Difference, Parts, compared, in_words, parts
from dbctl.services.migrations.status import tracks
from dbctl.services.migrations.up import made_ledger, replay

#: How many differences a refusal names before it counts the others.
LISTED = 40
#: How many times as many of the last migrations are looked at one by one where none of those that were fits: after each of
#: thousands the whole schema is told, which takes long.
FURTHER = 8


class Adopted(Value, frozen=True, kw_only=True):
    """One migration that was recorded without being run."""

    app: str
    database: str
    version: str
    name: str


class Adopting(Done, frozen=True, kw_only=True):
    """Answer of ``migrate baseline``."""

    items: Sequence[Adopted]
    differences: int  #: of the live schema from what these migrations make; ``migrate drift`` tells them

    @property
    def remarks(self) -> Sequence[str]:
        if not self.differences:
            return ()
        return [f"{counted(self.differences, 'difference')} from what they make: dbctl migrate drift tells"]

    def brief(self) -> Sequence[dict[str, object]]:
        return [{"database": one.database, "name": one.name} for one in self.items]


class _Shown(Value, frozen=True):
    """What a live schema shows."""

    files: Sequence[MigrationFile]  #: whose work is there
    differences: int
    said: frozenset[str] = frozenset()  #: the names that another runner's ledger tells, too


class Adoption:
    """What ``migrate baseline`` is about to do, for every database that has tables and no ledger."""

    def __init__(self, app: App, asked: str = "", given: Path | None = None, *, shape: str = "") -> None:
        self.app, self.protected = app.name, app.protected
        self._opened = app
        self._tracks = tracks(app, asked, given, shape=shape)
        self.target = self._tracks[0].target if len(self._tracks) == 1 else app.name

    def plan(self) -> Plan:
        """Return which migrations would be recorded; they run in a scratch database, and nothing is written here.

        Raises:
            MigrationsUnfitError: the live schema is not what the first migration makes.
        """
        steps: list[str] = []
        rows: dict[str, int] = {}
        for track, shown in self._shown():
            table = track.ledger.table
            if table not in self._opened.reader(track.database).tables():
                steps.append(f"make the ledger {table} in {track.database}")
            steps += [
                f"record {file.name} as applied, without running it: its work is there"
                + (
                    f", and {track.foreign.runner} says so"
                    if track.foreign and file.name in shown.said
                    else ""
                )
                for file in shown.files
            ]
            rows[table] = rows.get(table, 0) + len(shown.files)
        return Plan(title="Adopt what is there without a ledger", target=self.target, steps=steps, rows=rows)

    def apply(self, seen: str | None = None) -> Adopting:
        """Make the ledgers, each with its rows in one transaction.

        Raises:
            PlanChangedError: a database has got a ledger meanwhile.
        """
        del seen  # nobody is asked: nothing is destroyed
        done: list[Adopted] = []
        differences = 0
        for track, shown in self._shown():
            with (
                self._opened.writer(track.database, "migrate baseline") as db,
                migrating(db).schema_transaction(),
            ):
                if track.ledger.table in db.tables() and recorded_in(track, db):
                    raise PlanChangedError(target=track.target)
                ledger = made_ledger(track, db)
                for file in shown.files:
                    db.insert(ledger.live.name, ledger.row(file, 0))
            done += [
                Adopted(app=track.app, database=track.database, version=file.version, name=file.name)
                for file in shown.files
            ]
            differences += shown.differences
        return Adopting(items=done, differences=differences)

    def _shown(self) -> list[tuple[Track, _Shown]]:
        found = []
        for unlooked in self._tracks:
            db = self._opened.reader(unlooked.database, may_be_empty=True)
            stands = standing(unlooked, db)
            track = stands.track
            if track.foreign or not (stands.recorded or stands.empty):
                track, shown = _best(self._opened, track, asked=unlooked.shape)
                if track.foreign:
                    _refuse_disagreement(track, track.foreign.runner, stands, shown)
                    shown = structs.replace(shown, said=frozenset(_said(stands)))
                found.append((track, shown))
        return found


def _said(stands: Standing) -> list[str]:
    """Return the names of what a ledger tells as applied, or begun."""
    return stands.named("applied", "baseline", "failed")


def _refuse_disagreement(track: Track, runner: str, stands: Standing, shown: _Shown) -> None:
    """Refuse a database whose schema shows more or less than another runner's ledger says.

    Raises:
        MigrationsUnfitError: the message names the first of them.
    """
    says = _said(stands)
    shows = {file.name for file in shown.files}
    # A ledger that names none of the files, as those of programs, says nothing about them.
    for name in track.folder.files if any(name in says for name in track.folder.files) else ():
        if (name in says) != (name in shows):
            said, there = ("", "does not show it") if name in says else ("not ", "shows it")
            told = f"{runner} says that {name} was {said}applied, and the schema {there}"
            raise MigrationsUnfitError(
                target=track.target, folder=track.folder.path, differences=told, count=1
            )


def _best(app: App, track: Track, *, asked: str) -> tuple[Track, _Shown]:
    """Return the shape that the live schema has, and what it shows of its migrations.

    Shapes of which the schema has what they need come first: a small shape may fit where a larger one was meant. Of
    several shapes that fit, it is the one with the fewest differences.

    Raises:
        MigrationsUnfitError: none fits; the message is about the shape with the fewest differences.
    """
    db = app.reader(track.database)
    live = parts(schema_of(db), track.ledgers)
    refusals: list[MigrationsUnfitError] = []
    for names in [[asked]] if asked or not track.shapes else by_likelihood(track, db):
        fitting: list[tuple[Track, _Shown]] = []
        for name in names:
            for choice in _choices(track, name):
                try:
                    fitting.append((choice, _looked(app, choice, live)))
                except MigrationsUnfitError as error:
                    refusals.append(error)
            if any(not shown.differences for _, shown in fitting):
                break
        if fitting:
            return min(fitting, key=lambda choice: (choice[1].differences, -len(choice[1].files)))
    raise min(refusals, key=lambda error: cast("int", error.facts["count"]))


def _choices(track: Track, shape: str) -> Iterator[Track]:
    """Yield the migrations of a shape, once for each choice of the files to which the app gave one number.

    The app runs one of such files.
    """
    if shape:
        track = structs.replace(track, shape=shape, folder=track.shapes[shape])
    files = track.folder.files
    groups = [[name for name in names if name in files] for names in track.told.one_of]
    for chosen in product(*filter(None, groups)):
        others = {name for names in groups for name in names}.difference(chosen)
        remaining = {name: file for name, file in files.items() if name not in others}
        yield structs.replace(track, folder=structs.replace(track.folder, files=remaining))


def _looked(app: App, track: Track, live: Parts) -> _Shown:
    """Return the first migrations of a folder, as many as the live schema shows the work of.

    A schema shows it where nothing of what they make is lacking or other; an index that is missing is no reason, unless
    all that a migration makes are indexes, and none of them is there.
    """
    last = 1  # mostly all of them were applied
    while (tried := _tried(app, track, live, last)).shown is None and last < len(track.folder.files):
        last *= FURTHER
    shown, wanted = tried.shown, tried.wanted
    later = [
        part.table for part in wanted if part.kind == "table" and part in live and part not in tried.done
    ]
    if shown is None:
        lacks = "; ".join(map(in_words, tried.why[:LISTED])) or "it has no migrations"
        if more := len(tried.why) - LISTED:
            lacks += f"; and {more} more" if more > 0 else ""
        raise MigrationsUnfitError(
            target=track.target, folder=track.folder.path, differences=lacks, count=len(tried.why)
        )
    if later:
        last_shown = shown.files[-1].name
        told = f"what comes after {last_shown} is there in part: table {', '.join(later)}"
        raise MigrationsUnfitError(
            target=track.target, folder=track.folder.path, differences=told, count=len(later)
        )
    return shown


class _Tried(NamedTuple):
    """What running the migrations of a folder in a scratch database told."""

    shown: _Shown | None  #: up to the last one that fits
    done: Parts  #: what these make
    wanted: Parts  #: what all of them make
    why: Sequence[Difference]  #: what the first one that does not fit lacks


def _tried(app: App, track: Track, live: Parts, last: int) -> _Tried:
    """Run the migrations of a folder, and compare what they have made after each of the ``last`` so many."""
    shown: _Shown | None = None
    why: list[Difference] = []
    ran: list[MigrationFile] = []
    done: Parts = {}
    wanted: Parts = {}
    files = list(track.folder.files.values())
    with closing(registry.open_scratch(app.url(track.database), track.target)) as scratch:
        for name in replay(track, files, scratch):
            ran.append(track.folder.files[name])
            compares = len(ran) - (len(files) - last)
            if compares < 0:
                continue
            before, wanted = wanted, parts(schema_of(scratch), track.ledgers)
            if not compares:  # only to know what was there before the first of them
                continue
            made = [
                part
                for part, told in wanted.items()
                if before.get(part) != told and not (part.kind == "table" and part in before)
            ]
            differing = list(compared(wanted, live))
            grave = [one for one in differing if one.severity == "error"]
            if not grave and (not made or any(live.get(part) != before.get(part) for part in made)):
                # What later migrations make is there besides, and nobody's difference yet.
                shown, done = _Shown(list(ran), len([one for one in differing if one.wanted])), wanted
            why = why or grave
    return _Tried(shown, done, wanted, why)
