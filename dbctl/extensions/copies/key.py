"""The key of pseudonyms: in a file, or random."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from dbctl.extensions.copies.errors import CopyKeyInvalidError
from dbctl.files import atomic

LEAST_BYTES, MAX_BYTES = 16, 4096


class CopyKey:
    """The key of one copy. A missing file is created before a destination is written."""

    def __init__(self, path: Path | None) -> None:
        """Read the file.

        Raises:
            CopyKeyInvalidError: it is too short, too long, or cannot be read.
        """
        self._path, self._is_new, self._is_saved = path, path is None or not path.exists(), False
        content = secrets.token_hex(32).encode()
        if path and not self._is_new:
            try:
                content = atomic.read_whole(path, MAX_BYTES).strip()
            except OSError as error:
                raise self._error(path, error.strerror or str(error)) from error
            if len(content) < LEAST_BYTES:
                raise self._error(path, f"it has {len(content)} bytes")
        elif path and not path.parent.is_dir():
            raise self._error(path, "its folder does not exist")
        self._content = content

    @staticmethod
    def _error(path: Path, reason: str) -> CopyKeyInvalidError:
        return CopyKeyInvalidError(path=path, reason=reason, least=LEAST_BYTES)

    @property
    def secret(self) -> bytes:
        return hashlib.sha256(self._content).digest()

    def save(self) -> None:
        """Create the file if it was missing, readable for this user alone.

        Raises:
            DiskFullError, FileFailedError: it cannot be written, or another process has created it since then, with another key.
        """
        if self._path and self._is_new:
            with atomic.create_file(self._path) as file:
                file.write(self._content + b"\n")
            self._is_saved = True

    def discard(self) -> None:
        """Delete the file that ``save`` created, because the copy failed."""
        if self._path and self._is_saved:
            self._path.unlink(missing_ok=True)
