"""Lock files of dbctl next to databases, and the processes that lock or use a file according to the kernel."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, suppress
from errno import EACCES, EPERM
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.errors.base import RUN_AS_OWNER
from dbctl.errors.connection import ReadOnlyError, UnreachableError
from dbctl.errors.usage import NotSupportedError
from dbctl.files import lock

if TYPE_CHECKING:  # most commands only lock a file
    from dbctl.engines.contract.checks import LockHolder


def write_lock(path: Path, target: str, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
    """Hold the lock of all dbctl writers of the database file ``path``, in a lock file next to it.

    Raises:
        BusyError: another dbctl process held it for all of ``timeout`` seconds.
        ReadOnlyError, UnreachableError: this user may not write it, or it cannot be locked for another reason.
    """
    lock_path = _lock_path(path)

    def lock_error(reason: str) -> ReadOnlyError | UnreachableError:
        facts = {"target": target, "reason": f"its lock {lock_path}: {reason}"}
        if reason in map(os.strerror, (EACCES, EPERM)):
            return ReadOnlyError(**facts, hint=f"Nothing was changed. {RUN_AS_OWNER}")
        return UnreachableError(**facts, hint="Nothing was changed.")

    return lock.exclusive(
        lock_path,
        target,
        purpose,
        timeout=timeout,
        to_error=lock_error,
        prepare=partial(_copy_permissions, path, lock_error),
    )


def is_write_locked(path: Path) -> bool:
    """Whether a dbctl process holds the lock of all writers of the database ``path``; writes nothing."""
    return lock.is_held(_lock_path(path))


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.dbctl-lock")


def _copy_permissions(path: Path, lock_error: Callable[[str], Exception], descriptor: int) -> None:
    """Let all users who may write the database use its lock file, too, regardless of its creator.

    The lock file was checked to have no other hard link, so root does not change the owner of another user's file.
    """
    status = os.fstat(descriptor)
    try:
        reference = (path if path.exists() else path.parent).stat()  # a restore may create a missing file
        if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (reference.st_uid, reference.st_gid):
            os.fchown(descriptor, reference.st_uid, reference.st_gid)
        mode = 0o600 | (reference.st_mode & 0o060 if os.fstat(descriptor).st_gid == reference.st_gid else 0)
        if os.geteuid() in {0, status.st_uid} and stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(descriptor, mode)
    except OSError as error:
        raise lock_error(error.strerror or str(error)) from error


def describe_lock_holders(path: Path) -> str:
    """Return " by pid 4711 (node)" for the processes with a kernel lock on a SQLite file, or "" if unknown.

    Only Linux provides them, and only for processes in the same PID namespace: an app in a container remains unnamed.
    """
    lock_pids = _lock_pids(path)
    others = {kind: pids - {os.getpid(), -1, 0} for kind, pids in lock_pids.items()}
    # In WAL mode every open connection has a read lock; if there is a write lock, only its owner blocks others.
    names = [f"pid {pid} ({_command(pid)})" for pid in sorted(others["WRITE"] or others["READ"])]
    return f" by {', '.join(names)}" if names else ""


def list_lock_holders(path: Path) -> Sequence[LockHolder]:
    """Return the processes that have a SQLite file open, also a deleted one, as far as this user may see them; does not open the file.

    Raises:
        NotSupportedError: the system does not provide them.
    """
    deleted = () if path.exists() else _deleted_file_ids(f"{os.path.realpath(path)} (deleted)")
    return _list_users({*_file_ids(path), *deleted}, _lock_pids(path), "a file", "lsof FILE")


def list_folder_users(folder: Path) -> Sequence[LockHolder]:
    """Return the processes that have a file below a folder open, as far as this user may see them.

    Raises:
        NotSupportedError: the system does not provide them.
    """
    file_ids = set[tuple[int, int]]()
    for top, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                status = os.lstat(os.path.join(top, name))  # noqa: PTH118 - faster than pathlib for many files
                file_ids.add((status.st_dev, status.st_ino))
    return _list_users(file_ids, {"READ": set(), "WRITE": set()}, "a folder", "lsof +D FOLDER")


def _list_users(
    file_ids: AbstractSet[tuple[int, int]], lock_pids: Mapping[str, set[int]], kind: str, command: str
) -> list[LockHolder]:
    """Return the other processes that lock files or have them open; ``command`` lists them on other systems."""
    if sys.platform != "linux":
        raise NotSupportedError(
            feature=f"listing the processes that use {kind}", subject=sys.platform, hint=f"Run: {command}"
        )
    from dbctl.engines.contract.checks import LockHolder

    pids = lock_pids["READ"] | lock_pids["WRITE"] | {pid for pid in _list_pids() if _has_open(pid, file_ids)}
    return [
        LockHolder(
            pid=pid,
            command=_command(pid),
            owner=_owner(pid),
            mode="write" if pid in lock_pids["WRITE"] else "read" if pid in lock_pids["READ"] else "open",
        )
        for pid in sorted(pids - {os.getpid(), -1, 0})
    ]


def _file_ids(path: Path) -> Iterator[tuple[int, int]]:
    """Yield device and inode of a database and of the file with its locks in WAL mode."""
    for candidate in (path, Path(f"{path}-shm")):
        with suppress(OSError):
            status = candidate.stat()
            yield status.st_dev, status.st_ino


def _deleted_file_ids(link: str) -> Iterator[tuple[int, int]]:
    """Yield device and inode of the open files to which descriptors link by that text."""
    for pid in _list_pids():
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:  # as in ``_has_open``
            for entry in entries:
                with suppress(OSError):
                    if os.readlink(entry.path) == link:  # noqa: PTH115 - the target is no path
                        status = os.stat(entry.path)  # noqa: PTH116 - follows the link
                        yield status.st_dev, status.st_ino


def _lock_pids(path: Path) -> dict[str, set[int]]:
    """Return the processes with read and write locks of the kernel on a SQLite file; empty if unknown."""
    pids: dict[str, set[int]] = {"READ": set(), "WRITE": set()}
    if sys.platform != "linux":
        return pids
    file_ids = {f"{os.major(device):02x}:{os.minor(device):02x}:{inode}" for device, inode in _file_ids(path)}
    with suppress(OSError):
        for fields in map(str.split, Path("/proc/locks").read_text().splitlines()):
            if len(fields) >= 8 and fields[-3] in file_ids and "->" not in fields:  # noqa: PLR2004 - fields of a line
                pids.setdefault(fields[-5], set()).add(int(fields[-4]))
    return pids


def _list_pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are enough
    except OSError:
        return []


def _has_open(pid: int, file_ids: AbstractSet[tuple[int, int]]) -> bool:
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:  # it ended, or belongs to another user
        for entry in entries:
            with suppress(OSError):
                status = os.stat(entry.path)  # noqa: PTH116 - follows the link
                if (status.st_dev, status.st_ino) in file_ids:
                    return True
    return False


def _owner(pid: int) -> str:
    import pwd

    try:
        user_id = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"
