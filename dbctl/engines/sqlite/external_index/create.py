"""Create the file of an external index: complete or absent, one at a time, readable by the readers of the database."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.errors.connection import BusyError, FileFailedError, FileUnsyncedError
from dbctl.files import atomic
from dbctl.files.atomic import create_empty, sync_directory

#: The name of an unfinished file, also of a dbctl that was killed.
PARTIAL = ".{name}.dbctl-{number}.partial"
#: Seconds between two tries for the lock.
RETRY_SECONDS = 0.05
#: The attribute in which Linux stores access control lists.
ACCESS_LIST = "system.posix_acl_access"


@contextmanager
def create_partial(path: Path, target: str, *, timeout: float) -> Iterator[Path]:
    """Yield an empty file next to ``path`` and remove it at the end; a lock prevents concurrent creation.

    Raises:
        BusyError: another process had the lock for all of ``timeout`` seconds.
        FileFailedError: the file cannot be created.
    """
    if path.is_dir() and not path.is_symlink():  # refuse before the work, not after it
        raise FileFailedError(path=path, reason="a directory has this name; move it away first")
    with ExitStack() as stack:
        with atomic.translate_errors(path.parent, path.parent):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(_lock_folder(path, target, timeout))
        partial = path.with_name(PARTIAL.format(name=path.name, number=secrets.token_hex(4)))
        try:
            create_empty(partial)
        except OSError as error:
            raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
        try:
            yield partial
        finally:
            with signals.block_signals(), suppress(OSError):
                partial.unlink()


@contextmanager
def _lock_folder(path: Path, target: str, timeout: float) -> Iterator[None]:
    """Lock the folder of a file, and remove the leftovers of killed processes; on a file system without locks, nothing."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _wait_for_lock(folder, target, timeout):
            _remove_leftovers(path)
        yield
    finally:
        os.close(folder)


def _wait_for_lock(folder: int, target: str, timeout: float) -> bool:
    """Wait for the lock of a folder; return False if its file system has no locks."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            signals.raise_if_interrupted()
            if time.monotonic() >= deadline:
                holder = " by another dbctl that creates a search index in the same folder"
                raise BusyError(target=target, holder=holder, waited=f"{timeout:g}") from None
            time.sleep(RETRY_SECONDS)
        except OSError:
            return False
        else:
            return True


def _remove_leftovers(path: Path) -> None:
    begin, end = PARTIAL.format(name=path.name, number="\0").split("\0")
    for leftover in path.parent.iterdir():
        if leftover.name.startswith(begin) and leftover.name.endswith(end):
            with suppress(OSError):
                leftover.unlink()


def seal(partial: Path, database: Path, timestamp: int) -> None:
    """Make a complete file readable by the readers of ``database``, set the time that marks it as complete, and sync it.

    Raises:
        FileFailedError: one of these steps failed.
    """
    with atomic.translate_errors(partial, partial.parent):
        status = database.stat()
        descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, 0o600 | (_copy_ownership(descriptor, status, database) & 0o044))
            os.utime(descriptor, (timestamp, timestamp))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _copy_ownership(descriptor: int, owner: os.stat_result, database: Path) -> int:
    """Give a file the owner and group of another; return the mode to copy, 0 if they cannot have the same readers."""
    with suppress(OSError):  # only members of a group may give it a file
        os.fchown(descriptor, owner.st_uid if os.geteuid() == 0 else -1, owner.st_gid)
    status = os.fstat(descriptor)
    is_shared = (status.st_uid, status.st_gid) == (owner.st_uid, owner.st_gid)
    return stat.S_IMODE(owner.st_mode) if is_shared and not _has_access_list(database) else 0


def _has_access_list(path: Path) -> bool:
    try:
        return ACCESS_LIST in os.listxattr(path)
    except (OSError, AttributeError):  # not supported by the file system or the platform
        return False


def install(partial: Path, path: Path) -> None:
    """Rename a complete file to ``path``, replacing an old file or link.

    Raises:
        FileFailedError: the file cannot be renamed.
        FileUnsyncedError: the file was renamed, but the folder could not be synced.
    """
    try:
        partial.rename(path)
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise FileUnsyncedError(path=path, reason=error.strerror or str(error)) from error


def remove(path: Path) -> None:
    """Remove a file and the leftovers of unfinished ones.

    Raises:
        FileFailedError: the file cannot be removed.
    """
    with atomic.translate_errors(path, path.parent), suppress(NotADirectoryError):
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            with (
                suppress(BusyError),
                _lock_folder(path, path.name, 0),
            ):  # another process may create a new one
                pass
