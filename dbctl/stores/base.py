"""The contract between backups and the places where they rest: folders of files, each folder whole or marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import Protocol

from dbctl.model import Value

#: Marks a folder that is being filled, or whose filling was cut off. It is written first and removed last.
MARK = ".dbctl-incomplete"


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
    """A folder that is being filled."""

    def place(self, name: str) -> Path:
        """Return where on this machine the file ``name`` is to be made; nothing stands there yet."""
        ...

    def keep(self, name: str, sha256: str = "") -> Kept:
        """Make the file that was made at ``place(name)`` rest in the store, durably.

        It is read for its SHA-256, unless whoever wrote it knows it.
        """
        ...

    def finish(self, text: str) -> None:
        """Write the last file; from now on the folder is whole."""
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

    def last(self, folder: str) -> bytes | None:
        """Return the content of a folder's last file, as it was given to ``finish``; None where it is gone meanwhile.

        Raises:
            RepositoryFailedError: it cannot be read.
        """
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

    def opened(self, folder: str, name: str) -> AbstractContextManager[Path]:
        """Give a path at which a file can be read, and not be written."""
        ...

    def scratch(self, need: int) -> AbstractContextManager[Path]:
        """Give an empty folder of this machine that only this user may look into, for what is unpacked, and then remove it.

        What a dbctl that was killed had left is removed, too.

        Raises:
            RoomMissingError: it cannot take ``need`` bytes.
            RepositoryFailedError: none can be made.
        """
        ...

    def digest(self, folder: str, name: str) -> Kept:
        """Read a file whole and return what it is."""
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

    def room(self) -> int | None:
        """Return how many bytes it can take; None where that is not known."""
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
