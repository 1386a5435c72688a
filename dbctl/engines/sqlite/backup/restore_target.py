"""A SQLite file as a restore sees it: it may be missing, or be no database any more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

from dbctl.engines.contract import Approach, Dump, Kept, Loaded, Tried
from dbctl.engines.file_locks import write_lock
from dbctl.engines.sqlite.backup import block_writers
from dbctl.engines.sqlite.backup import load as loading
from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.errors import DbctlError, FileFailedError, NotSupportedError, RoomMissingError
from dbctl.files import Progress, at_once, is_regular, silent
from dbctl.url import Url


class SQLiteOutside:
    """One file, and what stands beside it."""

    loads = False

    def __init__(self, path: Path, target: str) -> None:
        self._path, self._target = path, target

    def is_there(self) -> bool:
        return bool(self.files())

    def identity(self) -> str:
        path = os.path.realpath(self._path)
        try:
            told = os.stat(path)  # noqa: PTH116 - of a text
        except OSError:  # it is not there yet, and nothing else can be it
            return path
        return f"{told.st_dev}:{told.st_ino}"

    def address(self, dump: Dump) -> str:
        del dump
        return str(self._path)

    def holds(self) -> bool:
        if not any(one.stat().st_size for one in self.files()):
            return False
        with closing(SQLiteReader(self._path, self._target)) as reader:
            return bool(reader.query("select 1 from sqlite_master limit 1"))

    def files(self) -> Sequence[Path]:
        return loading.files_of(self._path)

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        path = Path(os.path.realpath(self._path))
        return write_lock(path, self._target, purpose, timeout=timeout)

    def want_room(self, need: int) -> None:
        place = Path(os.path.realpath(self._path)).parent
        try:
            found = os.statvfs(place)
        except OSError as error:
            raise FileFailedError(path=place, reason=error.strerror or str(error)) from error
        if found.f_bavail * found.f_frsize < need:
            raise RoomMissingError(place=place, need=need, room=found.f_bavail * found.f_frsize)

    def still(self, dump: Dump, *, timeout: float) -> AbstractContextManager[Callable[[], None]]:
        del dump
        return block_writers.still(Path(os.path.realpath(self._path)), self._target, timeout=timeout)

    def approach(self, dump: Dump) -> Approach:
        del dump
        path = os.path.realpath(self._path)
        if os.path.lexists(path) and not is_regular(Path(path)):
            raise NotSupportedError(
                what="bringing a backup back",
                by=f"{self._path}, which is no regular file",
                instead="Nothing was changed. Name a file: a new one, or a database.",
            )
        return Approach(way="in place" if self.is_there() else "new")

    def kept(self, stamp: str) -> Kept:
        raise RuntimeError(f"{self._target} keeps nothing of {stamp}")

    def ready(self, path: Path, dump: Dump, *, timeout: float) -> AbstractContextManager[None]:
        """Do nothing beforehand."""
        del path, dump, timeout
        return nullcontext()

    def find_missing(self, kept: Sequence[Dump]) -> Sequence[str]:
        """Return none: a safety backup of a file holds a copy."""
        del kept
        return ()

    def standing(self) -> Mapping[str, str]:
        try:
            with closing(SQLiteReader(self._path, self._target)) as reader:
                ((version,),) = reader.query("pragma schema_version")
        except DbctlError:  # there is none, or none that can be read
            return {}
        # Which SQLite's backup interface counts up where it writes over a database.
        return {"file": self.identity(), "schema_version": str(version)}

    def load(
        self,
        path: Path,
        dump: Dump,
        *,
        timeout: float,
        keep: Mapping[str, str],
        progress: Progress,
        let_go: Callable[[], None],
        spare: bool = False,
    ) -> Loaded:
        del keep
        return loading.load(
            self._path,
            path,
            self._target,
            timeout=timeout,
            facts=dump.facts,
            progress=progress,
            let_go=let_go,
            spare=spare,
        )

    @contextmanager
    def copied(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Url]:
        """Give the dump itself: it is a database, in a folder of whoever made it."""
        del dump, timeout
        yield Url(engine="sqlite", path=str(path))

    @contextmanager
    def tried(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Tried]:
        self.load(path, dump, timeout=timeout, keep={}, progress=silent, let_go=at_once)
        with closing(SQLiteReader(self._path, self._target, timeout=timeout)) as made:
            proof = made.proof(quick=False)
        yield Tried(url=Url(engine="sqlite", path=str(self._path)), proof=proof)

    def forget(self, keep: Mapping[str, str]) -> Sequence[str]:
        del keep
        return ()
