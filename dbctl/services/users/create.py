"""Adding users; every rule holds inside the transaction that adds them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dbctl.engines.contract import Condition, Readable, Writable
from dbctl.errors import AlreadyExistsError, ConstraintError, PlanChangedError, SchemaLacksError, UsageError
from dbctl.model import Done, Plan, Row, Secret, Value, now
from dbctl.profiles import HASHES, KEYS
from dbctl.services.app import App, Change, Draft, User, UserTable, audit, check_secret, database_of
from dbctl.services.settings import add_for_user, defaults_of_new_user, table_of
from dbctl.services.users import sign_in_state
from dbctl.services.users.update import Wanted, change_of


class NewUser(Value, frozen=True, kw_only=True):
    """A user to be."""

    fields: Mapping[str, str]  #: by the profile's words, as typed; also ``role`` and ``active``
    hashed: str = ""  #: the password, hashed
    generated: Secret | None = None  #: the password, where dbctl made it up; shown once, in the answer
    with_settings: bool = False


class UserCreated(Done, frozen=True, kw_only=True):
    """Answer of ``users create`` and ``users ensure``."""

    user: User
    created: bool
    changed: bool
    default_settings: Sequence[str] = ()  #: keys of the user settings that were added
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
        return sign_in_state.remarks(self.signed_in_for, changed=self.changed)

    def brief(self) -> Row:
        shown: dict[str, object] = {"created": self.created, "changed": self.changed}
        shown |= {"default_settings": self.default_settings} if self.default_settings else {}
        return shown | ({"password": self.password} if self.password else {}) | {"user": self.user.brief()}


def check_password(app: App, password: Secret) -> None:
    """Refuse a password that the app does not take.

    Raises:
        ValueInvalidError: it breaks one of the app's rules; the message does not show it.
    """
    users = app.ability(app.profile.users, "users")
    app.ability(users.password, "passwords")
    check_secret("password", password, users.rules.get("password"))


def hash_password(app: App, password: Secret) -> str:
    """Return what is stored for a password, after the app's own rules; takes about 50 ms at cost 10.

    Raises:
        ValueInvalidError: the app, or the hash, does not take it; the message does not show it.
    """
    check_password(app, password)
    told = app.ability(app.ability(app.profile.users, "users").password, "passwords")
    return HASHES[told.codec].make(password, told.cost)


def wants_password(app: App, new: NewUser) -> bool:
    """Whether ``new`` would have to be added, with a password: nobody has the login yet."""
    users = UserTable(app, app.reader(database_of(app)))
    return users.section.password is not None and users.holder(new.fields) is None


def create_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Add a user.

    Raises (when planned and when applied):
        AlreadyExistsError: a login is taken, in whatever case.
        ValueInvalidError, UsageError: the app does not take a value, or lacks one.
        RoleMissingError: there is no such role.
    """

    def draft(db: Readable) -> Draft[UserCreated]:
        users = UserTable(app, db)
        row = check_new(users, new.fields)
        extra = defaults_of_new_user(app, db) if new.with_settings else {}
        role = users.role_name(row.get(str(users.role)))
        login = new.fields[users.section.login[0]]
        steps = [f"add user {login}" + (f" with role {role}" if role else "")]
        rows = {users.live.name: 1}
        if extra:
            steps.append(f"add the app's default user settings: {', '.join(extra)}")
            rows[table_of(app, "user")] = len(extra)

        def work(db: Writable) -> UserCreated:
            values = with_password(users, row, new.hashed)
            key = db.insert(users.live.name, values, returning=users.id)
            add_for_user(app, db, key, extra)
            user = next(iter(users.read([Condition(users.id, "=", key)])), None)
            if user is None:  # a trigger of the app can swallow a row without a word
                raise ConstraintError(target=db.target, reason="the new user is not there after being added")
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

    What is not given stays as it is, and so does an existing user's password: a script that runs daily must not undo
    what a person has set.
    """
    creating = create_user(app, new)

    def draft(db: Readable) -> Draft[UserCreated]:
        users = UserTable(app, db)
        user = users.holder(new.fields)
        if user is None:
            return creating.draft(db)
        fields = {field: given for field, given in new.fields.items() if field != users.section.login[0]}
        drafted = change_of(users, [user], Wanted(fields=fields), f"Ensure user {user.login}", "users.update")

        def work(db: Writable) -> UserCreated:
            done = drafted.work(db)
            return UserCreated(
                user=done.users[0],
                created=False,
                changed=bool(done.changed),
                ended_sessions=done.ended_sessions,
                signed_in_for=done.signed_in_for,
            )

        return Draft(drafted.plan, work)

    return Change(app, database_of(app), "users ensure", draft)


# What an import does too ---------------------------------------------------------------------------------------


def check_new(
    users: UserTable, given: Mapping[str, str], *, taken: Mapping[str, Collection[str]] | None = None
) -> dict[str, object]:
    """Return the row of a new user, still without a password; refuse one whom the app could not have.

    ``taken`` holds, by field, the logins there are, as ``users.fold`` has them; without it the database is asked.
    """
    told, live = users.section, users.live
    fields = {"role": told.role.default} if told.role and told.role.default else {}
    fields |= {"active": "true"} if "active" in users.fields else {}
    moment = now()
    values: dict[str, object] = {
        field: moment for field in ("created_at", "updated_at") if field in users.fields
    }
    values |= {field: users.typed(field, text) for field, text in (fields | dict(given)).items()}
    for field in users.logins():
        if field in given and (
            users.taken(field, given[field]) if taken is None else users.fold(given[field]) in taken[field]
        ):
            raise AlreadyExistsError(
                target=users.db.target,
                what=field,
                name=given[field],
                instead="dbctl users ensure takes who is there.",
            )
    row = live.constants(told.new) | users.stored(values)
    generator = KEYS[told.id.codec]
    if generator:
        row[users.id] = generator()
    _refuse_gaps(users, row)
    return row


def with_password(users: UserTable, row: Mapping[str, object], hashed: str) -> dict[str, object]:
    """Return a row of ``check_new`` with its password.

    Raises:
        PlanChangedError: there is none, because somebody was there when it was asked for, and has gone since.
    """
    if users.section.password is None:
        return dict(row)
    if not hashed:
        raise PlanChangedError(target=users.db.target)
    return {**row, users.live.get(users.section.password.column): hashed}


def _refuse_gaps(users: UserTable, row: Mapping[str, object]) -> None:
    told = users.section
    secret = {users.live.get(told.password.column)} if told.password else set()
    gaps = users.live.uncovered({*row, *secret, users.id})
    known = {**users.fields, **({"role": users.role} if users.role else {})}
    lacking = [field for field, column in known.items() if column in gaps]
    if lacking:
        options = " and ".join(f"--{field}" for field in lacking)
        raise UsageError(
            detail=f"a user of {users.app.profile.title} needs {' and '.join(lacking)}: give {options}"
        )
    if gaps:
        raise SchemaLacksError(
            target=users.db.target,
            what=f"a value for {', '.join(gaps)} (not in the profile)",
            purpose="a new user",
        )
