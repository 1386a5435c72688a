"""Scan text columns batch by batch, within a time limit."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract import CHARACTERS_AFTER, CHARACTERS_BEFORE, TextMatch
from dbctl.engines.lancedb.values import decoded_type, to_rows, type_family

if TYPE_CHECKING:
    import pyarrow as pa

    from dbctl.engines.lancedb.reader import LanceReader


class LanceTextScanner:
    """``TextScanner``."""

    def __init__(self, db: LanceReader) -> None:
        self._catalog, self._rows = db.catalog, db.rows

    def text_columns(self, table: str) -> Sequence[str]:
        return [
            name
            for name in self._catalog.require_table(table).columns
            if type_family(self._catalog.column_type(table, name)) == "text"
        ]

    def scan_text(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, timeout: timedelta
    ) -> Sequence[TextMatch] | None:
        deadline, key = time.monotonic() + timeout.total_seconds(), self._catalog.key_columns(table)
        pattern, matches = re.compile(re.escape(word), re.IGNORECASE | re.ASCII), list[TextMatch]()
        selected = list(dict.fromkeys([*key, *columns]))
        with self._catalog.translate_errors():
            for batch in self._rows.scan(table, selected):
                signals.raise_if_interrupted()
                for row in to_rows(_matching_rows(batch, columns, word), [*key, *columns]):
                    excerpts = {
                        name: excerpt
                        for name, text in zip(columns, row[len(key) :], strict=True)
                        if (excerpt := _excerpt(text, pattern))
                    }
                    if excerpts:
                        matches.append(TextMatch(row[: len(key)], excerpts))
                    if len(matches) == limit:
                        return matches
                if time.monotonic() > deadline:
                    return None
        return matches


def _matching_rows(batch: pa.RecordBatch, columns: Sequence[str], word: str) -> pa.RecordBatch:
    """Return the rows that may match; the comparison also ignores the case of non-ASCII letters."""
    import pyarrow.compute as pc

    mask = None
    for name in columns:
        matches = pc.fill_null(pc.match_substring(_decode(batch.column(name)), word, ignore_case=True), False)  # noqa: FBT003 - the library's
        mask = matches if mask is None else pc.or_(mask, matches)
    return batch if mask is None else batch.filter(mask)


def _decode(column: pa.Array) -> pa.Array:
    return column.cast(decoded_type(column.type))


def _excerpt(text: object, pattern: re.Pattern[str]) -> str:
    if not isinstance(text, str) or (match := pattern.search(text)) is None:
        return ""
    return text[max(0, match.start() - CHARACTERS_BEFORE) : match.end() + CHARACTERS_AFTER]
