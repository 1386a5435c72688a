"""What goes along when rows are deleted, read from the live foreign keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dbctl.engines.contract import AllOf, AnyOf, Not, Readable, Where, Within
from dbctl.errors import ConstraintError
from dbctl.model import Value, counted


class Touched(Value, frozen=True, kw_only=True):
    """Rows of one table that a deletion elsewhere deletes too, or cuts loose."""

    table: str
    rows: int
    step: str  #: what happens to them, for the plan


class _Ways(Value, frozen=True, kw_only=True):
    """The conditions under which rows are met, by the table (and, where they stay, the columns) that is met."""

    deleted: dict[str, list[Where]]
    loosened: dict[tuple[str, str], list[Where]]
    blocking: dict[tuple[str, str], list[Where]]


def reach(
    db: Readable, table: str, doomed: Sequence[Where], *, before: Collection[str] = ()
) -> list[Touched]:
    """Return everything that foreign keys would do when the ``doomed`` rows of ``table`` are deleted.

    Rows that several keys lead to count once. ``before`` holds the keys, as ``table.column``, that will point there no
    longer, because their rows are deleted first. A table that refers to itself, or back to one on the way, is followed
    once; its rows further down go along too.

    Raises:
        ConstraintError: rows point there that neither go along nor let go.
    """
    ways = _Ways(deleted={}, loosened={}, blocking={})
    _follow(db, table, doomed, [table], before, ways)
    for (name, action), where in ways.blocking.items():
        # Whatever goes along by another way blocks nothing, unless the key does not wait for the end of the statement.
        rows = db.count(
            name, [AnyOf(where), *_not_deleted(name, {} if action == "RESTRICT" else ways.deleted)]
        )
        if rows:
            reason = f"what would be deleted is still pointed to by {counted(rows, 'row')} of {name}"
            raise ConstraintError(target=db.target, reason=reason)
    found = []
    for name, where in ways.deleted.items():
        rows = db.count(name, [AnyOf(where)])
        found.append(Touched(table=name, rows=rows, step=f"delete {counted(rows, 'row')} of {name}"))
    for (name, columns), where in ways.loosened.items():
        rows = db.count(name, [AnyOf(where), *_not_deleted(name, ways.deleted)])
        if rows:
            step = f"keep {counted(rows, 'row')} of {name}, without their {columns}"
            found.append(Touched(table=name, rows=rows, step=step))
    return found


def doomed_rows(
    db: Readable, table: str, doomed: Sequence[Where], *, before: Collection[str] = ()
) -> dict[str, list[Where]]:
    """Return by table the conditions under which rows go with the ``doomed`` ones of ``table``, these included.

    A row goes that meets any of them; the arguments are those of ``reach``.
    """
    ways = _Ways(deleted={table: [AllOf(doomed)]}, loosened={}, blocking={})
    _follow(db, table, doomed, [table], before, ways)
    return ways.deleted


def reachable(db: Readable, table: str) -> list[str]:
    """Return ``table`` and those of which rows may go along with its own, whatever rows there are."""
    found = [table]
    for one in found:  # it grows meanwhile
        keys = (key.table for key in db.references(one) if key.on_delete == "CASCADE")
        found += [name for name in dict.fromkeys(keys) if name not in found]
    return found


def _follow(
    db: Readable,
    table: str,
    doomed: Sequence[Where],
    path: Sequence[str],
    before: Collection[str],
    ways: _Ways,
) -> None:
    for key in db.references(table):
        within = Within(key.columns, table, key.to, doomed)
        settled = key.table in path or f"{key.table}.{key.columns[0]}" in before
        if settled or not db.count(key.table, [within]):
            continue
        if key.on_delete == "CASCADE":
            ways.deleted.setdefault(key.table, []).append(within)
            _follow(db, key.table, [within], [*path, key.table], before, ways)
        elif key.on_delete in ("SET NULL", "SET DEFAULT"):
            ways.loosened.setdefault((key.table, ", ".join(key.columns)), []).append(within)
        else:
            ways.blocking.setdefault((key.table, key.on_delete), []).append(within)


def _not_deleted(table: str, deleted: dict[str, list[Where]]) -> list[Where]:
    return [Not(AnyOf(deleted[table]))] if table in deleted else []
