"""Contract: a store of backups. A backup is a folder of files, which is complete or marked as incomplete."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from shlex import quote
from typing import Literal, Protocol, TypeAlias

from dbctl.errors.backup import RepositoryFailedError, RepositoryUnsafeError
from dbctl.errors.connection import DiskFullError
from dbctl.files.atomic import FileDigest, is_full
from dbctl.model import Struct, now
from dbctl.units import parse_duration

#: Marks a folder that is being filled, or whose creation was interrupted. It is created first and removed last.
INCOMPLETE_MARK = ".dbctl-incomplete"
#: The last file of a folder: a folder with this file is complete.
MANIFEST = "manifest.json"
#: The verification record of a folder.
VERIFICATION = "verified.json"
LOCK = ".dbctl-lock"
#: Prefix of temporary folders.
TEMP_PREFIX = ".dbctl-unpacked-"
#: Maximum bytes of a manifest, which has one line per table.
MAX_MANIFEST_BYTES = 16 << 20
#: Seconds to wait for another process that replaces the record of a folder, which takes two requests.
RECORD_SECONDS = 30


class FolderState(Enum):
    COMPLETE = "whole"  #: its manifest was written
    INCOMPLETE = "incomplete"  #: dbctl began to fill it and was interrupted
    FOREIGN = "foreign"  #: another program created it; dbctl does not change it


class Protection(Struct, frozen=True, kw_only=True):
    """What keeps deleted files in the store, or prevents their deletion, as far as the store reports it."""

    keeps_versions: bool = False  #: deleted and replaced files remain as old versions
    retained_until: datetime | None = None
    has_legal_hold: bool = False  #: until the hold is released

    @property
    def refusal(self) -> str:
        """Why the files must not be deleted now; empty if they may."""
        if self.has_legal_hold:
            return "under a legal hold"
        if self.retained_until and self.retained_until > now():
            return f"under retention until {self.retained_until:%Y-%m-%d %H:%M} UTC"
        return ""


class ObjectLock(Struct, frozen=True, kw_only=True):
    """How the files of new backups are locked."""

    text: str  #: the period as it is written: ``30d``
    mode: Literal["compliance", "governance"]

    @property
    def period(self) -> timedelta:
        return parse_duration(self.text)

    @property
    def plan_step(self) -> str:
        """The step of a plan that stores files."""
        return f"lock every file for {self.text} ({self.mode})"


#: Examines the content of a stored file, and returns its digest.
Prove: TypeAlias = Callable[[Iterable[bytes]], FileDigest]


class FolderWriter(Protocol):
    """A folder that is being filled. Existing files are not overwritten: ``remove`` deletes them first."""

    def local_path(self, name: str) -> Path:
        """Return the local path at which the file ``name`` has to be created; nothing exists there yet."""

    def store(self, name: str, sha256: str = "") -> FileDigest:
        """Store the file that was created at ``local_path(name)`` durably.

        Without ``sha256`` the file is read to compute it. The local file can be read until the next one is created.
        """

    def write(self, name: str, blocks: Iterable[bytes], size: int, prove: Prove | None = None) -> FileDigest:
        """Write a file of about ``size`` bytes from its content, durably and without a local file; ``prove`` reads what is stored."""

    def remove(self, name: str) -> None:
        """Delete a file, if it exists, whether it is only local or already stored."""

    def write_manifest(self, text: str, bases: Collection[str] = ()) -> None:
        """Write the manifest, which completes the folder.

        A store that locks files locks them before that, those of the folders ``bases`` until the same time, and the manifest last.

        Raises:
            RepositoryFailedError: the folder does not contain exactly the files that were stored.
        """


class IncompleteFolder(FolderWriter, Protocol):
    """A folder while it is created."""

    is_complete: bool  #: whether its manifest was written

    def begin(self) -> None:
        """Create and mark the folder."""

    def undo(self) -> None:
        """Delete the folder, unless it is complete."""


@contextmanager
def fill_folder(writer: IncompleteFolder, location: object) -> Iterator[FolderWriter]:
    """Create a folder for the block, and delete it if the block raises; errors of the disk are errors of ``location``."""
    try:
        with translate_errors(location):
            writer.begin()
            yield writer
    except BaseException:  # also on a signal: an incomplete folder must not remain
        writer.undo()
        raise
    if not writer.is_complete:
        raise RuntimeError("the manifest was not written")


class Store(Protocol):
    """The backups of one app: folders by name. Symbolic links in the store are not followed."""

    location: str  #: for messages

    def list_folders(self) -> Mapping[str, FolderState]:
        """Return the state of each folder by name, sorted; empty if nothing of this app was ever stored.

        Raises:
            RepositoryMissingError: the repository does not exist.
            RepositoryFailedError: it cannot be read.
        """

    def is_locked(self) -> bool:
        """Return whether a process holds the lock, as far as this can be detected without writing."""

    def read_manifest(self, folder: str) -> bytes | None:
        """Return the content of a folder's manifest, as passed to ``FolderWriter.write_manifest``; None if the folder was deleted concurrently.

        Raises:
            RepositoryFailedError: it cannot be read.
        """

    def read_manifests(
        self, folders: Sequence[str]
    ) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
        """Yield each folder with the result or error of ``read_manifest``; a remote store reads several concurrently."""

    def lock_record(self, folder: str, *, timeout: float = RECORD_SECONDS) -> AbstractContextManager[None]:
        """Block other processes of this machine that replace the verification record of a folder, which also happens without the lock of the store.

        Raises:
            BusyError: another process held the lock for ``timeout`` seconds.
        """

    def write_verification(self, folder: str, text: str) -> None:
        """Write the verification record of a folder, and replace an earlier one."""

    def read_verification(self, folder: str) -> bytes | None:
        """Return the verification record of a folder, or None.

        Raises:
            RepositoryFailedError: it cannot be read.
        """

    def list_files(self, folder: str) -> Mapping[str, int]:
        """Return the size of each file of a folder, without manifest and verification record; empty for a missing folder."""

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield the content of a file in blocks.

        Raises:
            RepositoryFailedError: it does not exist, or cannot be read.
        """

    def open_locally(self, folder: str, name: str) -> AbstractContextManager[Path]:
        """Yield a local path of a file for reading only.

        Raises:
            InsufficientSpaceError, DiskFullError: the store is remote, and the file does not fit on this machine.
            RepositoryFailedError: it does not exist, or cannot be fetched.
        """

    def temp_dir(self, required_bytes: int) -> AbstractContextManager[Path]:
        """Yield an empty local folder that only this user can read, for decompressed files, and delete it at the end.

        The temporary folders of killed dbctl processes are also deleted.

        Raises:
            InsufficientSpaceError: there is no free space for ``required_bytes``.
            RepositoryFailedError: no folder can be created.
        """

    def create_folder(self, folder: str) -> AbstractContextManager[FolderWriter]:
        """Create a folder; it is deleted if the block raises.

        Raises:
            RepositoryFailedError: it exists already, or cannot be created.
        """

    def rewrite_folder(self, folder: str) -> AbstractContextManager[FolderWriter]:
        """Add files to a complete folder, and replace its manifest; both are deleted or unchanged if the block raises before that.

        ``remove`` deletes any file of the folder. A process that is killed leaves files that no manifest has.

        Raises:
            RepositoryFailedError: it does not exist, or cannot be changed.
        """

    def remove_folder(self, folder: str) -> None:
        """Delete a folder; an interruption leaves it incomplete."""

    def read_protection(self, folder: str) -> Protection:
        """Return what prevents the deletion of the files of a folder.

        Raises:
            RepositoryFailedError, StorageFailedError: it cannot be read.
        """

    def require_space(self, required_bytes: int, *, staged: bool = True) -> None:
        """Check the free space of the store and, if files are ``staged`` at ``local_path`` first, of the local folder.

        Raises:
            InsufficientSpaceError: there is not enough free space, as far as known.
        """

    def free_space(self) -> int | None:
        """Return the free space of the store in bytes; None if unknown."""

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        """Block other dbctl processes from writing to the store.

        Raises:
            BusyError: another dbctl process held the lock for ``timeout`` seconds.
        """


