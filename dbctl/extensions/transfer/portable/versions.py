"""Contract: the rows that changed since a snapshot, by the versions of rows that a server stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

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
