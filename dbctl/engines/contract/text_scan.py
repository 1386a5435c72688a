"""Contract: search a word in all texts of a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol, runtime_checkable

#: Characters of an excerpt: before the match, and from its beginning.
CHARACTERS_BEFORE, CHARACTERS_AFTER = 60, 160


class TextMatch(NamedTuple):
    """A row that contains the word."""

    key: Sequence[object]  #: its primary key; empty without one
    excerpts: Mapping[str, str]  #: the text around the first match, for each matching column


@runtime_checkable
class TextScanner(Protocol):
    """Capability.TEXT_SCAN."""

    def text_columns(self, table: str) -> Sequence[str]:
        """Return the columns of a table that may contain text; empty if another table has the same content."""
        ...

    def scan_text(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, timeout: timedelta
    ) -> Sequence[TextMatch] | None:
        """Return rows where one of ``columns`` contains ``word``, in no order; None after ``timeout``.

        The word is matched literally, ignoring the case of ASCII letters.
        """
        ...
