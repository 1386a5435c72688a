"""Create users, or change the one that exists; all rules are checked inside the transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Condition, Readable, Writable
from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.base import Remedy
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import (
    NotSupportedError,
    PlanChangedError,
    SchemaMismatchError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import ChangeResult, Effect, Plan, Row, Secret, Struct, format_count, now
from dbctl.profiles import passwords
from dbctl.profiles.codecs import KEYS
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, Prepared, PreparedChange
from dbctl.services.app.live_table import list_uncovered
from dbctl.services.app.user_roles.form import Assignment
from dbctl.services.app.user_table import User, UserTable, open_users, users_database
from dbctl.services.app.validation import rule_problem, truncate
from dbctl.services.users.passwords import (
    Passwords,
    add_pepper,
    describe_lost_password,
    require_pepper,
    require_prefix,
)
from dbctl.services.users.queries import mask_secrets

if TYPE_CHECKING:
    from dbctl.services.users.companions import CompanionRows
    from dbctl.services.users.update import UsersChanged

#: Fields of a new user with roles: one, or several in a list in JSON.
ROLE_FIELDS = ("role", "roles")


class NewUser(Struct, frozen=True, kw_only=True):
    fields: Mapping[str, str] = {}  #: by field name of the profile, as typed; also ``role`` and ``active``
    password_hash: str = ""
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
    undecided: Sequence[str] = ()  #: notes about what the app may require of a new user

    @property
    def effect(self) -> Effect | None:
        if not self.changed:
            return None
        return Effect(
            "created" if self.created else "changed",
            "user",
            [self.user.login],
            details=[f"role {self.user.role}"] if self.created and self.user.role else [],
            counts={"default settings": len(self.default_settings), "sessions ended": self.ended_sessions},
        )

    @property
    def lost_output(self) -> Callable[[], str] | None:
        return partial(describe_lost_password, self.user.login) if self.password else None

    @property
    def remarks(self) -> Sequence[str]:
        if not self.signed_in_for:
            return self.undecided
        from dbctl.services.users import sign_in_state

        return sign_in_state.remarks(self.signed_in_for, changed=self.changed)

    def summary(self) -> Row:
        return {"password": self.password} if self.password else {}


def check_password(app: App, password: Secret) -> str:
    """Refuse a password that the app does not accept; return the prefix of new hashes.

    Raises:
        NotSupportedError: the profile names no hash format that the app writes.
        ValueInvalidError: the password violates a rule of the app; the message does not contain it.
    """
    users = app.require_section(app.core.users, "users")
    prefix = require_prefix(app)
    text = password.reveal()
    if users.password and users.password.typed:
        text = text.strip()
    if "\0" in text:
        reason = "it contains a NUL character"
    elif not is_storable(text):
        reason = "it contains half of a surrogate pair"
    else:
        reason = rule_problem(text, users.rules.get("password"), is_printable=False)
    if reason:
        raise ValueInvalidError(name="the password", value="(not shown)", reason=reason)
    return prefix


def hash_password(app: App, password: Secret) -> str:
    """Check a password, and return its hash in the format that the app writes; takes about 50 ms at cost 10.

    Raises:
        DecisionOpenError: the format of passwords is an open decision.
        NotSupportedError: the profile names no format that the app writes.
        PepperMissingError: the app appends a secret to passwords, which is not available.
        ValueInvalidError: the app or the hash format does not accept the password; the message does not contain it.
    """
    prefix = check_password(app, password)
    return passwords.hash_password(add_pepper(app, password), prefix)


def create_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Add a user.

    Raises (when planned and when applied):
        AlreadyExistsError: another user has the login, in any case.
        ValueInvalidError, UsageError: a value is invalid or missing.
        RoleMissingError: the role does not exist.
        RoleExclusiveError: another user has the exclusive role.
    """
    return Change(app, users_database(app), lambda db: CreateUser(UserTable(app, db), new))


