"""Delete one row of any table, within the rules of the app; ``DeleteRows`` deletes the rows of a condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Readable, Where, Writable
from dbctl.model import ChangeResult, Plan, Row, Struct
from dbctl.services.app import (
    App,
    Change,
    PreparedChange,
    UserSelector,
    UserTable,
    audit,
    require_row_count,
    truncate,
)
from dbctl.services.data.new_values import is_users_table, refuse_role_table
from dbctl.services.data.table import DataTable, row_key, selected_database
from dbctl.services.deletion import (
    CrossDatabaseDeletion,
    deletion_conditions,
    find_affected_rows,
    find_cascading_tables,
    find_written_databases,
    list_unchanged_databases,
)
from dbctl.services.rules import RowRules, guard_constraints
from dbctl.services.search import add_repair_hint
from dbctl.services.users import delete_users


class RowDeleteResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data delete``."""

    table: str
    key: Row
    rows: Mapping[str, int]  #: deleted rows, and rows whose reference became NULL, by table
    remaining: Sequence[str] = ()  #: warnings about remaining rows

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

    def draft(db: Readable) -> PreparedChange[RowDeleteResult]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        refuse_role_table(table)
        row = table.find(key)
        key_text = " ".join(truncate(part) for part in key)
        title = f"Delete {name} {key_text}"
        if is_users_table(table):
            deletion: DeleteUserRow | DeleteRow = DeleteUserRow(table, row, title)
        else:
            RowRules(app, table.database, table.live).check_removed(row)
            step, audit_key = f"delete {name} {key_text}", " ".join(key)
            rows = DeleteRows(
                table, table.key_conditions(key), 1, title=title, step=step, audit_key=audit_key
            )
            deletion = DeleteRow(table, row, rows)
        return PreparedChange(deletion.plan(), deletion.apply)

    return Change(
        app,
        selected_database(app),
        "data delete",
        draft,
        cascade_databases=lambda: find_cascade_databases(app, name),
    )


class DeletedRows(Struct, frozen=True, kw_only=True):
    """What a deletion did."""

    rows: Mapping[str, int]  #: deleted rows, and rows whose reference became NULL, by table
    remaining: Sequence[str]  #: warnings about remaining rows


class DeleteRows:
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
    ) -> None:
        """Find the other rows.

        Args:
            table: the table of the rows.
            where: the conditions.
            row_count: the number of rows that meet them.
            title: the title of the plan.
            step: the step of the plan.
            audit_key: the key for the audit log of the app.

        Raises:
            ConstraintError: rows without ON DELETE action reference the rows.
        """
        self._table, self._where, self._row_count = table, where, row_count
        self._title, self._audit_key = title, audit_key
        db, name = table.db, table.name
        self._rows, self._steps = {name: row_count}, [step]
        self._related = CrossDatabaseDeletion(
            table.app, table.database, db, deletion_conditions(db, name, where)
        )
        for touched in [*find_affected_rows(db, name, where), *self._related.plan_steps()]:
            self._rows[touched.table] = self._rows.get(touched.table, 0) + touched.rows
            self._steps.append(touched.step)

    def plan(self) -> Plan:
        return Plan(
            title=self._title,
            target=self._table.db.target,
            steps=self._steps,
            rows=self._rows,
            destructive=True,
        )

    def apply(self, db: Writable) -> DeletedRows:
        app, database, name = self._table.app, self._table.database, self._table.name
        with guard_constraints(app, database, db), add_repair_hint(app.profile.search, name, db):
            require_row_count(db.delete(name, self._where), self._row_count, db)
        audit.record(app, db, "data.delete", name, self._audit_key, {"rows": self._rows})
        self._related.delete()
        is_cascading = find_cascade_databases(app, name) or app.only
        remaining = list_unchanged_databases(app, database) if is_cascading else []
        return DeletedRows(rows=self._rows, remaining=remaining)


class DeleteRow:
    """Delete one row."""

    def __init__(self, table: DataTable, row: Row, rows: DeleteRows) -> None:
        self._table, self._key, self._rows = table, row_key(table, row), rows

    def plan(self) -> Plan:
        return self._rows.plan()

    def apply(self, db: Writable) -> RowDeleteResult:
        deleted = self._rows.apply(db)
        return RowDeleteResult(
            table=self._table.name, key=self._key, rows=deleted.rows, remaining=deleted.remaining
        )


class DeleteUserRow:
    """Delete a user, as ``users delete`` does."""

    def __init__(self, table: DataTable, row: Row, title: str) -> None:
        users = UserTable(table.app, table.db)
        self._table, self._key, self._title = table, row_key(table, row), title
        self._prepared = delete_users(table.app, UserSelector(ids=[str(row[users.id])])).draft(table.db)

    def plan(self) -> Plan:
        plan = self._prepared.plan
        return Plan(title=self._title, target=plan.target, steps=plan.steps, rows=plan.rows, destructive=True)

    def apply(self, db: Writable) -> RowDeleteResult:
        result = self._prepared.work(db)
        return RowDeleteResult(
            table=self._table.name, key=self._key, rows=result.rows, remaining=result.remaining
        )


def find_cascade_databases(app: App, name: str) -> Sequence[str]:
    """Return the other databases that a deletion in this table writes."""
    db = app.reader(selected_database(app))
    return (
        find_written_databases(app, selected_database(app), find_cascading_tables(db, name))
        if name in db.tables()
        else []
    )
