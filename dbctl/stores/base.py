"""The contract between backups and the places where they rest: folders of files, each folder whole or marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import Protocol

from dbctl.errors import RepositoryFailedError
from dbctl.model import Value

#: Marks a folder that is being filled, or whose filling was cut off. It is written first and removed last.
MARK = ".dbctl-incomplete"
#: The last file of a folder: with it, the folder is whole.
LAST = "manifest.json"
#: A remark on a folder.
NOTE = "verified.json"
LOCK = ".dbctl-lock"
#: What the names of folders for what is unpacked, or on its way, begin with.
SCRATCH = ".dbctl-unpacked-"
#: Bytes; a last file tells a line of each table, so this is more than any has.
LARGEST = 16 << 20


class State(Enum):
    """What stands in a folder."""

    WHOLE = "whole"  #: its last file was written
    INCOMPLETE = "incomplete"  #: dbctl began it and did not end
    FOREIGN = "foreign"  #: somebody else made it; dbctl leaves it alone


class Kept(Value, frozen=True, kw_only=True):
    """A file as it rests in the store."""

    bytes: int
    sha256: str  #: hexadecimal


class NewFolder(Protocol):
    """A folder that is being filled. A file that is there is never written over: ``drop`` takes it away first."""

    def place(self, name: str) -> Path:
        """Return where on this machine the file ``name`` is to be made; nothing stands there yet."""
        ...

    def keep(self, name: str, sha256: str = "") -> Kept:
        """Make the file that was made at ``place(name)`` rest in the store, durably.

        It is read for its SHA-256, unless whoever wrote it knows it. At its place it can be read until the next file is made.
        """
        ...

    def write(self, name: str, blocks: Iterable[bytes], size: int) -> Kept:
        """Write a file of about ``size`` bytes from its content; durably, and without one that stands aside."""
        ...

    def drop(self, name: str) -> None:
        """Take a file away again, whether it was only made or is kept already; there need not be one."""
        ...

    def finish(self, text: str) -> None:
        """Write the last file; from now on the folder is whole.

        Raises:
            RepositoryFailedError: the folder is not what was put into it.
        """
        ...


class Store(Protocol):
    """The backups of one app: folders by name. Nothing in it follows a symbolic link."""

    place: str  #: how messages call it

    def folders(self) -> Mapping[str, State]:
        """Return the folders by name, in their order; none where nothing of this app was ever kept.

        Raises:
            RepositoryMissingError: the repository itself is not there.
            RepositoryFailedError: it cannot be read.
        """
        ...

    def is_locked(self) -> bool:
        """Return whether a process holds the lock, as far as that can be seen without writing."""
        ...

    def last(self, folder: str) -> bytes | None:
        """Return the content of a folder's last file, as it was given to ``finish``; None where it is gone meanwhile.

        Raises:
            RepositoryFailedError: it cannot be read.
        """
        ...

    def lasts(self, folders: Sequence[str]) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
        """Yield the folders in their order with what ``last`` returns or raises of each; one elsewhere asks for several at once."""
        ...

    def note(self, folder: str, text: str) -> None:
        """Keep a remark on a folder beside its files, in place of an earlier one."""
        ...

    def noted(self, folder: str) -> bytes | None:
        """Return that remark; None where there is none.

        Raises:
            RepositoryFailedError: it cannot be read.
        """
        ...

    def files(self, folder: str) -> Mapping[str, int]:
        """Return the files of a folder with their bytes, without the last one and the remark; none of one that is gone."""
        ...

    def path(self, folder: str, name: str) -> Path | None:
        """Return where a person finds a file on this machine; None where it rests elsewhere."""
        ...

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield the content of a file, from its beginning to its end, in blocks.

        Raises:
            RepositoryFailedError: it is not there, or cannot be read.
        """
        ...

    def opened(self, folder: str, name: str) -> AbstractContextManager[Path]:
        """Give a path of this machine at which a file can be read, and not be written.

        Raises:
            RoomMissingError, DiskFullError: it rests elsewhere, and this machine has no room for it.
            RepositoryFailedError: it is not there, or cannot be fetched.
        """
        ...

    def scratch(self, need: int) -> AbstractContextManager[Path]:
        """Give an empty folder of this machine that only this user may look into, for what is unpacked, and then remove it.

        What a dbctl that was killed had left is removed, too.

        Raises:
            RoomMissingError: it cannot take ``need`` bytes.
            RepositoryFailedError: none can be made.
        """
        ...

    def begin(self, folder: str) -> AbstractContextManager[NewFolder]:
        """Begin a folder; it is gone again when the block raises.

        Raises:
            RepositoryFailedError: it is there already, or cannot be made.
        """
        ...

    def remove(self, folder: str) -> None:
        """Remove a folder; cut off, it is left incomplete."""
        ...

    def want_room(self, need: int, *, aside: bool = True) -> None:
        """Refuse what will not fit, as far as that is known: where it rests, and where it is made before.

        Args:
            need: bytes.
            aside: whether files are made at ``place``, and not written.

        Raises:
            RoomMissingError: there is no room.
        """
        ...

    def room(self) -> int | None:
        """Return how many bytes more it takes; None where that is not known."""
        ...

    def lock(self, purpose: str, *, timeout: float) -> AbstractContextManager[None]:
        """Keep every other dbctl from writing to it.

        Raises:
            BusyError: another dbctl held it for all of ``timeout`` seconds.
        """
        ...


def ordered(folders: Mapping[str, State], state: State) -> Sequence[str]:
    """Return the names of the folders in one state, in their order."""
    return [name for name, found in folders.items() if found is state]


def each_last(
    store: Store, folders: Iterable[str]
) -> Iterator[tuple[str, bytes | RepositoryFailedError | None]]:
    """Yield what ``Store.lasts`` does, one after the other."""
    for folder in folders:
        try:
            yield folder, store.last(folder)
        except RepositoryFailedError as error:
            yield folder, error


class Told:
    """Blocks on their way, and what they were once they have all gone by."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        import hashlib

        self._blocks, self._sha256, self._bytes = blocks, hashlib.sha256(), 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self._sha256.update(block)
            self._bytes += len(block)
            yield block

    @property
    def kept(self) -> Kept:
        """What has gone by."""
        return Kept(bytes=self._bytes, sha256=self._sha256.hexdigest())


def digest(blocks: Iterable[bytes]) -> Kept:
    """Read a content whole and return what it is."""
    told = Told(blocks)
    for _ in told:
        pass
    return told.kept
