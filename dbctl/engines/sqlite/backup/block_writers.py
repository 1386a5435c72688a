"""A SQLite file that nobody else writes for a while, so that what was copied of it is what gets replaced.

The lock is held by a process of its own: this one reads the file without locks meanwhile, and whatever it closes of it
would drop every lock that it had. When this one is killed, the other notices the end of its input and lets go.
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
from dbctl.engines.file_locks import holder_of
from dbctl.engines.sqlite.files import quoted
from dbctl.errors import BusyError

#: Answers ``held``, or ``busy``, or nothing where it is no database that could be written. At the end of its input it lets
#: go and says so; at anything else it takes away what SQLite has put beside the file for it. Its tries are short, for a
#: writer that hardly pauses leaves gaps of microseconds.
HOLDER = """
import os, sqlite3, sys, time
until, said = time.monotonic() + float(sys.argv[2]), b""
try:
    held = sqlite3.connect(sys.argv[1], uri=True, isolation_level=None, timeout=0.002)
    while not said:
        try:
            held.execute("begin immediate")
            said = b"held"
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 255 not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= until:
                said = b"busy"
    os.write(1, said)
    if os.read(0, 1):
        held.close()
    else:
        held.rollback()
        os.write(1, b".")
except sqlite3.Error:
    pass
os._exit(0)
"""
LOOK_SECONDS, END_SECONDS = 0.05, 5


@contextmanager
def still(path: Path, target: str, *, timeout: float) -> Iterator[Callable[[], None]]:
    """Keep everybody from committing to a file until what is given is called, or the block ends; all may read it.

    A file that is missing, or is no database that could be written, is still by itself.

    Raises:
        BusyError: somebody else was writing for all of ``timeout`` seconds.
    """
    if not path.exists():
        yield lambda: None
        return
    words = [sys.executable, "-I", "-S", "-c", HOLDER, f"file://{quoted(path)}?mode=rw", str(timeout)]
    with subprocess.Popen(  # noqa: S603 - this Python, and no shell
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as holder:
        try:
            if _said(holder) == b"busy":
                raise BusyError(target=target, holder=holder_of(path), waited=f"{timeout:g}")
            yield lambda: _let_go(holder)
        finally:
            with suppress(OSError, subprocess.TimeoutExpired), signals.held():
                if not _pipe(holder.stdin).closed:  # it failed, and nothing of this may stay
                    _pipe(holder.stdin).write(b".")
                    holder.wait(timeout=END_SECONDS)
            holder.kill()


def _let_go(holder: subprocess.Popen[bytes]) -> None:
    if not _pipe(holder.stdin).closed:
        _pipe(holder.stdin).close()
        _pipe(holder.stdout).read(1)


def _said(holder: subprocess.Popen[bytes]) -> bytes:
    while not select.select([_pipe(holder.stdout)], [], [], LOOK_SECONDS)[0]:
        signals.check()
    return _pipe(holder.stdout).read(4)


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    assert end is not None  # noqa: S101 - each was asked for
    return end
