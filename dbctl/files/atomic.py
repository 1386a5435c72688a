"""Files that are either complete or absent, also after a power failure."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO

from dbctl import signals
from dbctl.errors.connection import DiskFullError, FileExistsAlreadyError, FileFailedError, FileUnsyncedError
from dbctl.errors.usage import UsageError
from dbctl.model import Struct

#: Errors of FAT and some network file systems, which have no hard links.
WITHOUT_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
#: Errors of file systems that cannot sync directories.
WITHOUT_SYNC = {errno.EINVAL, errno.ENOTSUP}
#: Errors of file systems that have no locks.
WITHOUT_LOCKS = {errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
#: Folders with names of open descriptors, which a shell passes for <(…).
DESCRIPTOR_FOLDERS = {Path("/dev/fd"), Path("/proc/self/fd")}
#: Bytes of one read.
BLOCK = 1 << 20
#: Maximum bytes of a file with settings or keys.
MAX_SETTINGS_BYTES = 1 << 20


def make_folder(path: Path) -> None:
    """Create a folder with the owner and permissions of its parent, but not writable by all users.

    It may exist already.

    Raises:
        FileFailedError: it cannot be created.
    """
    try:
        parent = path.parent.stat()
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(path, parent.st_uid, parent.st_gid)
            path.chmod(stat.S_IMODE(parent.st_mode) & 0o2775)
            sync_directory(path.parent)
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error


@contextmanager
def write_atomically(
    path: Path, *, mode: int = 0o600, replace: bool = False, follow: bool = True, sync: bool = True
) -> Iterator[IO[str]]:
    """Yield a text file (UTF-8) that gets the name ``path`` if the block succeeds, and is deleted otherwise.

    It is written to a partial file in the same directory, synced, renamed, and the directory is synced: a crash leaves
    the old file or the new one, and a locked partial file that the next writer of ``path`` deletes.
    A symbolic link at ``path`` is followed, so that the link remains; a replaced file keeps its mode,
    and its owner if root replaces it. With ``follow=False`` anything at ``path`` is replaced, and its mode and owner are not retained.
    With ``sync=False`` nothing is synced: a power failure may leave an empty file.

    Raises:
        FileExistsAlreadyError: the file exists and ``replace`` is false.
        DiskFullError: the disk is full.
        FileFailedError: the directory is missing or not writable.
        FileUnsyncedError: the file was written, but the directory could not be synced.
    """
    import secrets

    destination = Path(os.path.realpath(path)) if follow else path
    if not replace and os.path.exists(destination):  # noqa: PTH110 - Path.exists raises without permission
        raise FileExistsAlreadyError(path=path, hint="Choose another name, or remove it first.")
    partial = destination.with_name(f".{destination.name}.dbctl-{secrets.token_hex(4)}.partial")
    _remove_abandoned(destination)
    try:
        try:
            with os.fdopen(_create_locked(partial, mode), "w", encoding="utf-8", newline="") as file:
                if replace and follow and destination.exists():
                    _copy_owner_and_mode(file.fileno(), destination.stat())
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
                # The file is still open and therefore locked, so that it is not deleted as abandoned.
                if replace:
                    partial.rename(destination)
                else:
                    rename_exclusively(partial, destination)
        except BaseException:  # also on a signal: an incomplete file must not remain
            with suppress(OSError):
                partial.unlink()
            raise
    except FileExistsError:
        raise FileExistsAlreadyError(path=path, hint="Choose another name, or remove it first.") from None
    except OSError as error:
        raise _create_error(error, path, destination.parent) from error
    if sync:
        sync_name(destination)


def _create_locked(path: Path, mode: int) -> int:
    """Create a file and lock it until it is closed; return its descriptor."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            mark_in_use(descriptor)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process removed it as abandoned before it was locked


