"""A backup made while the app writes: each database at one moment, proven before it counts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, cast

from msgspec import structs

from dbctl import __version__, signals
from dbctl.engines import registry
from dbctl.engines.contract import Capability, Dump, Dumped, Dumps, Pins, Proof, Readable
from dbctl.errors import (
    BackupFailedError,
    CorruptError,
    CutOffWriteError,
    DatabaseMissingError,
    DatabaseUnsetError,
    DbctlError,
    DriverMissingError,
    Exit,
    NotADatabaseError,
    NotSupportedError,
    SchemaLacksError,
    TableMissingError,
    UnreachableError,
    UsageError,
    WrongAppError,
)
from dbctl.files import ENDINGS, Pace, Progress, both
from dbctl.model import Compression, Done, Plan, Row, counted, now
from dbctl.services.app import App, hint
from dbctl.services.backup.app_files import Extras
from dbctl.services.backup.encryption import Sealing
from dbctl.services.backup.manifest import Kind, LeftOut, Manifest, Member, Origin, written
from dbctl.services.backup.repository import Backup, Repository
from dbctl.services.backup.writer import Laid, Laying, laying

#: Databases are packed to about a third; more is not asked for in advance, since none fails for what it did not need.
PACKED = 3
#: A second backup of one second is called after the next.
SECOND = timedelta(seconds=1)
#: The id of a backup, taken apart.
COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)")
#: A clock that is so far behind the newest backup was set back.
SET_BACK = timedelta(minutes=1)
#: Failures of one database that do not keep the others of its app from being saved.
OF_ONE_DATABASE = (
    BackupFailedError,
    CorruptError,
    CutOffWriteError,
    DatabaseMissingError,
    NotADatabaseError,
    UnreachableError,
    WrongAppError,
)
#: Told how many bytes more are done.
Advance = Callable[[int], None]
T = TypeVar("T")


def _unlimited(_bytes: int) -> None:
    """Wait for nothing."""


class BackupCreated(Backup, Done, frozen=True, kw_only=True):
    """Answer of ``backup create``."""

    remarks: Sequence[str] = ()

    @property
    def exit_status(self) -> int:
        return Exit.OK if self.complete else Exit.PARTIAL

    def brief(self) -> Row:
        return {"id": self.id, "path": self.path, "bytes": self.bytes, **self.apart()} | {
            one.database or "files": counted(int(one.facts["files"]), "file")
            if one.form == "files"
            else f"{counted(sum(one.rows.values()), 'row')} of {counted(len(one.rows), 'table')}"
            for one in self.members
            if one.form != "key"
        }


class Creation:
    """What ``backup create`` is about to do."""

    def __init__(
        self,
        app: App,
        repository: Repository,
        *,
        timeout: float,
        form: str = "",
        tables: Sequence[str] = (),
        compress: Compression | None = None,
        rate: int = 0,
        advance: Advance = lambda _bytes: None,
    ) -> None:
        """Choose the databases: the one that was asked for, else all that the profile does not leave out.

        Args:
            app: the app.
            repository: where the backup goes.
            timeout: seconds to wait for a lock.
            form: of the dumps of those that know several; empty means the configured one, else the usual one.
            tables: these of one database alone; none means all that there is.
            compress: how dumps are packed that their engine does not pack; None means as configured.
            rate: bytes of what is copied a second, at most; 0 means as fast as can be.
            advance: told how many bytes more are done.

        Raises:
            DatabaseUnsetError: one that every deployment has is not configured.
            NotSupportedError: all of them are left out, one cannot be copied in parts, or none is packed here.
            UsageError: no database has that form, or it is not clear which one has the tables.
            SchemaLacksError: it has no such table.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._opened, self._repository, self._timeout = app, repository, timeout
        self._sealing = Sealing(app)
        with all_or_none(app, [] if tables else _chosen(app)[0]):
            self._choose(form, tables, compress, rate, advance)

    def _choose(
        self, form: str, tables: Sequence[str], compress: Compression | None, rate: int, advance: Advance
    ) -> None:
        app = self._opened
        databases, self._left_out = _chosen(app)
        self._kind: Kind = "partial" if tables else "backup"
        if tables:
            self._left_out, databases = [], [_having(app, databases, tables)]
        else:
            databases, failed = _copyable(app, databases)
            self._left_out += failed
        _check_form(app, databases, form)
        told = app.configured.backup
        wanted = form or (told.format if told else "")
        if compress and all(_dumps(app, name).packed for name in databases):
            raise NotSupportedError(
                what="packing a backup otherwise",
                by=app.name,
                instead="What the programs of its server write is packed already. Leave --compress out.",
            )
        packed = compress or (told.compress if told else "gzip")
        pace = Pace(rate) if rate else _unlimited
        self._sources = [
            Source(app, name, advance, form=wanted, tables=tables, compress=packed, pace=pace)
            for name in databases
        ]
        extras = Extras(app, _join(advance, pace))
        self._names = databases
        self._all: list[Source | Extras] = [*self._sources]
        self._all += [extras] if extras and not (tables or app.only) else []

    def plan(self) -> Plan:
        """Return what would be copied where; writes nothing."""
        with all_or_none(self._opened, self._names):
            steps = [one.told() for one in self._all]
        steps += [self._sealing.told()] if self._sealing else []
        steps += [f"leave {one.database} out: {one.reason}" for one in self._left_out]
        title = f"Back up to {self._repository.store.place}"
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> BackupCreated:
        """Make the backup; whatever keeps it from being whole and sound leaves nothing behind.

        Raises:
            BackupFailedError: a copy is not sound, because its database is not.
            RoomMissingError, DiskFullError: there is no room.
            BusyError: another dbctl works on the repository, or somebody writes a database for too long.
        """
        del seen  # nothing is destroyed, so nobody was asked
        repository = self._repository
        with ExitStack() as settled:
            with (
                all_or_none(self._opened, self._names),
                repository.store.lock("backup create", timeout=self._timeout),
            ):
                earlier, _ = repository.manifests()
                made = make(
                    self._sources[0].app,
                    repository,
                    self._all,
                    self._sealing,
                    left_out=self._left_out,
                    kind=self._kind,
                    settled=settled,
                    may_lack=True,
                )
            newest = max((manifest.created_at for manifest in earlier), default=made.created_at)
            remarks = [*_remarks(made.created_at, newest), *self._told(made)]
            told = repository.told(made, BackupCreated, remarks=remarks)
            signals.done()  # it stands, and whoever asked for it is told so, whatever comes
        return told

    def _told(self, made: Manifest) -> Iterator[str]:
        """Yield what somebody has to know of what was copied, or was not."""
        for one in made.members:
            if remark := one.facts.get("remarks"):
                yield f"{self._sources[0].app.target(one.database)}: {remark}"
        for left in made.left_out:
            target = self._sources[0].app.target(left.database)
            if left.failed:
                reason = left.reason.removeprefix(f"{target} could not be backed up: ")
                yield f"{target} is not in the backup: {reason}"
            elif left.reason == registry.AWAY:
                yield f"{target} is not in the backup: {left.reason}"


