"""Contract: the comparison of the pages of two copies of a file, which shows what rows need not be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dbctl.engines.contract.database import Readable


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
