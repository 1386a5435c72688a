"""Delete users with their rows, or after transferring rows to another user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.checks import PlannedRows
from dbctl.engines.contract.database import AnyOf, Readable, Where, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.errors.users import DuplicateRowsError
from dbctl.model import ChangeResult, Effect, KeyText, Plan, RetainedRows, Row, format_count, group
from dbctl.profiles.payloads import parse_row_path
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.row_writes import delete_exactly
from dbctl.services.app.user_roles.form import Assignment
from dbctl.services.app.user_table import User, UserSelector, UserTable, open_users, users_database
from dbctl.services.deletion.cascade import (
    AffectedRows,
    GuardedInvariants,
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
from dbctl.services.users import last_admin, sign_in_state
from dbctl.services.users.ownership import OwnedRows, OwnershipTransfer, delete_rows, find_retained_rows
from dbctl.services.users.queries import mask_secrets
from dbctl.services.users.update import join_logins

TRANSFER_HINT = Remedy("Transfer the rows to another user: --transfer-to LOGIN")
PROFILE_HINT = Remedy("List the keys that the profile does not handle with: `apps check`")
DEACTIVATE_HINT = Remedy(
    "Only the app deletes users: {cause}. Prevent a sign-in with: `users deactivate LOGIN`"
)


class UsersDeleted(ChangeResult, frozen=True, kw_only=True):
    """Result of ``users delete``."""

    users: Sequence[User]
    rows: Mapping[str, int]
    removed: Mapping[str, int] = {}  #: those of ``rows`` that were deleted, or whose reference became NULL
    transferred: Mapping[str, int] = {}  #: by table, rows that were transferred to another user
    #: by table, rows that were deleted because the other user has equal rows
    duplicates: Mapping[str, int] = {}
    signed_in_for: str | None = None  #: how long signed cookies of the users remain valid
    remaining: Sequence[str] = ()  #: notes about rows in other databases that were not deleted
    retained: Sequence[RetainedRows] = ()  #: rows that still refer to the users
    undecided: Sequence[str] = ()  #: notes about rows that the profile leaves open

    @property
    def effect(self) -> Effect | None:
        if not self.users:
            return None
        counts = {
            "rows deleted or cleared": sum(self.removed.values()),
            "rows transferred": sum(self.transferred.values()),
        }
        return Effect("deleted", "user", [user.login for user in self.users], counts=counts)

    @property
    def remarks(self) -> Sequence[str]:
        return [
            *sign_in_state.remarks(self.signed_in_for, changed=bool(self.users)),
            *self.remaining,
            *self.undecided,
        ]

    def summary(self) -> Row:
        optional = {
            "transferred": self.transferred,
            "duplicates": self.duplicates,
            "retained": {f"{item.table}.{item.column}": item.rows for item in self.retained},
        }
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
        RoleExclusiveError: a user has the exclusive role.
        ConstraintError: rows of other users refer to rows of the deleted users, and no rule covers them.
        FeatureMissingError: the app has no transferable rows.
        DecisionOpenError: rows may remain that give rights to the next user with the same key.
        NotSupportedError: only the app can delete users.
        DuplicateRowsError: rows cannot be transferred, and ``delete_duplicates`` is false.
        InvariantViolatedError: further rows would violate an invariant with ``guards_deletion``.
    """

    def draft(db: Readable) -> DeleteUsers:
        users = UserTable(app, db)
        if reason := users.section.only_app_deletes:
            has_state = "active" in users.field_names and users.section.can_deactivate
            hint = DEACTIVATE_HINT if has_state else f"Only the app deletes users: {reason}."
            raise NotSupportedError(feature="users delete", subject=app.core.title, hint=hint, cause=reason)
        app.require_decision("rights", "users delete")
        leaving = users.find_users(selector)
        _refuse_last_holders(users, leaving)
        transfer = _prepare_transfer(users, leaving, new_owner)
        if delete_duplicates and not transfer:
            raise UsageError(detail="--delete-duplicates requires --transfer-to")
        if transfer and transfer.duplicates and not delete_duplicates:
            duplicates = (
                f"{format_count(item.rows, 'row')} of {item.table} ({', '.join(item.key)})"
                for item in transfer.duplicates
            )
            login = transfer.new_owner.login
            raise DuplicateRowsError(target=db.target, login=login, rows=", ".join(duplicates))
        return DeleteUsers(users, leaving, transfer)

    def cascade_databases() -> Sequence[str]:
        users = open_users(app)
        owned = (parse_row_path(path)[0].table for path in users.section.owned)
        tables = [users.live.name, *(name for name in owned if name in users.db.tables())]
        cascading = [other for name in tables for other in find_cascading_tables(users.db, name)]
        return find_written_databases(app, users_database(app), cascading)

    return Change(app, users_database(app), draft, cascade_databases=cascade_databases)


