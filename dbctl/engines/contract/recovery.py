"""What can be read of a damaged database, brought into a new one: what an engine answers that can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbctl.engines.contract.monitoring import Concern
from dbctl.model import Value


class Recovery(Value, frozen=True, kw_only=True):
    """What is read, and where to."""

    source: Path  #: the damaged database; it and what stands beside it are only read
    to: Path  #: the new one, where nothing may be
    anyway: bool = False  #: whether a sound one is read, too
    like: Path | None = (
        None  #: a sound database of the same shape, for what the damaged one does not tell any more
    )


class TableRecovered(Value, frozen=True, kw_only=True):
    """What became of one table."""

    table: str
    saved: int  #: rows in the new database
    lost: int  #: rows that are known to be lost
    unread: int  #: ranges of keys that could not be read: nobody knows how many rows they held
    aside: int  #: rows that were read, and that the new database does not take as they are

    @property
    def whole(self) -> bool:
        """Whether every row is there, as far as anybody can tell."""
        return not (self.lost or self.unread or self.aside)


class Recovered(Value, frozen=True, kw_only=True):
    """A new database, whole and synced; or the word that none is needed."""

    made: bool  #: false: the old one is sound, and was not to be read anyway
    tables: Sequence[TableRecovered]
    concerns: Sequence[Concern]  #: what was damaged, and what has to be looked after
    aside: Path | None  #: the database of rows that the new one does not take; None where there are none
