"""Rows that a migration takes away: counted before and after, so that none goes without it being said in the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from dbctl.engines.contract import Effect, Readable, Writable
from dbctl.errors import PrivilegeMissingError, QueryFailedError
from dbctl.model import counted


class Loss(NamedTuple):
    """One table that has fewer rows than before."""

    table: str
    before: int
    after: int | None  #: None: it is gone
    judged: bool = (
        False  #: whether ``after`` is the least that may be left, judged by the words of a statement
    )

    @property
    def rows(self) -> int:
        """How many rows are gone."""
        return self.before - (self.after or 0)


def rows_of(db: Writable, but: Collection[str]) -> dict[str, int]:
    """Count the rows of every table that can be counted, but those of some."""
    found: dict[str, int] = {}
    for name, table in db.tables().items():
        if table.view or name in but:
            continue
        try:
            with db.transaction():  # a failure would end the one around it
                found[name] = db.count(name)
        except (QueryFailedError, PrivilegeMissingError):
            continue  # kept by a module that is not here, or not for this role: whoever cannot count it changes no row of it
    return found


def lost(before: Mapping[str, int], after: Mapping[str, int]) -> list[Loss]:
    """Return the tables that have fewer rows than before.

    One that is gone was renamed, or built anew under another name, where a new one has as many rows.
    """
    found = [
        Loss(table, rows, after[table]) for table, rows in before.items() if rows > after.get(table, rows)
    ]
    new = [rows for table, rows in after.items() if table not in before]
    for table, rows in before.items():
        if table in after or not rows:
            continue
        if rows in new:
            new.remove(rows)
        else:
            found.append(Loss(table, rows, None))
    return found


def at_risk(db: Readable, judged: Sequence[Effect]) -> list[Loss]:
    """Return the tables with rows that statements drop or delete from, by their words, before any of them runs."""
    live = {name.lower(): name for name, table in db.tables().items() if not table.view}
    meant = dict.fromkeys(live.get(name.lower(), "") for one in judged for name in (*one.drops, *one.empties))
    dropped = {live.get(name.lower(), "") for one in judged for name in one.drops}
    return [
        Loss(name, rows, None if name in dropped else 0, judged=True)
        for name in meant
        if name and (rows := db.count(name))
    ]


def told(losses: Sequence[Loss]) -> str:
    """Return what is lost in words: ``users (3 rows, 1 left), notes (5 rows, gone), logs (7 rows, some deleted)``."""

    def left(one: Loss) -> str:
        if one.after is None:
            return "gone"
        return "some deleted" if one.judged else f"{one.after} left"

    return ", ".join(f"{one.table} ({counted(one.before, 'row')}, {left(one)})" for one in losses)
