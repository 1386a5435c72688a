"""A file or folder that somebody left, read as a backup: known by what it holds, proven, and never changed.

It is copied into a folder of its own first, and everything else happens to the copy: whoever changes the file meanwhile
changes nothing that was proven. What comes of it stands beside the backups of the repository for as long as it is used.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from msgspec import structs

from dbctl import __version__
from dbctl.engines import registry
from dbctl.engines.contract import Dump, Dumps, Proof, list_dumped
from dbctl.engines.file_locks import holders_of
from dbctl.engines.file_type import (
    CONTENTS,
    ENGINES,
    INSTEAD,
    TITLES,
    Content,
    Recognised,
    TakenIn,
    recognise,
)
from dbctl.errors import (
    BusyError,
    ChangedWhileReadError,
    CorruptError,
    DbctlError,
    FileFailedError,
    FileMissingError,
    FileUnfitError,
    FileUnsafeError,
    FileUnsoundError,
    ForeignDumpRefusedError,
    NotADatabaseError,
    NotSupportedError,
    QueryFailedError,
    RoomMissingError,
    SameFileError,
    UnpacksTooFarError,
    UsageError,
    WrongAppError,
)
from dbctl.files import UnpackedAll, atomic, compression
from dbctl.model import Value
from dbctl.services.app import App, recognised_as
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup.encryption import Sealing
from dbctl.services.backup.foreign import file_sets
from dbctl.services.backup.foreign.timestamps import Dated, dated
from dbctl.services.backup.manifest import Manifest, ManifestInvalidError, Member, Origin, file_name
from dbctl.services.backup.repository import ID, Repository
from dbctl.services.backup.sources import Advance
from dbctl.services.backup.verify import NOT_OF_IT, server_for
from dbctl.stores import LARGEST, LAST, digest

#: A file that takes less than this unpacked is no danger, however well it was packed; of others, how many times its size.
SMALL, TIMES = 64 << 20, 100
#: Of the room there is, what unpacking leaves to others: a part of so many.
LEFT_TO_OTHERS = 10
LONGEST_NAME = 200  #: bytes
#: The fact of a member that a dump program of somebody else wrote, which may have left out tables: its content.
WRITTEN = "written_as"
#: What holds every table of its database, whoever made it.
WHOLE: Collection[Content] = ("sqlite", "lancedb")
#: What helps with a file that is not sound, by its content.
RECOVER = "dbctl restore recover --from FILE reads what can be read of a damaged SQLite database."
DUMP_ANEW = "Make the dump anew with the dump program of its server, or take another backup: dbctl backup list. A statement that no dump program writes has to go from the file."
#: What stands beside a SQLite file with rows that count.
BESIDE = ("-wal", "-journal")


class Staged(Value, frozen=True, kw_only=True):
    """What somebody left, as a backup."""

    manifest: Manifest
    what: str  #: in words
    remarks: Sequence[str]  #: what somebody has to know of it
    tried: bool = False  #: whether a server has loaded it


@contextmanager
def staged(
    app: App,
    repository: Repository,
    path: Path,
    *,
    at: datetime | None = None,
    trial: bool,
    advance: Advance = lambda _bytes: None,
) -> Iterator[tuple[Staged, Repository]]:
    """Give it, and the repository through which it is read.

    Args:
        app: the app.
        repository: whose room is used; nothing of it is changed.
        path: a file, or a folder with a manifest.
        at: when it was made; None: as its name tells, or the file.
        trial: whether a dump is loaded into a database of its server, which is dropped again.
        advance: told how many bytes more of it were read.

    Raises:
        FileMissingError, FileFailedError: it is not there, or cannot be read.
        FileUnfitError: it is nothing that could be restored from here.
        FileUnsoundError: it is not whole.
        FileUnsafeError: others may write it.
        WrongAppError: it is a database of another app.
        UsageError: it is not clear of which database it is.
        SameFileError: it is a database of the app itself.
        BusyError, ChangedWhileReadError: somebody writes it.
        UnpacksTooFarError, RoomMissingError, DiskFullError: it is too large.
    """
    told, together = looked_at(path), file_sets.parts(app, path)
    if stat.S_ISDIR(told.st_mode) and together == [path] and not registry.holds_tables(path):
        manifest, remarks = _folder(app, path)
        found = Staged(manifest=manifest, what="a backup that dbctl made", remarks=remarks)
        yield found, repository.beside(manifest.id, path.resolve())
        return
    for one in together:
        looked_at(one)
        _refuse_live(app, one)
    sealing = Sealing(app)  # where backups are encrypted, nothing plain stands beside them
    scratch = sealing.aside.folder if sealing else repository.store.scratch
    with scratch(sum(one.stat().st_size for one in together)) as place:
        folder = place / "folder"
        folder.mkdir(mode=0o700)
        each = list[Staged]()
        for number, one in enumerate(together):
            own = place / str(number)
            own.mkdir(mode=0o700)
            loose = _Tables if one.is_dir() else _Loose
            each.append(loose(app, one, own, at, advance, named=path.name).staged(folder, trial=trial))
        found = _joined(app, path, each)
        yield found, repository.beside(found.manifest.id, folder)


def _joined(app: App, path: Path, each: Sequence[Staged]) -> Staged:
    """Return what belongs together as one backup; it is of the time of the first."""
    told, first = [one.manifest for one in each], each[0].manifest
    origins = [one.origin.sha256 for one in told if one.origin]
    sha256 = origins[0] if len(each) == 1 else hashlib.sha256("\n".join(origins).encode()).hexdigest()
    time = first.origin.time if first.origin else ""
    remarks = [remark for one in each for remark in one.remarks]
    if lacking := file_sets.missing(app, path):
        remarks.append(f"{path}: no copy of {', '.join(lacking)} of the same time lies beside it")
    return Staged(
        manifest=structs.replace(
            first,
            id=str(path.resolve()),
            origin=Origin(path=str(path.resolve()), sha256=sha256, time=time),
            members=[member for one in told for member in one.members],
        ),
        what=" and ".join(dict.fromkeys(one.what for one in each)),
        remarks=remarks,
        tried=any(one.tried for one in each),
    )


def size(paths: Sequence[Path]) -> int:
    """Return how many bytes are read of files; those that are not there count nothing."""
    return sum(path.stat().st_size for path in paths if atomic.is_regular(path))


def looked_at(path: Path) -> os.stat_result:
    """Return what the system tells of a file that somebody named; raises as ``staged`` does."""
    try:
        told = path.stat()
    except FileNotFoundError as error:
        raise FileMissingError(what="file", path=path) from error
    except (OSError, ValueError) as error:
        raise FileFailedError(path=path, reason=getattr(error, "strerror", "") or str(error)) from error
    if stat.S_IMODE(told.st_mode) & stat.S_IWOTH:
        raise FileUnsafeError(path=path, mode=f"{stat.S_IMODE(told.st_mode):o}")
    return told


def _refuse_live(app: App, path: Path) -> None:
    """Refuse a database of the app itself: to open it here would end the locks that this process has on it."""
    for url in app.configured.databases.values():
        if url.is_folder and path.resolve() == Path(url.path).resolve():
            raise SameFileError(path=path)
        housing = registry.housing(url)
        for one in (housing.file, *housing.beside) if housing else ():
            with suppress(OSError):
                if path.samefile(one):
                    raise SameFileError(path=path)


# Folders -----------------------------------------------------------------------------------------------------------


def _folder(app: App, path: Path) -> tuple[Manifest, Sequence[str]]:
    """Return the manifest of a folder that dbctl made on some machine."""
    try:
        text = atomic.read_whole(path / LAST, LARGEST)
        manifest = backup_manifest.read(text)
    except FileNotFoundError as error:
        if is_directory_dump(path):
            instead = f"pg_restore --file=dump.sql {path} makes of it a dump that dbctl takes."
            raise FileUnfitError(
                path=path, reason="it is a PostgreSQL dump (directory)", instead=instead
            ) from error
        instead = "Name a file in it, or a folder that dbctl backup create made."
        raise FileUnfitError(path=path, reason=f"it is a folder without {LAST}", instead=instead) from error
    except ManifestInvalidError as error:
        raise FileUnsoundError(path=path, reason=f"its manifest: {error}") from error
    except OSError as error:
        raise FileFailedError(path=path / LAST, reason=error.strerror or str(error)) from error
    if manifest.profile != app.profile.name:
        raise FileUnfitError(
            path=path,
            reason=f"it is a backup of {manifest.app} ({manifest.profile})",
            instead=f"{app.name} is {app.profile.title}; --app names another one.",
        )
    if kept := [one.database for one in manifest.members if one.form == "kept"]:
        raise FileUnfitError(
            path=path,
            reason=f"of {', '.join(kept)} it holds only where a server kept it",
            instead="dbctl restore apply ID goes back to it, by its repository.",
        )
    remarks = []
    if (manifest.app, manifest.host) != (app.name, os.uname().nodename):
        remarks.append(f"{path}: it was made of {manifest.app} on {manifest.host}")
    manifest = backup_manifest.as_foreign(manifest)
    return structs.replace(manifest, id=str(path.resolve()), app=app.name), remarks


def is_directory_dump(folder: Path) -> bool:
    """Whether a folder holds a dump of pg_dump in the directory form."""
    contents = folder / CONTENTS
    return atomic.is_regular(contents) and recognise(contents).content == "postgresql-directory"


# Files -------------------------------------------------------------------------------------------------------------


class _Loose:
    def __init__(
        self, app: App, path: Path, place: Path, at: datetime | None, advance: Advance, *, named: str
    ) -> None:
        self._app, self._path, self._place, self._at, self._advance = app, path, place, at, advance
        self._called = named  #: what somebody named, which may tell the time
        self._name, self._remarks = str(path), list[str]()
        self._content: Content = "unknown"

    def staged(self, folder: Path, *, trial: bool) -> Staged:
        """Read it, prove it, and put what comes of it into ``folder``."""
        plain, destination = self._place / "plain", folder / _short(self._path.name)
        try:
            with atomic.regular(self._path) as file:
                before = os.fstat(file.fileno())
                what = self._recognised()
                self._refuse_held(what)
                unpacked = self._copied(file, plain, what)
                self._refuse_changed(before, file)
        except OSError as error:
            raise FileFailedError(path=self._path, reason=error.strerror or str(error)) from error
        with self._named():
            most = max(SMALL, TIMES * unpacked.plain_bytes)
            made = registry.take_in(what.content, plain, destination, self._name, most=most)
            dump = Dump(facts=made.facts, tables={}, schema="")
            proof = registry.prove(what.engine, destination, dump, self._name, quick=False, room=self._room)
            if proof.problems:
                raise CorruptError(target=self._name, reason=proof.problems[0])
        database, part = self._meant(what.engine, proof.tables)
        manifest = self._manifest(what, destination, made, proof, database, unpacked, self._dated(before))
        (member,) = manifest.members
        if part:
            member = structs.replace(member, only=list(proof.tables))
            manifest = structs.replace(manifest, kind="partial", members=[member])
        tried = (
            self._tried(member, destination) if trial and not proof.schema else None
        )  # a server tells the rest
        if tried is not None:
            member = structs.replace(member, schema=tried.schema)
            manifest = structs.replace(manifest, members=[member])
        return Staged(
            manifest=manifest,
            what=what.told,
            remarks=[
                *self._remarks,
                *made.remarks,
                *(() if part else _lacks(self._app, database, proof, self._path)),
            ],
            tried=tried is not None,
        )

    def _meant(self, engine: str, tables: Mapping[str, int]) -> tuple[str, bool]:
        """Return of which database of the app it is, and whether it holds only some of its tables."""
        try:
            return meant(self._app, engine, tables, self._path), False
        except WrongAppError:
            if database := _holding(self._app, engine, tables):
                return database, True
            raise

    def _recognised(self) -> Recognised:
        what = recognise(self._path)
        if what.content in ("unknown", "empty") and what.compress != "none":
            # It may be cut off so early that nothing came out: unpacking tells.
            with atomic.regular(self._path) as file:
                self._copied(file, self._place / "looked-at", what)
        if what.content == "empty":
            raise FileUnsoundError(path=self._path, reason="it is empty")
        self._content = what.content
        if not what.engine:
            raise FileUnfitError(
                path=self._path, reason=f"it is {TITLES[what.content]}", instead=INSTEAD[what.content]
            )
        return what

    def _copied(self, file: IO[bytes], plain: Path, what: Recognised) -> UnpackedAll:
        """Copy it, unpacked, with what stands beside it."""
        size = os.fstat(file.fileno()).st_size
        found = os.statvfs(self._place)
        room = found.f_bavail * found.f_frsize // LEFT_TO_OTHERS * (LEFT_TO_OTHERS - 1)
        most = max(SMALL, TIMES * size) if what.compress != "none" else max(1, size)
        with self._named():
            try:
                unpacked = compression.unpack_all(
                    file,
                    self._path,
                    plain,
                    what.compress,
                    most=min(most, room),
                    target=self._name,
                    advance=self._advance,
                )
            except UnpacksTooFarError:
                if what.compress == "none":
                    raise ChangedWhileReadError(target=self._name) from None
                if room < most:
                    raise RoomMissingError(place=self._place, need=room + 1, room=room) from None
                raise
        if what.content == "sqlite" and what.compress == "none":
            for suffix in BESIDE:
                beside = Path(f"{self._path}{suffix}")
                if atomic.is_regular(beside) and beside.stat().st_size:
                    atomic.copied(beside, Path(f"{plain}{suffix}"))
                    self._remarks.append(f"{self._name}: what stands in {beside.name} belongs to it")
        return unpacked

    def _refuse_held(self, what: Recognised) -> None:
        if what.content != "sqlite" or what.compress != "none":
            return
        with suppress(
            NotSupportedError
        ):  # this system does not tell; that it changes is noticed all the same
            if held := holders_of(Path(os.path.realpath(self._path))):
                named = ", ".join(f"pid {one.pid} ({one.command})" for one in held)
                raise BusyError(target=self._name, holder=f" by {named}, which has it open", waited="0")

    def _refuse_changed(self, before: os.stat_result, file: IO[bytes]) -> None:
        for after in (os.fstat(file.fileno()), self._path.stat()):
            if _identity(after) != _identity(before):
                raise ChangedWhileReadError(target=self._name)

    @contextmanager
    def _room(self, _need: int) -> Iterator[Path]:
        """Give a folder of its own, in the one that has room for it."""
        folder = self._place / "read"
        folder.mkdir(mode=0o700)
        yield folder

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Let damage be told of the file, for which other remedies hold than for a database."""
        try:
            yield
        except (CorruptError, NotADatabaseError, QueryFailedError) as error:
            reason = str(error.facts.get("reason", error)).removeprefix(f"{self._path.name}: ")
            raise self._unsound(reason) from error

    def _unsound(self, reason: str) -> FileUnsoundError:
        if self._content == "sqlite":
            return FileUnsoundError(path=self._path, reason=reason, instead=RECOVER)
        if self._content in ENGINES and self._content not in WHOLE:
            return FileUnsoundError(path=self._path, reason=reason, instead=DUMP_ANEW)
        return FileUnsoundError(path=self._path, reason=reason)

    def _tried(self, one: Member, file: Path) -> Proof | None:
        """Load it on trial; None where that could not be done."""
        # Some tables need the types of the database that they are part of.
        server = self._app.url(one.database) if one.only else server_for(self._app, one)
        timeout = self._app.timeout
        try:
            with registry.tried(one.engine, server, file, one.dump, self._name, timeout=timeout) as there:
                proof, left = there.proof, there.remarks
        except ForeignDumpRefusedError:
            raise
        except NOT_OF_IT as error:
            self._remarks.append(f"{self._name}: it was not loaded on trial: {error}")
            return None
        except DbctlError as error:
            raise self._unsound(f"it cannot be loaded: {error}") from error
        self._remarks += left
        return proof

    def _dated(self, told: os.stat_result) -> Dated:
        if self._at is not None:
            return Dated(at=self._at, by="asked", told="as you said")
        return dated(self._called, told.st_mtime, ours=is_ours(self._app, self._path))

    def _manifest(
        self,
        what: Recognised,
        file: Path,
        made: TakenIn,
        proof: Proof,
        database: str,
        unpacked: UnpackedAll,
        when: Dated,
    ) -> Manifest:
        kept = digest(atomic.blocks(file))
        written = {} if what.content in WHOLE else {WRITTEN: what.content}
        member = Member(
            database=database,
            file=file.name,
            bytes=kept.bytes,
            sha256=kept.sha256,
            engine=what.engine,
            taken_at=when.at,
            rows=proof.tables,
            schema=proof.schema,
            facts={**made.facts, **written},
            foreign=True,
        )
        return Manifest(
            id=str(self._path.resolve()),
            number=0,
            kind="backup",
            app=self._app.name,
            profile=self._app.profile.name,
            created_at=when.at,
            verified_at=when.at,
            host=os.uname().nodename,
            dbctl=__version__,
            origin=Origin(path=str(self._path.resolve()), sha256=unpacked.sha256, time=when.told),
            members=[member],
            left_out=(),
        )


