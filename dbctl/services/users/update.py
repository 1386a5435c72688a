"""Changes to users who are there; every rule holds inside the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dbctl.engines.contract import Readable, Where, Writable
from dbctl.errors import AlreadyExistsError, UsageError
from dbctl.model import Done, Plan, Row, Secret, Value, counted, now
from dbctl.services.app import App, Change, Draft, User, UserSelector, UserTable, audit, database_of, exactly
from dbctl.services.users import last_admin, sign_in_state

#: Fields whose change ends a user's sessions: a token may still say what they were.
SIGNING_OUT = frozenset({"role", "active", "password"})
NAMED = 5  #: users that a title names; more are counted


class UsersChanged(Done, frozen=True, kw_only=True):
    """Answer of a change to users that are there."""

    users: Sequence[User]
    changed: int
    ended_sessions: int = 0
    signed_in_for: str | None = (
        None  #: how long a signed cookie, which nothing ends, still says who they were
    )
    password: str | None = None  #: only where dbctl made it up; shown this once

    @property
    def tells(self) -> bool:
        return self.password is not None

    @property
    def remarks(self) -> Sequence[str]:
        return sign_in_state.remarks(self.signed_in_for, changed=bool(self.changed))

    def brief(self) -> Row:
        shown: dict[str, object] = {"changed": self.changed, "ended_sessions": self.ended_sessions}
        return (
            shown
            | ({"password": self.password} if self.password else {})
            | {"users": [one.brief() for one in self.users]}
        )


class Unlocked(Done, frozen=True, kw_only=True):
    """Answer of ``users unlock``."""

    users: Sequence[User]
    cleared: int  #: failed attempts that no longer count

    def brief(self) -> Row:
        return {"users": [user.login for user in self.users], "cleared": self.cleared}


class Wanted(Value, frozen=True, kw_only=True):
    """What users are to have."""

    fields: Mapping[str, str] = {}  #: by the profile's words, as typed
    hashed: str | None = None  #: a new password, hashed; None leaves the old one


def update_user(app: App, who: UserSelector, fields: Mapping[str, str]) -> Change[UsersChanged]:
    """Change mapped fields of users, such as an e-mail address."""

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        found = users.find(who)
        return change_of(users, found, Wanted(fields=fields), f"Update {listed(found)}", "users.update")

    return Change(app, database_of(app), "users update", draft)


def set_role(app: App, who: UserSelector, role: str) -> Change[UsersChanged]:
    """Give users a role, and end their sessions: a token may carry the old one."""

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        name, found = users.typed("role", role), users.find(who)
        title = f"Give {listed(found)} the role {name}"
        return change_of(users, found, Wanted(fields={"role": role}), title, "users.set-role")

    return Change(app, database_of(app), "users set-role", draft)


def set_active(app: App, who: UserSelector, *, active: bool) -> Change[UsersChanged]:
    """Let users sign in, or keep them out; either way they have to sign in anew."""
    word = "activate" if active else "deactivate"
    wanted = Wanted(fields={"active": "true" if active else "false"})

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        found = users.find(who)
        return change_of(users, found, wanted, f"{word.capitalize()} {listed(found)}", f"users.{word}")

    return Change(app, database_of(app), f"users {word}", draft)


def set_password(
    app: App, who: UserSelector, hashed: str, generated: Secret | None = None
) -> Change[UsersChanged]:
    """Give one user a new password (already hashed; ``generated`` where dbctl made it up), and end their sessions."""

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        found = users.find(who)
        if len(found) > 1:
            raise UsageError(detail="several users would share one password; name one user")
        title = f"Set the password of {listed(found)}"
        drafted = change_of(users, found, Wanted(hashed=hashed), title, "users.set-password")
        shown = generated.reveal() if generated else None
        return Draft(drafted.plan, lambda db: msgspec.structs.replace(drafted.work(db), password=shown))

    return Change(app, database_of(app), "users set-password", draft)


def unlock(app: App, who: UserSelector, addresses: Sequence[str] = ()) -> Change[Unlocked]:
    """Clear the failed attempts that keep users out: under every spelling of their login, and from their addresses.

    ``addresses`` are further ones, of whoever signs in from there.
    """

    def draft(db: Readable) -> Draft[Unlocked]:
        users = UserTable(app, db)
        found = [] if addresses and who.is_empty else users.find(who)
        where = sign_in_state.failed_attempts(users, found, addresses)
        table = app.ability(users.section.lockout, "lockout").table
        count = db.count(table, where)
        steps = (
            [
                f"delete {counted(count, 'failed attempt')} to sign in, in every spelling and from their addresses"
            ]
            if count
            else []
        )

        def work(db: Writable) -> Unlocked:
            cleared = db.delete(table, where) if count else 0
            exactly(cleared, count, db)
            if cleared:
                for user in found:
                    audit.record(app, db, "users.unlock", "users", user.id, {"username": user.login})
                for address in addresses:
                    audit.record(app, db, "users.unlock", "users", "", {"address": address})
            return Unlocked(users=found, cleared=cleared)

        plan = Plan(
            title=f"Unlock {', '.join([*([listed(found)] if found else []), *addresses])}",
            target=db.target,
            steps=steps,
            rows={table: count} if count else {},
        )
        return Draft(plan, work)

    return Change(app, database_of(app), "users unlock", draft)


# What several of them do ---------------------------------------------------------------------------------------


def change_of(
    users: UserTable, found: Sequence[User], wanted: Wanted, title: str, action: str
) -> Draft[UsersChanged]:
    """Return the change that gives the ``found`` users what is ``wanted``; whoever has it already stays untouched.

    Raises:
        AlreadyExistsError: a login belongs to somebody else, in whatever case.
        LastAdminError: no active admin would be left.
        ValueInvalidError, RoleMissingError, UsageError: the app does not take a value.
    """
    app, live = users.app, users.live
    for field in wanted.fields:
        if users.fields.get(field) == users.id:
            raise UsageError(detail=f"{field} is the key, by which everything else finds a user")
    fields = {field: users.typed(field, given) for field, given in wanted.fields.items()}
    differing = {
        user.id: [field for field in fields if not _holds(user, field, fields[field])] for user in found
    }
    touched = [user for user in found if differing[user.id] or wanted.hashed is not None]
    _check_logins(users, found, wanted.fields)
    if fields.get("active") is False or not last_admin.is_admin(
        users, str(fields.get("role", users.section.admin))
    ):
        last_admin.guard(users, touched)
    names = [field for field in fields if any(field in differing[user.id] for user in touched)]
    values = users.stored({field: fields[field] for field in names})
    if wanted.hashed is not None:
        names.append("password")
        values[live.get(app.ability(users.section.password, "passwords").column)] = wanted.hashed
    ending = touched and not SIGNING_OUT.isdisjoint(names)
    ends = sign_in_state.planned_end(users, touched) if ending else {}
    steps = [f"change {', '.join(names)} of {listed(touched)}"] if touched else []
    steps += [f"end {counted(count, 'session')} ({table})" for table, count in ends.items()]

    def work(db: Writable) -> UsersChanged:
        if not touched:
            return UsersChanged(users=found, changed=0)
        where: list[Where] = [live.among(users.section.id.column, [user.id for user in touched])]
        stamped = dict(values)
        if "updated_at" in users.fields:
            stamped.setdefault(users.fields["updated_at"], live.encode(users.fields["updated_at"], now()))
        changed = db.update(live.name, stamped, where)
        exactly(changed, len(touched), db)
        ended = sign_in_state.end(users, db, touched) if ending else 0
        for user in touched:
            audit.record(app, db, action, "users", user.id, {"username": user.login, "changed": names})
        return UsersChanged(
            users=users.again(found),
            changed=changed,
            ended_sessions=ended,
            signed_in_for=(users.section.cookie or None) if ending else None,
        )

    rows = {live.name: len(touched), **ends} if touched else {}
    return Draft(Plan(title=title, target=users.db.target, steps=steps, rows=rows), work)


def listed(users: Sequence[User]) -> str:
    """Return the users as a title names them."""
    names = ", ".join(user.login for user in users[:NAMED]) or "nobody"
    return names + (f" and {len(users) - NAMED} more" if len(users) > NAMED else "")


def _holds(user: User, field: str, value: object) -> bool:
    held = user.extra[field] if field in user.extra else getattr(user, field)
    return bool(held == value) or (held is not None and str(held) == value)


def _check_logins(users: UserTable, found: Sequence[User], fields: Mapping[str, str]) -> None:
    for field in fields:
        if field in users.section.login and len(found) > 1:
            raise UsageError(detail=f"two users cannot have one {field}; name one user")
        if field in users.section.login and found and users.taken(field, fields[field], besides=found[0].id):
            raise AlreadyExistsError(
                target=users.db.target, what=field, name=fields[field], instead="Choose another one."
            )
