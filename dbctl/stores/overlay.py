"""A store with one folder more, which lies elsewhere and is only read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from dbctl.errors import RepositoryFailedError
from dbctl.stores.base import NewFolder, State, Store
from dbctl.stores.directory import Directory

#: The folder itself, as a store of one folder sees it.
ITSELF = "."


class Beside:
    """Another store, and below the name of one more folder what lies at a path of this machine."""

    def __init__(self, store: Store, folder: str, path: Path) -> None:
        self._store, self._folder = store, folder
        self._there = Directory(path.parent, path.name)
        self.place = store.place

    def folders(self) -> Mapping[str, State]:
        return {**self._store.folders(), self._folder: State.WHOLE}

    def last(self, folder: str) -> bytes | None:
        store, name = self._of(folder)
        return store.last(name)

    def note(self, folder: str, text: str) -> None:
        if folder != self._folder:
            self._store.note(folder, text)

    def noted(self, folder: str) -> bytes | None:
        store, name = self._of(folder)
        return store.noted(name)

    def files(self, folder: str) -> Mapping[str, int]:
        store, name = self._of(folder)
        return store.files(name)

    def opened(self, folder: str, name: str) -> AbstractContextManager[Path]:
        store, there = self._of(folder)
        return store.opened(there, name)

    def scratch(self, need: int) -> AbstractContextManager[Path]:
        return self._store.scratch(need)

    def path(self, folder: str, name: str) -> Path | None:
        store, there = self._of(folder)
        return store.path(there, name)

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        store, there = self._of(folder)
        return store.read(there, name)

    def begin(self, folder: str) -> AbstractContextManager[NewFolder]:
        return self._store.begin(folder)

    def remove(self, folder: str) -> None:
        if folder != self._folder:
            self._store.remove(folder)

    def lasts(self, folders: Sequence[str]) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
        return self._store.lasts(folders)

    def room(self) -> int | None:
        return self._store.room()

    def want_room(self, need: int, *, aside: bool = True) -> None:
        self._store.want_room(need, aside=aside)

    def is_locked(self) -> bool:
        return self._store.is_locked()

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        return self._store.lock(purpose, timeout=timeout)

    def _of(self, folder: str) -> tuple[Store, str]:
        return (self._there, ITSELF) if folder == self._folder else (self._store, folder)
