"""A recovery from its beginning to its end: a private copy, what its pages tell, and a new file that is whole or absent."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from glob import escape
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Concern, Recovered, Recovery, TableRecovered
from dbctl.engines.sqlite.errors import Place, unmade
from dbctl.engines.sqlite.recover import image as images
from dbctl.engines.sqlite.recover import new_database, schema
from dbctl.engines.sqlite.recover.btree import Trees
from dbctl.engines.sqlite.recover.copy_rows import Copying
from dbctl.engines.sqlite.recover.finish import finish, looked_at
from dbctl.engines.sqlite.recover.image import Image, Taken
from dbctl.engines.sqlite.recover.match import matched
from dbctl.engines.sqlite.recover.schema import Entry, Like
from dbctl.errors import (
    DatabaseMissingError,
    DiskFullError,
    FileExistsAlreadyError,
    FileFailedError,
    RecoverHopelessError,
    RoomMissingError,
    UnreachableError,
)
from dbctl.files import Progress, is_full, rename_beside, sync_directory, sync_file
from dbctl.model import counted

#: Bytes of the smallest page.
SMALLEST = 512
ANOTHER_NAME = "Choose another name with --to."
WITH_LIKE = "--like latest takes the tables from the newest backup, --like FILE from any sound database of the same shape."


def recover(what: Recovery, target: str, progress: Progress) -> Recovered:
    """Bring what can be read of a damaged database into a new file.

    Whoever calls holds the write lock of the source, has looked that no program has it open, and has no connection to
    it: the file is opened and closed here, which would drop its locks.

    Raises:
        BusyError: somebody writes it.
        DatabaseMissingError, UnreachableError: it is not there, or may not be read.
        DiskFullError, FileFailedError, RoomMissingError: nothing was made.
        FileExistsAlreadyError: something stands where the new file is to go.
        RecoverHopelessError: not even its tables are known.
    """
    source = Path(os.path.realpath(what.source))
    told = _told_of(source, target)
    aside_at = what.to.with_name(f"{what.to.stem}.aside{what.to.suffix}")
    for one in (what.to, aside_at):
        if os.path.lexists(one):
            raise FileExistsAlreadyError(path=one, instead=ANOTHER_NAME)
    like = schema.like(what.like, target) if what.like else Like(0, ())
    with _workshop(source, what.to) as place:
        try:
            made_of = _Work(place, target, like, progress).run(source, anyway=what.anyway)
            if made_of is None:
                return Recovered(made=False, tables=(), concerns=(), aside=None)
            tables, concerns, aside = made_of
            with signals.unheard():
                if aside:
                    _put(place / "aside", aside_at, told)
                _put(place / "new", what.to, told)
        except sqlite3.Error as error:
            signals.check()
            there = Place(target=str(what.to.parent), path=place / "new", timeout=0, reading=False)
            raise unmade(error, there) from error
        except OSError as error:
            if is_full(error):
                raise DiskFullError(target=str(what.to.parent)) from error
            path = Path(str(error.filename or what.to))
            raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
    return Recovered(made=True, tables=tables, concerns=concerns, aside=aside_at if aside else None)


def _told_of(source: Path, target: str) -> os.stat_result:
    try:
        told = source.stat()
    except FileNotFoundError:
        raise DatabaseMissingError(target=target, path=source) from None
    except OSError as error:
        raise _unreadable(source, target, error.strerror or str(error)) from error
    if not stat.S_ISREG(told.st_mode):
        raise _unreadable(source, target, f"{source} is no regular file")
    if told.st_size < SMALLEST:
        instead = "A backup brings it back: dbctl restore apply"
        raise RecoverHopelessError(target=target, reason="the file is as good as empty", instead=instead)
    if not os.access(source, os.R_OK):
        raise _unreadable(source, target, f"{source} may not be read by this user")
    return told


def _unreadable(source: Path, target: str, reason: str) -> UnreachableError:
    return UnreachableError(target=target, reason=reason, instead=f"Check owner and mode of {source}.")


@contextmanager
def _workshop(source: Path, to: Path) -> Iterator[Path]:
    """Give a directory beside the new file that nobody else may enter; those of a dbctl that was killed go first."""
    begun = f".{source.name}.dbctl-recover-{zlib.crc32(os.fsencode(source)):08x}-"
    place = to.with_name(f"{begun}{secrets.token_hex(4)}")
    try:
        for left in to.parent.glob(f"{escape(begun)}*"):
            shutil.rmtree(left)
        found = os.statvfs(to.parent)
        need = 2 * sum(
            os.stat(f"{source}{suffix}").st_size  # noqa: PTH116 - a name with a suffix
            for suffix in ("", "-wal", "-journal")
            if os.path.lexists(f"{source}{suffix}")
        )
        if found.f_bavail * found.f_frsize < need:
            raise RoomMissingError(place=to.parent, need=need, room=found.f_bavail * found.f_frsize)
        place.mkdir(mode=0o700)
    except OSError as error:
        raise FileFailedError(path=to, reason=error.strerror or str(error)) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _Work:
    def __init__(self, place: Path, target: str, like: Like, progress: Progress) -> None:
        self._place, self._target, self._like, self._progress = place, target, like, progress

    def run(self, source: Path, *, anyway: bool) -> tuple[list[TableRecovered], list[Concern], bool] | None:
        """Make the files ``new`` and ``aside``; None where the database is sound, and is not to be read anyway."""
        taken = images.take(source, self._place / "image", self._target)
        lines = images.damage(self._place / "image", self._target)
        if not (lines or anyway):
            return None
        concerns = [Concern(severity="warning", code="corrupt", message=one) for one in lines]
        concerns += _of_wal(taken)
        aside = new_database.Aside(self._place / "aside")
        with closing(Image(self._place / "image", page_size=self._like.page_size)) as image:
            concerns += _of_image(image)
            with closing(new_database.create(self._place / "new")) as db, closing(aside):
                for name, value in (
                    ("page_size", image.page_size),
                    ("encoding", f"'{image.encoding.upper().replace('16-', '16')}'"),
                    ("auto_vacuum", image.auto_vacuum),
                    *image.facts.items(),
                ):
                    db.execute(f"pragma {name} = {value}")
                copying = Copying(db, image, Trees(image), aside, self._progress)
                entries, found = self._schema(copying.trees, image)
                concerns += found
                copying.knows_all = not found
                tables = copying.tables(entries)
                concerns += copying.concerns
                concerns += finish(db, entries)
        concerns += looked_at(self._place / "new", self._target, entries)
        if taken.wal:
            with closing(sqlite3.connect(self._place / "new", isolation_level=None)) as db:
                db.execute("pragma journal_mode = wal").fetchall()
        return tables, concerns, aside.made

    def _schema(self, trees: Trees, image: Image) -> tuple[list[Entry], list[Concern]]:
        entries, gaps, lost = schema.read(trees)
        concerns = list[Concern]()
        if gaps or lost:
            where = (
                "; ".join(f"page {one.page}: {one.reason}" for one in gaps[:5])
                or f"{counted(lost, 'line')} lost"
            )
            hint = "" if self._like.entries else WITH_LIKE
            message = f"the list of tables is damaged ({where}); what it no longer tells of is not recovered"
            known = {one.name for one in entries}
            came = [one for one in self._like.entries if one.name not in known]
            if came and self._like.path:
                came = matched(image, self._like.path, came, [one.root for one in entries])
                message = (
                    f"the list of tables is damaged ({where}); {counted(len(came), 'line')} came from --like"
                )
            entries += came
            concerns.append(Concern(severity="error", code="schema", message=message, hint=hint))
        if not any(one.kind == "table" for one in entries):
            raise RecoverHopelessError(
                target=self._target, reason="its list of tables cannot be read", instead=WITH_LIKE
            )
        return entries, concerns


def _of_wal(taken: Taken) -> list[Concern]:
    if not taken.lost_commits:
        return []
    message = f"the -wal is damaged: {counted(taken.lost_commits, 'commit')} behind the damage are lost"
    return [Concern(severity="error", code="commits-lost", message=message)]


def _of_image(image: Image) -> list[Concern]:
    found = list[Concern]()
    if not image.headed:
        message = f"the head of the file is damaged; pages of {image.page_size} bytes were taken for granted"
        found.append(Concern(severity="warning", code="header", message=message))
    elif image.resized:
        message = f"the page size in the header is wrong; the pages have {image.page_size} bytes"
        found.append(Concern(severity="warning", code="header", message=message))
    if image.missing:
        message = (
            f"the header counts {image.pages} pages and the file has {image.there}:"
            " the file was cut short, or its header is damaged"
        )
        found.append(Concern(severity="warning", code="file-cut", message=message))
    return found


def _put(made_at: Path, to: Path, like: os.stat_result) -> None:
    """Give a file that is whole its name, owned and open to the same people as the damaged one."""
    if os.geteuid() == 0:
        os.chown(made_at, like.st_uid, like.st_gid)
    made_at.chmod(stat.S_IMODE(like.st_mode))
    sync_file(made_at)
    try:
        rename_beside(made_at, to)
    except FileExistsError:
        raise FileExistsAlreadyError(path=to, instead=ANOTHER_NAME) from None
    sync_directory(to.parent)