def size(app: App) -> int:
    """Return how many bytes a backup of the app copies, about; raises as ``Creation`` does."""
    extras = 0 if app.only else Extras(app, lambda _bytes: None).size()
    chosen = _chosen(app)[0]
    with all_or_none(app, chosen):
        names, _ = _copyable(app, chosen)
        return sum(_dumps(app, name).dump_size() for name in names) + extras


def _copyable(app: App, names: Sequence[str]) -> tuple[list[str], list[LeftOut]]:
    """Return which of some databases can be opened, and which the backup has to lack.

    Raises:
        DbctlError: none of them can be.
    """
    copyable, failed, errors = list[str](), list[LeftOut](), list[DbctlError]()
    for name in names:
        try:
            _dumps(app, name).dump_size()
        except OF_ONE_DATABASE as error:
            failed.append(_lack(app, name, error))
            errors.append(error)
        else:
            copyable.append(name)
    if errors and not copyable:
        raise errors[0]
    return copyable, failed


def _lack(app: App, database: str, error: DbctlError) -> LeftOut:
    reason = str(error).removeprefix(f"{app.target(database)}: ")
    return LeftOut(database=database, reason=reason, failed=True)


@contextmanager
def all_or_none(app: App, names: Sequence[str]) -> Iterator[None]:
    """Where one database of several keeps a backup from being made, tell how to save the others meanwhile."""
    try:
        yield
    except DbctlError as error:
        failed = error.facts.get("target")
        others = [name for name in names if app.target(name) != failed]
        if others and len(others) < len(names) and not error.details:
            _tell_of_the_others(app, others, error)
        raise