class _Tables(_Loose):
    """A folder of tables, read where it lies."""

    def staged(self, folder: Path, *, trial: bool) -> Staged:
        del trial  # it is read whole
        destination, before = folder / f"{_short(self._path.name)}.tar", self._path.stat()
        what = Recognised(content="lancedb", compress="none")
        with self._named():
            made = registry.take_in_folder(self._path, destination, self._name)
            dump = Dump(facts=made.facts, tables={}, schema="")
            proof = registry.prove(what.engine, destination, dump, self._name, quick=False, room=self._room)
            if proof.problems:
                raise CorruptError(target=self._name, reason=proof.problems[0])
        database = meant(self._app, what.engine, proof.tables, self._path)
        kept = digest(atomic.blocks(destination))
        unpacked = UnpackedAll(sha256=kept.sha256, plain_bytes=kept.bytes)
        return Staged(
            manifest=self._manifest(what, destination, made, proof, database, unpacked, self._dated(before)),
            what="a folder of LanceDB tables",
            remarks=[*made.remarks, *_lacks(self._app, database, proof, self._path)],
        )


def _lacks(app: App, database: str, proof: Proof, path: Path) -> Iterator[str]:
    """Yield that tables of the live database would be gone: it may be a dump of some of them."""
    if lost := live_tables_beyond(app, database, proof.tables):
        yield f"{path} lacks what {app.target(database)} has: {', '.join(lost)}"


