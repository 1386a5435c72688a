"""``migrate rehearse``: the pending migrations run on a copy, and what they did there is told; the original stays as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract import Capability, Checks, Dump, Dumps, Orphans, Writable
from dbctl.errors import (
    CorruptError,
    DatabaseMissingError,
    Exit,
    FileFailedError,
    MigrationFailedError,
    NotSupportedError,
    RehearsalFailedError,
    RehearsalRefusedError,
    RoomMissingError,
    RowsLostError,
)
from dbctl.files import expand_home
from dbctl.model import Finding, Row, Value, counted
from dbctl.services.app import App
from dbctl.services.migrations import lint
from dbctl.services.migrations.drift import schema_of
from dbctl.services.migrations.files import MigrationFile, Steps
from dbctl.services.migrations.ledger import Standing, Track, judged
from dbctl.services.migrations.row_loss import lost, rows_of, told
from dbctl.services.migrations.schema_diff import compared, parts
from dbctl.services.migrations.status import look, tracks
from dbctl.services.migrations.up import apply_all, planned_of

#: What the folder of a copy is called.
PREFIX = ".dbctl-rehearsal-"
#: How much room a copy in a file may need: a table that is made anew is there twice meanwhile.
GROWTH = 2
Planned = Sequence[tuple[MigrationFile, Steps]]


class Rehearsed(Value, frozen=True, kw_only=True):
    """One migration that ran on the copy."""

    app: str
    database: str
    version: str
    name: str
    statements: int
    duration: timedelta


class TableRows(Value, frozen=True, kw_only=True):
    """A table that holds another number of rows than before; None where there is no such table."""

    target: str
    table: str
    before: int | None
    after: int | None


class SchemaChange(Value, frozen=True, kw_only=True):
    """A part of the schema that became another one; empty where there is none."""

    target: str
    place: str
    before: str
    after: str


class Rehearsal(Value, frozen=True, kw_only=True):
    """Answer of ``migrate rehearse``."""

    migrations: Sequence[Rehearsed]
    rows: Sequence[TableRows]
    schema: Sequence[SchemaChange]
    findings: Sequence[Finding]

    @property
    def status(self) -> Exit:
        """How the command ends."""
        return Exit.UNSOUND if any(one.severity == "error" for one in self.findings) else Exit.OK

    def brief(self) -> Sequence[Row]:
        told = [
            *(
                (
                    f"{one.app}/{one.database}",
                    "ran",
                    one.name,
                    counted(one.statements, "statement"),
                    one.duration,
                )
                for one in self.migrations
            ),
            *((one.target, "rows", one.table, _both(one.before, one.after), None) for one in self.rows),
            *((one.target, "schema", one.place, _both(one.before, one.after), None) for one in self.schema),
            *((one.target, one.severity, one.code, one.message, None) for one in self.findings),
        ]
        rows = [dict(zip(("target", "what", "name", "told", "duration"), one, strict=True)) for one in told]
        if len({one.database for one in self.migrations}) == 1:
            return [{name: value for name, value in row.items() if name != "target"} for row in rows]
        return rows


def rehearse(
    app: App, asked: str = "", given: Path | None = None, *, to: str = "", shape: str = ""
) -> Rehearsal:
    """Run what is pending on a copy of each database, and tell what became of it.

    Args:
        app: the app.
        asked: one database; else every one that has migrations.
        given: the folder, in place of the configured one.
        to: the last migration to run, by name or number.
        shape: as for ``migrate up``.

    Raises:
        RehearsalFailedError: one does not work there.
        RehearsalRefusedError: one would change more than a copy; nothing was run.
        PrivilegeMissingError: this user may not make databases on the server.
        RoomMissingError: there is no room for a copy.
        DbctlError: what ``up`` refuses with before anything has run.
    """
    ran, moved, changed, findings = (
        list[Rehearsed](),
        list[TableRows](),
        list[SchemaChange](),
        list[Finding](),
    )
    for track in tracks(app, asked, given, shape=shape):
        found, missing = _standing(app, track)
        planned = planned_of(found, to=to)
        if not planned:
            continue
        _refuse_reaching(found.track, planned)
        findings += lint.findings(found.track, [file.name for file, _ in planned])
        with _copy(app, track, missing=missing) as db:
            one = _Run(found.track, db)
            ran += one.migrations(to)
            moved += one.rows()
            changed += one.schema()
            findings += one.findings()
    return Rehearsal(migrations=ran, rows=moved, schema=changed, findings=findings)


def _standing(app: App, track: Track) -> tuple[Standing, bool]:
    """Return how a database stands, and whether it is still to be made."""
    try:
        return look(app, track), False
    except DatabaseMissingError as error:
        if not Path(str(error.facts["path"])).parent.is_dir():  # as ``up`` does, which makes no directories
            raise
    return Standing(track=track, migrations=judged(track, []), recorded=False, empty=True), True


def _refuse_reaching(track: Track, planned: Planned) -> None:
    """Refuse what would change the original, or its server, from within a copy; no line of a file allows that."""
    language = registry.language(track.engine)
    scripts = [lint.script(steps) for _, steps in planned]
    for (file, _), hazards in zip(planned, language.hazards(scripts), strict=True):
        for one in hazards:
            if one.code == "reaches-out":
                raise RehearsalRefusedError(
                    target=track.target, name=file.name, reason=one.message, line=one.line
                )


@contextmanager
def _copy(app: App, track: Track, *, missing: bool) -> Iterator[Writable]:
    """Give a copy of a database, open for writing; nothing of it is left."""
    url, target = app.url(track.database), track.target
    if missing:
        with closing(registry.open_scratch(url, target)) as scratch:
            yield scratch
        return
    import shutil

    source = app.reader(track.database, may_be_empty=True)
    if Capability.DUMP not in source.capabilities or not isinstance(source, Dumps):
        raise NotSupportedError(what="rehearsing", by=target, instead="Its engine gives no copy.")
    place = _place(app)
    need, room = source.dump_size() * (GROWTH if url.is_file else 1), shutil.disk_usage(place).free
    if room < need:
        raise RoomMissingError(place=place, need=need, room=room)
    with _folder(place) as folder:
        path = folder / "copy"
        dumped = source.dump(path)
        bare = Dump(facts=dumped.facts, tables={}, schema="")
        proof = dumped.proof or registry.prove(track.engine, path, bare, target, quick=True)
        if proof.problems:
            raise CorruptError(target=target, reason=proof.problems[0])
        dump = Dump(facts=dumped.facts, tables=proof.tables, schema=proof.schema)
        with registry.copied(url, path, target, dump, timeout=app.timeout) as copy:
            pragmas = app.database(track.database).pragmas
            opened = registry.open_for_writing(copy, target, timeout=app.timeout, pragmas=pragmas)
            with closing(opened) as db:
                yield db


@contextmanager
def _folder(place: Path) -> Iterator[Path]:
    from dbctl.files import temp

    try:
        with temp.folder(place, PREFIX) as folder:
            yield folder
    except OSError as error:
        raise FileFailedError(path=place, reason=error.strerror or str(error)) from error


def _place(app: App) -> Path:
    """Return where a copy goes: beside the app's backups, where such data may be, else where the system has its own."""
    import tempfile

    told = app.configured.backup
    if told and "://" not in told.repository:
        beside = (app.configured.folder / expand_home(told.repository)).parent
        if beside.is_dir() and os.access(beside, os.W_OK | os.X_OK):
            return beside
    return Path(tempfile.gettempdir())


