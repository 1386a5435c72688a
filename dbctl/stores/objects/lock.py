"""A lock for storage without locks: an object that only one process can create, and that its owner renews.

The owner rewrites the object every ``RENEW_SECONDS``. An object that was not renewed for ``EXPIRY_SECONDS`` is taken over.
Its age is the difference between the clock of this machine and that of the server. Requests signed with a clock that is
wrong by more than 15 minutes are rejected anyway, so the expiry allows for that error. The lock of a killed dbctl process
on the same machine is recognised immediately, because the kernel has released its local lock.
"""

from __future__ import annotations

import json
import secrets

from dbctl.errors.backup import StorageIncompatibleError
from dbctl.files.lock import describe_holder
from dbctl.stores.objects.client import Client
from dbctl.stores.remote.contract import ConflictError, RenewedLock, Tag, has_expired


class Lease(RenewedLock):
    """The lock object of one store, while it is held."""

    pause = 0.5  # each attempt is a request

    def __init__(self, client: Client, key: str, machine: str, purpose: str) -> None:
        """Prepare the lock as ``RenewedLock``."""
        super().__init__(client.location, machine, purpose)
        self._client, self._key = client, key
        self._record["token"] = secrets.token_hex(16)
        self._tag, self._renewal_count = Tag(), 0

    def is_held(self) -> bool:
        """Return whether any process holds the lock: an owner that was killed renews it no longer."""
        try:
            return not has_expired(self._client.get(self._key)[0])
        except FileNotFoundError:
            return False

    def _require_lock(self) -> None:
        if condition := self._client.find_ignored_condition(self._key, self._serialize()):
            raise StorageIncompatibleError(
                place=self._location, reason=f"it overwrites an existing object despite {condition}"
            )

    def _try_renew(self) -> bool:
        try:
            self._tag = self._client.exchange(self._key, self._serialize(), self._tag)
        except ConflictError:
            return False
        return True

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
            if not (has_ended or has_expired(entry)):
                return False
            self._tag = self._client.exchange(self._key, self._serialize(), entry.tag)
        except (ConflictError, FileNotFoundError):  # another process was faster, or has just released it
            return False
        return True

    def _release(self) -> None:
        if _read(self._client.get(self._key)[1]).get("token") == self._record["token"]:
            self._client.delete([self._key])

    def _serialize(self) -> bytes:
        self._renewal_count += 1  # so that tags are unique
        return json.dumps(self._record | {"beats": self._renewal_count}).encode()

    def _describe_holder(self) -> str:
        return describe_holder(lambda: self._client.get(self._key)[1])


def _read(text: bytes) -> dict[str, object]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
