"""Running the migrations that are pending, one after the other, each with its row in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Self, TypeVar

from dbctl.engines import registry
from dbctl.engines.contract import Writable
from dbctl.errors import (
    DatabaseMissingError,
    LedgerForeignError,
    LedgerMissingError,
    MigrationBrokenError,
    MigrationChangedError,
    MigrationFailedError,
    MigrationHalfBackError,
    MigrationMissingError,
    MigrationsAheadError,
    MigrationsOutOfOrderError,
    MigrationsTwinnedError,
    MigrationsUnsoundError,
    MigrationUnknownError,
    ReplayFailedError,
    UsageError,
)
from dbctl.model import Page, Plan, Row, Value, counted
from dbctl.services.app import App
from dbctl.services.migrations.executor import Migrating, Ran, Work, listed, migrating, refuse_doubt
from dbctl.services.migrations.files import Folder, MigrationFile, Steps, place_of
from dbctl.services.migrations.ledger import Ledger, Standing, Track, journal, judged, standing
from dbctl.services.migrations.safety_backup import Safety
from dbctl.services.migrations.status import look, tracks

T = TypeVar("T")

NOTHING_PENDING = "nothing to do: no migration is pending"


class Applied(Value, frozen=True, kw_only=True):
    """One migration that this run applied."""

    app: str
    database: str
    version: str
    name: str
    statements: int
    duration: timedelta
    rows_lost: Mapping[str, int] = {}  #: by table; only where it could take some away
    safety_backup: str | None = None  #: what was there before this run, where it was kept

    @classmethod
    def of(cls, track: Track, file: MigrationFile, steps: Steps, ran: Ran, safety_backup: str | None) -> Self:
        """Tell of one that has run."""
        return cls(
            app=track.app,
            database=track.database,
            version=file.version,
            name=file.name,
            statements=len(steps.statements),
            duration=ran.lasted,
            rows_lost=ran.lost,
            safety_backup=safety_backup,
        )

    def brief(self) -> Row:
        words = ("app", "database", "version", "name", "statements", "duration")
        told: dict[str, object] = {word: getattr(self, word) for word in words}
        if self.rows_lost:
            told["rows_lost"] = ", ".join(f"{table}: {rows}" for table, rows in self.rows_lost.items())
        return told | ({"safety_backup": self.safety_backup} if self.safety_backup else {})


class Pending(Value, frozen=True, kw_only=True):
    """One migration that ``up`` would run."""

    app: str
    database: str
    version: str
    name: str
    path: Path
    statements: int
    sql: str


class Upgrade:
    """What ``migrate up`` is about to do, database by database, each under the lock of dbctl's writers."""

    def __init__(
        self,
        app: App,
        asked: str = "",
        given: Path | None = None,
        *,
        to: str = "",
        steps: int = 0,
        shape: str = "",
        losing: Sequence[str] = (),
        safety: Safety | None = None,
    ) -> None:
        """Read the folders.

        Args:
            app: the app.
            asked: one database; else every one that has migrations.
            given: the folder, in place of the configured one.
            to: the last migration to run, by name or number.
            steps: how many to run of each database; 0: all.
            shape: what an empty database gets, where the migrations come in several shapes.
            losing: those that may take rows away, by name or number, although their files do not say so.
            safety: where what is destroyed is kept first; without it, as the configuration says.

        Raises:
            UsageError: both ``to`` and ``steps`` say how far.
        """
        self.app, self.protected = app.name, app.protected
        if to and steps:
            raise UsageError(detail="give one of --to and --steps")
        self._opened, self._to, self._steps, self._losing = app, to, steps, losing
        self._safety = safety or Safety(app)
        self._tracks = tracks(app, asked, given, shape=shape)
        self.target = self._tracks[0].target if len(self._tracks) == 1 else app.name
        #: Of the databases that have something to run, once looked at: which of that destroys something.
        self._waiting: dict[str, Sequence[str]] | None = None

    def pending(self) -> list[Pending]:
        """Return what would be run now, the making of a ledger left out; raises what ``apply`` would refuse with."""
        found = []
        self._waiting = {}
        for track in self._tracks:
            runnable, destroying = self._runnable(track)
            if runnable:
                self._waiting[track.database] = destroying
            for file, steps in runnable:
                found.append(
                    Pending(
                        app=track.app,
                        database=track.database,
                        version=file.version,
                        name=file.name,
                        path=file.path,
                        statements=len(steps.statements),
                        sql=steps.section.text.removeprefix("\ufeff").strip("\n"),
                    )
                )
        return found

    def plan(self) -> Plan:
        """Return which migrations would be run; writes nothing, and needs no right to write."""
        pending = self.pending()
        several, waiting = len(self._tracks) > 1, self._waiting or {}
        steps = [
            step for one in self._tracks for step in self._safety.steps(one, waiting.get(one.database, ()))
        ]
        steps += [
            f"run {f'{one.database}/' if several else ''}{one.name} ({counted(one.statements, 'statement')})"
            for one in pending
        ]
        return Plan(
            title=f"Run {counted(len(pending), 'migration')}", target=self.target, steps=steps, rows={}
        )

    def apply(self, seen: str | None = None) -> Page[Applied]:
        """Run them.

        Raises:
            MigrationFailedError: one of them did not work; it was rolled back, those before it stay.
            MigrationHalfDoneError: the same, and what it had done stays, too.
        """
        del seen  # nobody is asked about a change that destroys nothing
        if self._waiting is None:
            self.plan()  # what would be refused must not leave a new, empty file behind
        waiting = self._waiting or {}
        done: list[Applied] = []
        for track in self._tracks:
            if track.database not in waiting:
                continue  # so that a job that runs daily needs no right to write on the days when nothing is due
            with (
                self._safety.kept(track, waiting[track.database]) as backup,
                self._opened.writer(track.database, "migrate up", create=True) as db,
            ):
                apply_all(
                    track,
                    db,
                    to=self._to,
                    steps=self._steps,
                    losing=self._losing,
                    done=done,
                    safety_backup=backup,
                )
        return Page(items=done, total=len(done), names=Applied.__struct_fields__, nothing=NOTHING_PENDING)

    def _runnable(self, track: Track) -> tuple[list[tuple[MigrationFile, Steps]], list[str]]:
        """Return what would be run, and the names of those that destroy something that was there before."""
        return settled(self._opened, track, lambda: self._seen(track))

    def _seen(self, track: Track) -> tuple[list[tuple[MigrationFile, Steps]], list[str]]:
        try:
            found = look(self._opened, track)
        except DatabaseMissingError as error:
            if not Path(str(error.facts["path"])).parent.is_dir():  # directories are not made
                raise
            found = Standing(track=track, migrations=judged(track, []), recorded=False, empty=True)
        planned = planned_of(found, to=self._to, steps=self._steps)
        allowed = _losing(found.track, self._losing)
        destroying = [file.name for file, steps in planned if file.name in allowed or steps.destroys]
        return planned, [] if found.empty else destroying


