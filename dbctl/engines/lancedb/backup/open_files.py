"""The open files of a snapshot: an open file remains readable after it was unlinked."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dbctl import signals
from dbctl.errors import BusyError, CorruptError, UnreachableError
from dbctl.files import atomic
from dbctl.model import Struct

#: The first descriptor of a snapshot (``select`` does not support higher ones), the number reserved for others, and the limit.
FIRST_DESCRIPTOR, SPARE_DESCRIPTORS, MAX_DESCRIPTORS = 1024, 200, 1 << 20
#: Seconds after which repeated attempts end.
TIMEOUT = 30.0


class SnapshotFile(Struct, frozen=True, kw_only=True):
    """One file of a snapshot."""

    name: str  #: relative to the folder of the tables
    path: Path
    stat: os.stat_result
    descriptor: int | None  #: None: the limit of open files is reached, so it is opened when it is read

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stat.st_size


class FileRemovedError(Exception):
    """A file is missing, or its size is wrong."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")


class OpenFiles:
    """Files in a folder, most of them open. The caller closes them."""

    def __init__(self, root: Path, target: str) -> None:
        """Open no file yet; ``target`` is ``app/database``, for messages."""
        self._root, self._target = root, target
        self.files = list[SnapshotFile]()
        self._descriptors = list[int]()

    def close(self) -> None:
        """Close all files; may be called repeatedly."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def add(self, name: str, expected_size: int | None = None) -> None:
        """Open a file and add it.

        Args:
            name: its path relative to the folder.
            expected_size: bytes; None if it is unknown.

        Raises:
            FileRemovedError: it is missing, or has another size.
            UnreachableError: it cannot be opened.
        """
        path = self._root / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise FileRemovedError(name, "is missing") from error
            raise self._read_error(path, error) from error
        file_stat = os.fstat(descriptor)
        if not stat.S_ISREG(file_stat.st_mode):
            os.close(descriptor)
            raise FileRemovedError(name, "is not a file")
        if expected_size is not None and file_stat.st_size != expected_size:
            os.close(descriptor)
            raise FileRemovedError(name, f"has {file_stat.st_size:,} bytes and should have {expected_size:,}")
        reserved = _reserve_descriptor(descriptor, len(self._descriptors))
        if reserved is not None:
            self._descriptors.append(reserved)
        self.files.append(SnapshotFile(name=name, path=path, stat=file_stat, descriptor=reserved))

    def remove_from(self, first: int) -> None:
        """Close and remove the files from index ``first`` on."""
        for file in self.files[first:]:
            if file.descriptor is not None:
                self._descriptors.remove(file.descriptor)
                os.close(file.descriptor)
        del self.files[first:]

    def blocks(self, file: SnapshotFile) -> Iterator[bytes]:
        """Yield the content of a file.

        Raises:
            CorruptError: the file was truncated.
            BusyError: the file was not open and was removed.
        """
        descriptor, offset = file.descriptor, 0
        if descriptor is None:
            try:
                descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as error:
                raise pruned_error(self._target) from error
        try:
            while offset < file.size:
                signals.raise_if_interrupted()
                block = os.pread(descriptor, min(atomic.BLOCK, file.size - offset), offset)
                if not block:
                    raise CorruptError(target=self._target, reason=f"{file.name} was truncated")
                offset += len(block)
                yield block
        except OSError as error:
            raise self._read_error(file.path, error) from error
        finally:
            if file.descriptor is None:
                os.close(descriptor)

    def _read_error(self, path: Path, error: OSError) -> UnreachableError:
        return UnreachableError(
            target=self._target,
            reason=f"{path}: {error.strerror or error}",
            hint="Run dbctl as a user who may read all files of the database.",
        )


def pruned_error(target: str) -> BusyError:
    """Return the error for files that are removed faster than they can be copied."""
    return BusyError(
        target=target, holder=": versions are removed faster than they are read", waited=f"{TIMEOUT:g}"
    )


def _reserve_descriptor(descriptor: int, open_count: int) -> int | None:
    """Move a descriptor above those that ``select`` can use; return None and close it if the limit is reached.

    Raises the soft limit of this process to its hard limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    limit = MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, MAX_DESCRIPTORS)
    first = FIRST_DESCRIPTOR if limit >= 4 * FIRST_DESCRIPTOR else 0
    try:
        if open_count < limit - first - SPARE_DESCRIPTORS:
            return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, first)
    except OSError:  # the limit of the whole system
        pass
    finally:
        os.close(descriptor)
    return None
