"""What goes along when rows are deleted, read from the live foreign keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dbctl.engines.base import Readable, Where, Within
from dbctl.errors import ConstraintError
from dbctl.model import Value, counted


class Touched(Value, frozen=True, kw_only=True):
    """Rows of one table that a deletion elsewhere deletes too, or cuts loose."""

    table: str
    rows: int
    step: str  #: what happens to them, for the plan


def reach(
    db: Readable,
    table: str,
    doomed: Sequence[Where],
    path: Sequence[str] = (),
    *,
    before: Collection[str] = (),
) -> list[Touched]:
    """Return everything that foreign keys would do when the ``doomed`` rows of ``table`` are deleted.

    ``before`` holds those that will point there no longer, as ``table.column``, because their rows are deleted first.

    A table that refers to itself, or back to one on the way, is followed once; its rows further down go along too.

    Raises:
        ConstraintError: rows point there that neither go along nor let go.
    """
    found: list[Touched] = []
    path = [*path, table]
    for key in db.references(table):
        if f"{key.table}.{key.columns[0]}" in before:
            continue
        within = Within(key.columns, table, key.to, doomed)
        count = db.count(key.table, [within]) if key.table not in path else 0
        if not count:
            continue
        if key.on_delete == "CASCADE":
            found.append(
                Touched(table=key.table, rows=count, step=f"delete {counted(count, 'row')} of {key.table}")
            )
            found += reach(db, key.table, [within], path)
        elif key.on_delete in ("SET NULL", "SET DEFAULT"):
            step = f"keep {counted(count, 'row')} of {key.table}, without their {', '.join(key.columns)}"
            found.append(Touched(table=key.table, rows=count, step=step))
        else:
            reason = f"what would be deleted is still pointed to by {counted(count, 'row')} of {key.table}"
            raise ConstraintError(target=db.target, reason=reason)
    return found
