"""Running the migrations that are pending, each in a transaction of its own together with its row in the ledger.

Where a server commits with every change of a schema, a migration that fails half-way stays half-way, and that is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol, cast

from dbctl import interrupt
from dbctl.engines import registry
from dbctl.engines.base import Capability, Migrates, Writable
from dbctl.errors import (
    ConstraintError,
    DatabaseMissingError,
    DbctlError,
    LedgerForeignError,
    LedgerMissingError,
    MigrationBrokenError,
    MigrationChangedError,
    MigrationFailedError,
    MigrationHalfDoneError,
    MigrationMissingError,
    MigrationsAheadError,
    MigrationsOutOfOrderError,
    MigrationsTwinnedError,
    MigrationsUnsoundError,
    NotSupportedError,
    QueryFailedError,
    ReplayFailedError,
    SchemaLacksError,
    ValueInvalidError,
)
from dbctl.model import Page, Plan, Value, counted
from dbctl.services.apps import App
from dbctl.services.migrate import look, tracks
from dbctl.services.migration_files import Folder, MigrationFile, place_of
from dbctl.services.migration_ledger import Ledger, Track
from dbctl.services.migration_standing import Standing, judged, standing

#: Failures that a migration itself is to blame for, whatever else this run has done.
OF_A_STATEMENT = (QueryFailedError, ConstraintError, ValueInvalidError, SchemaLacksError)
NOTHING_PENDING = "nothing to do: no migration is pending"
#: Names that a message lists before it counts the rest.
LISTED = 5

Statements = Sequence[tuple[int, str]]


class Migrating(Writable, Migrates, Protocol):
    """A database that may be written, and that runs scripts."""


class Applied(Value, frozen=True, kw_only=True):
    """One migration that this run applied."""

    app: str
    database: str
    version: str
    name: str
    statements: int
    duration: timedelta


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

    def __init__(self, app: App, asked: str = "", given: Path | None = None, *, to: str = "") -> None:
        """Read the folders.

        Args:
            app: the app.
            asked: one database; else every one that has migrations.
            given: the folder, in place of the configured one.
            to: the last migration to run, by name or number.
        """
        self.app, self.protected = app.name, app.protected
        self._opened, self._to = app, to
        self._tracks = tracks(app, asked, given)
        self.target = self._tracks[0].target if len(self._tracks) == 1 else app.name
        self._waiting: set[str] | None = None  #: the databases that have something to run, once looked at

    def pending(self) -> list[Pending]:
        """Return what would be run now, the making of a ledger left out; raises what ``apply`` would refuse with."""
        found = []
        for track in self._tracks:
            for file, statements in self._runnable(track):
                found.append(
                    Pending(
                        app=track.app,
                        database=track.database,
                        version=file.version,
                        name=file.name,
                        path=file.path,
                        statements=len(statements),
                        sql=file.text().removeprefix("\ufeff"),
                    )
                )
        self._waiting = {one.database for one in found}
        return found

    def plan(self) -> Plan:
        """Return which migrations would be run; writes nothing, and needs no right to write."""
        pending = self.pending()
        several = len(self._tracks) > 1
        steps = [
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
            self.pending()  # what would be refused must not leave a new, empty file behind
        done: list[Applied] = []
        for track in self._tracks:
            if track.database not in (self._waiting or ()):
                continue  # so that a job that runs daily needs no right to write on the days when nothing is due
            with self._opened.writer(track.database, "migrate up", create=True) as db:
                apply_all(track, db, to=self._to, done=done)
        return Page(items=done, total=len(done), names=Applied.__struct_fields__, nothing=NOTHING_PENDING)

    def _runnable(self, track: Track) -> list[tuple[MigrationFile, Statements]]:
        language = registry.language(track.engine)
        try:
            found = look(self._opened, track)
        except DatabaseMissingError as error:
            if not Path(str(error.facts["path"])).parent.is_dir():  # directories are not made
                raise
            found = Standing(migrations=judged(track, []), recorded=False, empty=True)
        files = _chosen(track, found, self._to)
        return [(file, file.up(language).statements) for file in files]


def apply_all(
    track: Track, db: Writable, *, to: str = "", done: list[Applied] | None = None
) -> list[Applied]:
    """Run what is pending in an open database, each migration in one transaction with its row in the ledger.

    The ledger is made where it is missing. Who calls this holds the lock of dbctl's writers; should the app itself
    apply a migration meanwhile, it is not run a second time.

    Args:
        track: the migrations.
        db: the database.
        to: the last one to run, by name or number; else all.
        done: what this run has done before, elsewhere; what is done here is added.

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
    if Capability.MIGRATE not in db.capabilities or not isinstance(db, Migrates):
        raise NotSupportedError(what="running migrations", by=db.target, instead="Nothing was changed.")
    planned = [(file, file.up(db.language).statements) for file in _chosen(track, standing(track, db), to)]
    ledger = _made(track, db)
    for number, (file, statements) in enumerate(planned):
        rest = [one.name for one, _ in planned[number + 1 :]]
        ran = _run(db, ledger, file, statements, before=[one.name for one in done], rest=rest)
        if ran is not None:
            done.append(
                Applied(
                    app=track.app,
                    database=track.database,
                    version=file.version,
                    name=file.name,
                    statements=len(statements),
                    duration=ran,
                )
            )
    return done


