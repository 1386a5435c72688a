"""Changes to users; every rule holds inside the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dbctl.engines.base import Condition, Readable, Where, Within, Writable
from dbctl.errors import AlreadyExistsError, SchemaLacksError, UsageError
from dbctl.model import Done, Plan, Row, Secret, Value, now
from dbctl.profiles.codecs import HASHES, KEYS
from dbctl.services import audit, settings, user_sessions
from dbctl.services.apps import App
from dbctl.services.change import Change, Draft
from dbctl.services.deletion import Touched, reach
from dbctl.services.user_table import User, UserTable, Who, check_secret, database_of


class NewUser(Value, frozen=True, kw_only=True):
    """A user to be. ``fields`` are those of the profile; the password comes hashed (``hashed``)."""

    fields: Mapping[str, str]
    role: str = ""
    active: bool = True
    hashed: str = ""
    generated: Secret | None = None  #: the password, where dbctl made it up; shown once, in the answer
    with_settings: bool = False


class UsersChanged(Done, frozen=True, kw_only=True):
    """Answer of a change to users that are there."""

    users: Sequence[User]
    changed: int
    ended_sessions: int = 0
    password: str | None = None  #: only where dbctl made it up; shown this once

    @property
    def tells(self) -> bool:
        return self.password is not None

    def brief(self) -> Row:
        shown: dict[str, object] = {"changed": self.changed, "ended_sessions": self.ended_sessions}
        return (
            shown
            | ({"password": self.password} if self.password else {})
            | {"users": [one.brief() for one in self.users]}
        )


class UserCreated(Done, frozen=True, kw_only=True):
    """Answer of ``users create`` and ``users ensure``."""

    user: User
    created: bool
    changed: bool
    default_settings: Sequence[str] = ()  #: keys of the user settings that were added
    password: str | None = None  #: only where dbctl made it up; shown this once

    @property
    def tells(self) -> bool:
        return self.password is not None

    def brief(self) -> Row:
        shown: dict[str, object] = {"created": self.created, "changed": self.changed}
        shown |= {"default_settings": self.default_settings} if self.default_settings else {}
        return shown | ({"password": self.password} if self.password else {}) | {"user": self.user.brief()}


class UsersDeleted(Done, frozen=True, kw_only=True):
    """Answer of ``users delete``."""

    users: Sequence[User]
    rows: Mapping[str, int]

    def brief(self) -> Row:
        return {"deleted": [user.login for user in self.users], "rows": self.rows}


class Unlocked(Done, frozen=True, kw_only=True):
    """Answer of ``users unlock``."""

    users: Sequence[User]
    cleared: int  #: failed attempts that no longer count

    def brief(self) -> Row:
        return {"users": [user.login for user in self.users], "cleared": self.cleared}


def hash_password(app: App, password: Secret) -> str:
    """Return what is stored for a password, after the app's own rules; takes about 50 ms at cost 10.

    Raises:
        ValueInvalidError: the app, or the hash, does not take it; the message does not show it.
    """
    users = app.ability(app.profile.users, "users")
    told = app.ability(users.password, "passwords")
    check_secret("password", password, users.rules.get("password"))
    return HASHES[told.codec].make(password, told.cost)


def create_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Add a user.

    Raises (when planned and when applied):
        AlreadyExistsError: a login is taken, in whatever case.
        ValueInvalidError: the app does not take a value.
        RoleMissingError: there is no such role.
    """

    def draft(db: Readable) -> Draft[UserCreated]:
        users = UserTable(app, db)
        check_new(users, new)
        extra = settings.defaults_of_new_user(app, db) if new.with_settings else {}
        role = new.role or (users.told.role.default if users.told.role else "")
        login = next(new.fields[field] for field in users.told.login if field in new.fields)
        steps = [f"add user {login}" + (f" with role {role}" if role else "")]
        rows = {users.live.name: 1}
        if extra:
            steps.append(f"add the app's default user settings: {', '.join(extra)}")
            rows[settings.table_of(app, "user")] = len(extra)

        def work(db: Writable) -> UserCreated:
            key = insert(users, db, new)
            settings.add_for_user(app, db, key, extra)
            user = users.read([Condition(users.id, "=", key)])[0]
            audit.record(app, db, "users.create", "users", key, {"username": user.login, "role": user.role})
            return UserCreated(
                user=user,
                created=True,
                changed=True,
                default_settings=list(extra),
                password=new.generated.reveal() if new.generated else None,
            )

        return Draft(Plan(title=f"Create user {login}", target=db.target, steps=steps, rows=rows), work)

    return Change(app, database_of(app), "users create", draft)


