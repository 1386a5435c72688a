"""Change existing users; all rules are checked inside the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dbctl.engines.contract import Readable, Where, Writable
from dbctl.errors import AlreadyExistsError, UsageError
from dbctl.model import ChangeResult, Plan, Row, Secret, Struct, format_count, now
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
from dbctl.services.users import last_admin, sign_in_state

#: Fields whose change ends a user's sessions, because tokens may contain the old value.
SIGN_OUT_FIELDS = frozenset({"role", "active", "password"})
MAX_NAMED = 5  #: maximum number of logins in a title; further users are counted


class UsersChanged(ChangeResult, frozen=True, kw_only=True):
    """Result of a change of users."""

    users: Sequence[User]
    changed: int
    ended_sessions: int = 0
    signed_in_for: str | None = None  #: how long signed cookies with the old values remain valid
    password: str | None = None  #: only if dbctl generated it; shown once

    @property
    def has_one_time_output(self) -> bool:
        return self.password is not None

    @property
    def remarks(self) -> Sequence[str]:
        return sign_in_state.remarks(self.signed_in_for, changed=bool(self.changed))

    def summary(self) -> Row:
        summary: dict[str, object] = {"changed": self.changed, "ended_sessions": self.ended_sessions}
        return (
            summary
            | ({"password": self.password} if self.password else {})
            | {"users": [user.summary() for user in self.users]}
        )


class Unlocked(ChangeResult, frozen=True, kw_only=True):
    """Result of ``users unlock``."""

    users: Sequence[User]
    cleared: int  #: number of deleted failed attempts

    def summary(self) -> Row:
        return {"users": [user.login for user in self.users], "cleared": self.cleared}


class UserUpdate(Struct, frozen=True, kw_only=True):
    """New values of users."""

    fields: Mapping[str, str] = {}  #: by field name of the profile, as typed
    password_hash: str | None = None  #: the hash of a new password; None: no change


def update_user(app: App, selector: UserSelector, fields: Mapping[str, str]) -> Change[UsersChanged]:
    """Change fields of users, such as the email address."""

    def draft(db: Readable) -> PreparedChange[UsersChanged]:
        users = UserTable(app, db)
        selected = users.find_users(selector)
        return prepare_update(
            users, selected, UserUpdate(fields=fields), f"Update {join_logins(selected)}", "users.update"
        )

    return Change(app, users_database(app), "users update", draft)


def set_role(app: App, selector: UserSelector, role: str) -> Change[UsersChanged]:
    """Set the role of users, and end their sessions, because tokens may contain the old role."""

    def draft(db: Readable) -> PreparedChange[UsersChanged]:
        users = UserTable(app, db)
        name, selected = users.parse_value("role", role), users.find_users(selector)
        title = f"Give {join_logins(selected)} the role {name}"
        return prepare_update(users, selected, UserUpdate(fields={"role": role}), title, "users.set-role")

    return Change(app, users_database(app), "users set-role", draft)


def set_active(app: App, selector: UserSelector, *, active: bool) -> Change[UsersChanged]:
    """Activate or deactivate users, and end their sessions."""
    verb = "activate" if active else "deactivate"
    update = UserUpdate(fields={"active": "true" if active else "false"})

    def draft(db: Readable) -> PreparedChange[UsersChanged]:
        users = UserTable(app, db)
        selected = users.find_users(selector)
        return prepare_update(
            users, selected, update, f"{verb.capitalize()} {join_logins(selected)}", f"users.{verb}"
        )

    return Change(app, users_database(app), f"users {verb}", draft)


def set_password(
    app: App, selector: UserSelector, hashed: str, generated: Secret | None = None
) -> Change[UsersChanged]:
    """Set the password of one user, and end their sessions; ``generated`` is the password if dbctl generated it."""

    def draft(db: Readable) -> PreparedChange[UsersChanged]:
        users = UserTable(app, db)
        selected = users.find_users(selector)
        if len(selected) > 1:
            raise UsageError(detail="several users would get the same password; select one user")
        title = f"Set the password of {join_logins(selected)}"
        update = prepare_update(
            users, selected, UserUpdate(password_hash=hashed), title, "users.set-password"
        )
        password = generated.reveal() if generated else None
        return PreparedChange(
            update.plan, lambda db: msgspec.structs.replace(update.work(db), password=password)
        )

    return Change(app, users_database(app), "users set-password", draft)


def unlock(app: App, selector: UserSelector, addresses: Sequence[str] = ()) -> Change[Unlocked]:
    """Delete the failed sign-ins of users: with any spelling of their login, and from the same addresses.

    Attempts from ``addresses`` are deleted too, with any login.
    """

    def draft(db: Readable) -> PreparedChange[Unlocked]:
        users = UserTable(app, db)
        selected = [] if addresses and selector.is_empty else users.find_users(selector)
        where = sign_in_state.failed_attempts(users, selected, addresses)
        table = app.require_section(users.section.lockout, "lockout").table
        count = db.count(table, where)
        steps = (
            [
                f"delete {format_count(count, 'failed attempt')} to sign in, with any spelling and from the same addresses"
            ]
            if count
            else []
        )

        def work(db: Writable) -> Unlocked:
            cleared = db.delete(table, where) if count else 0
            require_row_count(cleared, count, db)
            if cleared:
                for user in selected:
                    audit.record(app, db, "users.unlock", "users", user.id, {"username": user.login})
                for address in addresses:
                    audit.record(app, db, "users.unlock", "users", "", {"address": address})
            return Unlocked(users=selected, cleared=cleared)

        plan = Plan(
            title=f"Unlock {', '.join([*([join_logins(selected)] if selected else []), *addresses])}",
            target=db.target,
            steps=steps,
            rows={table: count} if count else {},
        )
        return PreparedChange(plan, work)

    return Change(app, users_database(app), "users unlock", draft)


# Common parts of the changes -----------------------------------------------------------------------------------


def prepare_update(
    users: UserTable, selected: Sequence[User], update: UserUpdate, title: str, action: str
) -> PreparedChange[UsersChanged]:
    """Return the change of the ``selected`` users; users who already have the values are not changed.

    Raises:
        AlreadyExistsError: another user has a login, in any case.
        LastAdminError: no active admin would remain.
        ValueInvalidError, RoleMissingError, UsageError: a value is invalid.
    """
    app, live = users.app, users.live
    for field in update.fields:
        if users.fields.get(field) == users.id:
            raise UsageError(detail=f"{field} is the key of the users and cannot be changed")
    fields = {field: users.parse_value(field, text) for field, text in update.fields.items()}
    differing = {
        user.id: [field for field in fields if not _has_value(user, field, fields[field])]
        for user in selected
    }
    touched = [user for user in selected if differing[user.id] or update.password_hash is not None]
    _check_logins(users, selected, update.fields)
    if fields.get("active") is False or not last_admin.is_admin(
        users, str(fields.get("role", users.section.admin))
    ):
        last_admin.refuse_last_admin(users, touched)
    names = [field for field in fields if any(field in differing[user.id] for user in touched)]
    values = users.encode_values({field: fields[field] for field in names})
    if update.password_hash is not None:
        names.append("password")
        values[live.column(app.require_section(users.section.password, "passwords").column)] = (
            update.password_hash
        )
    ends_sessions = touched and not SIGN_OUT_FIELDS.isdisjoint(names)
    ends = sign_in_state.count_open_sessions(users, touched) if ends_sessions else {}
    steps = [f"change {', '.join(names)} of {join_logins(touched)}"] if touched else []
    steps += [f"end {format_count(count, 'session')} ({table})" for table, count in ends.items()]

    def work(db: Writable) -> UsersChanged:
        if not touched:
            return UsersChanged(users=selected, changed=0)
        where: list[Where] = [live.is_in(users.section.id.column, [user.id for user in touched])]
        stored = dict(values)
        if "updated_at" in users.fields:
            stored.setdefault(users.fields["updated_at"], live.encode(users.fields["updated_at"], now()))
        changed = db.update(live.name, stored, where)
        require_row_count(changed, len(touched), db)
        ended = sign_in_state.end_sessions(users, db, touched) if ends_sessions else 0
        for user in touched:
            audit.record(app, db, action, "users", user.id, {"username": user.login, "changed": names})
        return UsersChanged(
            users=users.reload(selected),
            changed=changed,
            ended_sessions=ended,
            signed_in_for=(users.section.cookie or None) if ends_sessions else None,
        )

    rows = {live.name: len(touched), **ends} if touched else {}
    return PreparedChange(Plan(title=title, target=users.db.target, steps=steps, rows=rows), work)


def join_logins(users: Sequence[User]) -> str:
    """Return the logins of users for a title, shortened."""
    names = ", ".join(user.login for user in users[:MAX_NAMED]) or "no user"
    return names + (f" and {len(users) - MAX_NAMED} more" if len(users) > MAX_NAMED else "")


def _has_value(user: User, field: str, value: object) -> bool:
    stored = user.extra[field] if field in user.extra else getattr(user, field)
    return bool(stored == value) or (stored is not None and str(stored) == value)


def _check_logins(users: UserTable, selected: Sequence[User], fields: Mapping[str, str]) -> None:
    for field in fields:
        if field in users.section.login and len(selected) > 1:
            raise UsageError(detail=f"two users cannot have the same {field}; select one user")
        if (
            field in users.section.login
            and selected
            and users.is_login_taken(field, fields[field], except_id=selected[0].id)
        ):
            raise AlreadyExistsError(
                target=users.db.target, kind=field, name=fields[field], hint="Choose another one."
            )
