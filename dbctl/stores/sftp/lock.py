"""A lock for servers whose files cannot be exchanged conditionally: each process claims it by a file with a name of its own.

A process holds the lock if its claim is the only one after it was written. Two that claim it at the same time see each other, and
the one with the smaller name continues to wait. A claim is rewritten every ``RENEW_SECONDS``, and deleted by others after ``EXPIRY_SECONDS``
without that; its owner does not renew it after ``LOSS_SECONDS``, so that it never revives a claim that another process is about to delete.
All times are those of the server's files.
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
from dbctl.stores.remote.contract import ConflictError, Entry
from dbctl.stores.sftp.client import NEW_PREFIX, SftpClient

RENEW_SECONDS, LOSS_SECONDS, EXPIRY_SECONDS = 60.0, 15 * 60.0, 20 * 60.0
#: Seconds between two attempts to get the lock, and the age of unfinished files that no process writes any more.
RETRY_SECONDS, LEFTOVER_SECONDS = 0.2, 86_400.0


class ClaimLock:
    """The lock of one store."""

    def __init__(self, client: SftpClient, key: str, machine: str, purpose: str) -> None:
        """Prepare the lock; ``machine`` identifies this machine, whose local lock is already held."""
        self._client, self._prefix, self._machine = client, f"{key}-", machine
        self._folder = key.rpartition("/")[0]
        self._own = self._prefix + secrets.token_hex(8)
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
        """Hold the lock during the block; raises ``BusyError``, ``StorageIncompatibleError``."""
        location = self._client.location
        try:
            wait_for_lock(location, timeout, self._try_acquire, self._describe_holder, pause=RETRY_SECONDS)
            self._require_exclusive_names()
            self._delete_leftovers()
            threading.Thread(target=self._renew_repeatedly, daemon=True).start()
            yield
        finally:
            self._is_ended.set()
            with signals.block_signals(), suppress(DbctlError), self._renew_lock:
                self._client.delete([self._own])

    def is_held(self) -> bool:
        """Return whether any process claims the lock: one that was killed renews its claim no longer.

        Nothing is written, so the age of a claim is that by the clock of this machine.
        """
        return any((now() - claim.at).total_seconds() <= EXPIRY_SECONDS for claim in self._list_claims())

    def renew(self) -> None:
        """Renew the lock; raises ``BusyError`` if it was lost."""
        with self._renew_lock:
            if not (self._lost or self._is_ended.is_set()):
                before = self._find_own()
                self._write()
                after = self._find_own()
                self._lost = (
                    before is None or after is None or (after.at - before.at).total_seconds() > LOSS_SECONDS
                )
        if self._lost:
            raise BusyError(target=self._client.location, holder=self._describe_holder(), waited="0")

    def _renew_repeatedly(self) -> None:
        while not self._is_ended.wait(RENEW_SECONDS):
            with suppress(DbctlError):  # the next renewal may succeed, and every final write renews first
                self.renew()

    def _try_acquire(self) -> bool:
        self._write()
        claims = {entry.key: entry for entry in self._list_claims()}
        own = claims.pop(self._own, None)
        if own is None:
            reason = "a listing lacks a file that was just written"
            raise StorageIncompatibleError(place=self._client.location, reason=reason)
        ended = [key for key, entry in claims.items() if self._has_ended(own, entry)]
        self._client.delete(ended)
        others = claims.keys() - set(ended)
        if any(key < self._own for key in others):
            self._client.delete([self._own])
        return not others

    def _has_ended(self, own: Entry, other: Entry) -> bool:
        """Whether the process of another claim has ended, or did not renew it."""
        if (own.at - other.at).total_seconds() > EXPIRY_SECONDS:
            return True
        try:
            record = json.loads(self._client.get(other.key)[1])
        except FileNotFoundError:
            return False
        except ValueError:
            return False
        # the kernel of this machine released the local lock of that process
        return isinstance(record, dict) and record.get("machine") == self._machine

    def _require_exclusive_names(self) -> None:
        """Check that the server refuses to replace a file by renaming another one.

        Raises:
            StorageIncompatibleError: it does not.
        """
        try:
            self._client.create(self._own, self._serialize())
        except ConflictError:
            return
        reason = "it overwrites an existing file when another one is renamed"
        raise StorageIncompatibleError(place=self._client.location, reason=reason)

    def _delete_leftovers(self) -> None:
        """Delete the unfinished files of killed processes."""
        entries = self._client.list_folder(self._folder)
        newest = max(entry.at for entry in entries)
        self._client.delete(
            [
                entry.key
                for entry in entries
                if entry.key.startswith(f"{self._folder}/{NEW_PREFIX}")
                and (newest - entry.at).total_seconds() > LEFTOVER_SECONDS
            ]
        )

    def _find_own(self) -> Entry | None:
        return next((entry for entry in self._list_claims() if entry.key == self._own), None)

    def _list_claims(self) -> list[Entry]:
        return [
            entry for entry in self._client.list_folder(self._folder) if entry.key.startswith(self._prefix)
        ]

    def _write(self) -> None:
        self._client.put(self._own, self._serialize())

    def _serialize(self) -> bytes:
        return json.dumps(self._record).encode()

    def _describe_holder(self) -> str:
        others = [entry.key for entry in self._list_claims() if entry.key != self._own]
        return describe_holder(lambda: self._client.get(others[0])[1]) if others else " by another dbctl"
