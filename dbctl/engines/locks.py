"""Who holds a file: dbctl's own lock between its writers, and what the kernel tells of other programs' locks."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbctl import interrupt
from dbctl.errors import BusyError, UnreachableError
from dbctl.model import now

#: Seconds between two tries for a lock; short, so that signals are heard.
RETRY_SECONDS = 0.05


@contextmanager
def write_lock(path: Path, target: str, purpose: str, *, timeout: float) -> Iterator[None]:
    """Hold the lock of all dbctl writers on the database file ``path``, in a file of its own beside it.

    The lock is the kernel's (``flock``), so it ends with its process whatever happens; the file stays, because
    removing it would let two processes hold locks on two files of one name. Its text names the holder.

    Raises:
        BusyError: another dbctl held it for all of ``timeout`` seconds.
    """
    beside = path.with_name(f".{path.name}.dbctl-lock")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnreachableError(
            target=target, reason=f"its lock {beside}: {error.strerror}", instead="Nothing was changed."
        ) from error
    try:
        _give_to_owner_of(path, descriptor)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                interrupt.check()
                if time.monotonic() >= deadline:
                    raise BusyError(target=target, holder=_told(beside), waited=f"{timeout:g}") from None
                time.sleep(RETRY_SECONDS)
        told = {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "command": purpose,
            "since": now().isoformat(),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(told).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _give_to_owner_of(path: Path, descriptor: int) -> None:
    """Let root's lock file be used by the app's own user too."""
    if os.geteuid() == 0:
        found = path.stat()
        os.fchown(descriptor, found.st_uid, found.st_gid)


def _told(lock: Path) -> str:
    try:
        told = json.loads(lock.read_text())
        return f" by dbctl {told['command']} (pid {told['pid']} on {told['host']}, since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it is being written, or was never
        return " by another dbctl"


def holder_of(path: Path) -> str:
    """Return " by pid 4711 (node)" for those who hold a kernel lock on a SQLite file, or "" where that is unknown.

    Only Linux tells, and only of processes in the same PID namespace: an app in a container stays unnamed.
    """
    if sys.platform != "linux":
        return ""
    wanted = set()
    for name in (path, Path(f"{path}-shm")):
        try:
            found = name.stat()
        except OSError:
            continue
        wanted.add(f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}")
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return ""
    pids = {int(words[-4]) for words in map(str.split, lines) if len(words) >= 8 and words[-3] in wanted}  # noqa: PLR2004 - fields of a line
    named = [f"pid {pid} ({_command(pid)})" for pid in sorted(pids - {os.getpid(), -1})]
    return f" by {', '.join(named)}" if named else ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"
