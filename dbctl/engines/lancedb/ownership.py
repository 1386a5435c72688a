"""What root writes into the folder of a table is for the app, which owns it: else the app could not open its table any more."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from dbctl.engines.lancedb.location import SUFFIX, Place


@contextmanager
def for_the_app(place: Place, table: str) -> Iterator[None]:
    """Let new files of a table be as open as its folder, and give them to whoever owns that; also where the change fails."""
    if place.folder is None or os.geteuid() != 0:
        yield
        return
    folder = place.folder / f"{table}{SUFFIX}"
    told = folder.stat()
    before = os.umask(~told.st_mode & 0o777)  # the library makes files as any program does
    try:
        yield
    finally:
        os.umask(before)
        if told.st_uid != 0:
            _give(str(folder), told)


def _give(folder: str, told: os.stat_result) -> None:
    for _, folders, files, within in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=within)
            except OSError:
                continue  # a link, or somebody took it away meanwhile
            try:
                found = os.fstat(descriptor)
                # a second name would be one that its owner made of a file elsewhere
                whole = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
                if whole and found.st_uid == 0:
                    os.fchown(descriptor, told.st_uid, told.st_gid)
            finally:
                os.close(descriptor)
