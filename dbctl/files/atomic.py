"""Files that are either whole or absent, also after the power goes."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dbctl import signals
from dbctl.errors import FileExistsAlreadyError, FileFailedError, FileUnsyncedError, UsageError

#: How FAT, and some disks of other machines, say that they have no hard links.
WITHOUT_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
#: How a disk says that its directories are not synced at all.
WITHOUT_SYNC = {errno.EINVAL, errno.ENOTSUP}
#: Errors of file systems that have no locks.
WITHOUT_LOCKS = {errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
#: Where descriptors have names, as a shell gives them for <(…).
OPENED_ALREADY = {Path("/dev/fd"), Path("/proc/self/fd")}
#: Bytes that are read at a time.
BLOCK = 1 << 20
#: Bytes of a file of settings or keys; nobody writes as many by hand.
LARGEST_SETTINGS = 1 << 20


def make_folder(path: Path) -> None:
    """Make a folder, owned like the one that it stands in, and open to whom that one is, but never to be written by all.

    It may be there already.

    Raises:
        FileFailedError: it cannot be made.
    """
    try:
        like = path.parent.stat()
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(path, like.st_uid, like.st_gid)
            path.chmod(stat.S_IMODE(like.st_mode) & 0o2775)
            sync_directory(path.parent)
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error


@contextmanager
def written_whole(
    path: Path, *, mode: int = 0o600, replace: bool = False, follow: bool = True
) -> Iterator[IO[str]]:
    """Give a text file (UTF-8) that gets the name ``path`` when the block ends well, and is removed when not.

    It is written to a partial file in the same directory, synced, renamed, and the directory is synced: a crash leaves
    the old file or the new one, and a locked partial file that the next writer of ``path`` removes.
    A symbolic link at ``path`` is followed, so that the link stays; a file that is replaced keeps its mode,
    and its owner where root replaces it. With ``follow=False`` whatever stands there is replaced, and nothing kept.

    Raises:
        FileExistsAlreadyError: there is a file and ``replace`` is false.
        FileFailedError: the disk is full, the directory is missing or may not be written.
        FileUnsyncedError: the file is in its place, and the directory could not be synced.
    """
    import secrets

    place = Path(os.path.realpath(path)) if follow else path
    if not replace and os.path.exists(place):  # noqa: PTH110 - Path.exists raises where it may not look
        raise FileExistsAlreadyError(path=path, instead="Choose another name, or remove it first.")
    partial = place.with_name(f".{place.name}.dbctl-{secrets.token_hex(4)}.partial")
    _remove_abandoned(place)
    try:
        try:
            with os.fdopen(_create_locked(partial, mode), "w", encoding="utf-8", newline="") as file:
                if replace and follow and place.exists():
                    _make_like(file.fileno(), place.stat())
                yield file
                file.flush()
                os.fsync(file.fileno())
                # still open, and so locked: it is not removed as abandoned
                if replace:
                    partial.rename(place)
                else:
                    rename_beside(partial, place)
        except BaseException:  # also on a signal: a half-written file must not stay
            with suppress(OSError):
                partial.unlink()
            raise
    except FileExistsError:
        raise FileExistsAlreadyError(path=path, instead="Choose another name, or remove it first.") from None
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
    try:
        sync_directory(place.parent)
    except OSError as error:
        raise FileUnsyncedError(path=path, reason=error.strerror or str(error)) from error


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
    """Lock a temporary file or folder until it is closed: what is not locked is removed as abandoned.

    Where the file system has no locks, nothing is removed as abandoned, and nothing is locked.

    Raises:
        OSError: it cannot be locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def _remove_abandoned(place: Path) -> None:
    """Remove the partial files of ``place`` that no process holds locked: their writers were killed."""
    pattern = re.compile(re.escape(f".{place.name}.dbctl-") + r"[0-9a-f]{8}\.partial")
    with suppress(OSError), os.scandir(place.parent) as entries:
        for path in [entry.path for entry in entries if pattern.fullmatch(entry.name)]:
            with suppress(OSError):  # another user's file, a locked one, or one that is removed right now
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if stat.S_ISREG(os.fstat(descriptor).st_mode):
                        os.unlink(path)  # noqa: PTH108 - a name of scandir
                finally:
                    os.close(descriptor)