def _tell_of_the_others(app: App, names: Sequence[str], error: DbctlError) -> None:
    others = {name: _why_not(app, name) for name in names}
    fine = [name for name, why in others.items() if not why]
    error.details = [
        f"Nothing of {app.name} was saved: a backup holds all of its databases, or is not made.",
        *(why for why in others.values() if why),
        *([f"{', '.join(fine)} can be read."] if fine else []),
    ]
    if fine:
        commands = "; ".join(f"dbctl backup create --db {name}" for name in fine)
        error.hint = f"{error.hint} Save the others meanwhile: {commands}"


def _why_not(app: App, database: str) -> str:
    try:
        _dumps(app, database).dump_size()
    except DbctlError as error:
        return str(error)
    return ""


class Source:
    """One database that goes into a backup."""

    may_be_empty = False  #: whether a database without a table is one of this app
    like: Collection[str] = ()  #: ``App.reader``

    def __init__(
        self,
        app: App,
        database: str,
        advance: Advance,
        *,
        form: str = "",
        tables: Sequence[str] = (),
        compress: Compression = "none",
        pace: Advance = _unlimited,
    ) -> None:
        self.app, self.database, self.target = app, database, app.target(database)
        self.engine = app.url(database).engine
        self._advance, self._form, self._tables = advance, form, tables
        self._compress, self._pace = compress, pace
        self._written: Sequence[str] = ()  #: the files that it may have begun in the folder of the backup

    def pin(self) -> bool:
        """Hold what there is now, where the engine can."""
        db = self._opened()
        if not isinstance(db, Pins):
            return False
        db.pin()
        return True

    def size(self) -> int:
        """Return how many bytes are copied, about."""
        return self._opened().dump_size()

    def kept_size(self) -> int:
        """Return how many bytes it takes in the backup, about."""
        size = self.size()
        unpacked = self._compress == "none" or self._opened().packed
        return size if unpacked else size // PACKED

    def told(self) -> str:
        """Return what would be done, as a plan tells it."""
        db = self._opened()
        what = f"{', '.join(self._tables)} of {self.database}" if self._tables else self.database
        about = (
            "about " if db.forms.get(self._form_of(db)) else ""
        )  # what is packed shows its size when it is done
        packed = "" if self._compression(db) == "none" else "packed "
        return f"copy {what} ({about}{db.dump_size():,} bytes) {packed}as {self._file(db, 'TIME')}"

    def _opened(self) -> Dumps:
        return _dumps(self.app, self.database, may_be_empty=self.may_be_empty, like=self.like)

    def _form_of(self, db: Dumps) -> str:
        """Return the form that was asked for, else that of the files that the app's own documents name, else the usual."""
        if self._form in db.forms:
            return self._form
        named = self.app.profile.file_name(self.database).partition("{time}")[2]
        usual = next(iter(db.forms))
        return next((form for form, ending in db.forms.items() if ending == named), usual)

    def _compression(self, db: Dumps) -> Compression:
        return "none" if db.packed else self._compress

    def _file(self, db: Dumps, name: str) -> str:
        plain = file_name(self.app, self.database, name, ending=db.forms[self._form_of(db)])
        return plain + ENDINGS[self._compression(db)]

    def members(self, folder: Laying) -> list[Member]:
        """Put it into the folder of a backup.

        Raises:
            BackupFailedError: the copy is not sound, or holds nothing.
        """
        db = self._opened()
        file, compress = self._file(db, folder.name), self._compression(db)
        self._written = list(dict.fromkeys([file, file.removesuffix(ENDINGS[compress])]))
        place = folder.place(file.removesuffix(ENDINGS[compress]))
        size = db.dump_size()
        packing = 0 if compress == "none" else size // 2
        copied = _in_bytes(size - packing, self._advance)
        # Each stage reads the whole database, so each has the whole rate. Where writers wait for the copy, the pace
        # would hold them up.
        if not db.holds_up():
            copied = _join(copied, _in_bytes(size, self._pace))
        dumped = db.dump(place, form=self._form_of(db), tables=self._tables, progress=copied)
        packed = _join(_in_bytes(packing, self._advance), _in_bytes(size, self._pace))
        if compress == "none":
            kept, proof = self._kept(folder, file, dumped)
            plain_bytes = 0
        else:
            (kept, plain_bytes), proof = both(
                lambda: folder.pack(place, file, compress, packed),
                lambda: dumped.proof or self._proof(place, dumped),
            )
            place.unlink()
        if proof.problems:
            more = f", and {len(proof.problems) - 1} more" if len(proof.problems) > 1 else ""
            raise BackupFailedError(target=self.target, reason=f"{proof.problems[0]}{more}")
        if not (proof.tables or self.may_be_empty):  # else what an emptied file holds would become the latest
            raise BackupFailedError(target=self.target, reason="it holds no table")
        return [
            Member(
                **structs.asdict(kept),
                database=self.database,
                compress=compress,
                plain_bytes=plain_bytes,
                only=self._tables,
                engine=self.engine,
                taken_at=dumped.taken_at,
                rows=proof.tables,
                schema=proof.schema,
                # Everybody may read the manifest, and of a small table a digest tells whether a guess is right.
                digests=proof.digests if kept.encryption == "none" else {},
                facts=dumped.facts,
            )
        ]

    def discard(self, folder: Laying) -> None:
        """Take away what ``members`` has put into the folder before it failed."""
        for name in self._written:
            folder.drop(name)

    def _proof(self, plain: Path, dumped: Dumped) -> Proof:
        dump = Dump(facts=dumped.facts, tables={}, schema="")
        return registry.prove(self.engine, plain, dump, self.target, quick=True)

    def _kept(self, folder: Laying, file: str, dumped: Dumped) -> tuple[Laid, Proof]:
        if dumped.proof is not None:
            return folder.keep(file, dumped.sha256), dumped.proof
        return both(lambda: folder.keep(file), lambda: self._proof(folder.place(file), dumped))


