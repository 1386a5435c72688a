"""Contract: text indexes in separate files, for databases that only their app writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Order, Query, Where
from dbctl.engines.contract.fulltext import IndexFault
from dbctl.model import Struct


class ExternalIndexSpec(Struct, frozen=True, kw_only=True):
    """The definition of an external index. An index is valid only for the state of the database that it was built from."""

    table: str  #: the indexed table
    columns: Sequence[str]  #: the indexed columns
    order: Sequence[Order]  #: orders in which it stores the rows, so a page in one of them needs no sort
    stored_conditions: Sequence[Where]  #: conditions whose result it stores for each row


class ExternalIndexState(Struct, frozen=True, kw_only=True):
    """Whether an external index can be used."""

    path: Path  #: where the index is, or would be
    state: Literal["fresh", "stale", "missing", "broken"]
    reason: str = ""  #: why it is not fresh; of a missing index: why none can be built
    bytes: int | None = None
    created_at: datetime | None = None


class ExternalIndexes(ABC):
    """The part of a reader that searches text with an external index: rows where any column contains all words, ignoring the case of ASCII letters.

    A result is valid only while the index and the database are as ``open_external_index`` read them; otherwise
    ``ExternalIndexInvalidError`` is raised.
    """

    @abstractmethod
    def open_external_index(self, spec: ExternalIndexSpec, paths: Sequence[Path]) -> ExternalIndexState:
        """Use the first fresh index of some files, and return its state; without a fresh one, the state of the first that exists."""

    @abstractmethod
    def external_index_path(self, folder: Path | None, name: str) -> Path:
        """Return the path of an index file in ``folder``, or next to the database."""

    @abstractmethod
    def can_find_word(self, word: str) -> bool:
        """Whether an external index can find a word."""

    @abstractmethod
    def search_external(
        self, spec: ExternalIndexSpec, words: Sequence[str], query: Query
    ) -> list[tuple[object, ...]]:
        """Return rows of the indexed table as ``Readable.read_rows`` does; without ``words`` every row matches.

        Each returned row is compared with the words again.
        """

    @abstractmethod
    def count_external(
        self, spec: ExternalIndexSpec, words: Sequence[str], where: Sequence[Where] = ()
    ) -> int:
        """Return the number of rows that ``search_external`` returns without a limit."""

    @abstractmethod
    def explain_external(self, spec: ExternalIndexSpec, words: Sequence[str], query: Query) -> Explanation:
        """Return how ``search_external`` would run, without running it."""

    @abstractmethod
    def create_external_index(self, spec: ExternalIndexSpec, path: Path) -> ExternalIndexState:
        """Build or rebuild the index file atomically, and verify it.

        Only users who may read the database may read the file.

        Raises:
            BusyError: another dbctl process builds one there.
            ChangedWhileReadError: the database was written concurrently.
            DiskFullError, FileFailedError: it cannot be written.
            NotSupportedError: the table has no row numbers, or its app is writing.
            ExternalIndexInvalidError: the built index is not correct.
        """

    @abstractmethod
    def find_external_index_faults(self, spec: ExternalIndexSpec, *, rows: int) -> Sequence[IndexFault]:
        """Compare the open index with the database: the stored values of every row, and the text of ``rows`` rows."""

    @abstractmethod
    def external_index_differs(self, spec: ExternalIndexSpec) -> bool:
        """Whether a rebuilt temporary index would differ from the open one; closes the open one."""

    @abstractmethod
    def drop_external_index(self, path: Path) -> None:
        """Delete the index file, and the partial files of killed processes.

        Raises:
            FileFailedError: it cannot be deleted, or is not a file.
        """
