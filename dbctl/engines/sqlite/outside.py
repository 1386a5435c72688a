"""A SQLite file as a restore sees it: it may be missing, or be no database any more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from dbctl.engines import locks
from dbctl.engines.dumps import Approach, Dump, Kept, Loaded, Progress
from dbctl.engines.sqlite import load as loading
from dbctl.errors import RoomMissingError
from dbctl.url import Url


class SQLiteOutside:
    """One file, and what stands beside it."""

    def __init__(self, path: Path, target: str) -> None:
        self._path, self._target = path, target

    def is_there(self) -> bool:
        return bool(self.files())

    def files(self) -> Sequence[Path]:
        return loading.files_of(self._path)

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        path = Path(os.path.realpath(self._path))
        return locks.write_lock(path, self._target, purpose, timeout=timeout)

    def want_room(self, need: int) -> None:
        place = Path(os.path.realpath(self._path)).parent
        found = os.statvfs(place)
        if found.f_bavail * found.f_frsize < need:
            raise RoomMissingError(place=place, need=need, room=found.f_bavail * found.f_frsize)

    def approach(self, dump: Dump) -> Approach:
        del dump
        return Approach(way="in place" if self.is_there() else "new")

    def kept(self, stamp: str) -> Kept:
        raise RuntimeError(f"{self._target} keeps nothing of {stamp}")

    def load(
        self, path: Path, dump: Dump, *, timeout: float, keep: Mapping[str, str], progress: Progress
    ) -> Loaded:
        del keep
        return loading.load(
            self._path, path, self._target, timeout=timeout, facts=dump.facts, progress=progress
        )

    @contextmanager
    def copied(self, path: Path, dump: Dump, *, timeout: float) -> Iterator[Url]:
        """Give the dump itself: it is a database, in a folder of whoever made it."""
        del dump, timeout
        yield Url(engine="sqlite", path=str(path))

    def forget(self, keep: Mapping[str, str]) -> Sequence[str]:
        del keep
        return ()
