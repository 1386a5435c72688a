"""Delete users with their rows, or after transferring rows to another user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import AllOf, AnyOf, Readable, Where, Writable
from dbctl.errors import DuplicateRowsError, UsageError
from dbctl.model import ChangeResult, KeyText, Plan, Row, format_count
from dbctl.services.app import (
    App,
    Change,
    PreparedChange,
    User,
    UserSelector,
    UserTable,
    audit,
    require_row_count,
    users_database,
)
from dbctl.services.deletion import (
    AffectedRows,
    CrossDatabaseDeletion,
    deletion_conditions,
    find_affected_rows,
    find_cascading_tables,
    find_written_databases,
    list_unchanged_databases,
)
from dbctl.services.users import last_admin, sign_in_state
from dbctl.services.users.ownership import OwnedRows, OwnershipTransfer
from dbctl.services.users.update import join_logins


class UsersDeleted(ChangeResult, frozen=True, kw_only=True):
    """Result of ``users delete``."""

    users: Sequence[User]
    rows: Mapping[str, int]
    transferred: Mapping[str, int] = {}  #: by table, rows that were transferred to another user
    #: by table, rows that were deleted because the other user has equal rows
    duplicates: Mapping[str, int] = {}
    signed_in_for: str | None = None  #: how long signed cookies of the users remain valid
    remaining: Sequence[str] = ()  #: notes about rows in other databases that were not deleted

    @property
    def remarks(self) -> Sequence[str]:
        return [*sign_in_state.remarks(self.signed_in_for, changed=bool(self.users)), *self.remaining]

    def summary(self) -> Row:
        optional = {"transferred": self.transferred, "duplicates": self.duplicates}
        return {
            "deleted": [user.login for user in self.users],
            "rows": self.rows,
            **{name: rows for name, rows in optional.items() if rows},
        }


def delete_users(
    app: App, selector: UserSelector, *, new_owner: str | KeyText = "", delete_duplicates: bool = False
) -> Change[UsersDeleted]:
    """Delete users with their rows, according to the live foreign keys and the profile.

    Args:
        app: the app.
        selector: the users to delete.
        new_owner: the user who gets the rows that the profile lists as transferable; without one they are deleted.
        delete_duplicates: delete rows that cannot be transferred because ``new_owner`` has rows with the same unique key.

    Raises (when planned and when applied):
        LastAdminError: no active admin would remain.
        ConstraintError: rows of other users refer to rows of the deleted users, and no rule covers them.
        FeatureMissingError: the app has no transferable rows.
        DuplicateRowsError: rows cannot be transferred, and ``delete_duplicates`` is false.
    """

    def draft(db: Readable) -> PreparedChange[UsersDeleted]:
        users = UserTable(app, db)
        leaving = users.find_users(selector)
        last_admin.refuse_last_admin(users, leaving)
        transfer = (
            OwnershipTransfer(users, leaving, _find_new_owner(users, leaving, new_owner))
            if new_owner
            else None
        )
        duplicates = transfer.duplicates() if transfer else []
        if transfer and duplicates and not delete_duplicates:
            raise DuplicateRowsError(
                target=db.target,
                login=transfer.new_owner.login,
                rows=", ".join(
                    f"{format_count(item.rows, 'row')} of {item.table} ({', '.join(item.key)})"
                    for item in duplicates
                ),
            )
        conditions: list[Where] = [users.live.is_in(users.section.id.column, [user.id for user in leaving])]
        owned_rows = OwnedRows(users, leaving, transfer)
        rows = {users.live.name: len(leaving)} if leaving else {}
        steps = [f"delete {join_logins(leaving)}"] if leaving else []
        transferred = transfer.count_rows() if transfer else {}
        if transfer:
            steps += [
                f"transfer {format_count(row_count, 'row')} of {table} to {transfer.new_owner.login}"
                for table, row_count in transferred.items()
            ]
        for table, row_count in transferred.items():
            rows[table] = rows.get(table, 0) + row_count
        other_databases = CrossDatabaseDeletion(
            app,
            users_database(app),
            db,
            _deleted_rows(users, conditions, owned_rows, transfer) if leaving else {},
        )
        affected = [
            *owned_rows.affected_rows(),
            *_rows_by_foreign_keys(users, conditions, owned_rows, transfer),
            *other_databases.plan_steps(),
        ]
        for item in affected:
            rows[item.table] = rows.get(item.table, 0) + item.rows
            steps.append(item.step)

        def work(db: Writable) -> UsersDeleted:
            if transfer:
                transfer.apply(db, transferred)
            owned_rows.delete(db)
            other_databases.delete()
            require_row_count(db.delete(users.live.name, conditions), len(leaving), db)
            for user in leaving:
                audit.record(app, db, "users.delete", "users", user.id, {"username": user.login})
            return UsersDeleted(
                users=leaving,
                rows=rows,
                transferred=transferred,
                duplicates={item.table: item.rows for item in duplicates},
                signed_in_for=users.section.cookie or None,
                remaining=list_unchanged_databases(app, users_database(app)),
            )

        plan = Plan(
            title=f"Delete {join_logins(leaving)}",
            target=db.target,
            steps=steps,
            rows=rows,
            destructive=bool(leaving),
        )
        return PreparedChange(plan, work)

    def cascade_databases() -> Sequence[str]:
        users = UserTable(app, app.reader(users_database(app)))
        owned = [path.partition(".")[0] for path in users.section.cascade]
        tables = [users.live.name, *(name for name in owned if name in users.db.tables())]
        return find_written_databases(
            app,
            users_database(app),
            [database for name in tables for database in find_cascading_tables(users.db, name)],
        )

    return Change(app, users_database(app), "users delete", draft, cascade_databases=cascade_databases)


def _find_new_owner(users: UserTable, leaving: Sequence[User], login: str | KeyText) -> User:
    users.app.require_section(users.section.transfer, "transfer of rows")
    new_owner = users.find_by_login(login)
    if any(user.id == new_owner.id for user in leaving):
        raise UsageError(detail=f"{new_owner.login} is deleted too and cannot get the rows")
    return new_owner


def _deleted_rows(
    users: UserTable, conditions: Sequence[Where], owned_rows: OwnedRows, transfer: OwnershipTransfer | None
) -> dict[str, list[Where]]:
    """Return, by table, the conditions of all deleted rows, according to the profile and the live foreign keys."""
    handled_keys = [*owned_rows.keys, *(transfer.keys if transfer else ())]
    deleted = dict[str, list[Where]]()
    starting_points: dict[str, list[Where]] = {**owned_rows.conditions, users.live.name: [AllOf(conditions)]}
    for table, where in starting_points.items():
        for name, cascaded in deletion_conditions(
            users.db, table, [AnyOf(where)], before=handled_keys
        ).items():
            deleted.setdefault(name, []).extend(cascaded)
    return deleted


def _rows_by_foreign_keys(
    users: UserTable, conditions: Sequence[Where], owned_rows: OwnedRows, transfer: OwnershipTransfer | None
) -> list[AffectedRows]:
    """Return the rows that the live foreign keys delete or change with the users and their rows."""
    handled_keys = [*owned_rows.keys, *(transfer.keys if transfer else ())]
    affected = list[AffectedRows]()
    for table, where in owned_rows.conditions.items():
        if users.db.count(table, [AnyOf(where)]):
            affected += find_affected_rows(users.db, table, [AnyOf(where)], before=handled_keys)
    return [*affected, *find_affected_rows(users.db, users.live.name, conditions, before=handled_keys)]
