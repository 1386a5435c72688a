"""Portable SQL that compares figures which are kept in rows of their own with what they are counted from."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.sql.query_builder import ident
from dbctl.model import Value


class Figures(Value, frozen=True, kw_only=True):
    """Figures in ``table``, and how they are counted.

    A figure that is NULL and a row that is missing are as good as 0: both tell of nothing. So a row is wrong where a
    figure differs, where there is something to count and no row, and where figures stand for what is not there.
    """

    table: str
    key: Sequence[str]
    figures: Sequence[str]
    further: Sequence[str]  #: columns that a missing row gets besides
    select: str  #: portable; its columns are those of ``key``, ``figures`` and ``further``
    only: str = ""  #: a column of ``key``: only the rows count in which it is ``:only``

    def corrected(self, moments: int = 0) -> str:
        """Return SQL for what the wrong rows should be: key, figures, further, and ``:now`` so many times."""
        columns = [*_numbered("k", self.key), *_numbered("f", self.figures), *_numbered("n", self.further)]
        return f"select {', '.join([*columns, *[':now'] * moments])} from ({self._wrong(self.further)}) w"  # noqa: S608 - names of ours

    def summary(self) -> str:
        """Return SQL for three numbers: rows that are missing, rows in which no figure falls, rows in which one does."""
        falls = " or ".join(f"o{at} > f{at}" for at in range(len(self.figures)))
        kinds = ["there = 0", f"there = 1 and not ({falls})", f"there = 1 and ({falls})"]
        sums = ", ".join(f"coalesce(sum(case when {kind} then 1 else 0 end), 0)" for kind in kinds)
        return f"select {sums} from ({self._wrong()}) w"  # noqa: S608 - as above

    def disagreeing(self, figure: str) -> str:
        """Return SQL for the rows in which one figure is wrong: key, what is kept, what is counted."""
        at = self.figures.index(figure)
        columns = ", ".join([*_numbered("k", self.key), f"o{at} as kept", f"f{at} as counted"])
        return f"select {columns} from ({self._wrong()}) w where o{at} <> f{at}"  # noqa: S608 - as above

    def _wrong(self, further: Sequence[str] = ()) -> str:
        """Return SQL for the wrong rows: key, figures kept, figures counted, ``further``, and whether there is a row.

        Both sides are laid upon each other and added up by key, so that each is read once; a condition on a column
        of the key reaches down into both.
        """
        keys, old, new = (
            _numbered(*told) for told in (("k", self.key), ("o", self.figures), ("f", self.figures))
        )
        counted = _numbered("n", self.further)
        more = counted[: len(further)]
        zeros = ["0"] * len(self.figures)
        names = ", ".join([*keys, *old, *new, *more, "there"])
        kept = [
            *map(ident, self.key),
            *(f"coalesce({ident(name)}, 0)" for name in self.figures),
            *zeros,
            *map(ident, further),
            "1",
        ]
        sums = [f"sum({name}) as {name}" for name in (*old, *new)]
        tops = [f"max({name}) as {name}" for name in (*more, "there")]
        only = f" where {keys[self.key.index(self.only)]} = :only" if self.only else ""
        differ = " or ".join(f"sum({one}) <> sum({other})" for one, other in zip(old, new, strict=True))
        return (
            f"with the_count ({', '.join([*keys, *new, *counted])}) as ({self.select.strip()}),"  # noqa: S608 - names are quoted, and the rest is the profile's own
            f" both_sides ({names}) as (select {', '.join([*keys, *zeros, *_some(new), *more, '0'])} from the_count"
            f" union all select {', '.join(kept)} from {ident(self.table)})"
            f" select {', '.join([*keys, *sums, *tops])} from both_sides{only} group by {', '.join(keys)} having {differ}"
        )


def _numbered(letter: str, names: Sequence[str]) -> list[str]:
    return [f"{letter}{at}" for at in range(len(names))]


def _some(names: Sequence[str]) -> list[str]:
    return [f"coalesce({name}, 0)" for name in names]
