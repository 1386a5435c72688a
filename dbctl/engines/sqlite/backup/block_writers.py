"""Block writers of a SQLite file between its safety backup and its replacement.

A child process holds the lock, because this process reads the file without locks, and closing any descriptor of the
file would drop its locks. If this process is killed, the child reaches the end of its input and releases the lock.
"""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dbctl import signals
from dbctl.engines.file_locks import describe_lock_holders
from dbctl.engines.sqlite.files import build_uri
from dbctl.errors.connection import BusyError

#: Prints ``held`` or ``busy``, or nothing if the file is not a writable database. At the end of its input it releases
#: the lock and prints a dot; after any input it closes the connection, so that SQLite removes its side files. Its tries
#: are short, because a busy writer leaves gaps of microseconds only.
LOCK_SCRIPT = """
import os, sqlite3, sys, time
deadline, reply = time.monotonic() + float(sys.argv[2]), b""
try:
    db = sqlite3.connect(sys.argv[1], uri=True, isolation_level=None, timeout=0.002)
    while not reply:
        try:
            db.execute("begin immediate")
            reply = b"held"
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 255 not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= deadline:
                reply = b"busy"
    os.write(1, reply)
    if os.read(0, 1):
        db.close()
    else:
        db.rollback()
        os.write(1, b".")
except sqlite3.Error:
    pass
os._exit(0)
"""
POLL_SECONDS, END_SECONDS = 0.05, 5


@contextmanager
def block_writers(path: Path, target: str, *, timeout: float) -> Iterator[Callable[[], None]]:
    """Block commits to a file until the yielded function is called or the block ends; readers are not blocked.

    A file that is missing or not a writable database is not locked.

    Raises:
        BusyError: another process was writing for all of ``timeout`` seconds.
    """
    if not path.exists():
        yield lambda: None
        return
    uri = build_uri(path, "mode=rw")
    arguments = [sys.executable, "-I", "-S", "-c", LOCK_SCRIPT, uri, str(timeout)]
    with subprocess.Popen(  # noqa: S603 - this Python, without a shell
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as holder:
        try:
            if _read_reply(holder) == b"busy":
                raise BusyError(target=target, holder=describe_lock_holders(path), waited=f"{timeout:g}")
            yield lambda: _release(holder)
        finally:
            with suppress(OSError, subprocess.TimeoutExpired), signals.defer_signals():
                if not _pipe(holder.stdin).closed:  # the caller failed; remove the side files
                    _pipe(holder.stdin).write(b".")
                    holder.wait(timeout=END_SECONDS)
            holder.kill()


def _release(holder: subprocess.Popen[bytes]) -> None:
    if not _pipe(holder.stdin).closed:
        _pipe(holder.stdin).close()
        _pipe(holder.stdout).read(1)


def _read_reply(holder: subprocess.Popen[bytes]) -> bytes:
    while not select.select([_pipe(holder.stdout)], [], [], POLL_SECONDS)[0]:
        signals.raise_if_interrupted()
    return _pipe(holder.stdout).read(4)


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    assert end is not None  # noqa: S101 - both pipes were requested
    return end
