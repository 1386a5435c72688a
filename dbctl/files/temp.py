"""Temporary private folders; functions in other threads, for I/O and hashing; and a limit of the rate of reads."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from dbctl import signals
from dbctl.errors.connection import FileFailedError
from dbctl.files.atomic import mark_in_use


@contextmanager
def folder(parent: Path, prefix: str, *, name: str = "") -> Iterator[Path]:
    """Create a private folder below ``parent``, and delete it at the end.

    Folders of killed dbctl processes are also deleted: a folder is locked while it is in use. Its name begins with ``prefix``, and is
    ``name`` unless that is empty.

    Raises:
        OSError: the folder cannot be created.
        FileFailedError: it cannot be locked.
    """
    remove_abandoned(parent, prefix)
    with ExitStack() as stack:
        # A signal between creating the folder and recording that would leave the folder behind.
        with signals.defer_signals():
            path, lock = _create(parent, prefix, name)
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


def _create(parent: Path, prefix: str, name: str) -> tuple[Path, int]:
    """Create a folder and lock it; return it with the locked descriptor."""
    while True:
        if name:
            path = parent / name
            path.mkdir(mode=0o700)
        else:
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
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


A = TypeVar("A")
B = TypeVar("B")


def run_in_parallel(background: Callable[[], A], foreground: Callable[[], B]) -> tuple[A, B]:
    """Run ``background`` in a thread and ``foreground`` in this one; return both results.

    Exceptions are raised after both have ended, that of ``foreground`` first. A signal interrupts them only if they call
    ``signals.raise_if_interrupted``.
    """
    with signals.defer_signals(), ThreadPoolExecutor(1) as pool:
        future = pool.submit(background)
        result = foreground()
        return future.result(), result


def start_call(call: Callable[[], A]) -> Future[A]:
    """Call a function in a daemon thread: it cannot be cancelled, and does not delay the end of the process."""
    future = Future[A]()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the future raises it again
            future.set_exception(error)

    with signals.defer_signals():  # an interruption would leave locks of the thread library held
        threading.Thread(target=run, daemon=True).start()
    return future


#: Seconds between two checks for a signal, and seconds of delay that may be caught up.
POLL_SECONDS, CATCH_UP_SECONDS = 0.1, 1.0


class RateLimiter:
    """Called after each read; waits so that the rate is not exceeded."""

    def __init__(self, rate: int) -> None:
        """Start the clock; ``rate`` is in bytes per second."""
        self._rate = rate
        self._due_time, self._lock = 0.0, threading.Lock()

    def __call__(self, read_bytes: int) -> None:
        with self._lock:
            self._due_time = (
                max(self._due_time, time.monotonic() - CATCH_UP_SECONDS) + read_bytes / self._rate
            )
            due_time = self._due_time
        while (remaining := due_time - time.monotonic()) > 0:
            signals.raise_if_interrupted()
            time.sleep(min(remaining, POLL_SECONDS))
