"""Files of a server that replaces an existing file when another one is renamed, as rclone does."""

from __future__ import annotations

import secrets
from contextlib import ExitStack

from dbctl.stores.base import INCOMPLETE_MARK
from dbctl.stores.remote.contract import ConflictError
from dbctl.stores.sftp.client import NEW_PREFIX, SftpClient
from dbctl.stores.sftp.lock import ClaimLock
from dbctl.stores.sftp.protocol import Kind, Status

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
