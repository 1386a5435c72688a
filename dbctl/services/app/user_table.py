"""The users of an app as its profile maps them: read rows as users, and select users by login, id or activity."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from datetime import datetime, timedelta

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Not, Op, Order, Readable, Where, Writable
from dbctl.engines.sql.catalog import lower_ascii
from dbctl.errors.base import MAX_COMPARED
from dbctl.errors.usage import AmbiguousLoginError, NotSupportedError, UsageError, UserMissingError
from dbctl.model import KeyText, PageRequest, Row, Struct, now
from dbctl.profiles.codecs import EPOCH, decode_text, read_boolean, read_text, read_time, text_or_none
from dbctl.profiles.model.base import Constant
from dbctl.profiles.model.users import ActiveValues
from dbctl.services.app.app import App
from dbctl.services.app.live_table import (
    JoinedFields,
    LiveTable,
    find_named_key,
    list_named_rows,
    where_before,
)
from dbctl.services.app.user_roles.form import RoleForm, create_role_form
from dbctl.services.app.validation import check_rule, parse_boolean, parse_day, parse_time, truncate

#: Time fields of users; the profile maps them to columns.
TIMES = ("created_at", "updated_at", "last_login_at")


class User(Struct, frozen=True, kw_only=True):
    """One user. Fields that the app lacks are None."""

    id: object
    login: str  #: the name that the user types to sign in
    username: str | None = None
    email: str | None = None
    name: str | None = None
    role: str | None = None  #: the first of ``roles``
    roles: Sequence[str] | None = None  #: all roles, in apps whose users may have several
    active: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_login_at: datetime | None = None
    extra: Mapping[str, object] = {}  #: further fields of the profile, under their own names

    @property
    def role_names(self) -> Sequence[str]:
        return self.roles or ([self.role] if self.role else [])

    @property
    def login_texts(self) -> Sequence[str]:
        """The texts that a user may type to sign in."""
        return [text for text in (self.username, self.email, self.login) if text]

    def summary(self) -> Row:
        names = () if self.name is None else ("name",)
        role = "role" if self.roles is None else "roles"
        fields = ("id", "login", "email", *names, role, "active", "last_login_at")
        return {field: getattr(self, field) for field in fields}


#: What the fields of ``User`` hold; the columns of other fields decide.
KINDS = {**dict.fromkeys(User.__struct_fields__, ""), **dict.fromkeys(TIMES, "time"), "active": "boolean"}


class UserSelector(Struct, frozen=True, kw_only=True):
    """The users that a command changes or shows: each user that at least one field selects."""

    logins: Sequence[str] = ()
    ids: Sequence[str] = ()
    inactive_for: timedelta | None = None  #: all users who have not signed in for this time
    from_list: bool = False  #: whether the logins are from a file, which may be empty

    @property
    def is_empty(self) -> bool:
        """Whether no option selects users."""
        return not (self.logins or self.ids or self.inactive_for is not None or self.from_list)


def users_database(app: App) -> str:
    """Return the database that holds the app's users."""
    return app.resolve_database(app.require_section(app.core.users, "users"))


def open_users(app: App, db: Readable | None = None) -> UserTable:
    """Return the users table, in ``db`` if that is the users' database, otherwise in a reader of their database."""
    database = users_database(app)
    is_users_database = db is not None and db.target == app.target(database)
    return UserTable(app, db if db and is_users_database else app.reader(database))


def is_active(active: ActiveValues | None, stored: object) -> bool:
    """Return whether a stored value of the field ``active`` lets a user sign in."""
    if active is None:
        return read_boolean(stored)
    return any(
        stored is None
        if value == ":null"
        else stored is not None and (read_boolean(stored) is value or str(stored) == str(value))
        for value in active.values
    )


