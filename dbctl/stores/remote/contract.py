"""Contract: a client of storage with keys and files, the locks of files there, and the lock in storage without locks.

Its owner renews it, and others take it over after a time without renewal.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Protocol

from dbctl import signals
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError
from dbctl.files.lock import wait_for_lock
from dbctl.model import Struct, now

#: Seconds between two renewals, and the age after which another process takes over: 15 minutes of clock error and 5 more.
RENEW_SECONDS, EXPIRY_SECONDS = 60.0, 20 * 60.0
#: Seconds to wait for a running renewal before the lock is deleted.
RELEASE_SECONDS = 5.0


class Tag(Struct, frozen=True):
    """Identifies the content of a file."""

    e_tag: str = ""
    version: str = ""  #: where the storage has versions: required by Google, unused otherwise

    @property
    def condition(self) -> dict[str, str]:
        """The condition of a replacement, as the library of object storage expects it."""
        return {name: value for name in ("e_tag", "version") if (value := getattr(self, name))}


class Entry(Struct, frozen=True, kw_only=True):
    """The metadata of a file."""

    key: str
    bytes: int
    tag: Tag
    at: datetime  #: by the clock of the server


class ConflictError(Exception):
    """The file to create exists already, or the file to replace has changed."""


class RemoteClient(Protocol):
    """Requests to one storage; each method raises ``StorageFailedError`` if it cannot be reached, or rejects the request."""

    location: str  #: for messages
    part: int  #: bytes up to which a file is created by one request

    @property
    def can_replace(self) -> bool:
        """Whether ``put`` replaces a file at once; otherwise an interruption can leave neither the earlier one nor the new one."""

    def list_entries(self, prefix: str) -> list[Entry]:
        """Return all files below ``prefix``, sorted by key, regardless of their number."""

    def get(self, key: str, *, end: int | None = None) -> tuple[Entry, bytes]:
        """Return the metadata of a file, and its bytes up to ``end``.

        Raises:
            FileNotFoundError: it does not exist.
        """

    def read_blocks(self, key: str) -> Iterator[bytes]:
        """Yield a file in blocks.

        Raises:
            FileNotFoundError: it does not exist.
            ConflictError: its content has changed.
        """

    def put(self, key: str, content: bytes) -> None:
        """Write a small file, and replace an earlier one."""

    def create(self, key: str, content: bytes) -> object:
        """Create a small file, which is visible with its whole content.

        Raises:
            ConflictError: it exists with another content.
        """

    def upload(self, key: str, blocks: Iterable[bytes], size: int) -> None:
        """Write a file of about ``size`` bytes."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete files one after the other; missing files are ignored."""

    def free_space(self) -> int | None:
        """Return the free space in bytes; None if unknown."""


class ObjectLocker(Protocol):
    """The locks of files, which the storage does not delete until they end."""

    def find_end(self) -> datetime:
        """Return the end of a lock that begins now."""

    def require_supported(self) -> None:
        """Check that the storage can lock files.

        Raises:
            ObjectLockMissingError: it cannot.
        """

    def lock(self, keys: Sequence[str], until: datetime) -> None:
        """Lock files until a time; a longer lock remains.

        Raises:
            StorageFailedError: one was not locked.
        """


class RenewedLock(ABC):
    """The lock of one store, while it is held."""

    pause: float  #: seconds between two attempts to get it

    def __init__(self, location: str, machine: str, purpose: str) -> None:
        """Prepare the lock; ``machine`` identifies this machine, whose local lock is already held."""
        self._location, self._machine = location, machine
        self._record = {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "command": purpose,
            "since": now().isoformat(),
            "machine": machine,
        }
        self._renew_lock, self._is_ended = threading.Lock(), threading.Event()
        self._lost = False

    @contextmanager
    def acquire(self, *, timeout: float) -> Iterator[None]:
        """Hold the lock during the block.

        Raises:
            BusyError: another dbctl process held the lock for ``timeout`` seconds.
            StorageIncompatibleError: the storage cannot provide a lock.
        """
        try:
            wait_for_lock(self._location, timeout, self._try_acquire, self._describe_holder, pause=self.pause)
            self._require_lock()
            threading.Thread(target=self._renew_repeatedly, daemon=True).start()
            yield
        finally:
            self._is_ended.set()
            with signals.block_signals(), suppress(DbctlError, FileNotFoundError):
                # A renewal that waits for a silent server is not awaited: the lock could not be deleted either.
                if self._renew_lock.acquire(timeout=RELEASE_SECONDS):
                    try:
                        self._release()
                    finally:
                        self._renew_lock.release()

    def renew(self) -> None:
        """Renew the lock.

        Raises:
            BusyError: another dbctl process has taken it over.
            StorageFailedError: the server cannot be reached.
        """
        with self._renew_lock:
            if not (self._lost or self._is_ended.is_set()):
                self._lost = not self._try_renew()
        if self._lost:
            raise BusyError(target=self._location, holder=self._describe_holder(), waited="0")

    @abstractmethod
    def is_held(self) -> bool:
        """Return whether any process holds the lock."""

    def _renew_repeatedly(self) -> None:
        while not self._is_ended.wait(RENEW_SECONDS):
            with suppress(DbctlError):  # the next renewal may succeed, and every final write renews first
                self.renew()

    @abstractmethod
    def _try_acquire(self) -> bool:
        """Get the lock, if no other process holds it; return whether this one does."""

    @abstractmethod
    def _require_lock(self) -> None:
        """Check that the storage excludes other processes; raises ``StorageIncompatibleError``."""

    @abstractmethod
    def _try_renew(self) -> bool:
        """Renew the lock; return whether it was still held."""

    @abstractmethod
    def _release(self) -> None:
        """Delete the lock, if this process holds it."""

    @abstractmethod
    def _describe_holder(self) -> str:
        """Return the process that holds the lock, for ``BusyError``."""


def has_expired(entry: Entry) -> bool:
    """Whether the file of a lock was not renewed, by the clock of this machine."""
    return (now() - entry.at).total_seconds() > EXPIRY_SECONDS
