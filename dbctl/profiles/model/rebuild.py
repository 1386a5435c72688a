"""Sections about statistics of users: how to recount them."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec

from dbctl.profiles.model.base import ColumnName, FindingHint, FindingSeverity, Section, TableName


class Rebuild(Section, frozen=True, kw_only=True):
    """A table of statistics, in the users' database. ``integrity cross-check`` compares it, ``sessions rebuild-stats`` corrects it."""

    name: str  #: the name of its rows in findings
    table: TableName  #: the table; optional with a trailing ``?``
    key: Annotated[Sequence[ColumnName], msgspec.Meta(min_length=1)]  #: columns that a unique index covers
    user: str  #: the column of ``key`` with the user
    figures: Annotated[
        Sequence[ColumnName], msgspec.Meta(min_length=1)
    ]  #: columns that must agree with a recount
    #: further columns of a missing row; in existing rows they do not change
    further: Sequence[ColumnName] = ()
    touched: Sequence[ColumnName] = ()  #: columns that get the current time when a figure is corrected
    #: portable SQL that recounts; selects the columns of ``key``, ``figures`` and ``further``, in this order
    select: str
    severity: FindingSeverity = "warning"
    hint: FindingHint = "Recount them with: dbctl sessions rebuild-stats"


def validate_rebuild(section: Rebuild) -> Iterator[tuple[Sequence[str], str]]:
    """Yield key and reason of each error in a section."""
    if section.user not in section.key:
        yield ("user",), f"{section.user} is not in key"
    seen: list[str] = []
    for key in ("key", "figures", "further", "touched"):
        for column in getattr(section, key):
            if column in seen:
                yield (key,), f"duplicate column {column}"
            seen.append(column)
