"""A directory as a store: ``REPOSITORY/APP/FOLDER/FILE``, folders 0700 and files 0600."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from dbctl import signals
from dbctl.errors.backup import RepositoryFailedError, RepositoryMissingError
from dbctl.errors.base import Remedy
from dbctl.errors.connection import FileUnsyncedError
from dbctl.files import atomic, mounts
from dbctl.files import lock as file_lock
from dbctl.files.atomic import FileDigest, HashingCounter, hash_blocks
from dbctl.stores.base import (
    INCOMPLETE_MARK,
    LOCK,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    RECORD_SECONDS,
    TEMP_PREFIX,
    VERIFICATION,
    FolderState,
    FolderWriter,
    Protection,
    Prove,
    fill_folder,
    read_each_manifest,
    require_private,
    to_error,
    translate_errors,
)

_DELETED_IN_PART = Remedy("{folder} is no longer a backup. Delete the rest with: `backup prune`")


class DirectoryStore:
    """The backups of one app in a local directory."""

    def __init__(self, repository: Path, app: str) -> None:
        self._repository, self._app = repository, app
        self._root = repository / app
        self.location = str(self._root)

    def list_folders(self) -> Mapping[str, FolderState]:
        states = {}
        try:
            with os.scandir(self._root) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith(TEMP_PREFIX) or not entry.is_dir(follow_symlinks=False):
                        continue
                    if state := self._state(entry.name):
                        states[entry.name] = state
        except FileNotFoundError as error:
            if not self._repository.is_dir():
                raise RepositoryMissingError(place=self._repository) from error
            return {}
        except OSError as error:
            raise to_error(self.location, error) from error
        return states

    def _state(self, folder: str) -> FolderState | None:
        """Return the state of a folder; None if it was deleted concurrently."""
        try:
            names = set(os.listdir(self._root / folder))  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            return None
        except PermissionError:
            # Another user's folder. ``read_manifest`` reports the error, so that the other folders are still listed.
            return FolderState.COMPLETE
        if MANIFEST in names:
            return FolderState.COMPLETE
        # A verification record alone was written while its folder was deleted.
        is_incomplete = INCOMPLETE_MARK in names or names <= {VERIFICATION}
        return FolderState.INCOMPLETE if is_incomplete else FolderState.FOREIGN

    def read_protection(self, folder: str) -> Protection:
        del folder
        return Protection()

    def is_locked(self) -> bool:
        return file_lock.is_held(self._root / LOCK)

    def read_manifest(self, folder: str) -> bytes | None:
        return self._read(folder, MANIFEST)

    def read_manifests(
        self, folders: Sequence[str]
    ) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
        return read_each_manifest(self, folders)

    @contextmanager
    def lock_record(self, folder: str, *, timeout: float = RECORD_SECONDS) -> Iterator[None]:
        with translate_errors(self.location):
            descriptor = os.open(self._root / folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with translate_errors(self.location):
                self._wait_for_record(descriptor, folder, timeout)
            yield
        finally:
            os.close(descriptor)

    def _wait_for_record(self, descriptor: int, folder: str, timeout: float) -> None:
        # The folder itself, because a file of its own could not be created in a repository that is read-only.
        try_lock = partial(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        target = f"the record of {self.location}/{folder}"
        try:
            file_lock.wait_for_lock(target, timeout, try_lock, lambda: " by another process")
        except OSError as error:
            if error.errno not in atomic.WITHOUT_LOCKS:
                raise

    def write_verification(self, folder: str, text: str) -> None:
        with atomic.write_atomically(self._root / folder / VERIFICATION, replace=True, follow=False) as file:
            file.write(text)
            self._set_owner(file.fileno())

    def read_verification(self, folder: str) -> bytes | None:
        return self._read(folder, VERIFICATION)

    def _read(self, folder: str, name: str) -> bytes | None:
        try:
            return atomic.read_whole(self._root / folder / name, MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RepositoryFailedError(
                place=self.location, reason=f"{folder}/{name}: {error.strerror}"
            ) from error

    def list_files(self, folder: str) -> Mapping[str, int]:
        root, sizes = self._root / folder, {}
        try:
            for parent, _folders, names in os.walk(root, onerror=_raise):
                for name in names:
                    path = Path(parent, name)
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode):
                        sizes[str(path.relative_to(root))] = status.st_size
        except FileNotFoundError:  # another dbctl process pruned it concurrently
            return {}
        except OSError as error:
            raise to_error(self.location, error) from error
        return {
            name: size
            for name, size in sorted(sizes.items())
            if name not in (MANIFEST, INCOMPLETE_MARK, VERIFICATION)
        }

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        with translate_errors(self.location):
            yield from atomic.read_blocks(self._root / folder / name)

    @contextmanager
    def open_locally(self, folder: str, name: str) -> Iterator[Path]:
        yield self._root / folder / name

    @contextmanager
    def temp_dir(self, required_bytes: int) -> Iterator[Path]:
        import tempfile

        from dbctl.files import temp

        # Next to the backups, which have enough free space; a user with read access only uses the system's folder.
        writable = os.access(self._root, os.W_OK)
        parent = self._root if writable else Path(tempfile.gettempdir())
        mounts.require_space(parent, required_bytes)
        with ExitStack() as stack:
            with translate_errors(self.location):
                folder = stack.enter_context(temp.folder(parent, TEMP_PREFIX))
            yield folder

    @contextmanager
    def create_folder(self, folder: str) -> Iterator[FolderWriter]:
        with translate_errors(self.location):
            self._create_root()
        with fill_folder(DirectoryWriter(self._root / folder), self.location) as writer:
            yield writer

    @contextmanager
    def rewrite_folder(self, folder: str) -> Iterator[FolderWriter]:
        with fill_folder(DirectoryRewriter(self._root / folder), self.location) as writer:
            yield writer

    def remove_folder(self, folder: str) -> None:
        with self.lock_record(folder):  # a verification may be about to write it into the folder
            self._remove_locked(folder)

    def _remove_locked(self, folder: str) -> None:
        path = self._root / folder
        with translate_errors(self.location):
            # Renaming the manifest to the mark leaves a folder marked as incomplete after an interruption. No file is
            # created for that, so pruning works on a full disk.
            with suppress(FileNotFoundError):
                (path / MANIFEST).rename(path / INCOMPLETE_MARK)
            atomic.sync_directory(path)
        with translate_errors(self.location, hint=_DELETED_IN_PART, folder=folder):
            _remove_tree(path)
            atomic.sync_directory(self._root)

    def require_space(self, required_bytes: int, *, staged: bool = True) -> None:
        del staged  # files are created directly in the store
        mounts.require_space(mounts.find_existing(self._root), required_bytes)

    def free_space(self) -> int | None:
        return mounts.free_space(mounts.find_existing(self._root))

    @contextmanager
    def lock(self, purpose: str, *, timeout: float) -> Iterator[None]:
        with translate_errors(self.location):
            self._create_root()
            is_read_only = mounts.read_volume(self._root).read_only
        if is_read_only:  # no process of this machine changes it, and a copy of a backup only reads
            yield
            return
        with file_lock.exclusive(
            self._root / LOCK,
            self.location,
            purpose,
            timeout=timeout,
            to_error=lambda reason: RepositoryFailedError(place=self.location, reason=f"its lock: {reason}"),
            prepare=self._set_owner,
        ):
            self._remove_leftovers()
            yield

    def _remove_leftovers(self) -> None:
        """Delete the leftovers of killed processes: temporary folders, and marks of complete folders."""
        from dbctl.files import temp

        temp.remove_abandoned(self._root, TEMP_PREFIX)
        for mark_path in self._root.glob(f"*/{INCOMPLETE_MARK}"):
            if (mark_path.parent / MANIFEST).exists():
                _remove_mark(mark_path.parent)

    def _create_root(self) -> None:
        """Create the repository if missing, but not its parent, which may be a disk that is not mounted."""
        try:
            self._repository.mkdir(mode=0o700)
            _hand_over(self._repository, self._repository.parent.stat(), empty=True)
            atomic.sync_directory(self._repository.parent)
        except FileExistsError:
            pass
        repository_status = self._repository.stat()
        if not stat.S_ISDIR(repository_status.st_mode):
            raise NotADirectoryError(20, "it is not a directory")
        require_private(self._repository, repository_status)
        try:
            self._root.mkdir(mode=0o700)
            _hand_over(self._root, repository_status, empty=True)
            atomic.sync_directory(self._repository)
        except FileExistsError:
            status = self._root.lstat()
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(20, "it is not a directory") from None
            require_private(self._root, status)

    def _set_owner(self, descriptor: int) -> None:
        """Change the owner of an open file that root created to the owner of the backups."""
        owner = self._root.stat()
        if os.geteuid() == 0:
            with suppress(OSError):  # some file systems have no owners
                os.fchown(descriptor, owner.st_uid, owner.st_gid)


class DirectoryWriter:
    """A folder of a directory that is being filled."""

    def __init__(self, path: Path) -> None:
        self._path, self._is_created = path, False
        self.is_complete = False

    def begin(self) -> None:
        """Create and mark the folder."""
        # A signal between creating the folder and recording that would leave the folder behind.
        with signals.defer_signals():
            self._path.mkdir(mode=0o700)
            self._is_created = True
            atomic.create_empty(self._path / INCOMPLETE_MARK)
            atomic.sync_directory(self._path)
            atomic.sync_directory(self._path.parent)
        signals.raise_if_interrupted()

    def undo(self) -> None:
        """Delete an incomplete folder."""
        if self._is_created and not self.is_complete:
            with suppress(OSError):
                _remove_tree(self._path)

    def local_path(self, name: str) -> Path:
        path = self._path / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def store(self, name: str, sha256: str = "") -> FileDigest:
        path = self._path / name
        atomic.sync_file(path)
        stored = (
            FileDigest(bytes=path.lstat().st_size, sha256=sha256)
            if sha256
            else hash_blocks(atomic.read_blocks(path))
        )
        atomic.sync_directory(path.parent)
        return stored

    def write(self, name: str, blocks: Iterable[bytes], size: int, prove: Prove | None = None) -> FileDigest:
        del size  # a full disk reports an error itself
        path, counter = self.local_path(name), HashingCounter()
        atomic.write_blocks(path, counter.count(blocks))
        if prove and prove(atomic.read_blocks(path)) != counter.digest:
            raise RepositoryFailedError(place=path, reason="it has other content than was written")
        atomic.sync_directory(path.parent)
        return counter.digest

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def write_manifest(self, text: str, bases: Collection[str] = ()) -> None:
        del bases  # nothing is locked
        try:
            # No other file may exist next to a manifest, because it would be part of the backup: removed files must not return
            # after a loss of power, and the manifest is renamed.
            atomic.sync_directory(self._path)
            with atomic.write_atomically(self._path / MANIFEST, replace=True, follow=False) as file:
                file.write(text)
        except FileUnsyncedError as error:  # it is deleted with the folder
            raise RepositoryFailedError(place=self._path, reason=error.context["reason"]) from error
        self.is_complete = True
        _remove_mark(self._path)


class DirectoryRewriter(DirectoryWriter):
    """A complete folder that gets further files and another manifest."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._added = set[str]()

    def begin(self) -> None:
        """Check that the folder is complete, as it is until a file is added."""
        (self._path / MANIFEST).lstat()
        self.is_complete = True

    def undo(self) -> None:
        """Delete the added files, unless the new manifest may have them."""
        if not self.is_complete:
            with suppress(OSError):
                for name in self._added:
                    (self._path / name).unlink(missing_ok=True)

    def local_path(self, name: str) -> Path:
        self._added.add(name)
        self.is_complete = False
        return super().local_path(name)

    def remove(self, name: str) -> None:
        super().remove(name)
        atomic.sync_directory(self._path)

    def write_manifest(self, text: str, bases: Collection[str] = ()) -> None:
        path = self._path / MANIFEST
        try:
            super().write_manifest(text, bases)
        except BaseException:  # also on a signal: the new manifest may already have replaced the other one
            with suppress(OSError):
                self.is_complete = atomic.read_whole(path, MAX_MANIFEST_BYTES) == text.encode()
            raise