def ensure_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Make sure that a user is there with these values: create them, or change what differs. A second run does nothing.

    An existing user's password stays as it is: a script that runs daily must not undo what the person has set.
    """
    creating = create_user(app, new)

    def draft(db: Readable) -> Draft[UserCreated]:
        users = UserTable(app, db)
        login_field = users.told.login[0]
        if not users.taken(login_field, new.fields[login_field]):
            return creating.draft(db)
        user = users.one(new.fields[login_field])
        wanted = {field: text for field, text in new.fields.items() if field != login_field}
        differing = _differing(users, user, wanted, role=new.role, active=new.active)
        drafted = _update(users, [user], differing, f"Ensure user {user.login}", "users.update")

        def work(db: Writable) -> UserCreated:
            done = drafted.work(db)
            return UserCreated(user=done.users[0], created=False, changed=bool(done.changed))

        return Draft(drafted.plan, work)

    return Change(app, database_of(app), "users ensure", draft)


def update_user(app: App, who: Who, fields: Mapping[str, str]) -> Change[UsersChanged]:
    """Change mapped fields of a user, such as their e-mail address."""

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        found = users.find(who)
        if len(found) > 1 and any(field in users.told.login for field in fields):
            raise UsageError(detail="two users cannot have one login; name one user")
        differing = _differing(users, found[0], fields) if len(found) == 1 else _stored(users, fields)
        title = f"Update {_listed(found)}"
        return _update(users, found, differing, title, "users.update")

    return Change(app, database_of(app), "users update", draft)


def set_role(app: App, who: Who, role: str) -> Change[UsersChanged]:
    """Give users a role, and end their sessions: a token may carry the old one."""

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        key = users.role_key(role)
        name = users.roles()[key]
        found = [user for user in users.find(who) if user.role != name]
        if name != users.told.admin:
            users.guard_last_admin(found)
        column = str(users.role)
        return _update(
            users,
            found,
            {column: key},
            f"Give {_listed(found)} the role {name}",
            "users.set-role",
            sign_out=True,
        )

    return Change(app, database_of(app), "users set-role", draft)


def set_active(app: App, who: Who, *, active: bool) -> Change[UsersChanged]:
    """Let users sign in, or keep them out and end their sessions."""
    word = "activate" if active else "deactivate"

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        found = [user for user in users.find(who) if user.active is not active]
        if not active:
            users.guard_last_admin(found)
        column = (
            users.live.get(users.told.fields["active"])
            if "active" in users.fields
            else _lacking(users, "active")
        )
        values = {column: users.live.encode(column, active)}
        title = f"{word.capitalize()} {_listed(found)}"
        return _update(users, found, values, title, f"users.{word}", sign_out=not active)

    return Change(app, database_of(app), f"users {word}", draft)


def set_password(app: App, who: Who, hashed: str, generated: Secret | None = None) -> Change[UsersChanged]:
    """Give one user a new password (already hashed; ``generated`` where dbctl made it up), and end their sessions."""

    def draft(db: Readable) -> Draft[UsersChanged]:
        users = UserTable(app, db)
        found = users.find(who)
        if len(found) > 1:
            raise UsageError(detail="several users would share one password; name one user")
        column = users.live.get(app.ability(users.told.password, "passwords").column)
        title = f"Set the password of {_listed(found)}"
        drafted = _update(users, found, {column: hashed}, title, "users.set-password", sign_out=True)
        shown = generated.reveal() if generated else None
        return Draft(drafted.plan, lambda db: msgspec.structs.replace(drafted.work(db), password=shown))

    return Change(app, database_of(app), "users set-password", draft)


def unlock(app: App, who: Who) -> Change[Unlocked]:
    """Clear the failed attempts that keep users out: under every spelling of their login, and from their addresses."""

    def draft(db: Readable) -> Draft[Unlocked]:
        users = UserTable(app, db)
        found = users.find(who)
        where = user_sessions.failed_attempts(users, found)
        table = app.ability(users.told.lockout, "lockout").table
        count = db.count(table, where)
        steps = (
            [f"delete {count} failed attempts to sign in, in every spelling and from their addresses"]
            if count
            else []
        )

        def work(db: Writable) -> Unlocked:
            cleared = db.delete(table, where) if count else 0
            if cleared:
                for user in found:
                    audit.record(app, db, "users.unlock", "users", user.id, {"username": user.login})
            return Unlocked(users=found, cleared=cleared)

        plan = Plan(title=f"Unlock {_listed(found)}", target=db.target, steps=steps, rows={table: count})
        return Draft(plan, work)

    return Change(app, database_of(app), "users unlock", draft)


def delete_users(app: App, who: Who) -> Change[UsersDeleted]:
    """Delete users with all that is theirs, as the live foreign keys and the profile say.

    Raises (when planned and when applied):
        LastAdminError: no active admin would be left.
        ConstraintError: rows of others point to them, and nothing says what becomes of those rows.
    """

    def draft(db: Readable) -> Draft[UsersDeleted]:
        users = UserTable(app, db)
        found = users.find(who)
        users.guard_last_admin(found)
        doomed: list[Where] = [users.live.among(users.told.id.column, [user.id for user in found])]
        owned = _owned(users, doomed)
        rows = {users.live.name: len(found)}
        steps = [f"delete {_listed(found)}"]
        for touched in [*owned, *reach(db, users.live.name, doomed)]:
            rows[touched.table] = rows.get(touched.table, 0) + touched.rows
            steps.append(touched.step)

        def work(db: Writable) -> UsersDeleted:
            for name in users.told.owns:
                table, _, column = name.partition(".")
                if table in db.tables():
                    db.delete(table, [Condition(column, "in", [user.id for user in found])])
            db.delete(users.live.name, doomed)
            for user in found:
                audit.record(app, db, "users.delete", "users", user.id, {"username": user.login})
            return UsersDeleted(users=found, rows=rows)

        plan = Plan(
            title=f"Delete {_listed(found)}", target=db.target, steps=steps, rows=rows, destructive=True
        )
        return Draft(plan, work)

    return Change(app, database_of(app), "users delete", draft)


# What several of them do ---------------------------------------------------------------------------------------


def check_new(users: UserTable, new: NewUser, *, taken: frozenset[str] | None = None) -> None:
    """Refuse a user whom the app could not have, before anything is written.

    ``taken`` holds every login there is, in lower case; without it the database is asked.
    """
    for field, text in new.fields.items():
        users.check(field, text)
        if field in users.told.login and (
            users.taken(field, text) if taken is None else text.lower() in taken
        ):
            raise AlreadyExistsError(
                target=users.db.target,
                what=field,
                name=text,
                instead="dbctl users ensure takes who is there.",
            )
    lacking = [field for field in users.told.login if field not in new.fields and _needed(users, field)]
    if lacking:
        raise UsageError(detail=f"a user of {users.app.profile.title} needs {' and '.join(lacking)}")
    if new.role:
        users.role_key(new.role)
    values = row_of(users, new)
    uncovered = users.live.uncovered(set(values) | {users.id})
    if uncovered:
        raise SchemaLacksError(
            target=users.db.target,
            what=f"a value for {', '.join(uncovered)} (not in the profile)",
            purpose="a new user",
        )


def insert(users: UserTable, db: Writable, new: NewUser) -> object:
    """Insert a user that ``check_new`` has accepted; return the key."""
    values = row_of(users, new)
    return db.insert(users.live.name, values, returning=users.id)


def row_of(users: UserTable, new: NewUser) -> dict[str, object]:
    """Return the columns of a new user, with what is stored in each."""
    told, live = users.told, users.live
    values: dict[str, object] = live.constants(told.new)
    values |= _stored(users, new.fields)
    moment = now()
    for field in ("created_at", "updated_at"):
        if field in users.fields:
            values[users.fields[field]] = live.encode(users.fields[field], moment)
    if "active" in users.fields:
        values[users.fields["active"]] = live.encode(users.fields["active"], new.active)
    role = new.role or (told.role.default if told.role else "")
    if role and users.role:
        values[users.role] = users.role_key(role)
    if told.password:
        values[live.get(told.password.column)] = new.hashed
    generator = KEYS[told.id.codec]
    if generator:
        values[users.id] = generator()
    return values


def _needed(users: UserTable, field: str) -> bool:
    column = users.fields.get(field)
    return column is not None and users.live.table.columns[column].required


def _stored(users: UserTable, fields: Mapping[str, str]) -> dict[str, object]:
    unknown = [field for field in fields if field not in users.fields]
    if unknown:
        raise UsageError(detail=f"users have no field {unknown[0]!r}; they have: {', '.join(users.fields)}")
    return {users.fields[field]: users.check(field, text) for field, text in fields.items()}


def _differing(
    users: UserTable, user: User, fields: Mapping[str, str], *, role: str = "", active: bool | None = None
) -> dict[str, object]:
    """Return the columns of ``user`` that are not yet as wanted, with what is to be stored."""
    held = {**{name: getattr(user, name) for name in User.__struct_fields__}, **user.extra}
    values = _stored(users, {field: text for field, text in fields.items() if held.get(field) != text})
    for field, text in fields.items():
        if field in users.told.login and users.taken(field, text, besides=user.id):
            raise AlreadyExistsError(
                target=users.db.target, what=field, name=text, instead="Choose another one."
            )
    if role and users.role and users.roles()[users.role_key(role)] != user.role:
        if user.role == users.told.admin:
            users.guard_last_admin([user])
        values[users.role] = users.role_key(role)
    if active is not None and user.active is not None and active is not user.active:
        if not active:
            users.guard_last_admin([user])
        values[users.fields["active"]] = users.live.encode(users.fields["active"], active)
    return values


def _update(
    users: UserTable,
    found: Sequence[User],
    values: Mapping[str, object],
    title: str,
    action: str,
    *,
    sign_out: bool = False,
) -> Draft[UsersChanged]:
    app, live = users.app, users.live
    sign_out = sign_out or users.role in values or users.fields.get("active") in values
    touched = found if values else []
    ends = user_sessions.planned_end(users, touched) if sign_out and touched else {}
    names = [field for field, column in users.fields.items() if column in values] or [
        action.partition(".")[2]
    ]
    steps = [f"change {', '.join(names)} of {_listed(touched)}"] if touched else []
    steps += [f"end {count} sessions ({table})" for table, count in ends.items()]

    def work(db: Writable) -> UsersChanged:
        if not touched:
            return UsersChanged(users=found, changed=0)
        where: list[Where] = [live.among(users.told.id.column, [user.id for user in touched])]
        stamped = dict(values)
        if "updated_at" in users.fields:
            stamped[users.fields["updated_at"]] = live.encode(users.fields["updated_at"], now())
        changed = db.update(live.name, stamped, where)
        ended = user_sessions.end(users, db, touched) if sign_out else 0
        for user in touched:
            audit.record(app, db, action, "users", user.id, {"username": user.login, "changed": names})
        return UsersChanged(users=users.read(where), changed=changed, ended_sessions=ended)

    rows = {live.name: len(touched), **ends} if touched else {}
    return Draft(Plan(title=title, target=users.db.target, steps=steps, rows=rows), work)


def _owned(users: UserTable, doomed: Sequence[Where]) -> list[Touched]:
    """Return the rows that are theirs by the profile, though no foreign key says so."""
    found = []
    for name in users.told.owns:
        table, _, column = name.partition(".")
        if table in users.db.tables():
            count = users.db.count(table, [Within([column], users.live.name, [users.id], doomed)])
            if count:
                found.append(Touched(table=table, rows=count, step=f"delete {count} rows of {table}"))
    return found


def _listed(users: Sequence[User]) -> str:
    names = ", ".join(user.login for user in users[:5])
    return names + (f" and {len(users) - 5} more" if len(users) > 5 else "") if users else "nobody"  # noqa: PLR2004 - five names fit a line


def _lacking(users: UserTable, field: str) -> str:
    raise SchemaLacksError(target=users.db.target, what=f"a column for {field}", purpose="this command")
