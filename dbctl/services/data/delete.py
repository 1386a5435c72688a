"""Delete rows of any table by their key or by a filter, within the rules of the app."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar, cast

from msgspec import structs

from dbctl.engines.contract.database import AllOf, Readable, Where, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import UsageError, UseDedicatedCommandError
from dbctl.model import ChangeResult, Effect, Plan, Row, format_count
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, Prepared, PreparedChange
from dbctl.services.app.row_writes import delete_exactly
from dbctl.services.app.user_table import UserSelector, UserTable
from dbctl.services.app.validation import truncate
from dbctl.services.data.add import is_users_table, refuse_role_table
from dbctl.services.data.table import CONFLICT_HINT, DataTable, Filters, row_key, selected_database
from dbctl.services.deletion.cascade import (
    AffectedRows,
    count_affected_rows,
    deletion_conditions,
    find_affected_rows,
    find_cascading_tables,
    plan_rows,
    select_deleted,
)
from dbctl.services.deletion.cross_database import (
    CrossDatabaseDeletion,
    find_written_databases,
    list_unchanged_databases,
)
from dbctl.services.rules.rows import RowRules, guard_constraints
from dbctl.services.search.fulltext import add_repair_hint
from dbctl.services.users.delete import DeleteUsers, delete_users
from dbctl.services.users.last_admin import refuse_planned

R = TypeVar("R")


def _describe_deletion(table: str, count: int, rows: Mapping[str, int]) -> Effect:
    total = sum(rows.values())
    counts = {"rows deleted or cleared": total} if total > count else {}
    return Effect("deleted", "row", count=count, place=f"of {table}", counts=counts)


class RowDeleteResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data delete``."""

    table: str
    key: Row
    rows: Mapping[str, int]  #: deleted rows, and rows whose reference became NULL, by table
    remaining: Sequence[str] = ()  #: warnings about remaining rows

    @property
    def effect(self) -> Effect | None:
        return _describe_deletion(self.table, 1, self.rows)

    @property
    def remarks(self) -> Sequence[str]:
        return self.remaining


class RowsDeleteResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data delete`` with a filter."""

    table: str
    matched: int
    rows: Mapping[str, int]  #: deleted rows, and rows whose reference became NULL, by table
    remaining: Sequence[str] = ()  #: warnings about remaining rows

    @property
    def effect(self) -> Effect | None:
        return _describe_deletion(self.table, self.matched, self.rows) if self.changed else None

    @property
    def changed(self) -> bool:
        return bool(self.matched)

    @property
    def remarks(self) -> Sequence[str]:
        return self.remaining


def delete_row(app: App, name: str, key: Sequence[str]) -> Change[RowDeleteResult]:
    """Delete one row, with the rows that foreign keys delete.

    Raises (when planned and when applied):
        RowNotFoundError: the row does not exist.
        ConstraintError: rows without ON DELETE action reference it.
        BuiltInRoleError: a built-in role would lose a permission.
        LastAdminError: no active admin would remain.
        UseDedicatedCommandError: the table has a dedicated command.
    """

    def draft(db: Readable) -> Prepared[RowDeleteResult]:
        table = DataTable(app, db, name)
        table.refuse_reserved()
        refuse_role_table(table)
        complete_key = table.complete_key(key)
        row = table.find(complete_key)
        key_text = " ".join(truncate(part) for part in complete_key)
        title, row_id = f"Delete {name} {key_text}", row_key(table, row)
        if is_users_table(table):  # as users delete does
            selector = UserSelector(ids=[str(row[UserTable(app, db).id])])
            user = cast("DeleteUsers", delete_users(app, selector).draft(db))
            plan = structs.replace(user.plan, title=title)

            def apply(db: Writable) -> RowDeleteResult:
                deleted = user.apply(db)
                return RowDeleteResult(table=name, key=row_id, rows=deleted.rows, remaining=deleted.remaining)

            return PreparedDeletion(plan, apply, user.deleted_rows)
        RowRules(app, table.database, table.live).check_removed(row)
        return DeleteRows(
            table,
            table.key_conditions(complete_key),
            1,
            title=title,
            step=f"delete {name} {key_text}",
            audit_key=" ".join(complete_key),
            create_result=lambda rows, remaining: RowDeleteResult(
                table=name, key=row_id, rows=rows, remaining=remaining
            ),
        )

    return _change(app, name, draft)


def delete_rows(app: App, name: str, filters: Filters, *, limit: int) -> Change[RowsDeleteResult]:
    """Delete all rows that match the filters, at most ``limit``, with the rows that foreign keys delete.

    Raises (when planned and when applied):
        LimitExceededError: more rows match.
        ConstraintError, BuiltInRoleError, UseDedicatedCommandError: see ``delete_row``.
    """

    def draft(db: Readable) -> Prepared[RowsDeleteResult]:
        table = DataTable(app, db, name)
        table.refuse_reserved()
        if table.live.table.is_view:
            raise UsageError(detail=f"{name} is a view; its rows cannot be deleted")
        if is_users_table(table):
            operation = f"deleting rows of {name} by a filter"
            raise UseDedicatedCommandError(operation=operation, hint=Remedy("Use: `users delete LOGIN`"))
        refuse_role_table(table)
        where = table.conditions(filters)
        matched = table.count_matches(where, limit)
        rules = RowRules(app, table.database, table.live)
        for row in table.read_stored(where) if rules.protects else ():
            rules.check_removed(row)
        if not matched:
            plan = Plan(title=f"Delete rows of {name}", target=db.target, steps=[])
            return PreparedChange(plan, lambda _: RowsDeleteResult(table=name, matched=0, rows={}))
        rows_text = f"{format_count(matched, 'row')} of {name}"
        return DeleteRows(
            table,
            where,
            matched,
            title=f"Delete {rows_text}",
            step=f"delete {rows_text}",
            audit_key="",
            create_result=lambda rows, remaining: RowsDeleteResult(
                table=name, matched=matched, rows=rows, remaining=remaining
            ),
        )

    return _change(app, name, draft, CONFLICT_HINT)


class PreparedDeletion(PreparedChange[R], frozen=True):
    """A prepared deletion by another object."""

    deleted_rows: Mapping[str, Sequence[Where]]


def _change(
    app: App, name: str, draft: Callable[[Readable], Prepared[R]], conflict_hint: str = ""
) -> Change[R]:
    return Change(
        app,
        selected_database(app),
        draft,
        cascade_databases=lambda: _find_cascade_databases(app, name),
        conflict_hint=conflict_hint,
    )


class DeleteRows(Generic[R]):
    """Delete the rows of one table that meet conditions, with the rows that foreign keys and links of the profile delete."""

    def __init__(
        self,
        table: DataTable,
        where: Sequence[Where],
        row_count: int,
        *,
        title: str,
        step: str,
        audit_key: str,
        create_result: Callable[[Mapping[str, int], Sequence[str]], R],
    ) -> None:
        """Find the other rows.

        Args:
            table: the table of the rows.
            where: the conditions.
            row_count: the number of rows that meet them.
            title: the title of the plan.
            step: the step of the plan.
            audit_key: the key for the audit log of the app.
            create_result: returns the result for the deleted rows by table, and warnings about remaining rows.

        Raises:
            ConstraintError: rows without ON DELETE action reference the rows.
        """
        self._table, self._where, self._row_count = table, where, row_count
        self._audit_key, self._create_result = audit_key, create_result
        db, name = table.db, table.name
        self.deleted_rows = deletion_conditions(db, name, where)
        self._related = CrossDatabaseDeletion(table.app, table.database, db, self.deleted_rows)
        affected = [
            AffectedRows(table=name, rows=row_count, step=step, kind="deleted", where=AllOf(where)),
            *find_affected_rows(db, {name: [AllOf(where)]}),
            *self._related.plan_steps(),
        ]
        self._rows, steps = count_affected_rows(db, affected), [item.step for item in affected]
        self.plan = Plan(
            title=title,
            target=db.target,
            steps=steps,
            rows=self._rows,
            deleted=count_affected_rows(db, select_deleted(affected)),
            destructive=True,
        )

    def check_plan(self) -> None:
        """Apply the guards to all rows that the database would delete or change."""
        app, database, db = self._table.app, self._table.database, self._table.db
        refuse_planned(app, database, db, plan_rows(db, self._table.name, self._where))

    def apply(self, db: Writable) -> R:
        """Delete the rows and record the deletion."""
        app, database, name = self._table.app, self._table.database, self._table.name
        guard = guard_constraints(app, database, db, {name: ()})
        with guard, add_repair_hint(app.profile.search, name, db):
            delete_exactly(db, name, self._where, self._row_count)
        audit.record(app, db, "data.delete", name, self._audit_key, {"rows": self._rows})
        self._related.delete()
        is_cascading = _find_cascade_databases(app, name) or app.only
        return self._create_result(
            self._rows, list_unchanged_databases(app, database) if is_cascading else []
        )


def _find_cascade_databases(app: App, name: str) -> Sequence[str]:
    """Return the other databases that a deletion in this table writes."""
    database = selected_database(app)
    db = app.reader(database)
    tables = find_cascading_tables(db, name) if name in db.tables() else []
    return find_written_databases(app, database, tables)
