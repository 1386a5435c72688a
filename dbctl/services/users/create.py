"""Create users; all rules are checked inside the transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dbctl.engines.contract import Condition, Readable, Writable
from dbctl.errors import (
    AlreadyExistsError,
    ConstraintError,
    PlanChangedError,
    SchemaMismatchError,
    UsageError,
)
from dbctl.model import ChangeResult, Plan, Row, Secret, Struct, now
from dbctl.profiles import HASHES, KEYS
from dbctl.services.app import (
    App,
    Change,
    PreparedChange,
    User,
    UserTable,
    audit,
    check_secret,
    users_database,
)
from dbctl.services.settings import add_for_user, defaults_for_new_user, settings_table_name
from dbctl.services.users import sign_in_state
from dbctl.services.users.update import UserUpdate, prepare_update


class NewUser(Struct, frozen=True, kw_only=True):
    """The values of a new user."""

    fields: Mapping[str, str]  #: by field name of the profile, as typed; also ``role`` and ``active``
    password_hash: str = ""  #: the password, hashed
    #: the password, if dbctl generated it; shown once, in the result
    generated_password: Secret | None = None
    with_settings: bool = False


class UserCreated(ChangeResult, frozen=True, kw_only=True):
    """Result of ``users create`` and ``users ensure``."""

    user: User
    created: bool
    changed: bool
    default_settings: Sequence[str] = ()  #: keys of the user settings that were added
    ended_sessions: int = 0
    signed_in_for: str | None = None  #: how long signed cookies with the old values remain valid
    password: str | None = None  #: only if dbctl generated it; shown once

    @property
    def has_one_time_output(self) -> bool:
        return self.password is not None

    @property
    def remarks(self) -> Sequence[str]:
        return sign_in_state.remarks(self.signed_in_for, changed=self.changed)

    def summary(self) -> Row:
        summary: dict[str, object] = {"created": self.created, "changed": self.changed}
        summary |= {"default_settings": self.default_settings} if self.default_settings else {}
        return (
            summary | ({"password": self.password} if self.password else {}) | {"user": self.user.summary()}
        )


def check_password(app: App, password: Secret) -> None:
    """Refuse a password that the app does not accept.

    Raises:
        ValueInvalidError: the password violates a rule of the app; the message does not contain it.
    """
    users = app.require_section(app.profile.users, "users")
    app.require_section(users.password, "passwords")
    check_secret("password", password, users.rules.get("password"))


def hash_password(app: App, password: Secret) -> str:
    """Check a password, and return its hash; takes about 50 ms at cost 10.

    Raises:
        ValueInvalidError: the app or the hash format does not accept the password; the message does not contain it.
    """
    check_password(app, password)
    section = app.require_section(app.require_section(app.profile.users, "users").password, "passwords")
    return HASHES[section.codec].make(password, section.cost)


def needs_password(app: App, new: NewUser) -> bool:
    """Return whether creating ``new`` requires a password: the app has passwords, and no user has the login."""
    users = UserTable(app, app.reader(users_database(app)))
    return users.section.password is not None and users.find_by_first_login(new.fields) is None


def create_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Add a user.

    Raises (when planned and when applied):
        AlreadyExistsError: another user has the login, in any case.
        ValueInvalidError, UsageError: a value is invalid or missing.
        RoleMissingError: the role does not exist.
    """

    def draft(db: Readable) -> PreparedChange[UserCreated]:
        users = UserTable(app, db)
        row = validate_new_user(users, new.fields)
        extra = defaults_for_new_user(app, db) if new.with_settings else {}
        role = users.role_name(row.get(str(users.role)))
        login = new.fields[users.section.login[0]]
        steps = [f"add user {login}" + (f" with role {role}" if role else "")]
        rows = {users.live.name: 1}
        if extra:
            steps.append(f"add the app's default user settings: {', '.join(extra)}")
            rows[settings_table_name(app, "user")] = len(extra)

        def work(db: Writable) -> UserCreated:
            values = add_password(users, row, new.password_hash)
            key = db.insert(users.live.name, values, returning=users.id)
            add_for_user(app, db, key, extra)
            user = next(iter(users.read([Condition(users.id, "=", key)])), None)
            if user is None:  # a trigger can skip a row silently
                raise ConstraintError(target=db.target, reason="the new user does not exist after the insert")
            audit.record(app, db, "users.create", "users", key, {"username": user.login, "role": user.role})
            return UserCreated(
                user=user,
                created=True,
                changed=True,
                default_settings=list(extra),
                password=new.generated_password.reveal() if new.generated_password else None,
            )

        return PreparedChange(
            Plan(title=f"Create user {login}", target=db.target, steps=steps, rows=rows), work
        )

    return Change(app, users_database(app), "users create", draft)


