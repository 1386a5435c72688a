"""A word in whichever text of a table, looked for batch by batch, so that time is kept."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract import BEFORE, BEHIND, Hit
from dbctl.engines.lancedb.connection import LanceConnection
from dbctl.engines.lancedb.values import decoded, family, rows

if TYPE_CHECKING:
    import pyarrow as pa


class LanceLooks(LanceConnection):
    """Capability.LOOK."""

    def texts(self, table: str) -> Sequence[str]:
        return [name for name in self._checked(table).columns if family(self.kind(table, name)) == "text"]

    def hits(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, within: timedelta
    ) -> Sequence[Hit] | None:
        until, key = time.monotonic() + within.total_seconds(), self.key(table)
        sought, found = re.compile(re.escape(word), re.IGNORECASE | re.ASCII), list[Hit]()
        wanted = list(dict.fromkeys([*key, *columns]))
        with self._told():
            for batch in self._scan(table, wanted):
                signals.check()
                for row in rows(_having(batch, columns, word), [*key, *columns]):
                    pieces = {
                        name: piece
                        for name, text in zip(columns, row[len(key) :], strict=True)
                        if (piece := _piece(text, sought))
                    }
                    if pieces:
                        found.append(Hit(row[: len(key)], pieces))
                    if len(found) == limit:
                        return found
                if time.monotonic() > until:
                    return None
        return found


def _having(batch: pa.RecordBatch, columns: Sequence[str], word: str) -> pa.RecordBatch:
    """Return the rows that may have a word: letters beyond ASCII are folded, too."""
    import pyarrow.compute as pc

    found = None
    for name in columns:
        told = pc.fill_null(pc.match_substring(_text(batch.column(name)), word, ignore_case=True), False)  # noqa: FBT003 - the library's
        found = told if found is None else pc.or_(found, told)
    return batch if found is None else batch.filter(found)


def _text(column: pa.Array) -> pa.Array:
    return column.cast(decoded(column.type))


def _piece(text: object, sought: re.Pattern[str]) -> str:
    if not isinstance(text, str) or (found := sought.search(text)) is None:
        return ""
    return text[max(0, found.start() - BEFORE) : found.end() + BEHIND]
