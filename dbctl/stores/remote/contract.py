"""Contract: a client of storage with keys and files, and the locks of files there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from dbctl.model import Struct


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
