"""The databases that go into a backup: which they are, and how each is copied and proven."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar, cast

from msgspec import structs

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
    NotADatabaseError,
    NotSupportedError,
    SchemaLacksError,
    TableMissingError,
    UnreachableError,
    UsageError,
    WrongAppError,
)
from dbctl.files import ENDINGS, Progress, both
from dbctl.model import Compression
from dbctl.services.app import App, hint
from dbctl.services.backup.manifest import LeftOut, Member, file_name
from dbctl.services.backup.writer import Laid, Laying

#: Databases are packed to about a third; more is not asked for in advance, since none fails for what it did not need.
PACKED = 3

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


def wait_for_nothing(_bytes: int) -> None:
    """Wait for nothing."""


def list_copyable(app: App, names: Sequence[str]) -> tuple[list[str], list[LeftOut]]:
    """Return which of some databases can be opened, and which the backup has to lack.

    Raises:
        DbctlError: none of them can be.
    """
    copyable, failed, errors = list[str](), list[LeftOut](), list[DbctlError]()
    for name in names:
        try:
            open_dumps(app, name).dump_size()
        except OF_ONE_DATABASE as error:
            failed.append(record_failure(app, name, error))
            errors.append(error)
        else:
            copyable.append(name)
    if errors and not copyable:
        raise errors[0]
    return copyable, failed


def record_failure(app: App, database: str, error: DbctlError) -> LeftOut:
    """Return the entry of the manifest for a database that could not be copied."""
    reason = str(error).removeprefix(f"{app.target(database)}: ")
    return LeftOut(database=database, reason=reason, failed=True)


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
        pace: Advance = wait_for_nothing,
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
        return open_dumps(self.app, self.database, may_be_empty=self.may_be_empty, like=self.like)

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
        copied = count_in_bytes(size - packing, self._advance)
        # Each stage reads the whole database, so each has the whole rate. Where writers wait for the copy, the pace
        # would hold them up.
        if not db.holds_up():
            copied = call_both(copied, count_in_bytes(size, self._pace))
        dumped = db.dump(place, form=self._form_of(db), tables=self._tables, progress=copied)
        packed = call_both(count_in_bytes(packing, self._advance), count_in_bytes(size, self._pace))
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


def find_database_with(app: App, databases: Sequence[str], tables: Sequence[str]) -> str:
    """Return which of some databases has these tables."""
    having = list(databases)
    if len(databases) > 1:
        having = [name for name in databases if set(tables) <= app.reader(name).tables().keys()]
        if not having:
            what = f"table {', '.join(tables)} in one of its databases ({', '.join(databases)})"
            raise SchemaLacksError(target=app.name, what=what, purpose="this backup")
        if len(having) > 1:
            raise UsageError(detail=f"--table: say of which database (--db {' or --db '.join(having)})")
    _check_tables(open_dumps(app, having[0]), tables)
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


def check_form(app: App, databases: Sequence[str], form: str) -> None:
    """Raise UsageError where no database can be dumped in this form."""
    known = list(dict.fromkeys(one for name in databases for one in open_dumps(app, name).forms))
    if form and form not in known:
        raise UsageError(detail=f"--format {form}: {app.name} can be dumped as {', '.join(known)}")


def choose_databases(app: App) -> tuple[list[str], list[LeftOut]]:
    """Return the databases that a backup holds, and those that it leaves out with the reason.

    Raises:
        DatabaseUnsetError: one that every deployment has is not configured.
        NotSupportedError: none can be backed up.
    """
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


def open_dumps(app: App, database: str, *, may_be_empty: bool = False, like: Collection[str] = ()) -> Dumps:
    """Open a database, or its files where its driver is missing, as something that can be dumped.

    Raises:
        DriverMissingError: its driver is missing, and its files alone cannot be copied.
        NotSupportedError: its engine cannot be copied.
    """
    try:
        db = app.reader(database, may_be_empty=may_be_empty, like=like)
    except DriverMissingError:
        if (files := registry.copier(app.url(database), app.target(database))) is None:
            raise
        return files
    if Capability.DUMP not in db.capabilities or not isinstance(db, Dumps):
        raise NotSupportedError(what="a backup", by=db.target, instead="Its engine cannot be copied yet.")
    return db


def call_both(first: Callable[[T], None], second: Callable[[T], None]) -> Callable[[T], None]:
    """Return a function that calls both."""

    def call(value: T) -> None:
        first(value)
        second(value)

    return call


def count_in_bytes(size: int, advance: Advance) -> Progress:
    """Return a function that takes the share that is done and calls ``advance`` with the bytes since the last call."""
    done = 0

    def progress(share: float) -> None:
        nonlocal done
        reached = int(share * size)
        advance(max(0, reached - done))
        done = max(done, reached)

    return progress
