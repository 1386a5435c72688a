"""Rows that a migration deletes: counted before and after it, and estimated from its statements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from dbctl.engines.contract.database import Readable, Writable
from dbctl.engines.contract.schema import StatementEffect
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError
from dbctl.model import format_count


class RowLoss(NamedTuple):
    """One table with fewer rows than before."""

    table: str
    before: int
    after: int | None  #: None: the table no longer exists
    is_estimate: bool = False  #: estimated from a statement; ``after`` is then a lower bound

    @property
    def rows(self) -> int:
        """The number of deleted rows."""
        return self.before - (self.after or 0)


def count_rows(db: Writable, excluded: Collection[str]) -> dict[str, int]:
    """Count the rows of every readable table except those in ``excluded``."""
    row_counts: dict[str, int] = {}
    for name, table in db.tables().items():
        if table.is_view or name in excluded:
            continue
        has_begun = False
        try:
            with db.transaction():  # a failure would abort the transaction of the caller
                has_begun = True
                row_counts[name] = db.count(name)
        except (QueryFailedError, PrivilegeMissingError):
            if not has_begun:  # the server lacks savepoints here, so the transaction of the caller has failed
                raise
            continue  # a virtual table without its module, or no privilege: then the migration cannot change its rows either
    return row_counts


def find_losses(before: Mapping[str, int], after: Mapping[str, int]) -> list[RowLoss]:
    """Return the tables that have fewer rows than before.

    A missing table is treated as renamed if a new table has the same number of rows.
    """
    losses = [
        RowLoss(table, rows, after[table]) for table, rows in before.items() if rows > after.get(table, rows)
    ]
    new = [rows for table, rows in after.items() if table not in before]
    for table, rows in before.items():
        if table in after or not rows:
            continue
        if rows in new:
            new.remove(rows)
        else:
            losses.append(RowLoss(table, rows, None))
    return losses


def find_rows_at_risk(db: Readable, effects: Sequence[StatementEffect]) -> list[RowLoss]:
    """Return the tables with rows that statements would drop or delete from; the statements are examined, not run."""
    live_names = {name.lower(): name for name, table in db.tables().items() if not table.is_view}
    names = dict.fromkeys(
        live_names.get(name.lower(), "")
        for effect in effects
        for name in (*effect.dropped_tables, *effect.emptied_tables)
    )
    dropped = {live_names.get(name.lower(), "") for effect in effects for name in effect.dropped_tables}
    return [
        RowLoss(name, rows, None if name in dropped else 0, is_estimate=True)
        for name in names
        if name and (rows := db.count(name))
    ]


def describe_losses(losses: Sequence[RowLoss]) -> str:
    """Return the losses as text: ``users (3 rows, 1 left), notes (5 rows, dropped), logs (7 rows, some deleted)``."""

    def describe_after(loss: RowLoss) -> str:
        if loss.after is None:
            return "dropped"
        return "some deleted" if loss.is_estimate else f"{loss.after} left"

    return ", ".join(
        f"{loss.table} ({format_count(loss.before, 'row')}, {describe_after(loss)})" for loss in losses
    )