class UserTable:
    """The users of one open database."""

    def __init__(self, app: App, db: Readable) -> None:
        self.app, self.db = app, db
        self.section = section = app.require_section(app.core.users, "users")
        self.live = LiveTable(app.core, db, section.table, "users")
        self.id = self.live.column(section.id.column)
        self.fields = self.live.map_columns(section.fields)
        #: the fields in other tables
        self.joined = JoinedFields(section.joined, self.live, self.id)
        #: the conditions of rows that are users
        self.only: list[Where] = [*self.live.conditions(section.only)]
        if section.excluded:
            self.only.append(Not(AllOf(self.live.conditions(section.excluded))))
        #: how the app stores the roles of users; None: it has none
        self.roles = create_role_form(section, self.live, self.only)
        #: by field, the tables that the live schema has with the names of its values
        self.lookups = {name: item for name, item in section.lookup.items() if item.table in db.tables()}
        #: the names of all fields, also of those in other tables
        self.field_names = [*self.fields, *self.joined.names]
        first, *others = section.login
        #: the fields that users may type to sign in: the first, and all others that the live schema has
        self.login_fields = [first, *(field for field in others if field in self.fields)]
        #: how the app compares logins; ``exact``: those that differ only in case belong to different users
        self._login_operator: Op = "=" if section.match == "exact" else "same"

    # Rows and columns ----------------------------------------------------------------------------------------

    def read(
        self,
        where: Sequence[Where] = (),
        *,
        page_request: PageRequest = PageRequest(),  # noqa: B008 - a frozen value
        for_update: bool = False,
    ) -> list[User]:
        """Return users in the order of ``page_request.sort``, by default of their keys; ``for_update`` locks the rows."""
        role_columns = self.roles.columns if self.roles else ()
        columns = list(dict.fromkeys([self.id, *self.fields.values(), *role_columns, *self.joined.columns]))
        rows = self.db.select(
            self.live.name,
            columns,
            [*where, *self.only],
            order_by=[self._parse_order(page_request.sort)] if page_request.sort else [],
            limit=page_request.limit,
            offset=page_request.offset,
            for_update=for_update,
        )
        return self.build_users([dict(zip(columns, row, strict=True)) for row in rows], for_update=for_update)

    def build_users(self, records: Sequence[Row], *, for_update: bool = False) -> list[User]:
        """Return the users of rows, which have at least the key and all columns of fields and roles."""
        roles = self.roles.read(records) if self.roles else [[] for _ in records]
        joined = (
            self.joined.read(records, for_update=for_update) if self.joined.names else [{} for _ in records]
        )
        users = list[User]()
        for row, names, others in zip(records, roles, joined, strict=True):
            values = {**{field: decode_text(row[column]) for field, column in self.fields.items()}, **others}
            created, updated, seen = (read_time(values.get(field)) for field in TIMES)
            login = next((values[field] for field in self.login_fields if values.get(field)), row[self.id])
            users.append(
                User(
                    id=row[self.id],
                    login=read_text(login),
                    role=names[0] if names else None,
                    roles=names if self.roles and self.roles.has_several else None,
                    active=is_active(self.section.active, values["active"]) if "active" in values else None,
                    username=text_or_none(values.get("username")),
                    email=text_or_none(values.get("email")),
                    name=text_or_none(values.get("name")),
                    created_at=created,
                    updated_at=updated,
                    last_login_at=seen if seen and seen > EPOCH else None,
                    extra={
                        field: value for field, value in values.items() if field not in User.__struct_fields__
                    },
                )
            )
        return users

    def _parse_order(self, sort: str) -> Order:
        descending, field = sort.startswith("-"), sort.lstrip("-")
        if field == "role":
            return self.require_roles().create_order(descending=descending)
        if field == "id":
            return Order([self.id], descending)
        column = self.column(self.login_fields[0] if field == "login" else field)
        return Order([column], descending, time=field in TIMES, nocase=field not in TIMES)

    def column(self, field: str) -> str:
        """Return the column of a mapped field.

        Raises:
            UsageError: the profile maps no such field, or the live schema lacks it.
        """
        if field not in self.fields:
            known = ", ".join(["role", *self.fields])
            detail = f"users have no field {field!r}; known: {known}"
            if field in self.joined.names:
                detail = f"{field} is in another table; use one of {known}"
            raise UsageError(detail=detail, name=field, candidates=["role", *self.fields])
        return self.fields[field]

    def login_columns(self) -> list[str]:
        return [self.column(field) for field in self.login_fields]

    # Roles -----------------------------------------------------------------------------------------------------

    def require_roles(self) -> RoleForm:
        """Return the roles of users.

        Raises:
            FeatureMissingError: the app has no roles.
        """
        return self.app.require_section(self.roles, "roles")

    # Conditions --------------------------------------------------------------------------------------------------

    def where_inactive(self, age: timedelta) -> Where:
        """Return the condition that a user has not signed in for ``age``; if never, that the account is older than that."""
        seen, since = self.column("last_login_at"), now() - age
        never, created = self.where_never_signed_in(), self.fields.get("created_at")
        idle = AllOf([never, *where_before(created, since)]) if created else never
        return AnyOf([AllOf(where_before(seen, since)), idle])

    def where_never_signed_in(self) -> Where:
        return Not(Condition(self.column("last_login_at"), ">", EPOCH))

    def where_active(self, *, active: bool) -> Where:
        """Return the condition that a user is active, or is not."""
        values = self.section.active.values if self.section.active else [True]
        if "active" in self.joined.names:
            condition = self.joined.where("active", values)
            return condition if active else Not(condition)
        column = self.column("active")
        stored = [self.live.encode_constants({column: value})[column] for value in values]
        condition = AnyOf([Condition(column, "=", value) for value in stored])
        return condition if active else Not(condition)

    def where_ids(self, users: Sequence[User]) -> Condition:
        """Return the condition that a row belongs to one of ``users``."""
        return Condition(self.id, "in", [user.id for user in users])

    # Selection -----------------------------------------------------------------------------------------------

    def find_users(self, selector: UserSelector) -> list[User]:
        """Return the selected users without duplicates, in the order of the selector.

        Raises:
            UsageError: the selector is empty.
            UserMissingError: a login or id does not exist; no user is returned.
            AmbiguousLoginError: several users have a login.
            ClockImplausibleError: users are selected by inactivity, and the clock contradicts the recorded times.
        """
        if selector.is_empty:
            raise UsageError(detail="no user is selected")
        logins: list[str | KeyText] = [*selector.logins, *map(KeyText, selector.ids)]
        users = [self.find_by_login(login) for login in logins]
        if selector.inactive_for is not None and (
            inactive := self.read([self.where_inactive(selector.inactive_for)])
        ):
            from dbctl.services.app import clock

            clock.check(self.app)
            users += inactive
        return list({user.id: user for user in users}.values())

    def find_single_user(self, selector: UserSelector) -> User:
        """Return the selected user; raises as ``find_users``, and UsageError for several users."""
        users = self.find_users(selector)
        if len(users) != 1:
            raise UsageError(detail="select exactly one user")
        return users[0]

    def find_by_login(self, login: str | KeyText) -> User:
        """Return the user with a login or id; case is significant only if several logins differ only in case.

        Raises:
            UserMissingError, AmbiguousLoginError: no user, or several users have the login.
            AmbiguousIdError: several ids begin with the text.
        """
        if isinstance(login, KeyText):
            shown, user = f"id {truncate(login.text)}", self._find_by_id(login.text)
        else:
            self.app.require_decision("login", "a login")
            same = [Condition(column, "same", login) for column in self.login_columns()]
            shown, user = truncate(login), self._find_unique(login, AnyOf(same))
        if user is None:
            similar = [] if isinstance(login, KeyText) else self._list_similar_logins(login)
            raise UserMissingError(login=shown, target=self.db.target, candidates=similar)
        return user

    def find_by_first_login(self, fields: Mapping[str, str]) -> User | None:
        """Return the user with the first login field in ``fields``, compared as the app does; None if no user has it.

        Raises:
            UsageError: ``fields`` lacks the first login field.
            AmbiguousLoginError: several users have the login.
        """
        self.app.require_decision("login", "a login")
        field = self.section.login[0]
        if field not in fields:
            raise UsageError(detail=f"{field} is missing")
        where = Condition(self.column(field), self._login_operator, fields[field])
        return self._find_unique(fields[field], where)

    def _find_unique(self, login: str, where: Where) -> User | None:
        matches = self.read([where]) if login.isprintable() else []
        if len(matches) > 1 and self._login_operator == "=":
            exact = [
                user
                for user in matches
                if login in [getattr(user, field, user.extra.get(field)) for field in self.section.login]
            ]
            matches = exact or matches
        if len(matches) > 1:
            ids = ", ".join(str(user.id) for user in matches)
            raise AmbiguousLoginError(login=truncate(login), target=self.db.target, ids=ids)
        return matches[0] if matches else None

    def _find_by_id(self, key: str) -> User | None:
        is_integer = "INT" in self.live.table.columns[self.id].type
        is_valid = re.fullmatch(r"-?[0-9]{1,18}", key, re.ASCII) if is_integer else key.isprintable()
        key = self.live.complete_id(self.id, key, self.only) if is_valid else key
        users = self.read([Condition(self.id, "=", int(key) if is_integer else key)]) if is_valid else []
        return users[0] if users else None

    def _list_similar_logins(self, login: str) -> list[str]:
        """Return logins that may resemble a misspelled one: all of a small table, else those with the same beginning or end."""
        if not login.isprintable():
            return []
        known = list[str]()
        lengths = (max(3, len(login) * 2 // 3), max(3, len(login) // 2))
        for column in self.login_columns():
            conditions = [
                AnyOf([Condition(column, "starts", login[:cut]), Condition(column, "contains", login[-cut:])])
                for cut in lengths
            ]
            rows = list[tuple[object, ...]]()
            for where in ([], *([condition] for condition in conditions)):
                rows = self.db.select(self.live.name, [column], [*where, *self.only], limit=MAX_COMPARED)
                if 0 < len(rows) < MAX_COMPARED:
                    break
            known += [read_text(value) for (value,) in rows if value]
        return known

    def find_taken_login(self, logins: Mapping[str, str], *, except_id: object = None) -> str:
        """Return the first field of which another user has the login, compared as the app does; empty: none."""
        same = {
            field: Condition(self.column(field), self._login_operator, login)
            for field, login in logins.items()
        }
        where = [AnyOf(list(same.values())), *self.only]
        owners = [key for (key,) in self.db.select(self.live.name, [self.id], where) if key != except_id]
        return next(
            (
                field
                for field, is_same in (same.items() if owners else ())
                if self.db.count(self.live.name, [is_same, Condition(self.id, "in", owners)])
            ),
            "",
        )

    def fold_login(self, login: str) -> str:
        """Return a key that is equal for logins which the app considers equal.

        It folds only ASCII letters, as most databases do; a database that folds more refuses duplicates itself.
        """
        return login if self._login_operator == "=" else lower_ascii(login)

    # Values --------------------------------------------------------------------------------------------------

    def parse_value(self, field: str, text: str) -> object:
        """Return the value of ``text`` in the type of a field: boolean, time (None: never), role name, or text.

        Raises:
            UsageError: the profile maps no such field.
            ValueInvalidError, RoleMissingError: the app does not accept the value.
            RoleFormError: the profile contradicts the stored roles.
        """
        from dbctl.services.app.results import find_kind, stores_days

        if field == "role":
            roles = self.require_roles()
            roles.require_consistent()
            return roles.resolve(text)
        column = None if field in self.joined.names else self.live.table.columns[self.column(field)]
        kind = KINDS.get(field, "") if field in KINDS or column is None else find_kind(self.db, column)
        if kind == "boolean":
            return parse_boolean(field, text)
        if kind == "time":
            if not text and (column is None or column.nullable):
                return None
            time = parse_time(field, text)
            return parse_day(field, text, time) if column and stores_days(self.live, column) else time
        if lookup := self.lookups.get(field):
            key = find_named_key(self.db, lookup.table, lookup.key, [lookup.name], text)
            if key is not None:
                return key
        rule = self.section.rules.get(field)
        text = text.lower() if rule and rule.lowercase else text
        check_rule(field, text, rule, is_padded_valid=False)
        if column and kind == "number":
            self.db.codec.text_parser(self.live.name, column.name)(text)  # refuses what SQLite would store
        return text

    def lookup_keys(self, field: str, name: str) -> list[object]:
        """Return the keys of the rows called ``name`` in the lookup table of a field."""
        lookup = self.lookups.get(field)
        rows = list_named_rows(self.db, lookup.table, lookup.key, [lookup.name], name) if lookup else []
        return [row[0] for row in rows]

    def require_deactivation(self) -> None:
        """Refuse a change of the field ``active`` that only the app can make.

        Raises:
            NotSupportedError: the profile has a reason, or no value for inactive users.
        """
        if not self.section.can_deactivate:
            reason = self.section.only_app_deactivates or "the profile has no users.active.inactive"
            hint = f"Activate or deactivate the user in the app: {reason}."
            subject = self.app.core.title
            raise NotSupportedError(feature="changing active", subject=subject, hint=hint)

    def encode_values(self, values: Mapping[str, object], typed: Container[str]) -> dict[str, object]:
        """Return columns and stored values for values of which ``parse_value`` returned the ``typed`` ones."""
        columns = {
            (name := self.column(field)): self.live.encode(name, value, typed="" if field in typed else None)
            for field, value in values.items()
            if field != "role"
            and field not in self.joined.names
            and not (field == "active" and self.section.active)
        }
        if "active" in self.fields and (constants := self._select_constants(values)):
            columns |= self.live.encode_constants({self.column("active"): constants["active"]})
        return columns | (self.require_roles().encode([str(values["role"])]) if "role" in values else {})

    def write_joined(self, db: Writable, ids: Sequence[object], values: Mapping[str, object]) -> None:
        """Write the fields of users in other tables; raises as ``require_deactivation``."""
        self.joined.write(db, ids, values, self._select_constants(values))

    def _select_constants(self, values: Mapping[str, object]) -> dict[str, Constant | None]:
        """Return the constant that stores a new value of ``active``; empty if the profile has none."""
        active = self.section.active
        if active is None or "active" not in values:
            return {}
        if not values["active"]:
            self.require_deactivation()
        return {"active": active.values[0] if values["active"] else active.inactive}
