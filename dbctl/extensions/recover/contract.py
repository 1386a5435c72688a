"""What an engine does to copy its server, to archive its log and to recover a database: parts that this extension adds to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from dbctl.errors.base import Remedy
from dbctl.extensions.recover.section import Source
from dbctl.model import Struct
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.repository import Repository
from dbctl.url import Url


class RecoveryRequest(Struct, frozen=True, kw_only=True):
    """A database, and the moment as of which it is recovered: with what was committed before, and nothing else."""

    url: Url  #: of the live database, which is not opened
    target: str  #: ``app/database``, for messages
    database: str  #: its name in the configuration
    repository: Repository  #: with its backups, one of which may be the copy
    keys: DecryptionKeys  #: of encrypted backups
    source: Source
    at: datetime  #: with a time zone
    #: when the copy ended, and up to when the log has all transactions, by the clock of the server; None: only what the files show is known
    known: tuple[datetime, datetime] | None = None
    #: the copy of ``repository`` that is used; None: that of ``source``, or any backup
    copy: tuple[Manifest, Member] | None = None
    staging: Path  #: the existing folder in which private folders are created


class RecoveryPlan(Struct, frozen=True, kw_only=True):
    """What a recovery would replay."""

    steps: Sequence[str]  #: for the plan of the command
    bytes: int  #: the approximate size of the files that are copied


class RecoveredDatabase(Struct, frozen=True, kw_only=True):
    """A database of a private server, as it was at the requested moment."""

    url: Url
    facts: Mapping[str, str]  #: for the manifest: the copy, and the end of what was replayed
    remarks: Sequence[str] = ()  #: what the user should know about it
    backup: str = ""  #: the id of the backup from which it was recovered; empty: of another copy


class Recovery(ABC):
    """The recovery of databases of one engine."""

    #: whether its log has times in whole seconds only: a moment is the beginning of its second
    has_whole_seconds = False

    def reaches_back(self, part: Mapping[str, str], copy: Mapping[str, str]) -> bool:
        """Whether a part of the stored log after a loss has all since a copy, by their facts: the copy was made after the loss, too."""
        del part, copy  # equal positions may be those of another log
        return False

    @abstractmethod
    def plan(self, request: RecoveryRequest) -> RecoveryPlan:
        """Return the copy and the log that ``recover`` would use; no server is started, and nothing is written.

        Raises:
            RecoveryMissingError: there is no copy, or its log has a gap.
            RecoveryTimeError: the archive does not reach the moment.
        """

    @abstractmethod
    def recover(self, request: RecoveryRequest) -> AbstractContextManager[RecoveredDatabase]:
        """Start a private server with the state of the moment; it ends, and its files are deleted, at the end of the block.

        Raises:
            RecoveryMissingError, RecoveryTimeError: as ``plan``.
            RecoveryFailedError: the server does not start, or cannot replay the log.
            ClientMissingError: no program of the server has the version of the copy.
            InsufficientSpaceError, DiskFullError: not enough disk space for the copy and its log.
        """


def show_time(time: datetime) -> str:
    """Return a time for messages."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + " UTC"


def write_time(time: datetime) -> str:
    """Return a time as an option accepts it."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


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
