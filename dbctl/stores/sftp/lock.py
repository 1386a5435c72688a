"""A lock, and the marks of new folders, for servers whose files cannot be exchanged conditionally: each process claims it by a file with a name of its own.

A process holds the lock if its claim is the only one after it was written. Two that claim it at the same time see each other, and
the one with the smaller name continues to wait. A claim is rewritten every ``RENEW_SECONDS``, and deleted by others after ``EXPIRY_SECONDS``
without that; its owner does not renew it after ``LOSS_SECONDS``, so that it never revives a claim that another process is about to delete.
All times are those of the server's files.
"""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack

from dbctl.errors.backup import RepositoryFailedError, StorageFailedError, StorageIncompatibleError
from dbctl.files.lock import describe_holder
from dbctl.stores.base import INCOMPLETE_MARK
from dbctl.stores.remote.contract import EXPIRY_SECONDS, ConflictError, Entry, RenewedLock, has_expired
from dbctl.stores.sftp.client import NEW_PREFIX, SftpClient
from dbctl.stores.sftp.protocol import Kind, Status

LOSS_SECONDS = 15 * 60.0
#: The age of unfinished files that no process writes any more, in seconds.
LEFTOVER_SECONDS = 86_400.0


class ClaimLock(RenewedLock):
    pause = 0.2

    def __init__(self, client: SftpClient, key: str, machine: str, purpose: str) -> None:
        """Prepare the lock as ``RenewedLock``."""
        super().__init__(client.location, machine, purpose)
        self._client, self._prefix = client, f"{key}-"
        self._folder = key.rpartition("/")[0]
        self._own = self._prefix + secrets.token_hex(8)

    def is_held(self) -> bool:
        """Return whether any process claims the lock: one that was killed renews its claim no longer.

        Nothing is written, so the age of a claim is that by the clock of this machine.
        """
        return not all(map(has_expired, self._list_claims()))

    def _try_renew(self) -> bool:
        before = self._find_own()
        self._write()
        after = self._find_own()
        return (
            before is not None
            and after is not None
            and (after.at - before.at).total_seconds() <= LOSS_SECONDS
        )

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
        # deleted since it was listed: servers have several answers for that
        except (FileNotFoundError, RepositoryFailedError, StorageFailedError, ValueError):
            return False
        # the kernel of this machine released the local lock of that process
        return isinstance(record, dict) and record.get("machine") == self._machine

    def _require_lock(self) -> None:
        try:
            self._client.create(self._own, self._serialize())
        except ConflictError:
            self._delete_leftovers()
            return
        reason = "it overwrites an existing file when another one is renamed"
        raise StorageIncompatibleError(place=self._client.location, reason=reason)

    def _release(self) -> None:
        self._client.delete([self._own])

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


#: Seconds to wait for other processes that create the same folder.
CLAIM_SECONDS = 30.0


class ReplacingClient(SftpClient):
    """The files below one folder of such a server."""

    can_replace = True

    def create(self, key: str, content: bytes) -> None:
        """Create a small file; a mark only with a claim of its folder, in which only the owner of the mark creates others."""
        top, *folders, name = key.split("/")
        with ExitStack() as stack:
            if name == INCOMPLETE_MARK:
                claim = f"{top}/{NEW_PREFIX}{'-'.join(folders)}"
                lock = ClaimLock(self, claim, secrets.token_hex(8), "backup create")
                stack.enter_context(lock.acquire(timeout=CLAIM_SECONDS))
            if self._stat(key).status == Status.OK:
                raise ConflictError(key)
            self._require(self._write_and_rename(key, content, Kind.RENAME, b""), key)
