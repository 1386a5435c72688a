"""A word in whichever text of a database: what engines answer that can look through all they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol, runtime_checkable

#: Characters of a text that are handed on: so many before what was found, and so many from there on.
BEFORE, BEHIND = 60, 160


class Hit(NamedTuple):
    """A row that has the word somewhere."""

    key: Sequence[object]  #: its primary key; empty where the table has none
    pieces: Mapping[str, str]  #: of each column that has it, the text around the first place


@runtime_checkable
class LooksThrough(Protocol):
    """Capability.LOOK."""

    def texts(self, table: str) -> Sequence[str]:
        """Return the columns of a table that may hold text; none where another table holds the same."""
        ...

    def hits(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, within: timedelta
    ) -> Sequence[Hit] | None:
        """Return rows of which one of ``columns`` has ``word``, in no order; None where it took too long.

        The word is taken literally, letters of ASCII without regard to their case.
        """
        ...
