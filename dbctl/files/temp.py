"""Folders that nobody else may look into, and that are gone at the end, also after their process was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.errors import FileFailedError
from dbctl.files.atomic import mark_in_use


@contextmanager
def folder(place: Path, prefix: str) -> Iterator[Path]:
    """Give a new folder below ``place`` that only this user may look into, and take it away again with all it holds.

    What a dbctl that was killed had left is taken away, too: such a folder is locked as long as it is in use.

    Raises:
        OSError: none can be made there.
        FileFailedError: it cannot be locked.
    """
    sweep(place, prefix)
    with ExitStack() as made:
        with signals.held():  # or a signal could come between the folder and the knowledge that it is ours
            path, lock = _made(place, prefix)
            made.callback(_unmade, path, lock)
        signals.check()
        yield path


def _unmade(path: Path, lock: int) -> None:
    with signals.unheard():
        shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def sweep(place: Path, prefix: str) -> None:
    """Take away the folders that nobody uses any more."""
    for left in place.glob(f"{prefix}*"):
        with suppress(OSError):
            opened = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(opened).st_uid == os.geteuid():
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left)
            finally:
                os.close(opened)


def _made(place: Path, prefix: str) -> tuple[Path, int]:
    """Make a folder, and lock it; return it with what holds the lock."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=place))  # mode 0700
        with suppress(FileNotFoundError):  # another dbctl swept it before it was locked
            descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
            try:
                mark_in_use(descriptor)
                if made.is_dir():
                    return made, descriptor
            except OSError as error:
                made.rmdir()
                os.close(descriptor)
                raise FileFailedError(path=made, reason=f"its lock: {error.strerror}") from error
            os.close(descriptor)
