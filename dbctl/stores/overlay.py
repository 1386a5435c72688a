"""A store with one additional, read-only folder at another path, and the folders next to it, which may be its bases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from dbctl.errors.backup import RepositoryFailedError
from dbctl.stores.base import RECORD_SECONDS, FolderState, FolderWriter, Protection, Store
from dbctl.stores.directory import DirectoryStore

#: The name of the additional folder in its ``DirectoryStore``, whose path is the folder itself.
SELF = "."


class OverlayStore:
    """A store in which one additional folder is at another local path."""

    def __init__(self, store: Store, folder: str, path: Path) -> None:
        self._store, self._folder = store, folder
        self._extra = DirectoryStore(path.parent, path.name)
        self._siblings = DirectoryStore(path.parent.parent, path.parent.name)
        self.location = store.location

    def list_folders(self) -> Mapping[str, FolderState]:
        return {**self._store.list_folders(), self._folder: FolderState.COMPLETE}

    def read_manifest(self, folder: str) -> bytes | None:
        store, name = self._resolve(folder)
        return store.read_manifest(name)

    def lock_record(self, folder: str, *, timeout: float = RECORD_SECONDS) -> AbstractContextManager[None]:
        return nullcontext() if folder == self._folder else self._store.lock_record(folder, timeout=timeout)

    def write_verification(self, folder: str, text: str) -> None:
        if folder != self._folder:
            self._store.write_verification(folder, text)

    def read_verification(self, folder: str) -> bytes | None:
        store, name = self._resolve(folder)
        return store.read_verification(name)

    def list_files(self, folder: str) -> Mapping[str, int]:
        store, name = self._resolve(folder)
        return store.list_files(name)

    def open_locally(self, folder: str, name: str) -> AbstractContextManager[Path]:
        store, name_in_store = self._resolve(folder)
        return store.open_locally(name_in_store, name)

    def temp_dir(self, required_bytes: int) -> AbstractContextManager[Path]:
        return self._store.temp_dir(required_bytes)

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        store, name_in_store = self._resolve(folder)
        return store.read(name_in_store, name)

    def create_folder(self, folder: str) -> AbstractContextManager[FolderWriter]:
        return self._store.create_folder(folder)

    def rewrite_folder(self, folder: str) -> AbstractContextManager[FolderWriter]:
        return self._store.rewrite_folder(folder)

    def remove_folder(self, folder: str) -> None:
        if folder != self._folder:
            self._store.remove_folder(folder)

    def read_protection(self, folder: str) -> Protection:
        store, name = self._resolve(folder)
        return store.read_protection(name)

    def read_manifests(
        self, folders: Sequence[str]
    ) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
        return self._store.read_manifests(folders)

    def free_space(self) -> int | None:
        return self._store.free_space()

    def require_space(self, required_bytes: int, *, staged: bool = True) -> None:
        self._store.require_space(required_bytes, staged=staged)

    def is_locked(self) -> bool:
        return self._store.is_locked()

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        return self._store.lock(purpose, timeout=timeout)

    def _resolve(self, folder: str) -> tuple[Store, str]:
        if folder == self._folder:
            return self._extra, SELF
        is_sibling = self._siblings.read_manifest(folder) is not None
        return (self._siblings if is_sibling else self._store), folder
