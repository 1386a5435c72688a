"""What an engine does to recover a database: a part that this extension adds to the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

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