def folders_in_state(folders: Mapping[str, FolderState], state: FolderState) -> Sequence[str]:
    """Return the names of the folders in one state, sorted."""
    return [name for name, folder_state in folders.items() if folder_state is state]


def read_each_manifest(
    store: Store, folders: Iterable[str]
) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
    """Yield the results of ``Store.read_manifests``, one folder after the other."""
    for folder in folders:
        try:
            yield folder, store.read_manifest(folder)
        except RepositoryFailedError as error:
            yield folder, error


def require_private(path: Path, status: os.stat_result) -> None:
    """Refuse a directory that other users can write to; raises ``RepositoryUnsafeError``."""
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        raise RepositoryUnsafeError(place=path, mode=mode, machine="this machine", quoted=quote(str(path)))


@contextmanager
def translate_errors(location: object, **facts: object) -> Iterator[None]:
    """Translate ``OSError`` into an error of ``location``: ``DiskFullError`` or ``RepositoryFailedError``, with these facts."""
    try:
        yield
    except OSError as error:
        raise to_error(location, error, **facts) from error


def to_error(location: object, error: OSError, **facts: object) -> RepositoryFailedError | DiskFullError:
    """Return an ``OSError`` as an error of ``location``."""
    if is_full(error):
        return DiskFullError(target=location)
    path = f"{error.filename}: " if error.filename and str(error.filename) != str(location) else ""
    return RepositoryFailedError(place=location, reason=f"{path}{error.strerror or error}", **facts)