class CreateUser:
    """Add one user, and the app's settings for new users if they are requested."""

    def __init__(self, users: UserTable, new: NewUser) -> None:
        self._users, self._new, self._rows = users, new, NewUserRows(users)
        self._row = self._rows.build(new.fields)
        self._settings: Mapping[str, str] = {}
        if new.with_settings:
            from dbctl.services.settings.queries import defaults_for_new_user

            self._settings = defaults_for_new_user(users.app, users.db)
        if self._rows.passwords:
            require_prefix(users.app)
            if self._rows.passwords.section.pepper:
                require_pepper(users.app)
            self._rows.passwords.require_declared_formats()
        login, roles = new.fields[users.section.login[0]], self._row.roles
        added_steps, rows = self._rows.plan([self._row])
        steps = [f"add user {login}" + (f" with role {', '.join(roles)}" if roles else ""), *added_steps]
        if self._settings:
            steps.append(f"add the app's default user settings: {', '.join(self._settings)}")
            from dbctl.services.settings.store import find_section

            table = users.app.require_section(find_section(users.app, "user"), "settings").table
            rows[table] = rows.get(table, 0) + len(self._settings)
        self.plan = Plan(title=f"Create user {login}", target=users.db.target, steps=steps, rows=rows)

    def apply(self, db: Writable) -> UserCreated:
        """Insert the row, its companion rows, the settings and the audit record."""
        users, new = self._users, self._new
        values = self._rows.add_password(self._row, new.password_hash)
        key = self._rows.insert(db, values, self._row)
        if self._settings:
            from dbctl.services.settings.queries import add_for_user

            add_for_user(users.app, db, key, self._settings)
        user = next(iter(users.read([Condition(users.id, "=", key)])), None)
        if user is None:  # a trigger can remove it
            raise ConstraintError(target=db.target, reason="the new user does not exist after the insert")
        if lacking := [name for name in self._row.roles if name not in user.role_names]:
            reason = f"the new user would not have the role {lacking[0]}; a trigger may cause it"
            raise ConstraintError(target=db.target, reason=reason)
        details = {"username": user.login, "role": ", ".join(user.role_names) or None}
        audit.record(users.app, db, "users.create", "users", key, details)
        return UserCreated(
            user=mask_secrets(users, [user])[0] if user.extra else user,
            created=True,
            changed=True,
            default_settings=list(self._settings),
            undecided=users.app.core.list_open("new-users"),
            password=new.generated_password.reveal() if new.generated_password else None,
        )


# Rows of new users, also for imports ---------------------------------------------------------------------------


class UserRow(Struct, frozen=True):
    """The row of a new user without the password, the values of its fields, from which other values are derived, and its roles."""

    columns: Mapping[str, object]
    fields: Mapping[str, object]
    roles: Sequence[str]


class NewUserRows:
    """The rows of new users in one open database, with those of other tables."""

    def __init__(self, users: UserTable) -> None:
        """Find the tables and columns.

        Raises:
            DecisionOpenError: the profile leaves open what identifies users, or how the app stores passwords.
            NotSupportedError: only the app creates users, or sets passwords; the hint has the reason.
            SchemaMismatchError: a table or a column is missing.
        """
        if reason := users.section.only_app_creates:
            hint = f"Create the user in the app: {reason}."
            raise NotSupportedError(feature="creating users", subject=users.app.core.title, hint=hint)
        users.app.require_decision("login", "a login")
        if users.section.password is None:
            users.app.require_decision("passwords", "new users")
        self.users = users
        self.companions: CompanionRows | None = None
        if users.section.create:
            from dbctl.services.users.companions import CompanionRows

            self.companions = CompanionRows(users)
        #: how the app stores passwords; None: it has none
        self.passwords = Passwords(users.app, users.live) if users.section.password else None

    def build(
        self, texts: Mapping[str, str], *, existing_logins: Mapping[str, Collection[str]] | None = None
    ) -> UserRow:
        """Return the row of a new user, after checking all values.

        ``existing_logins`` has, by field, the logins of all users, folded by ``fold_login``; without it the database is queried.
        """
        users, section = self.users, self.users.section
        values: dict[str, object] = dict.fromkeys(users.fields.keys() & {"created_at", "updated_at"}, now())
        is_active_without_row = section.active is not None and ":null" in section.active.values
        if "active" in users.fields or ("active" in users.joined.names and not is_active_without_row):
            values["active"] = True
        values |= {
            field: users.parse_value(field, text) for field, text in texts.items() if field not in ROLE_FIELDS
        }
        logins = {field: texts[field] for field in users.login_fields if field in texts}
        if existing_logins is None:
            conflict = users.find_taken_login(logins)
        else:
            folded = ((field, users.fold_login(login)) for field, login in logins.items())
            conflict = next((field for field, login in folded if login in existing_logins[field]), "")
        if conflict:
            from dbctl.errors.databases import AlreadyExistsError

            hint = Remedy("Existing users are accepted by: `users ensure {name}`")
            raise AlreadyExistsError(target=users.db.target, kind=conflict, name=logins[conflict], hint=hint)
        only = {name: value[0] if isinstance(value, list) else value for name, value in section.only.items()}
        row = users.live.encode_constants(only)
        if section.new:
            from dbctl.services.users.companions import fill_row

            row |= fill_row(users.live, section.new, values)
        row |= users.encode_values(values, texts)
        roles = self._select_roles(texts)
        row |= users.roles.encode(roles) if users.roles else {}
        if generator := KEYS[section.id.codec]:
            row[users.id] = generator()
        self._require_columns(row)
        if self.companions:
            self.companions.check(values)
        return UserRow(row, values, roles)

    def _select_roles(self, texts: Mapping[str, str]) -> list[str]:
        """Return the roles of a new user; ``roles`` is a list in JSON.

        Raises:
            FeatureMissingError: the app has no roles.
            RoleFormError: the profile contradicts the stored roles.
            RoleMissingError, ValueInvalidError: a role does not exist, or ``roles`` is no list.
        """
        names = [texts["role"]] if texts.get("role") else []
        if texts.get("roles"):
            names += parse_roles(texts["roles"])
        if not (names or self.users.roles):
            return []
        roles = self.users.require_roles()
        roles.require_consistent()
        return roles.select_new(names if names or texts.get("roles") else None)

    def _require_columns(self, row: Mapping[str, object]) -> None:
        users = self.users
        secret = self.passwords.columns if self.passwords else ()
        referring = list[str]()
        if users.section.new:
            from dbctl.services.users.companions import has_reference

            constants = users.section.new.items()
            referring = [name.removesuffix("?") for name, value in constants if has_reference(value)]
        uncovered = list_uncovered(users.live.table, {*row, *secret, *referring, users.id})
        columns = {**users.fields, **({"role": users.roles.column} if users.roles else {})}
        if users.section.id.codec == "given" and users.id not in {*row, *referring}:
            uncovered.append(users.id)
        if missing := [field for field, column in columns.items() if column in uncovered]:
            from dbctl.services.users.companions import name_option

            options = " and ".join(map(name_option, missing))
            detail = f"a user of {users.app.core.title} requires {' and '.join(missing)}: add {options}"
            raise UsageError(detail=detail)
        if uncovered:
            missing_value = f"a value for {', '.join(uncovered)} (not in the profile)"
            raise SchemaMismatchError(target=users.db.target, missing=missing_value, purpose="a new user")

    def plan(self, rows: Sequence[UserRow]) -> tuple[list[str], dict[str, int]]:
        """Return the steps that add rows to other tables, and the number of added rows by table.

        Raises:
            RoleExclusiveError: two users would have the exclusive role.
        """
        users = self.users
        assignments = [Assignment(user=None, after=row.roles) for row in rows if row.roles]
        if users.roles and users.roles.section.exclusive:
            from dbctl.services.users.last_admin import refuse_shared_role

            refuse_shared_role(users, assignments)
        companions = self.companions.count() if self.companions else {}
        counts = {table: count * len(rows) for table, count in companions.items()}
        steps = [f"add {format_count(count, 'row')} to {table}" for table, count in counts.items()]
        has_role_rows = users.roles and users.roles.has_rows and assignments
        role_counts = users.roles.count_rows(assignments) if users.roles and has_role_rows else {}
        # a table of metadata may have companion rows and roles
        return steps, dict(Counter({users.live.name: len(rows)}) + Counter(counts) + Counter(role_counts))

    def add_password(self, row: UserRow, hashed: str) -> dict[str, object]:
        """Return the columns of a row with its password.

        Raises:
            PlanChangedError: the password is missing, because the user existed before the confirmation and was deleted since.
        """
        if self.passwords is None:
            return dict(row.columns)
        if not hashed:
            raise PlanChangedError(target=self.users.db.target)
        return {**row.columns, **self.passwords.split(hashed)}

    def insert(self, db: Writable, values: Mapping[str, object], row: UserRow) -> object:
        """Insert a user with ``values``, the companion rows, and the rows with the roles; return the key of the user."""
        users = self.users
        if self.companions:
            key = self.companions.insert_user(db, values, row.fields)
        else:
            key = db.insert(users.live.name, values, returning=users.id)
        if users.joined.names:
            users.write_joined(db, [key], row.fields)
        if users.roles and users.roles.has_rows and row.roles:
            users.roles.write(db, [Assignment(user=key, after=row.roles)])
        return key


