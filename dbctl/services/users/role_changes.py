"""Change the roles of users: set, add or remove one, and transfer the exclusive role."""

from __future__ import annotations

from collections import Counter

from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.usage import UsageError
from dbctl.errors.users import LastAdminError
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.user_table import User, UserSelector, UserTable, users_database
from dbctl.services.users import last_admin
from dbctl.services.users.exclusive_role import find_exclusive_role, list_holders
from dbctl.services.users.update import UpdateUsers, UsersChanged, UserUpdate, change_users, join_logins

SET_ROLE = "Give {logins} the role {role}"  #: the title of a plan


def set_role(
    app: App, selector: UserSelector, role: str, *, previous_holder_role: str = ""
) -> Change[UsersChanged]:
    """Set the role of users, and end their sessions, because tokens may contain the old role.

    With ``previous_holder_role``, the exclusive role is transferred: the user who has it gets that other role.

    Raises (when planned and when applied):
        UsageError: ``role`` is not exclusive, several users are selected, or both roles are the same.
        LastAdminError: no active admin would remain.
        Others: see ``UpdateUsers``.
    """
    if not previous_holder_role:
        update = UserUpdate(fields={"role": role})
        return change_users(app, selector, update, SET_ROLE, "set-role")

    def draft(db: Readable) -> TransferRole:
        users = UserTable(app, db)
        return TransferRole(users, users.find_single_user(selector), role, previous_holder_role)

    return Change(app, users_database(app), draft)


def add_role(app: App, selector: UserSelector, role: str) -> Change[UsersChanged]:
    """Give users another role, in apps whose users may have several, and end their sessions."""
    update = UserUpdate(fields={"role": role}, role_action="add")
    return change_users(app, selector, update, "Add the role {role} to {logins}", "add-role")


def remove_role(app: App, selector: UserSelector, role: str) -> Change[UsersChanged]:
    """Remove one of the roles of users, in apps whose users may have several, and end their sessions."""
    update = UserUpdate(fields={"role": role}, role_action="remove")
    return change_users(app, selector, update, "Remove the role {role} from {logins}", "remove-role")


class TransferRole:
    """Give one user the exclusive role, and its present holder another role."""

    def __init__(self, users: UserTable, user: User, role: str, previous_holder_role: str) -> None:
        """Check the rules of the app; raises as ``set_role``."""
        roles = users.require_roles()
        roles.require_consistent()
        known, other = roles.resolve(role), roles.resolve(previous_holder_role)
        if known != find_exclusive_role(users):
            raise UsageError(detail=f"--demote-to: several users may have the role {known}")
        if other == known:
            raise UsageError(detail=f"--demote-to: choose another role than {known}")
        if last_admin.is_admin(users, known) and not last_admin.may_sign_in(users, user):
            raise LastAdminError(target=users.db.target, role=known, logins=f"{user.login} is not active")
        holders = [holder for holder in list_holders(users, for_update=True) if holder.id != user.id]
        changes = [(holders, other)] if holders else []
        self._updates = [
            UpdateUsers(
                users,
                selected,
                UserUpdate(fields={"role": name}),
                SET_ROLE,
                "users.set-role",
                is_guarded=False,
            )
            for selected, name in [*changes, ([user], known)]
        ]
        if not last_admin.is_admin(users, known):
            leaving = [admin for update in self._updates for admin in update.leaving_admins]
            last_admin.refuse_last_admin(users, leaving)
        plans = [update.plan for update in self._updates]
        demoted = f", and {join_logins(holders)} the role {other}" if holders else ""
        self.plan = structs.replace(
            plans[-1],
            title=f"{plans[-1].title}{demoted}",
            steps=[step for plan in plans for step in plan.steps],
            rows=dict(sum((Counter(plan.rows) for plan in plans), Counter())),
            deleted=dict(sum((Counter(plan.deleted) for plan in plans), Counter())),
            destructive=any(plan.destructive for plan in plans),
        )

    def apply(self, db: Writable) -> UsersChanged:
        """Update the rows of both users, end their sessions and record the changes."""
        results = [update.apply(db) for update in self._updates]
        return structs.replace(
            results[-1],
            users=[user for result in results for user in result.users],
            changed=sum(result.changed for result in results),
            ended_sessions=sum(result.ended_sessions for result in results),
        )
