"""A lock in storage without locks: its owner renews it, and others take it over after a time without renewal."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dbctl import signals
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError
from dbctl.files.lock import wait_for_lock
from dbctl.model import now
from dbctl.stores.remote.contract import Entry

#: Seconds between two renewals, and the age after which another process takes over: 15 minutes of clock error and 5 more.
RENEW_SECONDS, EXPIRY_SECONDS = 60.0, 20 * 60.0
#: Seconds to wait for a running renewal before the lock is deleted.
RELEASE_SECONDS = 5.0


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