def mark_in_use(descriptor: int) -> None:
    """Lock a temporary file or folder until it is closed, because unlocked ones are removed as abandoned.

    On a file system without locks, nothing is locked and nothing is removed as abandoned.

    Raises:
        OSError: it cannot be locked.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def _remove_abandoned(destination: Path) -> None:
    """Delete the partial files of ``destination`` that no process has locked: their writers were killed."""
    import fcntl

    pattern = re.compile(re.escape(f".{destination.name}.dbctl-") + r"[0-9a-f]{8}\.partial")
    with suppress(OSError), os.scandir(destination.parent) as entries:
        for path in [entry.path for entry in entries if pattern.fullmatch(entry.name)]:
            with suppress(OSError):  # another user's file, a locked one, or one that another process deletes
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if stat.S_ISREG(os.fstat(descriptor).st_mode):
                        os.unlink(path)  # noqa: PTH108 - a name of scandir
                finally:
                    os.close(descriptor)


def _copy_owner_and_mode(descriptor: int, model: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, model.st_uid, model.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(model.st_mode))


def rename_exclusively(path: Path, destination: Path) -> None:
    """Rename a file to a name that does not exist; unlike a plain rename, it never replaces a file.

    Without hard links, an empty file is created first, and the rename replaces it; a crash between the two steps leaves
    the empty file.
    """
    try:
        os.link(path, destination)
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
    else:
        with suppress(OSError):  # the file has its name; the next writer deletes the partial one
            path.unlink()
        return
    create_empty(destination)
    try:
        path.rename(destination)
    except BaseException:  # also on a signal: the empty file must not remain
        with suppress(OSError):
            destination.unlink()
        raise


def create_empty(path: Path) -> None:
    """Create an empty private file (mode 0600); raises ``OSError`` if the name exists, or the file cannot be created."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def expand_home(path: str) -> Path:
    """Return a path with the home directory instead of ``~`` or ``~USER``.

    Raises:
        UsageError: the user does not exist, or has no home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(detail=f"{path}: unknown home directory") from error


def open_named(path: Path) -> IO[bytes]:
    """Open a file for reading that the user has named.

    Other kinds of files are refused, because reading a pipe may block forever; descriptors of the shell are accepted.

    Raises:
        OSError: it cannot be read.
    """
    return path.open("rb") if _is_safe(path) else open_regular(path)


def _is_safe(path: Path) -> bool:
    """Whether a path that is not a regular file is safe to open: /dev/null, or a descriptor of the shell."""
    return path in (Path(os.devnull), Path("/dev/stdin")) or path.parent in DESCRIPTOR_FOLDERS


def open_regular(path: Path, *, follow: bool = True) -> IO[bytes]:
    """Open a regular file for reading; other kinds of files are refused without blocking.

    Raises:
        OSError: it cannot be read, is a directory, pipe or device, or a symbolic link that is not to be followed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_settings(path: Path) -> str:
    """Return the text of a file with settings or keys, which may be a descriptor of the shell (``<(…)``).

    Raises:
        OSError: it cannot be read, is not a regular file, or has more than ``MAX_SETTINGS_BYTES`` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_whole(path, MAX_SETTINGS_BYTES, is_named=True).decode()


def explain_failure(error: OSError | ValueError) -> str:
    """Return why a file with settings or keys could not be read or parsed."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it is not valid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def check_settings(path: Path) -> None:
    """Refuse a file whose reading would block a library or never end; a missing file is accepted.

    Raises:
        OSError: it is not a regular file, or has more than ``MAX_SETTINGS_BYTES`` bytes.
    """
    try:
        status = path.stat()
    except OSError:
        return
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or _is_safe(path)):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if stat.S_ISREG(status.st_mode) and status.st_size > MAX_SETTINGS_BYTES:
        raise _too_large(path, MAX_SETTINGS_BYTES)