def _refuse_last_holders(users: UserTable, leaving: Sequence[User]) -> None:
    removals = [Assignment(user=user.id, before=user.role_names, after=()) for user in leaving]
    last_admin.refuse_shared_role(users, removals)
    last_admin.refuse_last_admin(users, leaving)


def _prepare_transfer(
    users: UserTable, leaving: Sequence[User], login: str | KeyText
) -> OwnershipTransfer | None:
    if not (login or users.section.successor):
        return None
    users.app.require_section(users.section.transfer, "transfer of rows")
    new_owner = users.find_by_login(login) if login else _find_successor(users)
    if any(user.id == new_owner.id for user in leaving):
        raise UsageError(detail=f"{new_owner.login} is deleted too and cannot get the rows")
    return OwnershipTransfer(users, leaving, new_owner)


def _find_successor(users: UserTable) -> User:
    """Return the row that gets the rows of deleted users.

    Raises:
        UsageError: there is no such row, or more than one.
    """
    where = users.live.conditions(users.section.successor)
    keys = users.db.select(users.live.name, [users.id], where, limit=2)
    if len(keys) != 1:
        count = "several rows" if keys else "no row"
        detail = f"{count} of {users.live.name} can get the rows of deleted users: add --transfer-to"
        raise UsageError(detail=detail)
    return User(id=keys[0][0], login=", ".join(map(str, users.section.successor.values())))