def _make_like(descriptor: int, other: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, other.st_uid, other.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(other.st_mode))


def rename_beside(path: Path, place: Path) -> None:
    """Rename a file to where none is; unlike a plain rename, it never replaces what came meanwhile.

    Where the disk has no hard links, an empty file takes the name first, and the rename replaces that one; a crash
    between the two leaves it empty.
    """
    try:
        os.link(path, place)
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
    else:
        with suppress(OSError):  # the file has its name; the next writer removes the partial one
            path.unlink()
        return
    os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    try:
        path.rename(place)
    except BaseException:  # also on a signal: the empty file must not stay
        with suppress(OSError):
            place.unlink()
        raise


def expand_home(path: str) -> Path:
    """Return a path with the home directory in place of ``~`` or ``~USER``.

    Raises:
        UsageError: there is no such user, or the user has no home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(detail=f"{path}: the home directory of that user is not known") from error


def named(path: Path) -> IO[bytes]:
    """Open a file for reading that a person named.

    What is no file is refused, since a pipe may be waited for for ever; what the shell has opened already is taken.

    Raises:
        OSError: it cannot be read.
    """
    return path.open("rb") if _is_safe(path) else regular(path)


def _is_safe(path: Path) -> bool:
    """Whether it is known what a path that is no regular file leads to: nothing, or what the shell has opened."""
    return path in (Path(os.devnull), Path("/dev/stdin")) or path.parent in OPENED_ALREADY


def regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading; what is something else is refused, and never waited for.

    Raises:
        OSError: it cannot be read, or is a directory, a pipe, a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read_settings(path: Path) -> str:
    """Return the text of a file of settings or keys, also of one that the shell has opened (``<(…)``).

    Raises:
        OSError: it cannot be read, is no regular file, or holds more than ``LARGEST_SETTINGS`` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_settings_bytes(path).decode()


def read_settings_bytes(path: Path, most: int = LARGEST_SETTINGS) -> bytes:
    """Return what such a file of at most so many bytes holds; raises ``OSError`` as ``read_settings`` does."""
    with named(path) as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise _too_large(path, most)
    return raw


def check_settings(path: Path) -> None:
    """Refuse a file that a library would wait for, or read without an end; one that is missing is its own affair.

    Raises:
        OSError: it is no regular file, or holds more than ``LARGEST_SETTINGS`` bytes.
    """
    try:
        found = path.stat()
    except OSError:
        return
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or _is_safe(path)):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if stat.S_ISREG(found.st_mode) and found.st_size > LARGEST_SETTINGS:
        raise _too_large(path, LARGEST_SETTINGS)


def _too_large(path: Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))


def is_regular(path: Path) -> bool:
    """Whether a file is there, and can be looked at: ``Path.is_file`` fails where a directory may not be entered."""
    return os.path.isfile(path)  # noqa: PTH113 - as said


def is_full(error: OSError) -> bool:
    """Whether it failed because there is no room: on the disk, in the quota, or in what the process may write."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def blocks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file; a symbolic link is not followed, and nothing is waited for.

    Raises:
        OSError: it cannot be read, or is no regular file.
        Interrupted: a signal came.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        while block := file.read(BLOCK):
            signals.check()
            yield block


def read_whole(path: Path, most: int) -> bytes:
    """Return what a file holds; a symbolic link is not followed, and nobody is waited for.

    Raises:
        OSError: it cannot be read, is no regular file, or holds more than ``most`` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        read = file.read(most + 1)
    if len(read) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
    return read


def copied(source: Path, destination: Path) -> None:
    """Copy a file as it is into a new one; raises as ``filled`` does, and where it cannot be read."""
    with source.open("rb", buffering=0) as read:
        filled(destination, iter(lambda: read.read(BLOCK), b""))


def filled(destination: Path, content: Iterable[bytes]) -> None:
    """Write a new file, mode 0600, and sync it; half of it does not stay.

    Raises:
        OSError: it cannot be written.
        Interrupted: a signal came.
    """
    descriptor = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for block in content:
                signals.check()
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # also on a signal, as above
        with suppress(OSError):
            destination.unlink()
        raise


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, where the disk can do that at all."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in WITHOUT_SYNC:
            raise
    finally:
        os.close(descriptor)