def replay(track: Track, files: Sequence[MigrationFile], db: Writable) -> Iterator[MigrationFile]:
    """Run migrations, applied elsewhere, in an empty database, and yield each as soon as it has been run.

    Raises:
        MigrationInvalidError: a file cannot be run.
        ReplayFailedError: it does not work there.
    """
    if Capability.MIGRATE not in db.capabilities or not isinstance(db, Migrates):
        raise NotSupportedError(what="running migrations", by=db.target, instead="Nothing was changed.")
    ledger = _made(track, db)
    for file in files:
        statements = file.up(db.language).statements
        try:
            _run(db, ledger, file, statements, before=[], rest=[])
        except MigrationFailedError as error:
            told = {name: error.facts[name] for name in ("target", "name", "place", "reason")}
            raise ReplayFailedError(**told) from error
        yield file


def refuse_strangers(track: Track, found: Standing) -> None:
    """Refuse a database and a folder of which nothing tells that they belong together.

    Raises:
        MigrationsUnsoundError: the ledger names migrations that the folder does not have.
        LedgerMissingError: there are tables and no ledger.
    """
    if ahead := found.named("ahead"):
        raise MigrationsAheadError(target=track.target, names=_names(ahead), folder=track.folder.path)
    if missing := found.named("missing-file"):
        shipped = "" if track.folder.own else " (shipped with dbctl, for another shape of this app)"
        folder = f"{track.folder.path}{shipped}"
        raise MigrationsUnsoundError(target=track.target, folder=folder, names=_names(missing))
    if not (found.recorded or found.empty):
        raise LedgerMissingError(target=track.target, table=track.ledger.table)


def _chosen(track: Track, found: Standing, to: str) -> list[MigrationFile]:
    """Return the pending migrations up to ``to``, or refuse what ``apply_all`` refuses."""
    folder, files = track.folder, track.folder.files
    if track.foreign:
        raise LedgerForeignError(target=track.target, runner=track.foreign.runner)
    refuse_strangers(track, found)
    if broken := found.named("failed"):
        raise MigrationBrokenError(target=track.target, names=_names(broken), table=track.ledger.table)
    if changed := found.named("changed"):
        raise MigrationChangedError(target=track.target, names=_names(changed))
    if late := found.named("out-of-order"):
        newest = [name for name in found.named("applied") if name in files][-1]
        raise MigrationsOutOfOrderError(target=track.target, names=_names(late), newest=newest)
    if twins := found.named("duplicate-version"):
        raise MigrationsTwinnedError(target=track.target, names=_names(twins))
    pending = [files[name] for name in found.named("pending")]
    if not to:
        return pending
    last = _last(folder, to)
    return [file for file in pending if file.place <= last.place]


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
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake pays for it

    near = get_close_matches(plain, names, n=1)
    told = f" Did you mean {near[0]}?" if near else ""
    raise MigrationMissingError(folder=folder.path, name=wanted, near=told)


def migrating(db: Writable) -> Migrating:
    """Return the database as one that runs scripts.

    Raises:
        NotSupportedError: its engine cannot.
    """
    if Capability.MIGRATE not in db.capabilities or not isinstance(db, Migrates):
        raise NotSupportedError(what="running migrations", by=db.target, instead="Nothing was changed.")
    return cast("Migrating", db)


def made_ledger(track: Track, db: Writable) -> Ledger:
    """Return the ledger, made where it is missing; inside ``schema_transaction`` of its caller."""
    ready, told = migrating(db), track.ledger.create
    for _, sql in ready.language.split(told if isinstance(told, str) else told[track.engine]):
        ready.run_statement(sql)
    ledger = Ledger(track, db)
    ledger.refuse_uncovered()
    return ledger


def _made(track: Track, db: Migrating) -> Ledger:
    """Return the ledger, made where it is missing."""
    if track.ledger.table not in db.tables():
        with db.schema_transaction():
            return made_ledger(track, db)
    ledger = Ledger(track, db)
    ledger.refuse_uncovered()
    return ledger


def _run(
    db: Migrating,
    ledger: Ledger,
    file: MigrationFile,
    statements: Statements,
    *,
    before: Sequence[str],
    rest: Sequence[str],
) -> timedelta | None:
    """Run one migration; return how long it took, or None where the app had applied it meanwhile."""
    place = ""
    kept = 0  # statements that are not taken back
    began = time.monotonic()
    try:
        with db.schema_transaction():
            if db.count(ledger.live.name, ledger.applied(file)):
                return None
            for number, (line, sql) in enumerate(statements, 1):
                place = f" in statement {number} (line {line})"
                db.run_statement(sql)
                kept = 0 if db.takes_schema_back else number
            place = " when it was to be recorded"
            lasted = time.monotonic() - began
            db.insert(ledger.live.name, ledger.row(file, lasted))
            place = " when it was to be committed"
    except DbctlError as error:
        blamed = isinstance(error, OF_A_STATEMENT)
        if not (blamed or before or kept):
            raise
        facts: dict[str, object] = {
            "target": db.target,
            "name": file.name,
            "place": place,
            "reason": error.facts.get("reason", error)
            if blamed
            else str(error).removeprefix(f"{db.target}: "),
            "known": ledger.cure(str(error.facts.get("reason", error))),
            "applied": _names(before) or "none",
            "pending": _names(rest) or "none",
        }
        if kept:
            raise MigrationHalfDoneError(done=kept, all=len(statements), **facts) from error
        raise MigrationFailedError(**facts) from error
    except interrupt.Interrupted as stopped:
        if kept:
            stopped.hint = f"The first {kept} of {len(statements)} statements of {file.name} stay; it is not recorded as applied."
        raise
    return timedelta(milliseconds=round(lasted * 1000))


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
