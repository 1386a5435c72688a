"""Give files that root writes to the owner of the table folder; otherwise the app could not open its table."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from dbctl.engines.lancedb.location import SUFFIX, Location


@contextmanager
def match_owner(location: Location, table: str) -> Iterator[None]:
    """Give new files of a table the owner and mode of its folder, even after an error."""
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
