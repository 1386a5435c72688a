"""Create users; all rules are checked inside the transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from dbctl.engines.contract import Condition, Writable
from dbctl.errors import (
    AlreadyExistsError,
    ConstraintError,
    NotSupportedError,
    PlanChangedError,
    SchemaMismatchError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import NOTHING_TO_DO, ChangeResult, Closing, Plan, Row, Secret, Struct, format_count, now
from dbctl.profiles import KEYS
from dbctl.services.app import (
    App,
    Assignment,
    Change,
    User,
    UserTable,
    audit,
    check_secret,
    truncate,
    users_database,
)
from dbctl.services.settings import add_for_user, defaults_for_new_user, load_json, settings_table_name
from dbctl.services.users.companions import CompanionRows, fill_row, has_reference, name_option
from dbctl.services.users.exclusive_role import refuse_shared_role
from dbctl.services.users.passwords import Passwords, create_hash, refuse_unwritten_passwords

#: Fields of a new user with roles: one, or several in a list in JSON.
ROLE_FIELDS = ("role", "roles")


class NewUser(Struct, frozen=True, kw_only=True):
    """The values of a new user."""

    fields: Mapping[str, str] = {}  #: by field name of the profile, as typed; also ``role`` and ``active``
    password_hash: str = ""
    generated_password: Secret | None = (
        None  #: the password, if dbctl generated it; shown once, in the result
    )
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
    def closing(self) -> Closing:
        if not self.changed:
            return NOTHING_TO_DO
        role = [f"role {self.user.role}"] if self.user.role else []
        settings = (
            [format_count(len(self.default_settings), "default setting")] if self.default_settings else []
        )
        sessions = [f"{format_count(self.ended_sessions, 'session')} ended"] if self.ended_sessions else []
        return Closing(
            f"{'Created' if self.created else 'Changed'} user {self.user.login}",
            [*role, *settings, *sessions],
        )

    @property
    def has_one_time_output(self) -> bool:
        return self.password is not None

    @property
    def remarks(self) -> Sequence[str]:
        if not self.signed_in_for:
            return ()
        from dbctl.services.users import sign_in_state

        return sign_in_state.remarks(self.signed_in_for, changed=self.changed)

    def summary(self) -> Row:
        return {"password": self.password} if self.password else {}


def check_password(app: App, password: Secret) -> None:
    """Refuse a password that the app does not accept.

    Raises:
        NotSupportedError: the profile names no hash format that the app writes.
        ValueInvalidError: the password violates a rule of the app; the message does not contain it.
    """
    users = app.require_section(app.profile.users, "users")
    refuse_unwritten_passwords(app)
    check_secret("password", password, users.rules.get("password"))


def hash_password(app: App, password: Secret) -> str:
    """Check a password, and return its hash; takes about 50 ms at cost 10.

    Raises:
        ValueInvalidError: the app or the hash format does not accept the password; the message does not contain it.
    """
    check_password(app, password)
    return create_hash(app, password)


def create_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Add a user.

    Raises (when planned and when applied):
        AlreadyExistsError: another user has the login, in any case.
        ValueInvalidError, UsageError: a value is invalid or missing.
        RoleMissingError: the role does not exist.
        RoleExclusiveError: another user has the exclusive role.
    """
    return Change(app, users_database(app), "users create", lambda db: CreateUser(UserTable(app, db), new))


class CreateUser:
    """Add one user, and the app's settings for new users if they are requested."""

    def __init__(self, users: UserTable, new: NewUser) -> None:
        refuse_creation(users)
        self._users, self._new, self._row = users, new, build_row(users, new.fields)
        self._companions = CompanionRows(users)
        self._settings = defaults_for_new_user(users.app, users.db) if new.with_settings else {}
        if users.section.password:
            refuse_unwritten_passwords(users.app)
        require_declared_formats(users)
        login, roles = new.fields[users.section.login[0]], self._row.roles
        refuse_shared_role(users, assign_new_roles([roles]))
        steps = [f"add user {login}" + (f" with role {', '.join(roles)}" if roles else "")]
        steps += self._companions.plan_steps(1)
        rows = {users.live.name: 1, **self._companions.count(), **count_role_rows(users, [roles])}
        if self._settings:
            steps.append(f"add the app's default user settings: {', '.join(self._settings)}")
            rows[settings_table_name(users.app, "user")] = len(self._settings)
        self.plan = Plan(title=f"Create user {login}", target=users.db.target, steps=steps, rows=rows)

    def apply(self, db: Writable) -> UserCreated:
        """Insert the row, its companion rows, the settings and the audit record."""
        users, new = self._users, self._new
        values = add_password(users, self._row.columns, new.password_hash)
        key = insert_user(users, self._companions, db, values, self._row)
        if self._settings:
            add_for_user(users.app, db, key, self._settings)
        user = next(iter(users.read([Condition(users.id, "=", key)])), None)
        if user is None:  # a trigger can skip a row silently
            raise ConstraintError(target=db.target, reason="the new user does not exist after the insert")
        details = {"username": user.login, "role": ", ".join(user.role_names) or None}
        audit.record(users.app, db, "users.create", "users", key, details)
        return UserCreated(
            user=user,
            created=True,
            changed=True,
            default_settings=list(self._settings),
            password=new.generated_password.reveal() if new.generated_password else None,
        )


# Rows of new users, also for imports ---------------------------------------------------------------------------


