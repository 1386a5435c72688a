"""The local folder for files that are sent to a remote store or fetched from it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dbctl.config import environment
from dbctl.errors.backup import RepositoryFailedError
from dbctl.errors.connection import FileExistsAlreadyError
from dbctl.files import lock as file_lock
from dbctl.files import mounts
from dbctl.files.atomic import read_whole, write_atomically
from dbctl.stores.base import TEMP_PREFIX, require_private, translate_errors


class Staging:
    """A private folder, created on first use; it contains unencrypted databases while they are needed."""

    def __init__(self, configured: Path | None) -> None:
        """Use the configured folder, or a folder of this user in the system's folder for large temporary files."""
        self.path = configured or environment.default_staging_folder() / f"dbctl-{os.geteuid()}"

    def require_space(self, required_bytes: int) -> None:
        """Check the free space; raises ``InsufficientSpaceError``."""
        mounts.require_space(mounts.find_existing(self.path), required_bytes)

    @contextmanager
    def folder(self, required_bytes: int) -> Iterator[Path]:
        """Yield an empty folder that only this user can read, and delete it at the end.

        The folders of killed dbctl processes are also deleted.

        Raises:
            InsufficientSpaceError: there is no free space for ``required_bytes``.
            RepositoryFailedError, RepositoryUnsafeError: no folder can be created, or other users can write next to it.
        """
        from dbctl.files import temp

        with ExitStack() as stack:
            with translate_errors(self.path):
                self._create_path()
                mounts.require_space(self.path, required_bytes)
                path = stack.enter_context(temp.folder(self.path, TEMP_PREFIX))
            yield path

    @contextmanager
    def lock(self, target: str, purpose: str, *, timeout: float) -> Iterator[str]:
        """Lock the store ``target`` for processes that use this folder; yield the identifier of this machine.

        Raises:
            BusyError: another dbctl process held the lock for ``timeout`` seconds.
        """
        import hashlib

        with translate_errors(self.path):
            self._create_path()
            machine = f"{os.uname().nodename} {self._machine_id()}"
        name = hashlib.sha256(target.encode()).hexdigest()[:16]
        path = self.path / f"{name}.lock"
        with file_lock.exclusive(path, target, purpose, timeout=timeout, to_error=self._lock_error):
            yield machine

    def _lock_error(self, reason: str) -> RepositoryFailedError:
        return RepositoryFailedError(place=self.path, reason=f"its lock: {reason}")

    def _machine_id(self) -> str:
        """Return the random identifier of this folder; created once."""
        file = self.path / "number"
        if not file.exists():
            with suppress(FileExistsAlreadyError), write_atomically(file) as output:
                output.write(secrets.token_hex(16))
        return read_whole(file, 64).decode()

    def _create_path(self) -> None:
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, "it is not a directory")
        if status.st_uid not in {os.geteuid(), 0}:  # otherwise its owner could replace restored files
            raise PermissionError(1, "it belongs to another user")
        require_private(self.path, status)