class Contributes(Protocol):
    """What puts files into a backup."""

    def pin(self) -> bool:
        """Hold what there is now, where that holds nobody up; return whether it is held."""
        ...

    def size(self) -> int:
        """Return how many bytes are copied, about."""
        ...

    def kept_size(self) -> int:
        """Return how many bytes they take in the backup, about."""
        ...

    def members(self, folder: Laying) -> list[Member]:
        """Put them into a folder."""
        ...


def make(
    app: App,
    repository: Repository,
    sources: Sequence[Contributes],
    sealing: Sealing,
    *,
    left_out: Sequence[LeftOut] = (),
    kind: Kind = "backup",
    restored: str = "",
    at: datetime | None = None,
    origin: Origin | None = None,
    settled: ExitStack | None = None,
    may_lack: bool = False,
) -> Manifest:
    """Make a backup, for one who holds the lock of the repository.

    Args:
        app: the app.
        repository: where it goes.
        sources: its databases, and the app's other files.
        sealing: how it is encrypted.
        left_out: those that it does not hold.
        kind: why it is made.
        restored: of a safety backup: the backup that is restored after it.
        at: the moment that it is of; None: now.
        origin: where it comes from, which dbctl did not make.
        settled: closed by a caller that has answered, or removes the backup where it ends; from the last file on no
            signal is heard until then.
        may_lack: whether it is made without a database that cannot be copied, as long as it holds another one.
    """
    store = repository.store
    store.want_room(_need(sources, aside=bool(sealing)))
    largest = max((one.size() for one in sources), default=0) if sealing else 0
    earlier, unread = repository.manifests()
    begun = at or now()
    name = free_id(begun, set(store.folders()))
    with store.begin(name) as folder:
        with laying(folder, name, sealing if sources else None, largest) as laid:
            key = laid.key()
            copied, failed = _copied(sources, laid, may_lack=may_lack)
            members = [*key, *copied]
        manifest = Manifest(
            id=name,
            number=_number(begun, earlier, len(unread), adopted=at is not None),
            kind=kind,
            app=app.name,
            profile=app.profile.name,
            created_at=begun,
            verified_at=now(),
            host=os.uname().nodename,
            dbctl=__version__,
            restored=restored,
            origin=origin,
            recipients=laid.recipients,
            members=members,
            left_out=[*left_out, *failed],
        )
        if settled:  # a backup that stands must not be told as interrupted
            settled.enter_context(signals.unheard())
        folder.finish(written(manifest))
    return manifest