class DeleteUsers:
    """Delete users and the rows that depend on them."""

    def __init__(self, users: UserTable, leaving: Sequence[User], transfer: OwnershipTransfer | None) -> None:
        """Find all rows.

        Raises:
            ConstraintError: rows of other users refer to rows of the deleted users, and no rule covers them.
            InvariantViolatedError, LastAdminError, RoleExclusiveError: see ``delete_users``.
        """
        self._users, self._leaving, self._transfer = users, leaving, transfer
        self._owned = OwnedRows(users, leaving, transfer)
        self._conditions: dict[str, list[Where]] = {
            **self._owned.conditions,
            users.live.name: [*self._owned.conditions.get(users.live.name, ()), users.where_ids(leaving)],
            **self._owned.later_conditions,
        }
        self._handled_keys = [*self._owned.keys, *(transfer.keys if transfer else ())]
        self.deleted_rows = deleted = self._find_deleted_rows() if leaving else {}
        # the profile or foreign keys delete further rows of the table of users
        if len(deleted.get(users.live.name, ())) > 1 or users.live.name in self._owned.conditions:
            _refuse_last_holders(users, users.read([AnyOf(deleted[users.live.name])]))
        self._related = CrossDatabaseDeletion(users.app, users_database(users.app), users.db, deleted)
        deletion = AffectedRows(
            table=users.live.name,
            rows=len(leaving),
            step=f"delete {join_logins(leaving)}",
            kind="deleted",
            where=users.where_ids(leaving),
        )
        transferred = list(transfer.affected_rows()) if transfer else []
        self._transferred = count_affected_rows(users.db, transferred)
        affected = [
            *([deletion] if leaving else ()),
            *transferred,
            *self._owned.affected_rows(deleted),
            *self._find_affected_rows(),
            *self._related.plan_steps(),
        ]
        self._rows, steps = count_affected_rows(users.db, affected), [item.step for item in affected]
        removed = [item for item in affected if item.kind != "transferred"]
        self._removed = count_affected_rows(users.db, removed) if transferred else self._rows
        self._retained = find_retained_rows(users, leaving, self._handled_keys, deleted)
        for rows in self._retained:
            row_count = format_count(rows.rows, "row")
            steps.append(f"keep {row_count} of {rows.table} with the user in {rows.column}: {rows.reason}")
        self._undecided = users.app.core.list_open("deletion")
        steps += self._undecided if leaving else []
        self._guarded = GuardedInvariants(users.app, users.db, users_database(users.app))
        if self._guarded:
            self._guarded.refuse_planned(self._plan_rows())
        self.plan = Plan(
            title=f"Delete {join_logins(leaving)}",
            target=users.db.target,
            steps=steps,
            rows=self._rows,
            deleted=count_affected_rows(users.db, select_deleted(affected)),
            destructive=bool(leaving),
            retained=self._retained,
        )

    def _plan_rows(self) -> list[PlannedRows]:
        """Return all rows that ``apply`` deletes or updates in the database of the users."""
        changes = [*(self._transfer.plan_rows() if self._transfer else ()), *self._owned.plan_cleared_rows()]
        for table, where in self._conditions.items():
            changes += plan_rows(self._users.db, table, [AnyOf(where)], before=self._handled_keys)
        return changes

    def _find_deleted_rows(self) -> dict[str, list[Where]]:
        """Return, by table, the conditions of all deleted rows, according to the profile and the live foreign keys."""
        deleted = dict[str, list[Where]]()
        for table, where in self._conditions.items():
            start = [AnyOf(where)]
            cascaded = deletion_conditions(self._users.db, table, start, before=self._handled_keys)
            for name, conditions in cascaded.items():
                deleted.setdefault(name, []).extend(conditions)
        return deleted

    def _find_affected_rows(self) -> list[AffectedRows]:
        """Return the rows that the live foreign keys delete or change with the users and their rows."""
        db = self._users.db
        starts = {
            table: where
            for table, where in self._conditions.items()
            if table == self._users.live.name or db.count(table, [AnyOf(where)])
        }
        try:
            return find_affected_rows(db, starts, before=self._handled_keys)
        except ConstraintError as error:
            is_transferable = self._users.section.transfer and not self._transfer
            error.hint += (
                f" {(TRANSFER_HINT if is_transferable else PROFILE_HINT).write(self._users.app.name)}"
            )
            raise

    def apply(self, db: Writable) -> UsersDeleted:
        """Transfer and delete the rows, and record each user."""
        users, leaving, transfer = self._users, self._leaving, self._transfer
        duplicates = ((item.table, item.rows) for item in transfer.duplicates) if transfer else ()
        if transfer:
            transfer.apply(db)
        self._owned.clear(db)
        delete_rows(db, self._owned.conditions)
        self._related.delete()
        delete_exactly(db, users.live.name, [users.where_ids(leaving)], len(leaving))
        delete_rows(db, self._owned.later_conditions)
        self._guarded.refuse_applied()
        for user in leaving:
            audit.record(users.app, db, "users.delete", "users", user.id, {"username": user.login})
        return UsersDeleted(
            users=mask_secrets(users, leaving),
            rows=self._rows,
            removed=self._removed,
            transferred=self._transferred,
            duplicates={table: sum(rows) for table, rows in group(duplicates).items()},
            signed_in_for=sign_in_state.remaining_sign_in(users),
            remaining=list_unchanged_databases(users.app, users_database(users.app)),
            retained=self._retained,
            undecided=self._undecided,
        )
