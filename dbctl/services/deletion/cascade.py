"""Rows that foreign keys delete or update when rows are deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from dbctl.engines.contract import AllOf, AnyOf, InSubquery, Not, PlannedRows, Readable, Where
from dbctl.errors import ConstraintError
from dbctl.model import Struct, format_count

#: Levels of a tree of rows in one table; each one nests a query, and MySQL accepts about 60.
MAX_DEPTH = 32


class AffectedRows(Struct, frozen=True, kw_only=True):
    """Rows of one table that a deletion deletes or changes."""

    table: str
    rows: int
    step: str  #: the step of the plan
    where: Where | None = None  #: the condition of the rows; None: they are in another database


class _CascadePaths(Struct, frozen=True, kw_only=True):
    """Conditions of affected rows: by table, and by table and columns for rows that remain."""

    deleted: dict[str, list[Where]]
    set_null: dict[tuple[str, tuple[str, ...]], list[Where]]
    blocking: dict[tuple[str, str], list[Where]]


def find_affected_rows(
    db: Readable, starts: Mapping[str, Sequence[Where]], *, before: Collection[str] = ()
) -> list[AffectedRows]:
    """Return the effects of foreign keys when rows are deleted, without these rows themselves.

    ``starts`` contains, by table, the rows that are deleted in this order: those that meet any of the conditions. A row is counted
    once, even if several keys reference deleted rows. ``before`` contains the keys (``table.column``) whose rows are deleted first.
    A tree of rows in one table is followed to the depth ``MAX_DEPTH``. A cycle of several tables is followed once; the database
    deletes the rows of further rounds.

    Raises:
        ConstraintError: rows without ON DELETE action reference the deleted rows.
    """
    deleted, set_null = dict[str, list[Where]](), dict[tuple[str, tuple[str, ...]], list[Where]]()
    for table, conditions in starts.items():
        paths = _CascadePaths(deleted={}, set_null={}, blocking={})
        _follow(db, table, [AnyOf(conditions)], [table], before, paths)
        _refuse_blocking_rows(db, paths)
        for name, where in paths.deleted.items():
            deleted.setdefault(name, []).extend(where)
        for place, where in paths.set_null.items():
            set_null.setdefault(place, []).extend(where)
    affected = []
    for name, where in deleted.items():
        if rows := db.count(name, [AnyOf(where), *_not_deleted(name, starts)]):
            step = f"delete {format_count(rows, 'row')} of {name}"
            affected.append(AffectedRows(table=name, rows=rows, step=step, where=AnyOf(where)))
    for (name, columns), where in set_null.items():
        remaining = [*_not_deleted(name, starts), *_not_deleted(name, deleted)]
        if rows := db.count(name, [AnyOf(where), *remaining]):
            step = f"keep {format_count(rows, 'row')} of {name}, and set {', '.join(columns)} to NULL"
            affected.append(AffectedRows(table=name, rows=rows, step=step, where=AnyOf(where)))
    return affected


def count_affected_rows(db: Readable, affected: Iterable[AffectedRows]) -> dict[str, int]:
    """Return the number of rows by table; a row that several items contain counts once."""
    items_by_table = dict[str, list[AffectedRows]]()
    for item in affected:
        items_by_table.setdefault(item.table, []).append(item)
    counts = dict[str, int]()
    for table, items in items_by_table.items():
        conditions = [item.where for item in items if item.where]
        is_single = len(items) == 1
        counts[table] = items[0].rows if is_single else db.count(table, [AnyOf(conditions)])
    return counts


def _refuse_blocking_rows(db: Readable, paths: _CascadePaths) -> None:
    for (name, action), where in paths.blocking.items():
        # Rows that another path deletes do not block, except with RESTRICT, which is checked immediately.
        rows = db.count(
            name, [AnyOf(where), *_not_deleted(name, {} if action == "RESTRICT" else paths.deleted)]
        )
        if rows:
            reason = f"{format_count(rows, 'row')} of {name} still reference the rows"
            raise ConstraintError(target=db.target, reason=reason)


def deletion_conditions(
    db: Readable, table: str, conditions: Sequence[Where], *, before: Collection[str] = ()
) -> dict[str, list[Where]]:
    """Return the conditions of all deleted rows by table, including ``table`` itself.

    A row is deleted if it meets any of the conditions of its table. For the arguments, see ``find_affected_rows``.
    """
    return _find_deletion_paths(db, table, conditions, before).deleted


def plan_rows(
    db: Readable, table: str, conditions: Sequence[Where], *, before: Collection[str] = ()
) -> list[PlannedRows]:
    """Return the rows that the deletion deletes or sets to NULL, in all tables; for the arguments, see ``find_affected_rows``."""
    paths = _find_deletion_paths(db, table, conditions, before)
    deleted = [PlannedRows(table=name, where=[AnyOf(where)]) for name, where in paths.deleted.items()]
    cleared = [
        PlannedRows(table=name, where=[AnyOf(where)], values=dict.fromkeys(columns))
        for (name, columns), where in paths.set_null.items()
    ]
    return [*cleared, *deleted]


def _find_deletion_paths(
    db: Readable, table: str, conditions: Sequence[Where], before: Collection[str]
) -> _CascadePaths:
    paths = _CascadePaths(deleted={table: [AllOf(conditions)]}, set_null={}, blocking={})
    _follow(db, table, conditions, [table], before, paths)
    return paths


def find_cascading_tables(db: Readable, table: str) -> list[str]:
    """Return ``table`` and all tables from which ON DELETE CASCADE may delete rows."""
    return _find_referring_tables(db, table, ("CASCADE",))


def find_dependent_tables(db: Readable, table: str) -> list[str]:
    """Return ``table`` and all tables whose rows its foreign keys may change or delete, when one of its rows is deleted."""
    return _find_referring_tables(db, table, ("CASCADE", "SET NULL", "SET DEFAULT"))


def _find_referring_tables(db: Readable, table: str, actions: Collection[str]) -> list[str]:
    tables = [table]
    for name_ in tables:  # the list grows during the loop
        keys = (key.table for key in db.references(name_) if key.on_delete in actions)
        tables += [name for name in dict.fromkeys(keys) if name not in tables]
    return tables


def _follow(
    db: Readable,
    table: str,
    conditions: Sequence[Where],
    path: Sequence[str],
    before: Collection[str],
    paths: _CascadePaths,
) -> None:
    for key in db.references(table):
        within = InSubquery(key.columns, table, key.to, conditions)
        is_tree = key.table == table and key.on_delete == "CASCADE" and path.count(table) < MAX_DEPTH
        # The update of a reference deletes nothing, and therefore ends the path also within a cycle.
        has_ended = key.table in path and not is_tree and key.on_delete not in ("SET NULL", "SET DEFAULT")
        is_handled = has_ended or f"{key.table}.{key.columns[0]}" in before
        counted = [within, *_not_deleted(table, paths.deleted)] if is_tree else [within]
        if is_handled or not db.count(key.table, counted):
            continue
        if key.on_delete == "CASCADE":
            paths.deleted.setdefault(key.table, []).append(within)
            _follow(db, key.table, [within], [*path, key.table], before, paths)
        elif key.on_delete in ("SET NULL", "SET DEFAULT"):
            paths.set_null.setdefault((key.table, tuple(key.columns)), []).append(within)
        else:
            paths.blocking.setdefault((key.table, key.on_delete), []).append(within)


def _not_deleted(table: str, deleted: Mapping[str, Sequence[Where]]) -> list[Where]:
    return [Not(AnyOf(deleted[table]))] if table in deleted else []
