"""Write access to a LanceDB: the lock of dbctl writers, the owner of new files, and free space."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from dbctl.config import paths
from dbctl.engines.file_locks import write_lock
from dbctl.engines.lancedb.location import SUFFIX, Location
from dbctl.errors.connection import UnreachableError
from dbctl.files import lock as file_lock


def acquire_lock(location: Location, purpose: str) -> AbstractContextManager[None]:
    """Acquire the lock of dbctl writers, a file next to the folder.

    A bucket has no locks: its lock covers this user on this machine. If two machines write concurrently, the library lets
    only one of them create each version.

    Raises:
        BusyError: another dbctl process held the lock until the timeout.
    """
    if location.folder is not None:
        return write_lock(location.folder, location.target, purpose, timeout=location.timeout)
    return _hold_local_lock(location, purpose)


def _hold_local_lock(location: Location, purpose: str) -> AbstractContextManager[None]:
    name = hashlib.sha256(location.address.encode()).hexdigest()[:32]
    file = paths.default_staging_folder() / f".dbctl-{os.geteuid()}-{name}.lock"

    def lock_error(reason: str) -> UnreachableError:
        return UnreachableError(
            target=location.target, reason=f"its lock {file}: {reason}", hint="Nothing was changed."
        )

    return file_lock.exclusive(file, location.target, purpose, timeout=location.timeout, to_error=lock_error)


@contextmanager
def match_owner(location: Location, table: str) -> Iterator[None]:
    """Give new files of a table the owner and mode of its folder, even after an error.

    The app could not open its table with files that root owns.
    """
    if location.folder is None or os.geteuid() != 0:
        yield
        return
    folder = location.folder / f"{table}{SUFFIX}"
    folder_stat = folder.stat()
    previous_umask = os.umask(~folder_stat.st_mode & 0o777)  # for new files of the library
    try:
        yield
    finally:
        os.umask(previous_umask)
        if folder_stat.st_uid != 0:
            _change_owner(str(folder), folder_stat)


def _change_owner(folder: str, owner: os.stat_result) -> None:
    for _, folders, files, folder_descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            try:
                descriptor = os.open(
                    name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_descriptor
                )
            except OSError:
                continue  # a link, or another process removed it
            try:
                file_stat = os.fstat(descriptor)
                # with a second link, the owner could obtain a file outside of the folder
                is_safe = stat.S_ISDIR(file_stat.st_mode) or (
                    stat.S_ISREG(file_stat.st_mode) and file_stat.st_nlink == 1
                )
                if is_safe and file_stat.st_uid == 0:
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
            finally:
                os.close(descriptor)
