"""Contract: the rows that may differ between two states of a database, without reading the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from dbctl.engines.contract.database import Readable
from dbctl.extensions.transfer.portable.contract import RowSource


class VersionSource(ABC):
    """The part of a database that reads a snapshot, which finds changed rows without reading the others."""

    @abstractmethod
    def select_changed(self, other: Readable, tables: Collection[str]) -> tuple[RowSource, RowSource] | None:
        """Return sources without rows that both states store as the same version; None: the versions are unknown.

        A table with many changed rows has all its rows in both.

        Args:
            other: a later state of the same database. Both are read in transactions with one snapshot each.
            tables: the tables to compare, whose definitions are the same in both.
        """


class Positions(NamedTuple):
    """Rows of a table in the order of ``stream_lines``."""

    start: str  #: after this row; empty: from the first row
    end: str  #: the last row; empty: to the last row of the table


class PageSource(ABC):
    """The part that compares files without reading rows."""

    @abstractmethod
    def find_positions(self, other: Readable) -> Mapping[str, Sequence[Positions]] | None:
        """Return by table where rows may differ from those of another copy of the file; None: anywhere.

        Tables that are not in it may differ anywhere. Both files are read without locks, so no other process may use them.
        """