def _copied(
    sources: Sequence[Contributes], laid: Laying, *, may_lack: bool
) -> tuple[list[Member], list[LeftOut]]:
    """Copy the sources into the folder of a backup; return its files, and the databases that it has to lack.

    Raises:
        DbctlError: one of them failed, and the backup may not lack it, or would hold no database at all.
    """
    members, failed, errors = list[Member](), list[LeftOut](), list[DbctlError]()

    def attempt(source: Contributes, work: Callable[[], T], instead: T) -> T:
        try:
            return work()
        except OF_ONE_DATABASE as error:
            if not (may_lack and isinstance(source, Source)):
                raise
            source.discard(laid)
            failed.append(_lack(source.app, source.database, error))
            errors.append(error)
            return instead

    pinned = [source for source in sources if attempt(source, source.pin, False)]  # noqa: FBT003 - as pin answers
    pinnable = [source for source in sources if not _is_among(source, failed)]
    # The others at once, so that what an app keeps in several places is of one moment, or nearly.
    for source in sorted(pinnable, key=lambda source: source in pinned):
        members += attempt(source, partial(source.members, laid), [])
        laid.tidy()
    if errors and not any(member.database for member in members):
        raise errors[0]
    return members, failed


def _is_among(source: Contributes, failed: Sequence[LeftOut]) -> bool:
    return isinstance(source, Source) and any(left.database == source.database for left in failed)


def free_id(at: datetime, taken: Collection[str]) -> str:
    """Return the id of a backup of that moment, or of the first second behind it that is free."""
    while (name := at.astimezone(UTC).strftime("%Y%m%d_%H%M%S")) in taken:
        at += SECOND
    return name


def _number(begun: datetime, earlier: Sequence[Manifest], unread: int, *, adopted: bool) -> int:
    """Return what is greater than the number of every earlier backup, also of those whose manifest cannot be read now.

    It is the time in seconds, as long as the clock was not set back: so it also orders what is copied together from
    several repositories. One that is ``adopted`` has the number of the newest before it.
    """
    if adopted:
        return max((one.number for one in earlier if one.created_at <= begun), default=0)
    return max(int(begun.timestamp()), max((one.number for one in earlier), default=0) + unread + 1)


def file_name(app: App, database: str, time: str, *, ending: str = "") -> str:
    """Return how the file of a database is called in a backup, as its app's own documents call it.

    What is no file of its own kind has an ``ending`` of its own, in place of what stands behind the time. Whether it is
    packed is not the documents' choice: what they call ``.gz`` is so called once it is.
    """
    told = app.profile.file_name(database)
    if ending:
        told = told[: told.index("{time}") + len("{time}")] + ending
    else:
        told = next((told.removesuffix(one) for one in ENDINGS.values() if one and told.endswith(one)), told)
    if app.profile.backup.time == "iso":
        time = COMPACT.sub(r"\1-\2-\3T\4-\5-\6-000Z", time)
    return told.replace("{time}", time)


