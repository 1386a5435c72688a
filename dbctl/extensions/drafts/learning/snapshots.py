"""Contract: the state of a database of a server at one moment, which is read while its app changes the database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from dbctl.url import Url


class ExportedSnapshot(ABC):
    """The state of a database at one moment, which is read while others change the database."""

    url: Url  #: readers of it, also dumps, have this state

    @abstractmethod
    def is_complete(self) -> bool:
        """Return whether the state can still be read; false if the server lost it, or a table was rewritten, changed or dropped."""


class SnapshotExport(ABC):
    """The part of a reader that exports its state: a part that this extension adds to the engine."""

    @abstractmethod
    def export_snapshot(self) -> AbstractContextManager[ExportedSnapshot]:
        """Retain the current state in a block, without locks.

        Raises:
            NotSupportedError: the server cannot, and there are no dumps of it either.
        """