def live_tables_beyond(app: App, database: str, tables: Mapping[str, int]) -> list[str]:
    """Return the tables of the live database that are not among ``tables``; none where it cannot be read."""
    with suppress(DbctlError):  # a database that is missing or damaged is what one restores for
        live = list_dumped(app.reader(database, may_be_empty=True, like=tables))
        return sorted(name for name in live if name not in tables)
    return []


def is_ours(app: App, path: Path) -> bool:
    """Whether dbctl called a file so, whose times are UTC: names that the app's own documents use are not meant."""
    if ID.fullmatch(path.parent.name):
        return True
    names = {file_name(app, name, "*").partition("*")[0] for name in app.profile.databases}
    known = tuple(
        one.name.partition("{time}")[0] for one in app.profile.backup.foreign if "{time}" in one.name
    )
    return path.name.startswith(tuple(names)) and not path.name.startswith(known)


def meant(app: App, engine: str, tables: Mapping[str, int], path: Path) -> str:
    """Return of which database of the app a file is, by what it holds.

    Raises:
        FileUnfitError: none of them is kept by that engine.
        WrongAppError: it lacks what they need.
        UsageError: it may be of several.
    """
    wanted = {name: told for name, told in app.profile.databases.items() if app.only in ("", name)}
    engines = {
        name: app.configured.databases[name].engine for name in wanted if name in app.configured.databases
    }
    if list(app.configured.databases) == ["main"] and app.main() in wanted:
        engines[app.main()] = app.configured.databases["main"].engine
    fitting = [name for name, found in engines.items() if found == engine]
    if not fitting:
        names = ", ".join(f"{name} in {registry.title(found)}" for name, found in engines.items())
        raise FileUnfitError(
            path=path,
            reason=f"it is of {registry.title(engine)}",
            instead=f"{app.name} keeps {names or 'no database that is configured'}; dbctl data import takes rows from elsewhere.",
        )
    whole = [name for name in fitting if all(one in tables for one in wanted[name].needs)]
    if len(whole) == 1:
        return whole[0]
    if not whole:
        name = fitting[0]
        lacking = [one for one in wanted[name].needs if one not in tables]
        what = f"table {', '.join(lacking)}" if tables else "every table"
        some = "Of a dump of some tables a restore takes those that the database has now."
        raise WrongAppError(
            target=path,
            profile=app.profile.title,
            what=what,
            instead=f"Nothing was changed. {recognised_as(wanted[name], tables) or some}",
        )
    raise UsageError(detail=f"{path} may be of {' or '.join(whole)}: say --db {' or --db '.join(whole)}")


def _holding(app: App, engine: str, tables: Mapping[str, int]) -> str:
    """Return the only database of a server that has all of some tables now; empty where there is none, or no table."""
    having = list[str]()
    for name in app.profile.databases:
        if tables and app.only in ("", name):
            with suppress(DbctlError):  # one that cannot be read now is none
                live = app.reader(name)
                if app.url(name).engine == engine and isinstance(live, Dumps) and live.parts:
                    having += [name] if live.tables().keys() >= tables.keys() else []
    return having[0] if len(having) == 1 else ""


def _short(name: str) -> str:
    """Return a name to which SQLite can add what its side files are called."""
    return name if len(os.fsencode(name)) <= LONGEST_NAME else "file"


def _identity(told: os.stat_result) -> tuple[int, ...]:
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns
