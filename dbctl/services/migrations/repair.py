"""``migrate mark`` and ``migrate repair``: a ledger brought in line with what is true, on record; no migration is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import Literal

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import LedgerForeignError, LedgerMissingError, UsageError
from dbctl.model import Done, Plan, Value
from dbctl.services.app import App, Change, Draft, audit, exactly
from dbctl.services.migrations.executor import migrating
from dbctl.services.migrations.ledger import Ledger, Migration, Standing, State, Track, journal, standing
from dbctl.services.migrations.status import tracks
from dbctl.services.migrations.up import made_ledger, meant

Wanted = Literal["applied", "pending"]
#: What ``repair`` mends, by the word that asks for it: the states that it concerns, and what it does about them.
MENDS: Mapping[str, tuple[frozenset[State], str]] = {
    "checksums": (frozenset({"changed"}), "record the text of today as that of {name}"),
    "failed": (frozenset({"failed"}), "let the failed try of {name} count no more"),
    "missing": (frozenset({"missing-file", "ahead"}), "let {name}, which has no file, count no more"),
}


class Outcome(StrEnum):
    """What became of the statement at which a run was killed, as somebody found out who looked."""

    DONE = "done"
    UNDONE = "undone"


class Mended(Value, frozen=True, kw_only=True):
    """One migration of which the ledger now says something else."""

    app: str
    database: str
    version: str
    name: str
    was: State
    now: Literal[
        "applied", "pending", "forgotten", "failed"
    ]  #: ``failed``: half done still, and no more in doubt


class Mending(Done, frozen=True, kw_only=True):
    """Answer of ``migrate mark`` and ``migrate repair``."""

    items: Sequence[Mended]

    def brief(self) -> Sequence[Mapping[str, object]]:
        return [
            {"database": one.database, "name": one.name, "was": one.was, "now": one.now} for one in self.items
        ]


class _Step(Value, frozen=True):
    """One row to be written, and how the plan tells it."""

    says: str
    done: Mended
    write: Callable[[Writable, Ledger], int]  #: returns how many rows it wrote, of which there must be one
    table: str = ""  #: that it writes, where it is not the ledger


class LedgerChange(Change[Mending]):
    """A change of the ledger of one database, which is made in the same transaction where it is missing."""

    def __init__(
        self, app: App, track: Track, purpose: str, steps: Callable[[Standing], Sequence[_Step]]
    ) -> None:
        self._track, self._steps, self._app = track, steps, app
        super().__init__(app, track.database, f"migrate {purpose}", self._drafted)
        self._word = purpose

    def plan(self) -> Plan:
        db = self._app.reader(self._track.database, may_be_empty=True)
        return self._drafted(db).plan

    def _transaction(self, database: Writable) -> AbstractContextManager[None]:
        return migrating(database).schema_transaction()

    def _drafted(self, db: Readable) -> Draft[Mending]:
        track = self._track
        if track.foreign:
            raise LedgerForeignError(target=track.target, runner=track.foreign.runner)
        stands = standing(track, db)
        steps = self._steps(stands)
        table = track.ledger.table
        making = [f"make the ledger {table}"] if steps and table not in db.tables() else []
        plan = Plan(
            title=f"Correct the ledger of {track.database}",
            target=track.target,
            steps=[*making, *(one.says for one in steps)],
            rows=Counter(one.table or table for one in steps),
        )

        def work(db: Writable) -> Mending:
            ledger = Ledger(track, db) if stands.recorded or not steps else made_ledger(track, db)
            for one in steps:
                exactly(one.write(db, ledger), 1, db)
                told = {"database": track.database, "was": one.done.was, "now": one.done.now}
                audit.record(self._app, db, f"migrate.{self._word}", "migrations", one.done.name, told)
            return Mending(items=[one.done for one in steps])

        return Draft(plan, work)


def mark(
    app: App,
    names: Sequence[str],
    wanted: Wanted,
    asked: str = "",
    given: Path | None = None,
    *,
    shape: str = "",
) -> LedgerChange:
    """Return the change that lets migrations count as applied, or as pending, without running anything.

    Raises:
        UsageError: several databases have migrations, and none was asked for; or no migration was named.
        MigrationMissingError: neither folder nor ledger has one of that name.
    """
    unlooked = _only(tracks(app, asked, given, shape=shape))
    if not names:
        raise UsageError(detail="name the migrations to be marked")

    def steps(stands: Standing) -> list[_Step]:
        track = stands.track
        if wanted == "pending" and not stands.recorded:
            raise LedgerMissingError(target=track.target, table=track.ledger.table)
        known = {one.name: one for one in stands.migrations}
        found = dict.fromkeys(meant(track.folder, name, list(known)) for name in names)
        marked = (_marked(track, stands, known[name], wanted) for name in found)
        return [one for one in marked if one]

    return LedgerChange(app, unlooked, "mark", steps)


def repair(
    app: App,
    words: Sequence[str],
    asked: str = "",
    given: Path | None = None,
    *,
    names: Sequence[str] = (),
    outcome: Outcome | None = None,
    shape: str = "",
) -> LedgerChange:
    """Return the change that mends what the ``words`` (keys of ``MENDS``) are about.

    Args:
        app: the app.
        words: what is to be mended.
        asked: the database.
        given: the folder, in place of the configured one.
        names: the migrations to look at; else all.
        outcome: of the statement of which nobody can tell whether it ran.
        shape: the one that the database is to have, where the migrations come in several.

    Raises:
        UsageError: several databases have migrations, and none was asked for; or nothing was asked for.
        MigrationMissingError: neither folder nor ledger has one of a name.
    """
    unlooked = _only(tracks(app, asked, given, shape=shape))
    if not (words or outcome):
        known = ", ".join(f"--{word}" for word in (*MENDS, "statement"))
        raise UsageError(detail=f"say what to repair: {known}")

    def steps(stands: Standing) -> list[_Step]:
        track = stands.track
        if not (stands.recorded or stands.empty):
            raise LedgerMissingError(target=track.target, table=track.ledger.table)
        known = [one.name for one in stands.migrations]
        chosen = {meant(track.folder, name, known) for name in names} or {*known}
        looked_at = [one for one in stands.migrations if one.name in chosen]
        found = list(_repaired(track, stands, looked_at, words))
        return found + [
            _settled(track, stands, one, outcome) for one in looked_at if outcome and _in_doubt(stands, one)
        ]

    return LedgerChange(app, unlooked, "repair", steps)


def _only(found: Sequence[Track]) -> Track:
    if len(found) > 1:
        raise UsageError(detail=f"say which database: --db {', '.join(one.database for one in found)}")
    return found[0]


def _marked(track: Track, stands: Standing, one: Migration, wanted: Wanted) -> _Step | None:
    """Return what makes a migration count as wanted, or None where it does already."""
    if wanted == "pending":
        if one.state in ("pending", "out-of-order", "duplicate-version"):
            return None
        if one.state == "baseline":
            raise UsageError(
                detail=f"{one.name} counts as applied because another one does; it has no row of its own"
            )
        return _forgotten(track, stands, one, f"let {one.name} count as pending", "pending")
    if one.state in ("applied", "baseline", "retired", "missing-file", "ahead"):
        return None
    if one.state == "changed":
        raise UsageError(
            detail=f"{one.name} is applied, in another text: dbctl migrate repair --checksums takes that of today"
        )
    if one.state == "duplicate-version":
        raise UsageError(
            detail=f"{one.name} has the number of another migration: give it one of its own first"
        )
    file = track.folder.files[one.name]
    if one.state == "failed" and one.name not in stands.unfinished:
        return _Step(
            f"record that {one.name}, which failed, is applied",
            _mended(track, one, "applied"),
            lambda db, ledger: ledger.complete(db, file),
        )

    def insert(db: Writable, ledger: Ledger) -> int:
        journal.forget(db, one.name)
        if db.count(ledger.live.name, ledger.applied(file)):  # a way down of it was begun
            return 1
        db.insert(ledger.live.name, ledger.row(file, 0))
        return 1

    return _Step(f"record {one.name} as applied, without running it", _mended(track, one, "applied"), insert)


def _in_doubt(stands: Standing, one: Migration) -> bool:
    half = stands.unfinished.get(one.name)
    return half is not None and half.unknown is not None


def _settled(track: Track, stands: Standing, one: Migration, outcome: Outcome) -> _Step:
    """Return what records whether the statement ran at which a run was killed."""
    step = stands.unfinished[one.name].unknown
    number = step.number if step else 0

    def write(db: Writable, ledger: Ledger) -> int:  # noqa: ARG001 - as every step is called
        journal.resolve_statement(db, one.name, done=outcome is Outcome.DONE)
        return 1

    ran = "has run" if outcome is Outcome.DONE else "has not run"
    return _Step(
        f"record that statement {number} of {one.name} {ran}",
        _mended(track, one, "failed"),
        write,
        journal.TABLE,
    )


def _repaired(
    track: Track, stands: Standing, migrations: Sequence[Migration], words: Sequence[str]
) -> Iterator[_Step]:
    for word in words:
        states, says = MENDS[word]
        for one in migrations:
            if one.state not in states:
                continue
            told = says.format(name=one.name)
            if word == "checksums":
                yield _Step(told, _mended(track, one, "applied"), _checksum_of_today(track, one))
            else:
                now: Literal["pending", "forgotten"] = "pending" if word == "failed" else "forgotten"
                yield _forgotten(track, stands, one, told, now)


def _checksum_of_today(track: Track, one: Migration) -> Callable[[Writable, Ledger], int]:
    file = track.folder.files[one.name]

    def write(db: Writable, ledger: Ledger) -> int:
        column = ledger.live.get(ledger.checksum or "checksum")
        return db.update(ledger.live.name, {column: file.checksum}, ledger.applied(file))

    return write


def _forgotten(
    track: Track, stands: Standing, one: Migration, says: str, now: Literal["pending", "forgotten"]
) -> _Step:
    half = stands.unfinished.get(one.name)

    def forget(db: Writable, ledger: Ledger) -> int:
        rows = (
            ledger.forget(db, ledger.rows_of(one.version, one.name)) if not half or half.way == "down" else 1
        )
        journal.forget(db, one.name)
        return rows

    if half and half.way == "up":
        stays = f"; what it did stays ({one.detail}), and up begins at its first statement"
        return _Step(says + stays, _mended(track, one, now), forget, journal.TABLE)
    return _Step(says, _mended(track, one, now), forget)


def _mended(
    track: Track, one: Migration, now: Literal["applied", "pending", "forgotten", "failed"]
) -> Mended:
    return Mended(
        app=track.app, database=track.database, version=one.version, name=one.name, was=one.state, now=now
    )