class UserRow(Struct, frozen=True):
    """The row of a new user without the password, the values of its fields, from which other values are derived, and its roles."""

    columns: Mapping[str, object]
    fields: Mapping[str, object]
    roles: Sequence[str]


def refuse_creation(users: UserTable) -> None:
    """Refuse new users if only the app can create them.

    Raises:
        NotSupportedError: the hint has the reason.
    """
    if reason := users.section.only_app_creates:
        hint = f"Create the user in the app: {reason}."
        raise NotSupportedError(feature="creating users", subject=users.app.profile.title, hint=hint)


def build_row(
    users: UserTable,
    texts: Mapping[str, str],
    *,
    existing_logins: Mapping[str, Collection[str]] | None = None,
) -> UserRow:
    """Return the row of a new user, after checking all values.

    ``existing_logins`` has, by field, the logins of all users, folded by ``fold_login``; without it the database is queried.
    """
    section = users.section
    fields = {"active": "true"} if users.requires_active_value else {}
    values: dict[str, object] = dict.fromkeys(users.fields.keys() & {"created_at", "updated_at"}, now())
    values |= {
        field: users.parse_value(field, text)
        for field, text in (fields | dict(texts)).items()
        if field not in ROLE_FIELDS
    }
    for field in users.login_fields:
        if field in texts and (
            users.is_login_taken(field, texts[field])
            if existing_logins is None
            else users.fold_login(texts[field]) in existing_logins[field]
        ):
            hint = "dbctl users ensure accepts existing users."
            raise AlreadyExistsError(target=users.db.target, kind=field, name=texts[field], hint=hint)
    only = {name: value[0] if isinstance(value, list) else value for name, value in section.only.items()}
    row = (
        users.live.encode_constants(only)
        | fill_row(users.live, section.new, values)
        | users.encode_values(values)
    )
    roles = select_roles(users, texts)
    row |= users.roles.encode(roles) if users.roles else {}
    if generator := KEYS[section.id.codec]:
        row[users.id] = generator()
    _require_columns(users, row)
    CompanionRows(users).check(values)
    return UserRow(row, values, roles)


def select_roles(users: UserTable, texts: Mapping[str, str]) -> list[str]:
    """Return the roles of a new user; ``roles`` is a list in JSON.

    Raises:
        FeatureMissingError: the app has no roles.
        RoleFormError: the profile contradicts the stored roles.
        RoleMissingError, ValueInvalidError: a role does not exist, or ``roles`` is no list.
    """
    names = [*([texts["role"]] if texts.get("role") else []), *parse_roles(texts.get("roles", ""))]
    if not (names or users.roles):
        return []
    roles = users.require_roles()
    roles.require_consistent()
    return roles.select_new(names if names or texts.get("roles") else None)


def parse_roles(text: str) -> list[str]:
    """Return the names of roles in a list in JSON; raises ValueInvalidError."""
    try:
        names = load_json(text) if text else []
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueInvalidError(
            name="roles", value=ascii(truncate(text)), reason="it is not a list of names in JSON"
        )
    return names


def assign_new_roles(roles: Iterable[Sequence[str]]) -> list[Assignment]:
    """Return the changes of roles for the roles of each new user."""
    return [Assignment(user=None, after=names) for names in roles if names]


def count_role_rows(users: UserTable, roles: Iterable[Sequence[str]]) -> dict[str, int]:
    """Return the number of rows of other tables, by table, for the roles of each new user."""
    assignments = assign_new_roles(roles)
    return users.roles.count_rows(assignments) if users.roles and assignments else {}


def insert_user(
    users: UserTable, companions: CompanionRows, db: Writable, values: Mapping[str, object], row: UserRow
) -> object:
    """Insert a user with ``values``, the companion rows, and the rows with the roles; return the key of the user."""
    key = companions.insert_user(db, values, row.fields)
    users.write_joined(db, [key], row.fields)
    if users.roles and row.roles:
        users.roles.write(db, [Assignment(user=key, after=row.roles)])
    return key


def require_declared_formats(users: UserTable) -> None:
    """Refuse a new password that the app may not accept, because stored hashes have a format that the profile does not declare.

    Raises:
        PasswordFormatError: names the formats.
    """
    if users.section.password:
        Passwords(users.app, users.live).require_declared_formats()


def add_password(users: UserTable, row: Mapping[str, object], hashed: str) -> dict[str, object]:
    """Return a row of ``build_row`` with its password.

    Raises:
        PlanChangedError: the password is missing, because the user existed before the confirmation and was deleted since.
    """
    if users.section.password is None:
        return dict(row)
    if not hashed:
        raise PlanChangedError(target=users.db.target)
    return {**row, **Passwords(users.app, users.live).split(hashed)}


def _require_columns(users: UserTable, row: Mapping[str, object]) -> None:
    secret = Passwords(users.app, users.live).columns if users.section.password else ()
    referring = (name.removesuffix("?") for name, value in users.section.new.items() if has_reference(value))
    uncovered = users.live.missing_required_columns({*row, *secret, *referring, users.id})
    columns = {**users.fields, **({"role": users.roles.column} if users.roles else {})}
    if missing := [field for field, column in columns.items() if column in uncovered]:
        options = " and ".join(map(name_option, missing))
        detail = f"a user of {users.app.profile.title} requires {' and '.join(missing)}: add {options}"
        raise UsageError(detail=detail)
    if uncovered:
        missing_value = f"a value for {', '.join(uncovered)} (not in the profile)"
        raise SchemaMismatchError(target=users.db.target, missing=missing_value, purpose="a new user")
