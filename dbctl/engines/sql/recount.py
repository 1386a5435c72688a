"""Portable SQL that compares stored counters with the rows that they count."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.sql.statement import ident
from dbctl.model import Struct


class Recount(Struct, frozen=True, kw_only=True):
    """Stored counters in ``table``, and the query that counts them.

    NULL and a missing row count as 0. A row is wrong if a counter differs from the count, if the count is not 0 and the
    row is missing, or if a counter is not 0 and the query returns nothing for it.
    """

    table: str
    key: Sequence[str]
    counters: Sequence[str]
    extra_columns: Sequence[str]  #: further columns of a row that is inserted
    select: str  #: portable; returns the columns of ``key``, ``counters`` and ``extra_columns``
    filter_column: str = ""  #: a column of ``key``; limits the rows to those with the value ``:only``

    def corrected_rows_sql(self, timestamp_count: int = 0) -> str:
        """Return SQL for the correct rows: key, counters, extra columns, and ``timestamp_count`` times ``:now``."""
        columns = [
            *_number_names("k", self.key),
            *_number_names("f", self.counters),
            *_number_names("n", self.extra_columns),
        ]
        return f"select {', '.join([*columns, *[':now'] * timestamp_count])} from ({self._wrong_rows_sql(self.extra_columns)}) w"

    def summary_sql(self) -> str:
        """Return SQL for the numbers of missing rows, rows with only increasing counters, and other wrong rows."""
        falls = " or ".join(f"o{index} > f{index}" for index in range(len(self.counters)))
        kinds = ["there = 0", f"there = 1 and not ({falls})", f"there = 1 and ({falls})"]
        sums = ", ".join(f"coalesce(sum(case when {kind} then 1 else 0 end), 0)" for kind in kinds)
        return f"select {sums} from ({self._wrong_rows_sql()}) w"

    def wrong_rows_sql(self, counter: str) -> str:
        """Return SQL for the rows in which one counter is wrong: key, stored value, counted value."""
        index = self.counters.index(counter)
        columns = ", ".join([*_number_names("k", self.key), f"o{index} as stored", f"f{index} as counted"])
        return f"select {columns} from ({self._wrong_rows_sql()}) w where o{index} <> f{index}"

    def _wrong_rows_sql(self, extra_columns: Sequence[str] = ()) -> str:
        """Return SQL for the wrong rows: key, stored and counted values, extra columns, and whether the row exists.

        Both sides are combined with UNION ALL and summed by key, so that each is read once; a condition on a key column
        applies to both.
        """
        keys, old, new = (
            _number_names(*pair) for pair in (("k", self.key), ("o", self.counters), ("f", self.counters))
        )
        counted = _number_names("n", self.extra_columns)
        extra = counted[: len(extra_columns)]
        zeros = ["0"] * len(self.counters)
        names = ", ".join([*keys, *old, *new, *extra, "there"])
        stored = [
            *map(ident, self.key),
            *(f"coalesce({ident(name)}, 0)" for name in self.counters),
            *zeros,
            *map(ident, extra_columns),
            "1",
        ]
        sums = [f"sum({name}) as {name}" for name in (*old, *new)]
        tops = [f"max({name}) as {name}" for name in (*extra, "there")]
        only = f" where {keys[self.key.index(self.filter_column)]} = :only" if self.filter_column else ""
        differ = " or ".join(
            f"sum({old_name}) <> sum({new_name})" for old_name, new_name in zip(old, new, strict=True)
        )
        return (
            f"with the_count ({', '.join([*keys, *new, *counted])}) as ({self.select.strip()}),"
            f" both_sides ({names}) as (select {', '.join([*keys, *zeros, *_coalesce_zero(new), *extra, '0'])} from the_count"
            f" union all select {', '.join(stored)} from {ident(self.table)})"
            f" select {', '.join([*keys, *sums, *tops])} from both_sides{only} group by {', '.join(keys)} having {differ}"
        )


def _number_names(letter: str, names: Sequence[str]) -> list[str]:
    return [f"{letter}{index}" for index in range(len(names))]


def _coalesce_zero(names: Sequence[str]) -> list[str]:
    return [f"coalesce({name}, 0)" for name in names]
