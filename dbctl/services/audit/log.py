"""Append records to the audit log, under a lock, in the order of their hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from dbctl.errors import AuditUnavailableError, DbctlError
from dbctl.files import find_planted, sync_directory
from dbctl.model import now
from dbctl.services.audit.files import FILE_NAME, GAP_NAME, decode_line, seal
from dbctl.services.audit.records import NO_HASH, Anchor

#: Seconds to wait for other writers, each of which needs milliseconds.
BUSY_SECONDS, RETRY_SECONDS = 2.0, 0.002
#: Bytes from the end in which the last record is searched first.
_BLOCK = 1 << 16


class _Tail(NamedTuple):
    anchor: Anchor | None  #: the last record; None: the file has none
    rest: bytes  #: the bytes after it: an incomplete record


class AuditLog:
    """The log in a folder. Each ``append`` opens the file, so that a rotation may rename it at any time."""

    def __init__(self, folder: Path, *, read_anchor: Callable[[], Anchor | None]) -> None:
        """Write nothing yet.

        Args:
            folder: the directory for state.
            read_anchor: returns the newest anchor that the journal has; called when the file is created.
        """
        self.path, self._read_anchor = folder / FILE_NAME, read_anchor

    def append(self, values: Mapping[str, Any], *, sync: bool) -> Anchor:
        """Append a record, and return its number and hash.

        Args:
            values: the fields of the record; ``operation`` 0 becomes the number of the record.
            sync: whether to wait until the disk has it.

        Raises:
            AuditUnavailableError: it could not be written completely; the next record declares the incomplete bytes.
        """
        try:
            with self._open_locked() as descriptor:
                tail = _read_tail(descriptor)
                if tail.anchor is None:
                    tail = _Tail(self._begin_file(descriptor, tail.rest), b"")
                    sync_directory(self.path.parent)
                has_gap = self._gap_path.exists()
                anchor = _write(descriptor, tail, {**values, "gap": True} if has_gap else values)
                if sync or has_gap:
                    os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)
                if has_gap:
                    self._gap_path.unlink(missing_ok=True)
                return anchor
        except OSError as error:
            is_link = error.errno == errno.ELOOP  # another user may have created it
            reason = "it is a symbolic link" if is_link else error.strerror or str(error)
            raise AuditUnavailableError(path=self.path, reason=reason) from error

    @property
    def _gap_path(self) -> Path:
        return self.path.parent / GAP_NAME

    def note_gap(self) -> None:
        """Note that a change is not in the log, as far as possible; the next record states it."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._gap_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))

    def _begin_file(self, descriptor: int, rest: bytes) -> Anchor:
        """Write the first record of a file, which continues the newest anchor, because the file may have been moved away."""
        try:
            anchor = self._read_anchor()
        except DbctlError:  # the journal reports its own failures
            anchor = None
        return _write(descriptor, _Tail(anchor, rest), {"kind": "start", "host": os.uname().nodename})

    @contextmanager
    def _open_locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o600)
            try:
                status = os.fstat(descriptor)
                if reason := find_planted(self.path):
                    raise AuditUnavailableError(path=self.path, reason=reason)
                if not stat.S_ISREG(status.st_mode):
                    raise AuditUnavailableError(path=self.path, reason="it is not a regular file")
                while not _try_lock(descriptor):
                    if time.monotonic() > deadline:
                        raise AuditUnavailableError(path=self.path, reason="another process locks it")
                    time.sleep(RETRY_SECONDS)
                if self._is_current(status):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _is_current(self, status: os.stat_result) -> bool:
        """Whether the opened file still has the name of the log."""
        try:
            return os.path.samestat(self.path.stat(), status)
        except FileNotFoundError:
            return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_tail(descriptor: int) -> _Tail:
    """Return the last record and the bytes after it."""
    size, block = os.fstat(descriptor).st_size, _BLOCK
    while True:
        start = max(0, size - block)
        content = os.pread(descriptor, size - start, start)
        end = len(content)
        while (newline := content.rfind(b"\n", 0, end)) >= 0:
            begin = content.rfind(b"\n", 0, newline) + 1
            if (begin or not start) and (record := decode_line(content[begin:newline])):
                anchor = Anchor(sequence=record.sequence, hash=record.hash)
                return _Tail(anchor, content[newline + 1 :])
            end = newline
        if not start:
            return _Tail(None, content)
        block *= 8


def _write(descriptor: int, tail: _Tail, values: Mapping[str, Any]) -> Anchor:
    previous = tail.anchor or Anchor(sequence=0, hash=NO_HASH)
    sequence = previous.sequence + 1
    record = {"time": now(), **values, "sequence": sequence, "previous": previous.hash}
    if values.get("operation") == 0:
        record["operation"] = sequence
    separator = b""
    if tail.rest:
        # Nothing is deleted: the file may be append-only for its users, too.
        separator = b"" if tail.rest.endswith(b"\n") else b"\n"
        rest = tail.rest + separator
        record["interrupted"] = {"bytes": len(rest), "sha256": hashlib.sha256(rest).hexdigest()}
    line, digest = seal(record)
    remaining = memoryview(separator + line)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
    return Anchor(sequence=sequence, hash=digest)
