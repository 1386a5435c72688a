"""A lock for storage without locks: an object that only one process can create, and that its owner renews.

The owner rewrites the object every ``RENEW_SECONDS``. An object that was not renewed for ``EXPIRY_SECONDS`` is taken over.
Its age is the difference between the clock of this machine and that of the server. Requests signed with a clock that is
wrong by more than 15 minutes are rejected anyway, so the expiry allows for that error. The lock of a killed dbctl process
on the same machine is recognised immediately, because the kernel has released its local lock.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dbctl import signals
from dbctl.errors.backup import StorageIncompatibleError
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError
from dbctl.files.lock import describe_holder, wait_for_lock
from dbctl.model import now
from dbctl.stores.objects.client import Client
from dbctl.stores.remote.contract import ConflictError, Entry, Tag

#: Seconds between two renewals, and the age after which another process takes over: 15 minutes of clock error and 5 more.
RENEW_SECONDS, EXPIRY_SECONDS = 60.0, 20 * 60.0
#: Seconds to wait for a running renewal before the lock is deleted.
RELEASE_SECONDS = 5.0
#: Seconds between two attempts to get the lock, each of which is a request.
RETRY_SECONDS = 0.5


class Lease:
    """The lock object of one store, while it is held."""

    def __init__(self, client: Client, key: str, machine: str, purpose: str) -> None:
        """Prepare the lock; ``machine`` identifies this machine, whose local lock is already held."""
        self._client, self._key, self._location, self._machine = client, key, client.location, machine
        self._holder_record = {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "command": purpose,
            "since": now().isoformat(),
            "machine": machine,
            "token": secrets.token_hex(16),
        }
        self._tag, self._renewal_count = Tag(), 0
        self._renew_lock, self._is_ended = threading.Lock(), threading.Event()
        self._lost = False

    @contextmanager
    def acquire(self, *, timeout: float) -> Iterator[None]:
        """Hold the lock during the block.

        Raises:
            BusyError: another dbctl process held the lock for ``timeout`` seconds.
            StorageIncompatibleError: the server ignores conditions of writes, so it cannot provide a lock.
        """
        try:
            wait_for_lock(
                self._location, timeout, self._try_acquire, self._describe_holder, pause=RETRY_SECONDS
            )
            if condition := self._client.find_ignored_condition(self._key, self._serialize()):
                raise StorageIncompatibleError(
                    place=self._location, reason=f"it overwrites an existing object despite {condition}"
                )
            threading.Thread(target=self._renew_repeatedly, daemon=True).start()
            yield
        finally:
            self._is_ended.set()
            with signals.block_signals(), suppress(DbctlError, FileNotFoundError):
                self._release()

    def is_held(self) -> bool:
        """Return whether any process holds the lock: an owner that was killed renews it no longer."""
        try:
            return not _has_expired(self._client.get(self._key)[0])
        except FileNotFoundError:
            return False

    def renew(self) -> None:
        """Renew the lock.

        Raises:
            BusyError: another dbctl process has taken it over.
            StorageFailedError: the server cannot be reached.
        """
        with self._renew_lock:
            if not (self._lost or self._is_ended.is_set()):
                try:
                    self._tag = self._client.exchange(self._key, self._serialize(), self._tag)
                except ConflictError:
                    self._lost = True
        if self._lost:
            raise BusyError(target=self._location, holder=self._describe_holder(), waited="0")

    def _renew_repeatedly(self) -> None:
        while not self._is_ended.wait(RENEW_SECONDS):
            with suppress(DbctlError):  # the next renewal may succeed, and every final write renews first
                self.renew()

    def _try_acquire(self) -> bool:
        try:
            self._tag = self._client.create(self._key, self._serialize())
        except ConflictError:
            pass
        else:
            return True
        try:
            entry, text = self._client.get(self._key)
            # The kernel of this machine released the owner's local lock, so its process has ended.
            has_ended = _read(text).get("machine") == self._machine
            if not (has_ended or _has_expired(entry)):
                return False
            self._tag = self._client.exchange(self._key, self._serialize(), entry.tag)
        except (ConflictError, FileNotFoundError):  # another process was faster, or has just released it
            return False
        return True

    def _release(self) -> None:
        # A renewal that waits for a silent server is not awaited: the lock could not be deleted either.
        if not self._renew_lock.acquire(timeout=RELEASE_SECONDS):
            return
        try:
            if _read(self._client.get(self._key)[1]).get("token") == self._holder_record["token"]:
                self._client.delete([self._key])
        finally:
            self._renew_lock.release()

    def _serialize(self) -> bytes:
        self._renewal_count += 1  # so that tags are unique
        return json.dumps(self._holder_record | {"beats": self._renewal_count}).encode()

    def _describe_holder(self) -> str:
        return describe_holder(lambda: self._client.get(self._key)[1])


def _has_expired(entry: Entry) -> bool:
    return (now() - entry.at).total_seconds() > EXPIRY_SECONDS


def _read(text: bytes) -> dict[str, object]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