def _too_large(path: Path, max_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {max_bytes:,} bytes", str(path))


def is_full(error: OSError) -> bool:
    """Whether an error means missing free space: of the disk, the quota, or the limit of the process."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def translate_errors(path: Path, folder: Path) -> Iterator[None]:
    """Raise ``OSError`` as an error of its file, or of ``path``; ``folder`` is on the disk that may be full.

    Raises:
        DiskFullError, FileFailedError: a file cannot be written or read.
    """
    try:
        yield
    except OSError as error:
        raise _create_error(error, error.filename or path, folder) from error


def _create_error(error: OSError, path: object, folder: Path) -> DiskFullError | FileFailedError:
    if is_full(error):
        return DiskFullError(target=str(folder))
    return FileFailedError(path=path, reason=error.strerror or str(error))


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file; symbolic links are not followed, and reading never blocks.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        Interrupted: a signal was received.
    """
    with open_regular(path, follow=False) as file:
        while block := file.read(BLOCK):
            signals.raise_if_interrupted()
            yield block


def read_whole(path: Path, max_bytes: int, *, is_named: bool = False) -> bytes:
    """Return the content of a file; unless the user has named it, symbolic links are not followed, and reading never blocks.

    Raises:
        OSError: it cannot be read, is not a regular file, or has more than ``max_bytes`` bytes.
    """
    with open_named(path) if is_named else open_regular(path, follow=False) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise _too_large(path, max_bytes)
    return content


def copy_file(source: Path, destination: Path) -> None:
    """Copy a file to a new one; raises the errors of ``write_blocks``, and ``OSError`` if it cannot be read."""
    with source.open("rb", buffering=0) as reader:
        write_blocks(destination, iter(lambda: reader.read(BLOCK), b""))


class FileDigest(Struct, frozen=True, kw_only=True):
    """The size and the hash of a file."""

    bytes: int
    sha256: str  #: hexadecimal; empty if it is not computed


class HashingCounter:
    """Counter of bytes, which also computes their SHA-256 if ``hashed``."""

    def __init__(self, *, hashed: bool = True) -> None:
        import hashlib

        self.bytes, self._hash = 0, hashlib.sha256() if hashed else None

    @property
    def digest(self) -> FileDigest:
        """The bytes that were counted."""
        return FileDigest(bytes=self.bytes, sha256=self._hash.hexdigest() if self._hash else "")

    def add(self, block: bytes) -> None:
        self.bytes += len(block)
        if self._hash:
            self._hash.update(block)

    def count(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.add(block)
            yield block


def hash_blocks(blocks: Iterable[bytes]) -> FileDigest:
    """Read all blocks and return their size and hash."""
    counter = HashingCounter()
    for block in blocks:
        counter.add(block)
    return counter.digest


class NewFile:
    """An unbuffered file, with a counter of its content."""

    def __init__(self, file: FileIO, *, hashed: bool) -> None:
        self._file, self.counter = file, HashingCounter(hashed=hashed)

    def write(self, block: bytes) -> int:
        """Write the complete block, and return its size."""
        self.counter.add(block)
        remaining = memoryview(block)
        while remaining:
            remaining = remaining[self._file.write(remaining) :]
        return len(block)


@contextmanager
def open_new(path: Path, *, hashed: bool = False, synced: bool = True) -> Iterator[NewFile]:
    """Open a new file, mode 0600; it is synced at the end, or deleted on failure; raises ``OSError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            yield NewFile(file, hashed=hashed)
            if synced:
                os.fsync(file.fileno())
    except BaseException:  # also on a signal: an incomplete file must not remain
        with suppress(OSError):
            path.unlink()
        raise


@contextmanager
def create_file(path: Path, *, temporary: bool = False) -> Iterator[NewFile]:
    """Open a new private file as ``open_new`` does; a ``temporary`` file is neither synced nor hashed.

    Raises:
        DiskFullError, FileFailedError: it cannot be written.
    """
    with (
        translate_errors(path, path.parent),
        open_new(path, hashed=not temporary, synced=not temporary) as file,
    ):
        yield file


def write_blocks(destination: Path, content: Iterable[bytes]) -> None:
    """Write a new file, mode 0600, and sync it; an incomplete file is deleted.

    Raises:
        OSError: it cannot be written.
        Interrupted: a signal was received.
    """
    with open_new(destination) as file:
        for block in content:
            signals.raise_if_interrupted()
            file.write(block)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_name(path: Path) -> None:
    """Make the name of a file durable that was created or renamed.

    Raises:
        FileUnsyncedError: the folder could not be synced; the file has its name.
    """
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise FileUnsyncedError(path=path, reason=error.strerror or str(error)) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, if the file system supports that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in WITHOUT_SYNC:
            raise
    finally:
        os.close(descriptor)
