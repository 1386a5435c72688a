"""What an engine does to copy its server and to archive its log: parts that this extension adds to an open database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from dbctl.errors.base import Remedy
from dbctl.model import Struct
from dbctl.services.backup.manifest import Member


class FetchedLog(Struct, frozen=True, kw_only=True):
    """The files of a log, from where it was stored before up to a position of the server."""

    files: Sequence[Path]  #: in their order
    finished: Sequence[Path]  #: those of them to which the server adds nothing
    facts: Mapping[str, str]  #: for the manifest: the server, and the first and the last position
    read_at: datetime  #: the time of the server at the last position
    lost: str = ""  #: the part before the files that the server no longer had; empty: none
    remarks: Sequence[str] = ()


class CopiedServer(Struct, frozen=True, kw_only=True):
    """A stored copy of the files of a server."""

    member: Member
    #: for the manifest: the server, and the positions between which the copy was made
    facts: Mapping[str, str]
    ended_at: (
        datetime  #: the time of the server after the copy, the first moment that can be recovered from it
    )


class ServerCopy(ABC):
    """The files of the server of an open database: a copy and the log since then have every moment of it."""

    @abstractmethod
    def estimate_size(self) -> int:
        """Return the approximate size of the files of the server in bytes."""

    @abstractmethod
    def describe_copy(self) -> str:
        """Return what ``copy`` copies, for a plan."""

    @abstractmethod
    def copy(self, store: Callable[[Iterator[bytes]], Member]) -> CopiedServer:
        """Copy the files of the server, as one archive that ``store`` gets, and compare them with the checksums of the server.

        Raises:
            PrivilegeMissingError: this user may not copy them.
            CopyInvalidError: a file does not have its checksum.
            ClientMissingError, ClientFailedError: the program of the server is missing, or failed.
        """

    def begins_within(self, copy: Mapping[str, str], log: Mapping[str, str]) -> bool:
        """Whether a copy requires log from before the end of a stored part, by their facts: that of a standby begins at its last checkpoint."""
        del copy, log
        return False


class ServerLog(ABC):
    """The log of the server of an open database."""

    copy_remedy: Remedy  #: how to create the copy from which the log is followed after a loss

    @abstractmethod
    def describe_fetch(self, name: str) -> Sequence[str]:
        """Return what ``fetch`` does, for a plan."""

    @abstractmethod
    def fetch(self, folder: Path, name: str, last: Mapping[str, str]) -> FetchedLog | None:
        """Return the log since the last position, in files of a folder; None: the server has written none.

        Args:
            folder: keeps what was fetched and not stored, also after a crash: the server may have forgotten it.
            name: by which the server remembers up to where the log was fetched.
            last: the facts of the newest stored log; empty: there is none, and the log begins now.

        Raises:
            LogForeignError: the stored log is that of another server.
            PrivilegeMissingError: this user may not read the log.
            ClientMissingError, ClientFailedError: the program of the server is missing, or failed.
        """
