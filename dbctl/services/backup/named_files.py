"""Files that a user names in place of a backup: where they are read, and their limits."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from dbctl.errors.backup import FileUnsafeError, RepositoryNotConfiguredError
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.services.app.app import App
from dbctl.services.backup.repository import Repository

#: Limit of the decompressed size: this number of bytes or, if larger, this multiple of the compressed size.
MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO = 64 << 20, 100


def repository_or_temp_dir(app: App, address: str) -> Repository:
    """Return the repository, where files are decompressed; without one, use the temporary folder."""
    try:
        return Repository(app, address)
    except RepositoryNotConfiguredError:
        return Repository(app, tempfile.gettempdir())


def stat_file(path: Path) -> os.stat_result:
    """Return the status of a file that the user named; it may be a folder.

    Raises:
        FileMissingError, FileFailedError: it does not exist, or cannot be read.
        FileUnsafeError: other users may write it.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise FileMissingError(kind="file", path=path) from error
    except (OSError, ValueError) as error:
        raise FileFailedError(path=path, reason=getattr(error, "strerror", "") or str(error)) from error
    if stat.S_IMODE(status.st_mode) & stat.S_IWOTH:
        raise FileUnsafeError(path=path, mode=f"{stat.S_IMODE(status.st_mode):o}")
    return status


def decompression_limit(compressed_bytes: int) -> int:
    """Return the most bytes to which a file may be decompressed."""
    return max(MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO * compressed_bytes)