class TemporaryWriter(DirectoryWriter):
    """A private folder of the caller, which deletes it: its files are neither synced nor read again for their hash."""

    def store(self, name: str, sha256: str = "") -> FileDigest:
        return FileDigest(bytes=(self._path / name).lstat().st_size, sha256=sha256)


def _remove_mark(folder: Path) -> None:
    """Hand over a complete folder to the owner of the repository and remove its mark; failures are harmless."""
    with suppress(OSError):
        _hand_over(folder, folder.parent.stat())
        (folder / INCOMPLETE_MARK).unlink()
        atomic.sync_directory(folder)


def _raise(error: OSError) -> None:
    raise error


def _hand_over(folder: Path, owner: os.stat_result, *, empty: bool = False) -> None:
    """Change the owner of a folder that root created, and of its files, to the owner of its parent.

    Otherwise the next prune of the owner could not read a backup that root created, for example before a restore. If the
    folder was just created, it must be ``empty``: a user who may rename it could have replaced it by another folder of root.
    """
    if os.geteuid() != 0:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid == 0:  # otherwise another folder took its place
            with suppress(OSError):  # some file systems have no owners
                names = os.listdir(descriptor)  # noqa: PTH208 - not of a path
                if empty and names:
                    return
                for name in names:
                    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=descriptor, follow_symlinks=False)
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)


def _remove_tree(folder: Path) -> None:
    """Delete a folder, its mark last."""
    import shutil

    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == INCOMPLETE_MARK):
        if stat.S_ISDIR(entry.lstat().st_mode):
            shutil.rmtree(entry)
        else:
            entry.unlink()
    folder.rmdir()
