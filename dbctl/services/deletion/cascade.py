"""Rows that foreign keys delete or update when rows are deleted, and the refusal of deletions that violate invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import structs

from dbctl.engines.contract.checks import PlannedRows
from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    InSubquery,
    Not,
    Readable,
    Reference,
    Where,
)
from dbctl.engines.sql.query_builder import match_rows
from dbctl.errors.connection import ConstraintError
from dbctl.errors.users import InvariantViolatedError
from dbctl.model import Plan, Struct, format_count, group, time_before
from dbctl.profiles.codecs import TIMES
from dbctl.profiles.model.integrity import InvariantQuery
from dbctl.services.app.app import App
from dbctl.services.app.live_table import select_variant
from dbctl.services.app.secrets import mask_results
from dbctl.units import parse_duration


class AffectedRows(Struct, frozen=True, kw_only=True):
    """Rows of one table that a deletion deletes or changes."""

    table: str
    rows: int
    step: str  #: the step of the plan
    #: ``changed``: a reference follows another value; ``cleared``: it becomes NULL, or the default of its column
    kind: Literal["deleted", "changed", "cleared", "transferred"]
    where: Where | None = None  #: the condition of the rows; None: they are in another database


def describe_deleted(
    db: Readable, table: str, where: Sequence[Where], note: str = ""
) -> Iterator[AffectedRows]:
    """Yield the rows of a table that are deleted, if there are any; ``note`` ends the step."""
    if rows := db.count(table, where):
        step = f"delete {format_count(rows, 'row')} of {table}{note}"
        yield AffectedRows(table=table, rows=rows, step=step, kind="deleted", where=AllOf(where))


def describe_cleared(
    db: Readable, table: str, columns: Sequence[str], where: Sequence[Where], *, value: str = "NULL"
) -> Iterator[AffectedRows]:
    """Yield the rows of a table whose reference becomes NULL, or what ``value`` names, if there are any."""
    if rows := db.count(table, where):
        step = f"keep {format_count(rows, 'row')} of {table}, and set {', '.join(columns)} to {value}"
        yield AffectedRows(table=table, rows=rows, step=step, kind="cleared", where=AllOf(where))


#: What the actions of foreign keys store in the columns of remaining rows, in a step of the plan.
_STORED = {"SET NULL": "NULL", "SET DEFAULT": "the default"}
#: The beginning and the end of a step for the actions after a change of referenced columns.
_FOLLOWING = {
    "CASCADE": ("change", ""),
    **{action: ("set", f" to {value}") for action, value in _STORED.items()},
}


class _CascadePaths(Struct, frozen=True, kw_only=True):
    """Conditions of affected rows: by table, and by table, columns and action for rows that remain."""

    deleted: dict[str, list[Where]]
    cleared: dict[tuple[str, tuple[str, ...], str], list[Where]]
    blocking: dict[tuple[str, str], list[Where]]


def find_affected_rows(
    db: Readable, starts: Mapping[str, Sequence[Where]], *, before: Collection[str] = ()
) -> list[AffectedRows]:
    """Return the effects of foreign keys when rows are deleted, without these rows themselves.

    ``starts`` contains, by table, the rows that are deleted in this order: those that meet any of the conditions. A row is counted
    once, even if several keys reference deleted rows. ``before`` contains the keys (``table.column``) whose rows are deleted first.
    Trees of rows in one table, and cycles of several tables, are followed to their last row.

    Raises:
        ConstraintError: rows without ON DELETE action reference the deleted rows, or rows of tables that ``Readable.tables`` lacks.
    """
    deleted, cleared = dict[str, list[Where]](), dict[tuple[str, tuple[str, ...], str], list[Where]]()
    earlier = dict[str, Sequence[Where]]()
    for table, conditions in starts.items():
        paths = _CascadePaths(deleted={}, cleared={}, blocking={})
        _follow(db, table, [AnyOf(conditions)], before, paths)
        deleted_before = {name: [*deleted.get(name, ()), *where] for name, where in earlier.items()}
        _refuse_blocking_rows(db, paths, deleted | deleted_before)
        earlier[table] = conditions
        for name, where in paths.deleted.items():
            deleted.setdefault(name, []).extend(where)
        for place, where in paths.cleared.items():
            cleared.setdefault(place, []).extend(where)
    affected = list[AffectedRows]()
    for name, where in deleted.items():
        affected += describe_deleted(db, name, [AnyOf(where), *_not_deleted(name, starts)])
    for (name, columns, action), where in cleared.items():
        remaining = [*_not_deleted(name, starts), *_not_deleted(name, deleted)]
        affected += describe_cleared(db, name, columns, [AnyOf(where), *remaining], value=_STORED[action])
    return affected


def add_dependent_rows(
    plan: Plan, db: Readable, starts: Mapping[str, Sequence[Where]], *, named: Mapping[str, Where] = {}
) -> Plan:
    """Return the plan of a change that deletes rows, with the rows that foreign keys delete or change: then it destroys data.

    ``plan`` has the rows that the change itself deletes or changes: ``starts``, as for ``find_affected_rows``, and those ``named``, by table.

    Raises:
        ConstraintError: rows without ON DELETE action reference the deleted rows.
    """
    own_rows = {table: db.count(table, [AnyOf(where)]) for table, where in starts.items()}
    affected = find_affected_rows(db, {table: starts[table] for table, count in own_rows.items() if count})
    rows, deleted = dict(plan.rows), Counter(plan.deleted)
    for counts in (own_rows, count_affected_rows(db, select_deleted(affected))):
        deleted.update({table: count for table, count in counts.items() if count})
    for table, count in count_affected_rows(db, affected, named=named).items():
        rows[table] = rows.get(table, 0) + count
    return structs.replace(
        plan,
        steps=[*plan.steps, *(item.step for item in affected)],
        rows=rows,
        deleted=dict(deleted),
        destructive=plan.destructive or bool(affected),
    )


def add_changed_rows(plan: Plan, db: Readable, affected: Sequence[AffectedRows]) -> Plan:
    """Return the plan of a change with rows of ``find_changed_rows``: it destroys data if references are cleared."""
    return structs.replace(
        plan,
        steps=[*plan.steps, *(item.step for item in affected)],
        rows=dict(Counter(plan.rows) + Counter(count_affected_rows(db, affected))),
        destructive=plan.destructive or any(item.kind == "cleared" for item in affected),
    )


def find_changed_rows(
    db: Readable,
    table: str,
    columns: Collection[str],
    where: Sequence[Where],
    *,
    named: Mapping[str, Where] = {},
) -> list[AffectedRows]:
    """Return the rows that foreign keys change if ``columns`` of rows get other values, without those that ``named`` has by table.

    Raises:
        ConstraintError: foreign keys would change rows of tables that ``Readable.tables`` lacks.
    """
    affected, followed = list[AffectedRows](), list[Reference]()
    pending = [(table, {*columns}, where)]
    for parent, changed, within in pending:  # the list grows during the loop
        if changed:
            refuse_outside_rows(db, parent, within, changed)
        for key in db.references(parent) if changed else ():
            if key.on_update not in _FOLLOWING or changed.isdisjoint(key.to) or key in followed:
                continue
            followed.append(key)
            referring: list[Where] = [InSubquery(key.columns, parent, key.to, within)]
            pending.append((key.table, {*key.columns}, referring))
            others: list[Where] = [Not(named[key.table])] if key.table in named else []
            with db.read_all_rows(key.table):  # the foreign key also changes rows that a policy hides
                rows = db.count(key.table, [*referring, *others])
            if not rows:
                continue
            verb, value = _FOLLOWING[key.on_update]
            step = f"{verb} {', '.join(key.columns)} of {format_count(rows, 'row')} of {key.table}{value}, by its foreign key"
            if not set(db.tables()[key.table].primary_key).isdisjoint(key.columns):
                # the log identifies rows by their keys
                step += "; undo will be impossible, because keys of rows change"
            kind: Literal["changed", "cleared"] = "changed" if key.on_update == "CASCADE" else "cleared"
            where_others = AllOf([*referring, *others])
            affected.append(
                AffectedRows(table=key.table, rows=rows, step=step, kind=kind, where=where_others)
            )
    return affected


def select_deleted(affected: Iterable[AffectedRows]) -> list[AffectedRows]:
    return [item for item in affected if item.kind == "deleted"]


def count_affected_rows(
    db: Readable, affected: Iterable[AffectedRows], *, named: Mapping[str, Where] = {}
) -> dict[str, int]:
    """Return the number of rows by table, without ``named``; a row that several items contain counts once."""
    counts = dict[str, int]()
    for table, items in group((item.table, item) for item in affected).items():
        conditions = [item.where for item in items if item.where]
        others = [Not(named[table])] if table in named else []
        is_known = not conditions or (len(items) == 1 and not others)
        counts[table] = (
            sum(item.rows for item in items) if is_known else db.count(table, [AnyOf(conditions), *others])
        )
    return {table: rows for table, rows in counts.items() if rows}


def _refuse_blocking_rows(
    db: Readable, paths: _CascadePaths, deleted_before: Mapping[str, Sequence[Where]]
) -> None:
    """Refuse rows that reference deleted rows; ``deleted_before`` are those that were deleted before."""
    for (name, action), where in paths.blocking.items():
        # Rows that another path deletes do not block, except with RESTRICT, which is checked immediately.
        others = {} if action == "RESTRICT" else paths.deleted
        rows = db.count(
            name, [AnyOf(where), *_not_deleted(name, others), *_not_deleted(name, deleted_before)]
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
        for (name, columns, _), where in paths.cleared.items()
    ]
    return [*cleared, *deleted]


def _find_deletion_paths(
    db: Readable, table: str, conditions: Sequence[Where], before: Collection[str]
) -> _CascadePaths:
    paths = _CascadePaths(deleted={table: [AllOf(conditions)]}, cleared={}, blocking={})
    _follow(db, table, conditions, before, paths)
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
    db: Readable, table: str, conditions: Sequence[Where], before: Collection[str], paths: _CascadePaths
) -> None:
    """Add the rows that the foreign keys delete, change or keep when the rows of a table are deleted."""
    open_tables = [(table, conditions, {table}, iter(db.references(table)))]
    while open_tables:
        parent, within, path, keys = open_tables[-1]
        key = next(keys, None)
        if key is None:
            open_tables.pop()
            refuse_outside_rows(db, parent, within)
            continue
        if any(f"{key.table}.{column}" in before for column in key.columns):
            continue
        where: Where = InSubquery(key.columns, parent, key.to, within)
        is_cycle = key.table in path
        # A cycle ends with the round that finds no further rows.
        counted = [where, *_not_deleted(key.table, paths.deleted)] if is_cycle else [where]
        with db.read_all_rows(key.table):  # the foreign key also deletes rows that a policy hides
            has_rows = db.count(key.table, counted) > 0
        if not has_rows:
            continue
        if key.on_delete == "CASCADE":
            if is_cycle:
                where = _match_rows(db, key, counted, is_tree=key.table == parent)
            paths.deleted.setdefault(key.table, []).append(where)
            open_tables.append((key.table, [where], {*path, key.table}, iter(db.references(key.table))))
        elif key.on_delete in _STORED:
            columns = tuple(key.cleared or key.columns)
            paths.cleared.setdefault((key.table, columns, key.on_delete), []).append(where)
        elif not is_cycle:
            paths.blocking.setdefault((key.table, key.on_delete), []).append(where)
        elif key.table == table:  # rows that refer to each other may be deleted by one statement
            remaining = AllOf([*counted, Not(AllOf(conditions))])
            paths.blocking.setdefault((key.table, "NO ACTION"), []).append(remaining)


def refuse_outside_rows(
    db: Readable, table: str, where: Sequence[Where], changed: Collection[str] = ()
) -> None:
    """Refuse rows of tables that ``Readable.tables`` lacks, which neither the plan nor the log would have; for the arguments, see ``Readable.find_outside_table``.

    Raises:
        ConstraintError: foreign keys would delete or change such rows.
    """
    if outside := db.find_outside_table(table, where, changed):
        reason = f"rows of {outside}, which is not a table of {db.target}, refer to rows of {table}, and a foreign key would delete or change them"
        error = ConstraintError(target=db.target, reason=reason)
        error.hint += " Delete or change these rows first."
        raise error


def _match_rows(db: Readable, reference: Reference, where: Sequence[Where], *, is_tree: bool) -> Where:
    """Return a condition that selects rows by their keys: the conditions of the rounds of a cycle would nest too deeply.

    With ``is_tree``, for a reference within its table, the condition also selects the rows below.
    """
    table = reference.table
    key = db.tables()[table].primary_key
    # Without a primary key, rows have the unique columns to which the cycle refers.
    key = key or list(next(iter(db.references(table))).to)
    rows = db.select(table, key, where)
    if any(None in row for row in rows):  # unique columns may be NULL
        return AllOf(where)
    if len(key) > 1:
        return match_rows(key, rows)
    values = newest = {row[0]: None for row in rows}
    while newest and is_tree and list(reference.to) == key:
        below = db.select(table, key, [Condition(reference.columns[0], "in", list(newest))])
        newest = {row[0]: None for row in below if row[0] not in values}
        values = values | newest
    return Condition(key[0], "in", list(values))


def _not_deleted(table: str, deleted: Mapping[str, Sequence[Where]]) -> list[Where]:
    return [Not(AnyOf(list(deleted[table])))] if table in deleted else []


def create_query(app: App, flaw: InvariantQuery, db: Readable) -> tuple[str, Mapping[str, object]] | None:
    """Return the query for rows that violate an invariant, with its parameters, or None if the database lacks their tables."""
    variant = select_variant(flaw.variant, db.tables())
    if variant is None or not variant.sql:
        return None
    parameters = (
        {"since": TIMES[app.profile.time](time_before(parse_duration(flaw.since)))} if flaw.since else {}
    )
    return variant.sql.strip(), parameters


class GuardedInvariants:
    """The rows that violate invariants with ``guards_deletion`` before a deletion.

    Both methods raise InvariantViolatedError, which names the invariant and the rows, if the deletion adds such rows.
    """

    def __init__(self, app: App, db: Readable, database: str) -> None:
        self._app, self._db, self._database = app, db, database
        self._queries = {
            flaw.name: query
            for flaw in app.profile.invariant
            if flaw.guards_deletion
            and app.resolve_database(flaw) == database
            and (query := create_query(app, flaw, db))
        }
        self._before = {name: _read_keys(db.query(*query)) for name, query in self._queries.items()}

    def __bool__(self) -> bool:
        return bool(self._queries)

    def refuse_planned(self, changes: Sequence[PlannedRows]) -> None:
        """Refuse a planned deletion; an engine without ``Readable.explainer`` refuses it when it is applied."""
        if self._db.explainer is None:
            return
        for name, query in self._queries.items():
            self._refuse(name, self._db.explainer.query_after(changes, *query))

    def refuse_applied(self) -> None:
        """Refuse a deletion at the end of its transaction, which also contains the effects of triggers."""
        for name, query in self._queries.items():
            self._refuse(name, self._db.query(*query))

    def _refuse(self, name: str, rows: Sequence[tuple[object, ...]]) -> None:
        sql, _ = self._queries[name]
        if violations := [row for row in rows if str(row[0]) not in self._before[name]]:
            shown = mask_results(self._app, self._database, self._db, sql, violations)
            raise InvariantViolatedError(
                target=self._db.target, name=name, keys=", ".join(sorted(_read_keys(shown)))
            )


def _read_keys(rows: Sequence[Sequence[object]]) -> set[str]:
    return {str(row[0]) for row in rows}