def apply_all(
    track: Track,
    db: Writable,
    *,
    to: str = "",
    steps: int = 0,
    losing: Sequence[str] = (),
    done: list[Applied] | None = None,
    safety_backup: str | None = None,
) -> list[Applied]:
    """Run what is pending in an open database, each migration in one transaction with its row in the ledger.

    The ledger is made where it is missing. Who calls this holds the lock of dbctl's writers; should the app itself
    apply a migration meanwhile, it is not run a second time.

    Args:
        track: the migrations.
        db: the database.
        to: the last one to run, by name or number; else all.
        steps: how many to run; 0: all.
        losing: those that may take rows away although their files do not say so.
        done: what this run has done before, elsewhere; what is done here is added.
        safety_backup: what was kept before, for the answer.

    Returns:
        ``done``.

    Raises:
        MigrationsUnsoundError, MigrationChangedError, MigrationsOutOfOrderError, LedgerMissingError: ledger and
            folder do not fit; nothing was run.
        MigrationBrokenError: one was begun by the app and did not come to its end; nothing was run.
        MigrationInvalidError: a file cannot be run; nothing was run.
        MigrationMissingError: there is none called ``to``.
        MigrationFailedError: one failed; it was rolled back, those before it stay.
        MigrationHalfDoneError: the same, and what it had done stays, too.
    """
    done = [] if done is None else done
    ready, found = migrating(db), standing(track, db)
    planned = planned_of(found, to=to, steps=steps)
    allowed = _losing(found.track, losing)
    track = found.track
    ledger = _made(track, ready)
    try:
        for number, (file, way) in enumerate(planned):
            work = Work(
                track,
                ready,
                ledger,
                file,
                way,
                guarded=not found.empty,  # what this run has made itself is nobody's yet
                losing=file.name in allowed,
                half=found.unfinished.get(file.name),
                before=[one.name for one in done],
                rest=[one.name for one, _ in planned[number + 1 :]],
            )
            if ran := work.run():
                done.append(Applied.of(track, file, way, ran, safety_backup))
    finally:
        journal.close(ready)
    return done


def settled(app: App, track: Track, look: Callable[[], T]) -> T:
    """Return what ``look`` returns; where it finds a migration half done that may be running now, wait for the end first.

    Raises:
        BusyError: it ran for longer than somebody wants to wait.
    """
    try:
        return look()
    except (MigrationUnknownError, MigrationHalfBackError):
        with registry.write_lock(app.url(track.database), track.target, "migrate", timeout=app.timeout):
            return look()


def planned_of(found: Standing, *, to: str = "", steps: int = 0) -> list[tuple[MigrationFile, Steps]]:
    """Return what ``apply_all`` runs, or raise what it refuses with before anything has run."""
    track = found.track
    language, chosen = registry.language(track.engine), _chosen(found, to)
    planned = [(file, file.up(language)) for file in chosen[: steps or len(chosen)]]
    for file, way in planned:
        if half := found.unfinished.get(file.name):
            refuse_doubt(track, file, way, half)
    return planned


