"""Exclusive lock files: the kernel manages the lock, and the text of the file names its holder."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from dbctl import signals
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError
from dbctl.model import now

#: Seconds between two attempts to lock; short, so that signals are handled promptly.
RETRY_SECONDS = 0.05
T = TypeVar("T")


@contextmanager
def exclusive(
    path: Path,
    target: str,
    purpose: str,
    *,
    timeout: float,
    to_error: Callable[[str], DbctlError],
    prepare: Callable[[int], None] = lambda _descriptor: None,
) -> Iterator[None]:
    """Hold the lock of the file ``path``, which is created if missing.

    The kernel manages the lock (``flock``), so it always ends with its process; the file remains, because deleting
    it would let two processes lock two files with the same name. Its text names the holder.

    Args:
        path: the file.
        target: the locked object, for messages.
        purpose: the command that holds the lock, for the message of a waiting process.
        timeout: seconds to wait.
        to_error: returns the error for a file that cannot be created, opened or locked, or has another hard link.
        prepare: examines the open file before it is locked, and may refuse it with an exception.

    Raises:
        BusyError: another dbctl process held the lock for ``timeout`` seconds.
        As ``to_error``.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise to_error(error.strerror or str(error)) from error
    try:
        status = os.fstat(descriptor)
        # Writing to a planted link would overwrite its target.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise to_error("it is not a regular file, or has another hard link")
        prepare(descriptor)
        try:
            wait_for_lock(
                target,
                timeout,
                partial(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB),
                partial(describe_holder, path.read_text),
            )
        except OSError as error:  # a file system without locks
            raise to_error(error.strerror or str(error)) from error
        holder = {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "command": purpose,
            "since": now().isoformat(),
        }
        with suppress(OSError):  # on a full disk the lock works, but does not name the process
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def wait_for_lock(
    target: str,
    timeout: float,
    try_lock: Callable[[], T],
    name_holder: Callable[[], str],
    *,
    pause: float = RETRY_SECONDS,
) -> T:
    """Return the result of ``try_lock``, which is called until it neither returns False nor raises BlockingIOError.

    ``name_holder`` returns `` by …``.

    Raises:
        BusyError: another process held the lock of ``target`` for ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        with suppress(BlockingIOError):
            if (result := try_lock()) is not False:
                return result
        signals.raise_if_interrupted()
        if time.monotonic() >= deadline:
            raise BusyError(target=target, holder=name_holder(), waited=f"{timeout:g}")
        time.sleep(pause)


def find_planted(path: Path | str) -> str:
    """Return why a file of the state of dbctl may be planted: another user made it a link, or created it where all may write.

    Root would write to the target of the link. The owner of the folder may use links, also for commands that run with sudo.
    """
    try:
        status = os.lstat(path)
        if status.st_uid in (0, os.geteuid()):
            return ""
        folder = os.stat(os.path.dirname(path) or ".")  # noqa: PTH116, PTH120 - each record examines four files
    except OSError:  # it is missing, or opening it fails with a reason
        return ""
    if status.st_uid == folder.st_uid:
        return ""
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link of another user"
    return "another user created it, and all may write the folder" if folder.st_mode & stat.S_IWOTH else ""


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file or folder; False without permission to read it. Writes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def describe_holder(read_text: Callable[[], str | bytes]) -> str:
    """Return the process that holds a lock, from its text, for ``BusyError``."""
    try:
        holder = json.loads(read_text())
        return f" by dbctl {holder['command']} (pid {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, DbctlError, ValueError, KeyError, TypeError, RecursionError):
        return " by another dbctl"  # it is being written, or was never written
