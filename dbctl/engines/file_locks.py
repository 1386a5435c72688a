"""Who holds a file: dbctl's own lock between its writers, and what the kernel tells of other programs' locks."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl.engines.contract import Holder
from dbctl.errors import NotSupportedError, UnreachableError
from dbctl.files import lock


@contextmanager
def write_lock(path: Path, target: str, purpose: str, *, timeout: float) -> Iterator[None]:
    """Hold the lock of all dbctl writers on the database file ``path``, in a file of its own beside it.

    Raises:
        BusyError: another dbctl held it for all of ``timeout`` seconds.
    """
    beside = _beside(path)

    def refused(reason: str) -> UnreachableError:
        return UnreachableError(
            target=target, reason=f"its lock {beside}: {reason}", instead="Nothing was changed."
        )

    try:
        with lock.exclusive(
            beside,
            target,
            purpose,
            timeout=timeout,
            prepare=lambda opened: _share_like(path, opened, refused),
        ):
            yield
    except lock.CannotLockError as error:
        raise refused(str(error)) from error


def is_written(path: Path) -> bool:
    """Whether a dbctl holds the lock of all writers on the database ``path``; nothing is written to tell."""
    return lock.is_held(_beside(path))


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.dbctl-lock")


def _share_like(path: Path, descriptor: int, refused: Callable[[str], UnreachableError]) -> None:
    """Let everybody who may write the database use its lock file too, whoever made it.

    It is known to be a file of its own, so that root does not hand over one of somebody else.
    """
    found = os.fstat(descriptor)
    try:
        like = (path if path.exists() else path.parent).stat()  # a restore may bring back what is missing
        if os.geteuid() == 0 and (found.st_uid, found.st_gid) != (like.st_uid, like.st_gid):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        mode = 0o600 | (like.st_mode & 0o060 if os.fstat(descriptor).st_gid == like.st_gid else 0)
        if os.geteuid() in {0, found.st_uid} and stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode)
    except OSError as error:
        raise refused(error.strerror or str(error)) from error


def holder_of(path: Path) -> str:
    """Return " by pid 4711 (node)" for those who hold a kernel lock on a SQLite file, or "" where that is unknown.

    Only Linux tells, and only of processes in the same PID namespace: an app in a container stays unnamed.
    """
    held = _held(path)
    others = {kind: pids - {os.getpid(), -1, 0} for kind, pids in held.items()}
    # Who merely has a WAL file open holds a lock for reading; where somebody writes, it is that one who is waited for.
    named = [f"pid {pid} ({_command(pid)})" for pid in sorted(others["WRITE"] or others["READ"])]
    return f" by {', '.join(named)}" if named else ""


def holders_of(path: Path) -> Sequence[Holder]:
    """Return the processes that have a SQLite file open, as far as this user may know; opens nothing itself.

    Raises:
        NotSupportedError: the system does not tell.
    """
    if sys.platform != "linux":
        raise NotSupportedError(
            what="telling who holds a file", by=sys.platform, instead="lsof FILE may tell it."
        )
    held = _held(path)
    wanted = set(_files(path))
    pids = held["READ"] | held["WRITE"] | {pid for pid in _processes() if _has_open(pid, wanted)}
    return [
        Holder(
            pid=pid,
            command=_command(pid),
            owner=_owner(pid),
            mode="write" if pid in held["WRITE"] else "read" if pid in held["READ"] else "open",
        )
        for pid in sorted(pids - {os.getpid(), -1, 0})
    ]


def holders_below(folder: Path) -> Sequence[Holder]:
    """Return the processes that have a file open which lies below a folder, as far as this user may know.

    Raises:
        NotSupportedError: the system does not tell.
    """
    if sys.platform != "linux":
        raise NotSupportedError(
            what="telling who holds a folder", by=sys.platform, instead="lsof +D FOLDER may tell it."
        )
    wanted = set[tuple[int, int]]()
    for top, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                told = os.lstat(os.path.join(top, name))  # noqa: PTH118 - of many texts
                wanted.add((told.st_dev, told.st_ino))
    pids = [pid for pid in _processes() if pid != os.getpid() and _has_open(pid, wanted)]
    return [Holder(pid=pid, command=_command(pid), owner=_owner(pid), mode="open") for pid in sorted(pids)]


def _files(path: Path) -> Iterator[tuple[int, int]]:
    """Yield device and inode of a database and of the file that carries its locks in WAL mode."""
    for name in (path, Path(f"{path}-shm")):
        with suppress(OSError):
            found = name.stat()
            yield found.st_dev, found.st_ino


def _held(path: Path) -> dict[str, set[int]]:
    """Return who holds a kernel lock on a SQLite file, for reading and for writing; nobody where that is unknown."""
    held: dict[str, set[int]] = {"READ": set(), "WRITE": set()}
    if sys.platform != "linux":
        return held
    wanted = {f"{os.major(device):02x}:{os.minor(device):02x}:{inode}" for device, inode in _files(path)}
    with suppress(OSError):
        for words in map(str.split, Path("/proc/locks").read_text().splitlines()):
            if len(words) >= 8 and words[-3] in wanted and "->" not in words:  # noqa: PLR2004 - fields of a line
                held.setdefault(words[-5], set()).add(int(words[-4]))
    return held


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are enough
    except OSError:
        return []


def _has_open(pid: int, wanted: AbstractSet[tuple[int, int]]) -> bool:
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:  # it ended, or is somebody else's
        for entry in entries:
            with suppress(OSError):
                found = os.stat(entry.path)  # noqa: PTH116 - through the link that it is
                if (found.st_dev, found.st_ino) in wanted:
                    return True
    return False


def _owner(pid: int) -> str:
    import pwd

    try:
        number = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"