def replay(
    track: Track,
    files: Sequence[MigrationFile],
    db: Writable,
    checksums: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run migrations, applied elsewhere, in an empty database, and yield the name of each as soon as it has been run.

    Args:
        track: the migrations.
        files: those to run.
        db: the empty database.
        checksums: by name, the checksum that a ledger holds of a migration. Where the profile knows what a published
            text made, that is what the database has in the end, also where the app has removed the file since.

    Raises:
        MigrationInvalidError: a file cannot be run.
        ReplayFailedError: it does not work there.
    """
    ready = migrating(db)
    ledger = _made(track, ready)
    texts = {name: track.told.earlier.get(checksum, "") for name, checksum in (checksums or {}).items()}
    by_name = {file.name: file for file in files}
    removed = [name for name, sql in texts.items() if sql and name in track.told.retired]
    for name in sorted({*by_name, *removed}, key=place_of):
        if file := by_name.get(name):
            try:
                Work(track, ready, ledger, file, file.up(ready.language), guarded=False, kept=False).run()
            except MigrationFailedError as error:
                told = {name: error.facts[name] for name in ("target", "name", "place", "reason")}
                raise ReplayFailedError(**told) from error
        if sql := texts.get(name):
            with ready.schema_transaction():
                for _, statement in ready.language.split(sql):
                    ready.run_statement(statement)
        yield name


def refuse_strangers(track: Track, found: Standing) -> None:
    """Refuse a database and a folder of which nothing tells that they belong together.

    Raises:
        MigrationsUnsoundError: the ledger names migrations that the folder does not have.
        LedgerMissingError: there are tables and no ledger.
    """
    if ahead := found.named("ahead"):
        raise MigrationsAheadError(target=track.target, names=listed(ahead), folder=track.folder.path)
    if missing := found.named("missing-file"):
        shipped = "" if track.folder.own else " (shipped with dbctl, for another shape of this app)"
        folder = f"{track.folder.path}{shipped}"
        raise MigrationsUnsoundError(target=track.target, folder=folder, names=listed(missing))
    if not (found.recorded or found.empty):
        raise LedgerMissingError(target=track.target, table=track.ledger.table)


def _chosen(found: Standing, to: str) -> list[MigrationFile]:
    """Return the pending migrations up to ``to``, or refuse what ``apply_all`` refuses."""
    track = found.track
    folder, files = track.folder, track.folder.files
    if track.foreign:
        raise LedgerForeignError(target=track.target, runner=track.foreign.runner)
    refuse_strangers(track, found)
    for name, half in found.unfinished.items():
        if name not in files:
            raise MigrationsUnsoundError(target=track.target, folder=folder.path, names=name)
        if half.way == "down":
            raise MigrationHalfBackError(target=track.target, name=name)
    if broken := [name for name in found.named("failed") if name not in found.unfinished]:
        raise MigrationBrokenError(target=track.target, names=listed(broken))
    if changed := found.named("changed"):
        raise MigrationChangedError(target=track.target, names=listed(changed))
    if late := found.named("out-of-order"):
        newest = [name for name in found.named("applied") if name in files][-1]
        raise MigrationsOutOfOrderError(target=track.target, names=listed(late), newest=newest)
    if twins := found.named("duplicate-version"):
        raise MigrationsTwinnedError(target=track.target, names=listed(twins))
    pending = [files[name] for name in found.named("pending", "failed") if name in files]
    if not to:
        return pending
    last = _last(folder, to)
    return [file for file in pending if file.place <= last.place]


def _losing(track: Track, names: Sequence[str]) -> set[str]:
    return {meant(track.folder, name, list(track.folder.files)) for name in names}


def _last(folder: Folder, to: str) -> MigrationFile:
    return folder.files[meant(folder, to, list(folder.files))]


def meant(folder: Folder, wanted: str, names: Sequence[str]) -> str:
    """Return which of the ``names`` of migrations, in order, a person means by name, file or number; of one number the last.

    Raises:
        MigrationMissingError: none; the message tells a name that is near.
    """
    plain = wanted.removesuffix(".sql")
    if plain in names:
        return plain
    if plain.isascii() and plain.isdigit():
        fitting = [name for name in names if place_of(name)[0] == int(plain)]
        if fitting:
            return fitting[-1]
    from difflib import get_close_matches

    near = get_close_matches(plain, names, n=1)
    told = f" Did you mean {near[0]}?" if near else ""
    raise MigrationMissingError(folder=folder.path, name=wanted, near=told)


def made_ledger(track: Track, db: Writable) -> Ledger:
    """Return the ledger, made where it is missing; inside ``schema_transaction`` of its caller."""
    ready, told = migrating(db), track.ledger.create
    if track.ledger.table not in db.tables():
        for _, sql in ready.language.split(told if isinstance(told, str) else told[track.engine]):
            ready.run_statement(sql)
    ledger = Ledger(track, db)
    ledger.refuse_uncovered()
    return ledger


def _made(track: Track, db: Migrating) -> Ledger:
    """Return the ledger, made where it is missing."""
    with db.schema_transaction() if track.ledger.table not in db.tables() else nullcontext():
        return made_ledger(track, db)