class _Run:
    """The migrations of one database, run on its copy between two looks at it."""

    def __init__(self, track: Track, db: Writable) -> None:
        self._track, self._db = track, db
        self._rows, self._after = rows_of(db, track.ledgers), dict[str, int]()
        self._schema = parts(schema_of(db), track.ledgers)
        self._orphans = _orphans(db)

    def migrations(self, to: str) -> list[Rehearsed]:
        """Run them."""
        try:
            done = apply_all(self._track, self._db, to=to)
        except MigrationFailedError as error:
            advice = f" {ADVICE}" if isinstance(error, RowsLostError) else ""
            target = self._track.target
            raise RehearsalFailedError(told=str(error), target=target, advice=advice) from error
        self._after = rows_of(self._db, self._track.ledgers)
        return [
            Rehearsed(
                app=one.app,
                database=one.database,
                version=one.version,
                name=one.name,
                statements=one.statements,
                duration=one.duration,
            )
            for one in done
        ]

    def rows(self) -> list[TableRows]:
        """Return the tables that hold more, or less."""
        both = (
            (table, self._rows.get(table), self._after.get(table))
            for table in sorted({*self._rows, *self._after})
        )
        return [
            TableRows(target=self._track.target, table=table, before=before, after=after)
            for table, before, after in both
            if before != after
        ]

    def schema(self) -> list[SchemaChange]:
        """Return what became of the schema."""
        after = parts(schema_of(self._db), self._track.ledgers)
        return [
            SchemaChange(target=self._track.target, place=one.place, before=one.wanted, after=one.found)
            for one in compared(self._schema, after)
        ]

    def findings(self) -> Iterator[Finding]:
        """Yield what was lost, and rows that point to nothing since."""
        target = self._track.target
        if losses := lost(self._rows, self._after):
            message = f"rows are lost, as the file says: {told(losses)}"
            yield Finding(target=target, severity="warning", code="rows-lost", message=message)
        for key, one in _orphans(self._db).items():
            if one.number > (self._orphans[key].number if key in self._orphans else 0):
                columns = ", ".join(one.columns)
                message = (
                    f"{counted(one.number, 'row')} of {one.table} ({columns}) point to nothing in {one.to}"
                )
                yield Finding(target=target, severity="error", code="orphans", message=message)


#: What to do where rows would be lost.
ADVICE = "Where rows are to go, say so in the file: -- dbctl: allow-data-loss."


def _orphans(db: Writable) -> Mapping[tuple[str, ...], Orphans]:
    if Capability.CHECK not in db.capabilities or not isinstance(db, Checks):
        return {}
    return {(one.table, *one.columns): one for one in db.orphans()}


def _both(before: object, after: object) -> str:
    """Return what was and what is; there may be nothing, but 0 rows are something."""
    return " → ".join("none" if one in (None, "") else str(one) for one in (before, after))
