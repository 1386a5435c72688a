"""Storage on other machines as a store, with the keys ``PREFIX/APP/FOLDER/FILE``.

Its client sends the requests. A folder is a common prefix of keys. Its mark is created conditionally, so only one dbctl process fills it. Every file is
read back before the manifest completes the backup.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import groupby
from pathlib import Path

from dbctl import signals
from dbctl.errors.backup import RepositoryFailedError, StorageFailedError
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import InsufficientSpaceError
from dbctl.files import atomic
from dbctl.files.atomic import FileDigest, HashingCounter, hash_blocks
from dbctl.stores.base import (
    INCOMPLETE_MARK,
    LOCK,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    RECORD_SECONDS,
    VERIFICATION,
    FolderState,
    FolderWriter,
    Protection,
    Prove,
    fill_folder,
    read_each_manifest,
    translate_errors,
)
from dbctl.stores.remote.contract import ConflictError, Entry, ObjectLocker, RemoteClient, RenewedLock
from dbctl.stores.staging import Staging

#: Maximum number of small objects that are read at the same time.
CONCURRENT_READS = 8

#: The files of a folder that are replaced or deleted although it is complete.
_UNLOCKED = (VERIFICATION, INCOMPLETE_MARK)
#: Of a folder whose state is unknown.
VERIFY = Remedy("verify it with: `backup verify {id}`")


#: Returns the lock with a key for this machine, whose local lock is already held, and the command that holds it.
CreateLock = Callable[[str, str, str], RenewedLock]


class RemoteStore:
    """The backups of one app in storage."""

    def __init__(
        self,
        client: RemoteClient,
        top: str,
        staging: Staging,
        *,
        create_lock: CreateLock,
        read_protection: Callable[[Sequence[str]], Protection] = lambda _keys: Protection(),
        locker: ObjectLocker | None = None,
    ) -> None:
        """Access nothing yet.

        ``top`` is the prefix of all keys, ``read_protection`` returns the strongest one of several files, and ``locker`` locks the
        files of backups; None: they are not locked.
        """
        self.client, self.location = client, client.location
        self._top, self._staging = top, staging
        self._lock_key = f"{top}/{LOCK}"
        self._create_lock, self._read_protection = create_lock, read_protection
        self.locker = locker
        self._held_lock: RenewedLock | None = None
        #: Folders that had no verification record when they were listed or completed.
        self.unverified = set[str]()
        self._marked = set[str]()  #: folders with a manifest and a mark when they were listed

    def list_folders(self) -> Mapping[str, FolderState]:
        states = dict[str, FolderState]()
        self.unverified.clear()
        self._marked.clear()
        inside = [entry.key.removeprefix(f"{self._top}/") for entry in self.client.list_entries(self._top)]
        for folder, keys in groupby(
            (key for key in inside if "/" in key), key=lambda key: key.partition("/")[0]
        ):
            names = {key.removeprefix(f"{folder}/") for key in keys}
            if VERIFICATION not in names:
                self.unverified.add(folder)
            if MANIFEST in names:
                states[folder] = FolderState.COMPLETE
                if INCOMPLETE_MARK in names:
                    self._marked.add(folder)
            else:  # a verification record alone was written after its folder was pruned
                is_incomplete = INCOMPLETE_MARK in names or names == {VERIFICATION}
                states[folder] = FolderState.INCOMPLETE if is_incomplete else FolderState.FOREIGN
        return states

    def read_manifest(self, folder: str) -> bytes | None:
        return self._read_small(folder, MANIFEST)

    def read_manifests(
        self, folders: Sequence[str]
    ) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
        with signals.defer_signals(), ThreadPoolExecutor(CONCURRENT_READS) as pool:
            try:
                manifests = list(pool.map(lambda folder: list(read_each_manifest(self, [folder])), folders))
            finally:  # calls that have not started are cancelled
                pool.shutdown(cancel_futures=True)
        signals.raise_if_interrupted()
        return (manifest for part in manifests for manifest in part)

    @contextmanager
    def lock_record(self, folder: str, *, timeout: float = RECORD_SECONDS) -> Iterator[None]:
        del folder  # one file is enough: the lock lasts two requests
        with self._staging.lock(f"the records of {self.location}", "record", timeout=timeout):
            yield

    def write_verification(self, folder: str, text: str) -> None:
        if self.read_manifest(folder) is None:
            raise RepositoryFailedError(place=self.location, reason=f"{folder} was deleted")
        self.client.put(self.key(folder, VERIFICATION), text.encode())
        self.unverified.discard(folder)

    def read_verification(self, folder: str) -> bytes | None:
        return None if folder in self.unverified else self._read_small(folder, VERIFICATION)

    def _read_small(self, folder: str, name: str) -> bytes | None:
        try:
            entry, content = self.client.get(self.key(folder, name), end=MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return None
        if entry.bytes > MAX_MANIFEST_BYTES:
            raise RepositoryFailedError(
                place=self.location, reason=f"{folder}/{name} is larger than {MAX_MANIFEST_BYTES:,} bytes"
            )
        return content

    def list_files(self, folder: str) -> Mapping[str, int]:
        return {
            name: entry.bytes
            for name, entry in self.list_entries(folder).items()
            if name not in (MANIFEST, INCOMPLETE_MARK, VERIFICATION)
        }

    def list_entries(self, folder: str) -> dict[str, Entry]:
        """Return all objects of a folder by file name."""
        top = f"{self._top}/{folder}"
        return {entry.key.removeprefix(f"{top}/"): entry for entry in self.client.list_entries(top)}

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        try:
            yield from self.client.read_blocks(self.key(folder, name))
        except FileNotFoundError as error:
            raise RepositoryFailedError(place=self.location, reason=f"{folder}/{name} was deleted") from error
        except ConflictError as error:
            raise RepositoryFailedError(
                place=self.location, reason=f"{folder}/{name} was replaced or deleted while it was read"
            ) from error

    @contextmanager
    def open_locally(self, folder: str, name: str) -> Iterator[Path]:
        size = self.list_files(folder).get(name, 0)
        with self._staging.folder(size) as folder_path:
            with translate_errors(self._staging.path):
                atomic.write_blocks(folder_path / name, self.read(folder, name))
            yield folder_path / name

    def temp_dir(self, required_bytes: int) -> AbstractContextManager[Path]:
        return self._staging.folder(required_bytes)

    @contextmanager
    def create_folder(self, folder: str) -> Iterator[FolderWriter]:
        while self._marked:  # left by a dbctl process that was killed just before deleting it
            self.client.delete([self.key(self._marked.pop(), INCOMPLETE_MARK)])
        with self._fill_folder(folder, RemoteWriter) as writer:
            yield writer

    def rewrite_folder(self, folder: str) -> AbstractContextManager[FolderWriter]:
        return self._fill_folder(folder, RemoteRewriter)

    @contextmanager
    def _fill_folder(self, folder: str, create_writer: type[RemoteWriter]) -> Iterator[FolderWriter]:
        with (
            self._staging.folder(0) as temp_folder,
            fill_folder(create_writer(self, folder, temp_folder), self._staging.path) as writer,
        ):
            yield writer

    def remove_folder(self, folder: str) -> None:
        # Another process that has taken the lock over may have stored a backup that requires this one.
        self.renew()
        # Writing the mark before deleting the manifest leaves a folder marked as incomplete after an interruption.
        self.client.put(self.key(folder, INCOMPLETE_MARK), b"")
        self.client.delete([self.key(folder, MANIFEST)])
        self.delete_objects(folder)

    def require_space(self, required_bytes: int, *, staged: bool = True) -> None:
        if staged:
            self._staging.require_space(required_bytes)
        free = self.free_space()
        if free is not None and free < required_bytes:
            raise InsufficientSpaceError(place=self.location, required=required_bytes, free=free)

    def free_space(self) -> int | None:
        return self.client.free_space()

    def read_protection(self, folder: str) -> Protection:
        # the manifest first: it is the newest object, so it has a version if the bucket has versions
        entries = sorted(self.list_entries(folder).items(), key=lambda item: item[0] != MANIFEST)
        return self._read_protection([entry.key for _, entry in entries])

    def is_locked(self) -> bool:
        return self._create_lock(self._lock_key, "", "").is_held()

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        if self.locker:  # before anything is written
            self.locker.require_supported()
        with self._staging.lock(self.location, purpose, timeout=timeout) as machine:
            lock = self._create_lock(self._lock_key, machine, purpose)
            with lock.acquire(timeout=timeout):
                self._held_lock = lock
                try:
                    yield
                finally:
                    self._held_lock = None

    def renew(self) -> None:
        """Renew the lock before an irreversible step; raises ``BusyError`` if it was lost."""
        if self._held_lock is not None:
            self._held_lock.renew()

    def lock_files(self, files: Sequence[str], bases: Collection[str]) -> Callable[[str], None]:
        """Lock the keys ``files`` and the folders ``bases``, if files are locked; return a function that locks a further key until the same time."""
        if (locker := self.locker) is None:
            return lambda _key: None
        until = locker.find_end()
        for folder in bases:
            entries = self.list_entries(folder).items()
            locker.lock([entry.key for name, entry in entries if name not in _UNLOCKED], until)
        locker.lock(files, until)
        return lambda key: locker.lock([key], until)

    def key(self, folder: str, name: str) -> str:
        return f"{self._top}/{folder}/{name}"

    def delete_objects(self, folder: str) -> None:
        """Delete all objects of a folder, its mark last."""
        keys = [entry.key for name, entry in self.list_entries(folder).items() if name != INCOMPLETE_MARK]
        self.client.delete([*keys, self.key(folder, INCOMPLETE_MARK)])


class RemoteWriter:
    """A folder of storage that is being filled; files are created in a local folder first."""

    def __init__(self, store: RemoteStore, folder: str, temp_dir: Path) -> None:
        self._store, self._folder, self._temp_dir = store, folder, temp_dir
        mark = {"pid": os.getpid(), "host": os.uname().nodename, "token": secrets.token_hex(16)}
        self._mark = json.dumps(mark).encode()
        #: whether the mark is of this writer; None: unknown, because the response was lost
        self._marked: bool | None = None
        self._is_created, self._sent = False, dict[str, FileDigest | None]()
        self.is_complete = False

    def begin(self) -> None:
        """Create the mark, if the folder does not exist.

        Raises:
            RepositoryFailedError: the folder exists already.
        """
        try:
            self._client.create(self._key(INCOMPLETE_MARK), self._mark)
        except ConflictError as error:
            self._marked = False
            raise self._exists_error() from error
        self._marked = True
        if self._store.list_entries(self._folder).keys() != {INCOMPLETE_MARK}:
            raise self._exists_error()
        self._is_created = True

    def undo(self) -> None:
        """Delete the objects of an incomplete folder."""
        with signals.block_signals(), suppress(DbctlError, FileNotFoundError):
            if self._marked is None:
                self._marked = self._client.get(self._key(INCOMPLETE_MARK))[1] == self._mark
            if self._marked and not self.is_complete:  # objects that existed before are not deleted
                ours = [MANIFEST, *self._sent] if self._is_created else []
                self._client.delete([self._key(name) for name in [*ours, INCOMPLETE_MARK]])

    def local_path(self, name: str) -> Path:
        for sent in self._sent.keys() - {name}:
            (self._temp_dir / sent).unlink(missing_ok=True)
        return self._temp_dir / name

    def store(self, name: str, sha256: str = "") -> FileDigest:
        path = self._temp_dir / name
        stored = self.write(name, atomic.read_blocks(path), path.lstat().st_size)
        if sha256 not in ("", stored.sha256):
            raise self._mismatch_error(f"{name} was changed before it was sent")
        return stored

    def write(self, name: str, blocks: Iterable[bytes], size: int, prove: Prove | None = None) -> FileDigest:
        counter = HashingCounter()
        sent = counter.count(blocks)
        self._sent[name] = None  # recorded before sending, so that a failure deletes it
        if size > self._client.part:
            self._client.upload(self._key(name), sent, size)
        else:
            self._create(name, b"".join(sent))
        self._sent[name] = stored = counter.digest
        # The server has checked the signed upload; only reading verifies what it has stored.
        if (prove or hash_blocks)(self._store.read(self._folder, name)) != stored:
            raise self._mismatch_error(f"it returns {name} with another content than it was sent")
        return stored

    def remove(self, name: str) -> None:
        (self._temp_dir / name).unlink(missing_ok=True)
        if name in self._sent:
            self._client.delete([self._key(name)])
            del self._sent[name]

    def write_manifest(self, text: str, bases: Collection[str] = ()) -> None:
        sizes = {
            name: entry.bytes
            for name, entry in self._store.list_entries(self._folder).items()
            if name != INCOMPLETE_MARK
        }
        if sizes != {name: stored and stored.bytes for name, stored in self._sent.items()}:
            raise self._mismatch_error(
                f"{self._folder} does not contain the files that were stored; another program writes there"
            )
        lock = self._lock_files(bases)
        self._store.renew()
        with signals.block_signals():  # otherwise the state of the folder would be unknown
            try:
                self._create(MANIFEST, text.encode())
            except StorageFailedError as error:
                if not self._has_manifest(text, error):
                    raise
            self.is_complete = True
            self._store.unverified.add(self._folder)
            with suppress(DbctlError):  # the folder is complete with its manifest
                self._client.delete([self._key(INCOMPLETE_MARK)])
            self._lock_manifest(lock)

    def _lock_files(self, bases: Collection[str]) -> Callable[[str], None]:
        return self._store.lock_files([self._key(name) for name in self._sent], bases)

    def _lock_manifest(self, lock: Callable[[str], None]) -> None:
        try:
            lock(self._key(MANIFEST))
        except StorageFailedError as error:
            error.details = [f"{self._folder} is complete, and its files are locked, but not its manifest."]
            raise

    def _has_manifest(self, text: str, error: StorageFailedError) -> bool:
        """Whether the manifest exists although no response confirmed it; if that is unknown, extends ``error``."""
        try:
            return self._client.get(self._key(MANIFEST))[1] == text.encode()
        except FileNotFoundError:
            return False
        except DbctlError:
            error.details = [
                f"Whether {self._folder} is complete is unknown: the connection failed while its manifest was sent."
            ]
            error.hint = f"{error.hint} Once the storage responds, {VERIFY.write(facts={'id': self._folder})}"
            return False

    def _create(self, name: str, content: bytes) -> None:
        try:
            self._client.create(self._key(name), content)
        except ConflictError as error:
            raise self._mismatch_error(f"another program has written {name} into {self._folder}") from error

    @property
    def _client(self) -> RemoteClient:
        return self._store.client

    def _key(self, name: str) -> str:
        return self._store.key(self._folder, name)

    def _exists_error(self) -> RepositoryFailedError:
        return RepositoryFailedError(place=self._store.location, reason=f"{self._folder} exists already")

    def _mismatch_error(self, reason: str) -> StorageFailedError:
        hint = "The backup is not valid. Try again; do not use this storage if it happens again."
        return StorageFailedError(place=self._store.location, reason=reason, hint=hint)


class RemoteRewriter(RemoteWriter):
    """A complete folder of storage that gets further files and another manifest."""

    def begin(self) -> None:
        """Check that the folder is complete, as it is until a file is added."""
        if self._store.read_manifest(self._folder) is None:
            raise RepositoryFailedError(place=self._store.location, reason=f"{self._folder} was deleted")
        if not self._client.can_replace:
            reason = "the server cannot replace the manifest of a backup at once (posix-rename)"
            raise StorageFailedError(place=self._store.location, reason=reason, hint="No backup was changed.")
        self.is_complete = True

    def undo(self) -> None:
        """Delete the added files, unless the new manifest may have them."""
        if not self.is_complete:
            with signals.block_signals(), suppress(DbctlError):
                self._client.delete([self._key(name) for name in self._sent])

    def write(self, name: str, blocks: Iterable[bytes], size: int, prove: Prove | None = None) -> FileDigest:
        self.is_complete = False
        return super().write(name, blocks, size, prove)

    def remove(self, name: str) -> None:
        self._store.renew()
        (self._temp_dir / name).unlink(missing_ok=True)
        self._sent.pop(name, None)
        self._client.delete([self._key(name)])

    def write_manifest(self, text: str, bases: Collection[str] = ()) -> None:
        sizes = {name: entry.bytes for name, entry in self._store.list_entries(self._folder).items()}
        if any(stored is None or sizes.get(name) != stored.bytes for name, stored in self._sent.items()):
            raise self._mismatch_error(f"{self._folder} does not contain the files that were stored")
        lock = self._lock_files(bases)
        self._store.renew()
        with signals.block_signals():  # otherwise the state of the folder would be unknown
            self.is_complete = True  # unless the storage answers that it still has the other manifest
            try:
                self._client.put(self._key(MANIFEST), text.encode())
            except StorageFailedError as error:
                self.is_complete = self._has_manifest(text, error) or bool(error.details)
                if not self.is_complete or error.details:
                    raise
            self._lock_manifest(lock)
