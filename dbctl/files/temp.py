"""Temporary private folders, deleted at the end, or later if their process was killed."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dbctl import signals
from dbctl.errors.connection import FileFailedError
from dbctl.files.atomic import mark_in_use


@contextmanager
def folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Create a private folder below ``parent``, and delete it at the end.

    Folders of killed dbctl processes are also deleted: a folder is locked while it is in use.

    Raises:
        OSError: the folder cannot be created.
        FileFailedError: it cannot be locked.
    """
    remove_abandoned(parent, prefix)
    with ExitStack() as stack:
        # A signal between creating the folder and recording that would leave the folder behind.
        with signals.defer_signals():
            path, lock = _create(parent, prefix)
            stack.callback(_remove, path, lock)
        signals.raise_if_interrupted()
        yield path


def _remove(path: Path, lock: int) -> None:
    with signals.block_signals():
        shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Delete the folders that no process uses any more."""
    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def _create(parent: Path, prefix: str) -> tuple[Path, int]:
    """Create a folder and lock it; return it with the locked descriptor."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # mode 0700
        with suppress(FileNotFoundError):  # another dbctl process deleted it before it was locked
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