def ensure_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Create a user, or change the fields that differ. A second run does nothing.

    Other fields, and the password of an existing user, are unchanged: a daily script must not revert changes of the user.
    """
    creating = create_user(app, new)

    def draft(db: Readable) -> PreparedChange[UserCreated]:
        users = UserTable(app, db)
        user = users.find_by_first_login(new.fields)
        if user is None:
            return creating.draft(db)
        fields = {field: text for field, text in new.fields.items() if field != users.section.login[0]}
        update = prepare_update(
            users, [user], UserUpdate(fields=fields), f"Ensure user {user.login}", "users.update"
        )

        def work(db: Writable) -> UserCreated:
            result = update.work(db)
            return UserCreated(
                user=result.users[0],
                created=False,
                changed=bool(result.changed),
                ended_sessions=result.ended_sessions,
                signed_in_for=result.signed_in_for,
            )

        return PreparedChange(update.plan, work)

    return Change(app, users_database(app), "users ensure", draft)


# Rows of new users, also for imports ---------------------------------------------------------------------------


def validate_new_user(
    users: UserTable,
    texts: Mapping[str, str],
    *,
    existing_logins: Mapping[str, Collection[str]] | None = None,
) -> dict[str, object]:
    """Return the row of a new user without the password, after checking all values.

    ``existing_logins`` has, by field, the logins of all users, folded by ``fold_login``; without it the database is queried.
    """
    section, table = users.section, users.live
    fields = {"role": section.role.default} if section.role and section.role.default else {}
    fields |= {"active": "true"} if "active" in users.fields else {}
    timestamp = now()
    values: dict[str, object] = {
        field: timestamp for field in ("created_at", "updated_at") if field in users.fields
    }
    values |= {field: users.parse_value(field, text) for field, text in (fields | dict(texts)).items()}
    for field in users.login_fields():
        if field in texts and (
            users.is_login_taken(field, texts[field])
            if existing_logins is None
            else users.fold_login(texts[field]) in existing_logins[field]
        ):
            raise AlreadyExistsError(
                target=users.db.target,
                kind=field,
                name=texts[field],
                hint="dbctl users ensure accepts existing users.",
            )
    row = table.encode_constants(section.new) | users.encode_values(values)
    generator = KEYS[section.id.codec]
    if generator:
        row[users.id] = generator()
    _require_columns(users, row)
    return row


def add_password(users: UserTable, row: Mapping[str, object], hashed: str) -> dict[str, object]:
    """Return a row of ``validate_new_user`` with its password.

    Raises:
        PlanChangedError: the password is missing, because the user existed before the confirmation and was deleted since.
    """
    if users.section.password is None:
        return dict(row)
    if not hashed:
        raise PlanChangedError(target=users.db.target)
    return {**row, users.live.column(users.section.password.column): hashed}


def _require_columns(users: UserTable, row: Mapping[str, object]) -> None:
    section = users.section
    secret = {users.live.column(section.password.column)} if section.password else set()
    uncovered = users.live.missing_required_columns({*row, *secret, users.id})
    columns = {**users.fields, **({"role": users.role} if users.role else {})}
    missing = [field for field, column in columns.items() if column in uncovered]
    if missing:
        options = " and ".join(f"--{field}" for field in missing)
        raise UsageError(
            detail=f"a user of {users.app.profile.title} requires {' and '.join(missing)}: add {options}"
        )
    if uncovered:
        raise SchemaMismatchError(
            target=users.db.target,
            missing=f"a value for {', '.join(uncovered)} (not in the profile)",
            purpose="a new user",
        )
