"""Temporary folders that only this user may read, removed at the end, also after their process was killed."""

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
    """Create a folder below ``place`` that only this user may read, and remove it at the end with its files.

    Folders of a dbctl that was killed are removed, too: such a folder is locked as long as it is in use.

    Raises:
        OSError: the folder cannot be created.
        FileFailedError: it cannot be locked.
    """
    sweep(place, prefix)
    with ExitStack() as stack:
        with signals.held():  # or a signal could come between the folder and the knowledge that it is ours
            path, lock = _create(place, prefix)
            stack.callback(_remove, path, lock)
        signals.check()
        yield path


def _remove(path: Path, lock: int) -> None:
    with signals.unheard():
        shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def sweep(place: Path, prefix: str) -> None:
    """Remove the folders that no process uses any more."""
    for left in place.glob(f"{prefix}*"):
        with suppress(OSError):
            opened = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(opened).st_uid == os.geteuid():
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left)
            finally:
                os.close(opened)


def _create(place: Path, prefix: str) -> tuple[Path, int]:
    """Create a folder and lock it; return it with the descriptor that holds the lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))  # mode 0700
        with suppress(FileNotFoundError):  # another dbctl swept it before it was locked
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                mark_in_use(descriptor)
                if path.is_dir():
                    return path, descriptor
            except OSError as error:
                path.rmdir()
                os.close(descriptor)
                raise FileFailedError(path=path, reason=f"its lock: {error.strerror}") from error
            os.close(descriptor)
