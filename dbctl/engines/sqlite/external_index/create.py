"""The file of a search index is whole or absent, made by one at a time, and readable by those who may read the database."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.errors import BusyError, FileFailedError, FileUnsyncedError
from dbctl.files import sync_directory

#: A file that is being made; what a dbctl that was killed has left is called so, too.
PARTIAL = ".{name}.dbctl-{number}.partial"
#: Seconds between two tries for the lock.
RETRY_SECONDS = 0.05
#: The name under which Linux keeps who else may read a file.
ACCESS_LIST = "system.posix_acl_access"


@contextmanager
def making(place: Path, target: str, *, timeout: float) -> Iterator[Path]:
    """Give an empty file beside ``place``, which is gone at the end; nobody else makes one in that folder meanwhile.

    Raises:
        BusyError: somebody else does, for all of ``timeout`` seconds.
        FileFailedError: it cannot be made.
    """
    if place.is_dir() and not place.is_symlink():  # told before the work is done, not after it
        raise FileFailedError(
            path=place, reason="a directory stands in its place, and has to be moved away first"
        )
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FileFailedError(path=place.parent, reason=error.strerror or str(error)) from error
    try:
        if _locked(held, target, timeout):
            _sweep(place)
        partial = place.with_name(PARTIAL.format(name=place.name, number=secrets.token_hex(4)))
        try:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise FileFailedError(path=place, reason=error.strerror or str(error)) from error
        try:
            yield partial
        finally:
            with signals.unheard(), suppress(OSError):
                partial.unlink()
    finally:
        os.close(held)


def _locked(folder: int, target: str, timeout: float) -> bool:
    """Wait for the lock of a folder; False where its disk has none, so that two may make the same file, one after the other."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            signals.check()
            if time.monotonic() >= deadline:
                holder = " by another dbctl, which makes a search index there"
                raise BusyError(target=target, holder=holder, waited=f"{timeout:g}") from None
            time.sleep(RETRY_SECONDS)
        except OSError:
            return False
        else:
            return True


def _sweep(place: Path) -> None:
    begin, end = PARTIAL.format(name=place.name, number="\0").split("\0")
    for left in place.parent.iterdir():
        if left.name.startswith(begin) and left.name.endswith(end):
            with suppress(OSError):
                left.unlink()


def sealed(partial: Path, like: Path, moment: int) -> None:
    """Let those read a finished file who may read ``like``, give it the time by which it is known as finished, and sync it.

    Raises:
        FileFailedError: that cannot be done.
    """
    try:
        wanted = like.stat()
        descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, 0o600 | (_shared(descriptor, wanted, like) & 0o044))
            os.utime(descriptor, (moment, moment))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileFailedError(path=partial, reason=error.strerror or str(error)) from error


def _shared(descriptor: int, wanted: os.stat_result, like: Path) -> int:
    """Give a file the owner and group of another one, and return the mode that means the same for both: 0 where none does."""
    with suppress(OSError):  # who is not a member of a group cannot give it a file
        os.fchown(descriptor, wanted.st_uid if os.geteuid() == 0 else -1, wanted.st_gid)
    found = os.fstat(descriptor)
    alike = (found.st_uid, found.st_gid) == (wanted.st_uid, wanted.st_gid)
    return stat.S_IMODE(wanted.st_mode) if alike and not _lists_readers(like) else 0


def _lists_readers(path: Path) -> bool:
    try:
        return ACCESS_LIST in os.listxattr(path)
    except (OSError, AttributeError):  # the disk, or the system, has no such lists
        return False


def put(partial: Path, place: Path) -> None:
    """Let a finished file take its name, in the place of what stands there; a link is replaced, not followed.

    Raises:
        FileFailedError: it cannot.
        FileUnsyncedError: it has, and the folder could not be synced.
    """
    try:
        partial.rename(place)
    except OSError as error:
        raise FileFailedError(path=place, reason=error.strerror or str(error)) from error
    try:
        sync_directory(place.parent)
    except OSError as error:
        raise FileUnsyncedError(path=place, reason=error.strerror or str(error)) from error


def drop(place: Path) -> None:
    """Take a file away, and what was left of one that was never finished.

    Raises:
        FileFailedError: it cannot be taken away.
    """
    try:
        place.unlink(missing_ok=True)
        if place.parent.is_dir():
            held = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _locked(held, place.name, 0):
                    _sweep(place)
            except BusyError:  # somebody makes a new one
                pass
            finally:
                os.close(held)
    except NotADirectoryError:
        return
    except OSError as error:
        raise FileFailedError(path=place, reason=error.strerror or str(error)) from error