def _need(sources: Sequence[Contributes], *, aside: bool) -> int:
    """Return how many bytes a backup takes while it is made: what is packed goes only once it has been, or is ``aside``."""
    most = kept = 0
    for one in sources:
        size, stays = one.size(), one.kept_size()
        most = max(most, kept + (stays if aside or size == stays else size + stays))
        kept += stays
    return most


def _having(app: App, databases: Sequence[str], tables: Sequence[str]) -> str:
    """Return which of some databases has these tables."""
    having = list(databases)
    if len(databases) > 1:
        having = [name for name in databases if set(tables) <= app.reader(name).tables().keys()]
        if not having:
            what = f"table {', '.join(tables)} in one of its databases ({', '.join(databases)})"
            raise SchemaLacksError(target=app.name, what=what, purpose="this backup")
        if len(having) > 1:
            raise UsageError(detail=f"--table: say of which database (--db {' or --db '.join(having)})")
    _check_tables(_dumps(app, having[0]), tables)
    return having[0]


def _check_tables(db: Dumps, tables: Sequence[str]) -> None:
    live = cast("Readable", db)
    known = live.tables()
    if not db.parts:
        raise NotSupportedError(
            what="a backup of some tables",
            by=live.target,
            instead="Its file is copied whole. Leave --table out.",
        )
    for name in tables:
        if name not in known:
            raise TableMissingError(name=name, target=live.target, near=hint(name, known))


def _check_form(app: App, databases: Sequence[str], form: str) -> None:
    known = list(dict.fromkeys(one for name in databases for one in _dumps(app, name).forms))
    if form and form not in known:
        raise UsageError(detail=f"--format {form}: {app.name} can be dumped as {', '.join(known)}")


def _chosen(app: App) -> tuple[list[str], list[LeftOut]]:
    chosen, left_out = [], []
    for name, told in app.profile.databases.items():
        if app.only not in ("", name):
            continue
        try:
            url = app.url(name)
        except DatabaseUnsetError:
            if not told.optional or app.only:
                raise
            left_out.append(LeftOut(database=name, reason="it is not configured"))
            continue
        if away := registry.elsewhere(url):
            if app.only:
                raise NotSupportedError(what="a backup", by=app.target(name), instead=f"Its tables: {away}.")
            left_out.append(LeftOut(database=name, reason=away))
            continue
        if told.backup or app.only:
            chosen.append(name)
        else:
            owner = told.owner or "another program"
            left_out.append(LeftOut(database=name, reason=f"it belongs to {owner}; --db {name} takes it"))
    if not chosen:
        why = "; ".join(f"{one.database}: {one.reason}" for one in left_out)
        raise NotSupportedError(what="a backup without any database", by=app.name, instead=f"{why}.")
    return chosen, left_out


def _dumps(app: App, database: str, *, may_be_empty: bool = False, like: Collection[str] = ()) -> Dumps:
    try:
        db = app.reader(database, may_be_empty=may_be_empty, like=like)
    except DriverMissingError:
        if (files := registry.copier(app.url(database), app.target(database))) is None:
            raise
        return files
    if Capability.DUMP not in db.capabilities or not isinstance(db, Dumps):
        raise NotSupportedError(what="a backup", by=db.target, instead="Its engine cannot be copied yet.")
    return db


def _join(first: Callable[[T], None], second: Callable[[T], None]) -> Callable[[T], None]:
    """Return a function that calls both."""

    def call(value: T) -> None:
        first(value)
        second(value)

    return call


def _in_bytes(size: int, advance: Advance) -> Progress:
    done = 0

    def progress(share: float) -> None:
        nonlocal done
        reached = int(share * size)
        advance(max(0, reached - done))
        done = max(done, reached)

    return progress


def _remarks(begun: datetime, newest: datetime) -> list[str]:
    if begun + SET_BACK >= newest:
        return []
    behind = f"the clock ({begun:%Y-%m-%d %H:%M}) is behind the newest backup ({newest:%Y-%m-%d %H:%M}, UTC)"
    return [f"{behind}; one of them was wrong"]
