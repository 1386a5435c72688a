"""The files of backups as their engines read them: those that are packed or encrypted, unpacked for a moment."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from dbctl.errors import CorruptError, FileFailedError, RepositoryFailedError, ScratchFailedError
from dbctl.files import is_regular, sync_file
from dbctl.services.backup.encryption import Keys
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.stores import Store


@contextmanager
def unpacking(store: Store, keys: Keys, *, staying: Collection[str] = ()) -> Iterator[Unpacked]:
    """Give what unpacks files, each once, and decrypts them by ``keys``; all of them are gone when the block ends.

    Those of the databases that are ``staying`` are taken away by then, mostly: they are synced while they are proven.
    """
    with ExitStack() as held:
        yield Unpacked(store, keys, held, staying)


class Unpacked:
    """Files of backups, decrypted and unpacked where they are encrypted or packed."""

    def __init__(self, store: Store, keys: Keys, held: ExitStack, staying: Collection[str]) -> None:
        self._store, self._keys, self._held, self._staying = store, keys, held, staying
        self._syncing = dict[tuple[str, str], Future[None]]()
        self._ready = dict[tuple[str, str], Path]()
        self._resting = dict[tuple[str, str], Path]()

    @contextmanager
    def opened(self, manifest: Manifest, one: Member, target: str) -> Iterator[Path]:
        """Give a path at which a file of a backup can be read, and not be written.

        Raises:
            CorruptError: it does not unpack to what was packed.
            KeyMissingError, KeyWrongError: as ``Keys.of``; or what is at hand does not open it.
            RoomMissingError, DiskFullError: what it unpacks to does not fit.
        """
        if not is_spare(one):
            yield self.resting(manifest.id, one)
            return
        key = (manifest.id, one.file)
        if key not in self._ready:
            self._ready[key] = self._unpack(manifest, one, target)
            if one.database in self._staying:
                self._syncing[key] = self._sync(self._ready[key])
        yield self._ready[key]

    def holds(self, manifest: Manifest, one: Member) -> bool:
        """Whether a file was unpacked, and so was what its manifest says."""
        return (manifest.id, one.file) in self._ready

    def settle(self, manifest: Manifest, one: Member) -> None:
        """Wait until a file of those that are staying is durable.

        Raises:
            FileFailedError: the disk has lost some of it.
        """
        syncing = self._syncing.pop((manifest.id, one.file), None)
        if syncing is None:
            return
        try:
            syncing.result()
        except OSError as error:
            raise FileFailedError(
                path=self._ready[manifest.id, one.file], reason=error.strerror or str(error)
            ) from error

    def _sync(self, path: Path) -> Future[None]:
        pool = ThreadPoolExecutor(1)
        self._held.callback(pool.shutdown, wait=False)  # nobody waits for what is going to be removed
        return pool.submit(sync_file, path)

    def resting(self, folder: str, one: Member) -> Path:
        """Return a path at which a file can be read as it rests, packed or not, until the block ends.

        One of a store elsewhere is fetched once, so that what is proven is what is loaded.

        Raises:
            CorruptError: it is not there, or is no regular file, which might be waited for without an end.
        """
        key = (folder, one.file)
        if key not in self._resting:
            path = self._held.enter_context(self._store.opened(folder, one.file))
            if path.is_symlink() or not is_regular(path):
                reason = (
                    f"{one.file} is no regular file" if os.path.lexists(path) else f"{one.file} is missing"
                )
                raise CorruptError(target=f"backup {folder}", reason=reason)
            self._resting[key] = path
        return self._resting[key]

    def room(self, one: Member, need: int) -> AbstractContextManager[Path]:
        """Give a private folder for what is in a file: where the backups are, but for what is encrypted there."""
        scratch = self._store.scratch if one.encryption == "none" else self._keys.aside.folder
        return scratch(need)

    def _unpack(self, manifest: Manifest, one: Member, target: str) -> Path:
        from dbctl.files import age, compression

        scratch, unseal = self._store.scratch, None
        if one.encryption != "none":
            # It is encrypted for what is beside it there, so it is not put there as it was.
            scratch = self._keys.aside.folder
            own = self._keys.of(self._store, manifest)
            unseal = partial(age.decrypt, own=own, target=target, name=one.file)
        resting = self.resting(manifest.id, one)
        try:
            place = self._held.enter_context(scratch(one.size)) / one.file
            found = compression.unpack(
                resting, place, one.compress, most=one.size, target=target, unseal=unseal
            )
        except (FileFailedError, RepositoryFailedError) as error:  # which must not speak against the backup
            raise ScratchFailedError(target=target, reason=error) from error
        if (found.sha256, found.inner_sha256) != (one.sha256, one.inner_sha256):
            raise CorruptError(
                target=target, reason=f"{one.file}: its content is not what was written (SHA-256)"
            )
        return place


def is_spare(one: Member) -> bool:
    """Whether what ``Unpacked.opened`` gives of a file was unpacked for that alone, and may be taken away."""
    return one.compress != "none" or one.encryption != "none"