def parse_roles(text: str) -> list[str]:
    """Return the names of roles in a list in JSON; raises ValueInvalidError."""
    from dbctl.services.settings.values import load_json

    try:
        names = load_json(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueInvalidError(
            name="roles", value=ascii(truncate(text)), reason="it is not a list of names in JSON"
        )
    return names


def ensure_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Create a user, or change the fields that differ. A second run does nothing.

    Other fields, and the password of an existing user, are unchanged: a daily script must not revert changes of the user.
    """
    from dbctl.services.users.sign_in_state import list_expendable_tables
    from dbctl.services.users.update import UpdateUsers, UserUpdate

    def draft(db: Readable) -> Prepared[UserCreated]:
        users = UserTable(app, db)
        user = users.find_by_first_login(new.fields)
        if user is None:
            return CreateUser(users, new)
        fields = {field: text for field, text in new.fields.items() if field != users.section.login[0]}
        update = UpdateUsers(users, [user], UserUpdate(fields=fields), "Ensure user {logins}", "users.update")
        return PreparedChange(update.plan, lambda db: _ensured(update.apply(db)))

    expendable_tables = partial(list_expendable_tables, app)
    changed = app.require_section(app.core.users, "users").table
    return Change(app, users_database(app), draft, expendable_tables=expendable_tables, changed_table=changed)


def needs_password(app: App, new: NewUser) -> bool:
    """Return whether creating ``new`` requires a password: the app has passwords, and no user has the login."""
    users = open_users(app)
    return users.section.password is not None and users.find_by_first_login(new.fields) is None


def _ensured(result: UsersChanged) -> UserCreated:
    return UserCreated(
        user=result.users[0],
        created=False,
        changed=bool(result.changed),
        ended_sessions=result.ended_sessions,
        signed_in_for=result.signed_in_for,
    )
