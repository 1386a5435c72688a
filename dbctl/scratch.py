"""Folders for what is needed for a moment: this user's alone, and gone also when dbctl was killed, with the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Give an empty folder in ``parent`` that only this user may look into, and take it away again.

    What a dbctl that was killed had left there is taken away, too: such a folder is locked as long as it is in use.

    Raises:
        OSError: it cannot be made.
    """
    sweep(parent, prefix)
    place, held = _made(parent, prefix)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def sweep(parent: Path, prefix: str) -> None:
    """Take away the folders of that prefix that nobody uses any more."""
    for place in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            opened = _opened(place)
            try:
                if os.fstat(opened).st_uid == os.geteuid():
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(place)
            finally:
                os.close(opened)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        place = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # mode 0700
        with suppress(FileNotFoundError):  # another dbctl swept it before it was locked
            held = _opened(place)
            with suppress(
                OSError
            ):  # some disks of other machines lock no folders; then nobody sweeps there either
                fcntl.flock(held, fcntl.LOCK_EX)
            if place.is_dir():
                return place, held
            os.close(held)


def _opened(place: Path) -> int:
    return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
