"""Change existing users and their roles; all rules are checked inside the transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.connection import ConstraintError
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import UsageError
from dbctl.errors.users import LastAdminError
from dbctl.model import (
    NOTHING_TO_DO,
    ChangeResult,
    Closing,
    Effect,
    Plan,
    Row,
    Secret,
    Struct,
    join_first,
    now,
)
from dbctl.profiles.codecs import read_time
from dbctl.profiles.model.base import NewValue
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import UNDO_IMPOSSIBLE, Change
from dbctl.services.app.row_writes import update_exactly
from dbctl.services.app.user_roles.form import Assignment, RoleAction
from dbctl.services.app.user_table import User, UserSelector, UserTable, users_database
from dbctl.services.deletion.cascade import add_changed_rows, add_dependent_rows, find_changed_rows
from dbctl.services.users import last_admin, sign_in_state
from dbctl.services.users.companions import copy_fields
from dbctl.services.users.last_admin import find_exclusive_role, list_holders, refuse_shared_role
from dbctl.services.users.passwords import Passwords, describe_lost_password, require_pepper, require_prefix
from dbctl.services.users.queries import mask_secrets

#: Fields whose change ends a user's sessions, because tokens may contain the old value.
SIGN_OUT_FIELDS = frozenset({"role", "active", "password"})
MAX_NAMED = 5  #: maximum number of logins in a title; further users are counted


class UsersChanged(ChangeResult, frozen=True, kw_only=True):
    """Result of a change of users."""

    users: Sequence[User]
    changed: int
    ended_sessions: int = 0
    signed_out: bool = False  #: only sessions were ended
    #: of ``sessions revoke``: the columns (``table.column``) in which the users were searched
    searched: Sequence[str] = ()
    signed_in_for: str | None = None  #: how long signed cookies with the old values remain valid
    password: str | None = None  #: only if dbctl generated it; shown once
    undecided: Sequence[str] = ()  #: notes about tables that may have sign-ins, which were not ended

    @property
    def effect(self) -> Effect | None:
        if not (self.changed or self.ended_sessions):
            return None
        names = [user.login for user in self.users] if self.changed == len(self.users) else []
        counts = {"unchanged": len(self.users) - self.changed, "sessions ended": self.ended_sessions}
        verb = "signed out" if self.signed_out else "changed"
        return Effect(verb, "user", names, count=self.changed, counts=counts)

    @property
    def closing(self) -> Closing:
        places = [f"no open session in {', '.join(self.searched)}"] if self.searched else []
        return super().closing if self.effect else Closing(NOTHING_TO_DO.text, places)

    @property
    def lost_output(self) -> Callable[[], str] | None:
        return partial(describe_lost_password, self.users[0].login) if self.password else None

    @property
    def remarks(self) -> Sequence[str]:
        return [*sign_in_state.remarks(self.signed_in_for, changed=bool(self.changed)), *self.undecided]

    def summary(self) -> Row:
        return {"password": self.password} if self.password else {}


class UserUpdate(Struct, frozen=True, kw_only=True):
    """New values of users."""

    fields: Mapping[str, str] = {}  #: by field name of the profile, as typed
    password_hash: str = ""  #: the hash of a new password
    #: the password, if dbctl generated it; shown once, in the result
    generated_password: Secret | None = None
    sets_password: bool = False  #: also without a hash: the first plan precedes the prompt for the password
    role_action: RoleAction = "set"  #: what happens with the role in ``fields``


def update_user(app: App, selector: UserSelector, fields: Mapping[str, str]) -> Change[UsersChanged]:
    """Change fields of users, such as the email address."""
    return change_users(app, selector, UserUpdate(fields=fields), "Update {logins}", "update")


def set_active(app: App, selector: UserSelector, *, active: bool) -> Change[UsersChanged]:
    """Activate or deactivate users, and end their sessions.

    Raises:
        FeatureMissingError: the app has no inactive users.
        DecisionOpenError: the profile leaves open how it stores them.
    """
    users = app.require_section(app.core.users, "users")
    verb = "activate" if active else "deactivate"
    if not (users.has_active or users.only_app_deactivates):
        app.require_decision("active", f"users {verb}")
        app.require_section(None, "inactive users")
    update = UserUpdate(fields={"active": "true" if active else "false"})
    return change_users(app, selector, update, f"{verb.capitalize()} {{logins}}", verb)


def set_password(app: App, selector: UserSelector, update: UserUpdate) -> Change[UsersChanged]:
    """Set the password of one user, and end their sessions.

    Raises (when planned and when applied):
        UsageError: several users are selected.
    """
    update = structs.replace(update, sets_password=True)
    return change_users(app, selector, update, "Set the password of {logins}", "set-password")


def change_users(
    app: App, selector: UserSelector, update: UserUpdate, title: str, action: str
) -> Change[UsersChanged]:
    """Give the selected users new values; ``title`` and the errors as for ``UpdateUsers``, ``action`` without ``users.``."""

    def draft(db: Readable) -> UpdateUsers:
        users = UserTable(app, db)
        return UpdateUsers(users, users.find_users(selector), update, title, f"users.{action}")

    expendable_tables = partial(sign_in_state.list_expendable_tables, app)
    # roles, states and passwords are not unique, so no foreign key refers to them
    changed = (
        ""
        if SIGN_OUT_FIELDS.issuperset(update.fields)
        else app.require_section(app.core.users, "users").table
    )
    return Change(app, users_database(app), draft, expendable_tables=expendable_tables, changed_table=changed)


class UpdateUsers:
    """Give users new values; users who already have them are not changed."""

    def __init__(
        self,
        users: UserTable,
        selected: Sequence[User],
        update: UserUpdate,
        title: str,
        action: str,
        *,
        is_guarded: bool = True,
    ) -> None:
        """Check the rules of the app.

        Args:
            users: the users.
            selected: those who get the new values.
            update: the values.
            title: the title of the plan; it may contain ``{logins}`` and names of fields.
            action: the name of the command, for the audit log of the app.
            is_guarded: whether to check the last admin and the exclusive role, which ``TransferRole`` checks itself.

        Raises:
            AlreadyExistsError: another user has a login, in any case.
            LastAdminError: no active admin would remain.
            RoleExclusiveError: several users, or none, would have the exclusive role.
            PasswordFormatError: stored hashes have a format that the profile does not declare.
            RoleFormError: the profile contradicts the stored roles.
            ValueInvalidError, RoleMissingError, UsageError: a value is invalid.
        """
        self._users, self._selected, self._action = users, selected, action
        self._generated_password = update.generated_password
        fields = self._parse_fields(update)
        self._assignments = _assign_roles(users, selected, fields, update.role_action)
        differing = {
            user.id: [
                field
                for field in fields
                if (
                    user.id in self._assignments
                    if field == "role"
                    else not _has_value(user, field, fields[field])
                )
            ]
            for user in selected
        }
        self._touched = touched = [user for user in selected if differing[user.id] or update.sets_password]
        self.leaving_admins = [user for user in touched if self._is_leaving(user, fields)]
        if is_guarded:
            refuse_shared_role(users, self._assignments.values())
            last_admin.refuse_last_admin(users, self.leaving_admins)
        self._names = [field for field in fields if any(field in differing[user.id] for user in touched)]
        self._new_values = {field: fields[field] for field in self._names}
        self._values = copy_fields(users, self._new_values) | users.encode_values(
            self._new_values, self._new_values
        )
        self._also: Mapping[str, NewValue] = {}
        if update.sets_password:
            passwords = Passwords(users.app, users.live)
            require_prefix(users.app)
            if passwords.section.pepper:
                require_pepper(users.app)
            passwords.require_declared_formats()
            self._names.append("password")
            self._also = passwords.section.also
            if update.password_hash:  # the first plan precedes the prompt for the password
                self._values |= passwords.split(update.password_hash)
        self._ends_sessions = bool(touched) and not SIGN_OUT_FIELDS.isdisjoint(self._names)
        self._sign_out = sign_in_state.SignOut(users, touched if self._ends_sessions else [])
        has_several_roles = users.roles is not None and users.roles.has_several
        changed_names = [name for name in self._names if name != "role" or not has_several_roles]
        steps = [f"change {', '.join(changed_names)} of {join_logins(touched)}"] if changed_names else []
        if renewed := users.live.map_columns({name: name for name in self._also}):
            steps.append(f"change {', '.join(renewed.values())}, as the app does with a new password")
        steps += self._plan_role_steps() if has_several_roles else []
        steps += self._sign_out.plan_steps()
        if touched and update.sets_password and users.app.recorder:  # the log has no secrets
            is_alone = self._names == ["password"] and not self._also
            steps.append(UNDO_IMPOSSIBLE if is_alone else "undo will not restore the password")
        plan = Plan(
            title=title.format(logins=join_logins(selected), **fields),
            target=users.db.target,
            steps=steps,
            rows=self._count_rows() if touched else {},
        )
        removed = users.roles.where_removed(list(self._assignments.values())) if users.roles else {}
        named = {users.live.name: users.where_ids(touched)}
        plan = add_dependent_rows(plan, users.db, {**removed, **self._sign_out.deleted}, named=named)
        columns = [
            users.fields[name] for name in self._names if name in users.fields.keys() - SIGN_OUT_FIELDS
        ]
        followed = find_changed_rows(users.db, users.live.name, columns, [users.where_ids(touched)])
        self.plan = add_changed_rows(plan, users.db, followed)

    def _plan_role_steps(self) -> list[str]:
        """Return the added and removed roles of users who may have several."""
        users: dict[str, list[User]] = {}
        for user in self._touched:
            if assignment := self._assignments.get(user.id):
                for role in assignment.removed:
                    users.setdefault(f"remove the role {role} from", []).append(user)
                for role in assignment.added:
                    users.setdefault(f"add the role {role} to", []).append(user)
        return [f"{step} {join_logins(touched)}" for step, touched in users.items()]

    def _is_leaving(self, user: User, fields: Mapping[str, object]) -> bool:
        """Return whether the change deactivates a user, or removes the admin role."""
        assignment = self._assignments.get(user.id)
        removed = assignment.removed if assignment else []
        return fields.get("active") is False or any(
            last_admin.is_admin(self._users, role) or self._users.section.admin == "" for role in removed
        )

    def _count_rows(self) -> dict[str, int]:
        """Return the rows by table; a table of metadata may have roles, other columns and sign-ins of users."""
        users, assignments = self._users, list(self._assignments.values())
        counts = Counter(users.roles.count_rows(assignments) if users.roles and assignments else {})
        counts.update(users.joined.count_rows(self._names, len(self._touched)))
        counts.update(self._sign_out.counts)
        # the first plan precedes the hash of a new password
        is_written = bool(self._stored()) or "password" in self._names
        is_written |= self._ends_sessions and bool(sign_in_state.list_renewed(users))
        own_rows = counts.pop(users.live.name, 0)  # such as roles in bits, and sign-ins in columns
        own_rows = len(self._touched) if is_written else min(own_rows, len(self._touched))
        return {name: count for name, count in {users.live.name: own_rows, **counts}.items() if count}

    def _stored(self) -> dict[str, object]:
        """Return the new values of the rows of users, with the time of the change."""
        users, stored = self._users, dict(self._values)
        if column := users.fields.get("updated_at"):
            stored.setdefault(column, users.live.encode(column, now()))
        return stored

    def _parse_fields(self, update: UserUpdate) -> dict[str, object]:
        users, selected = self._users, self._selected
        if update.sets_password and len(selected) > 1:
            raise UsageError(detail="several users would get the same password; select one user")
        for field in update.fields:
            if users.fields.get(field) == users.id:
                raise UsageError(detail=f"{field} is the key of the users and cannot be changed")
        if "active" in update.fields:
            users.require_deactivation()
        fields = {field: users.parse_value(field, text) for field, text in update.fields.items()}
        logins = {field: login for field, login in update.fields.items() if field in users.section.login}
        if logins and len(selected) > 1:
            raise UsageError(detail=f"two users cannot have the same {next(iter(logins))}; select one user")
        if selected and logins and (conflict := users.find_taken_login(logins, except_id=selected[0].id)):
            hint = "Choose another one."
            raise AlreadyExistsError(target=users.db.target, kind=conflict, name=logins[conflict], hint=hint)
        return fields

    def apply(self, db: Writable) -> UsersChanged:
        """Update the rows, end the sessions and record the change."""
        users, touched = self._users, self._touched
        if not touched:
            return UsersChanged(users=mask_secrets(users, self._selected), changed=0)
        if stored := self._stored():
            stamps = {name: value for name, value in stored.items() if name not in self._values}
            where = [users.where_ids(touched)]
            with last_admin.guard_unknown_admin(users, [users.live.name]):
                update_exactly(db, users.live.name, self._values, where, len(touched), stamps=stamps)
        if self._also:
            sign_in_state.renew_columns(users, db, touched, self._also)
        users.write_joined(db, [user.id for user in touched], self._new_values)
        if users.roles:
            users.roles.write(db, list(self._assignments.values()))
        ended = self._sign_out.apply(db)
        for user in touched:
            details = {"username": user.login, "changed": self._names}
            audit.record(users.app, db, self._action, "users", user.id, details)
        reloaded = {user.id: user for user in users.read([users.where_ids(self._selected)])}
        if any(user.id not in reloaded for user in self._selected):
            reason = "a user would not be one of the users afterwards (users.only, users.excluded)"
            raise ConstraintError(target=db.target, reason=reason)
        for key, assignment in self._assignments.items():
            names = set(reloaded[key].role_names) if key in reloaded else set()
            if not names.issuperset(assignment.added) or not names.isdisjoint(assignment.removed):
                reason = "a user would not have the new roles afterwards; a trigger may cause it"
                raise ConstraintError(target=db.target, reason=reason)
        return UsersChanged(
            users=mask_secrets(users, [reloaded[user.id] for user in self._selected]),
            changed=len(touched),
            ended_sessions=ended,
            signed_in_for=sign_in_state.remaining_sign_in(users, SIGN_OUT_FIELDS.intersection(self._names))
            if self._ends_sessions
            else None,
            undecided=sign_in_state.list_undecided(users) if self._ends_sessions else (),
            password=self._generated_password.reveal() if self._generated_password else None,
        )


def join_logins(users: Sequence[User]) -> str:
    """Return the logins of users for a title, shortened."""
    return join_first([user.login for user in users], MAX_NAMED) or "no user"


def _assign_roles(
    users: UserTable, selected: Sequence[User], fields: Mapping[str, object], action: RoleAction
) -> dict[object, Assignment]:
    """Return the changes of roles by the key of the user; users who have the roles already have none.

    Raises:
        NotSupportedError: users of the app have a single role.
    """
    if "role" not in fields:
        return {}
    roles = users.require_roles()
    assignments = {}
    for user in selected:
        after = roles.change(action, user.role_names, str(fields["role"]))
        if set(after) != set(user.role_names):
            assignments[user.id] = Assignment(user=user.id, before=user.role_names, after=after)
    return assignments


def _has_value(user: User, field: str, value: object) -> bool:
    stored = user.extra[field] if field in user.extra else getattr(user, field)
    if isinstance(value, datetime):
        return read_time(stored) == value
    return bool(stored == value) or (stored is not None and str(stored) == value)


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

    expendable_tables = partial(sign_in_state.list_expendable_tables, app)
    return Change(app, users_database(app), draft, expendable_tables=expendable_tables)


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
