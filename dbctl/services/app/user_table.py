"""The app's users as its profile maps them: rows read as users, and people found by what they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from dbctl.engines.contract import AllOf, AnyOf, Condition, Not, Op, Order, Readable, Where, Within
from dbctl.errors import AmbiguousLoginError, RoleMissingError, UsageError, UserMissingError
from dbctl.model import Id, Row, Value, Window, now
from dbctl.profiles import BOOLEANS, read_boolean, read_time
from dbctl.profiles.model import Name, UserRole, Users
from dbctl.services.app.app import App
from dbctl.services.app.live_table import Live
from dbctl.services.app.validation import check_field, cut, read_moment, read_word

#: Fields that every app's users have for dbctl, whatever their columns are called.
TIMES = ("created_at", "updated_at", "last_login_at")
#: Declared types of columns that hold booleans, and whole numbers, where the driver has no type of its own for them.
BOOLEAN_TYPE = r"BOOL.*|TINYINT\(1\)"
WHOLE_TYPE = r"INT|SERIAL"


class User(Value, frozen=True, kw_only=True):
    """One user. A field that the app does not have is None."""

    id: object
    login: str  #: what the person types to sign in
    username: str | None = None
    email: str | None = None
    name: str | None = None
    role: str | None = None
    active: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_login_at: datetime | None = None
    extra: Mapping[str, object] = {}  #: further fields of the profile, under their own names

    def brief(self) -> Row:
        told = {
            word: getattr(self, word)
            for word in ("id", "login", "email", "name", "role", "active", "last_login_at")
        }
        return {word: value for word, value in told.items() if not (word == "name" and value is None)}


class UserSelector(Value, frozen=True, kw_only=True):
    """Which users a command is about: any of these."""

    logins: Sequence[str] = ()
    ids: Sequence[str] = ()
    inactive: timedelta | None = None  #: everybody who has not signed in for so long
    listed: bool = False  #: whether the logins are a list from elsewhere, which may be empty

    @property
    def is_empty(self) -> bool:
        """Whether nobody is named in any way."""
        return not (self.logins or self.ids or self.inactive is not None or self.listed)


def database_of(app: App) -> str:
    """Return the database that holds the app's users."""
    told = app.ability(app.profile.users, "users")
    return told.database or app.main()


def users_beside(app: App, db: Readable) -> UserTable:
    """Return the users: in ``db`` where that is their database, else in their own."""
    own = database_of(app)
    return UserTable(app, db if db.target == app.target(own) else app.reader(own))


class UserTable:
    """The users of one open database."""

    def __init__(self, app: App, db: Readable) -> None:
        self.app, self.db = app, db
        self.section: Users = app.ability(app.profile.users, "users")
        self.live = Live(app.profile, db, self.section.table, "users")
        self.id = self.live.get(self.section.id.column)
        self.fields = {
            word: column for word, name in self.section.fields.items() if (column := self.live.find(name))
        }
        self.role = self.live.get(self.section.role.column) if self.section.role else None
        self._role_names: dict[object, str] | None = None

    @property
    def changed_at(self) -> Name | None:
        """The column that says when its row was changed, in every table that has it; None where the profile names none."""
        name = self.app.profile.databases[database_of(self.app)].updated_at
        return [f"{one}?" for one in ([name] if isinstance(name, str) else name)] if name else None

    # Reading -------------------------------------------------------------------------------------------------

    def read(
        self,
        where: Sequence[Where] = (),
        *,
        window: Window = Window(),  # noqa: B008 - a frozen value
        hold: bool = False,
    ) -> list[User]:
        """Return users as the app's own order of keys, or ``window.sort``, has them; ``hold`` as ``select`` has it."""
        columns = list(dict.fromkeys([self.id, *self.fields.values(), *([self.role] if self.role else [])]))
        rows = self.db.select(
            self.live.name,
            columns,
            where,
            order_by=self._order(window.sort),
            limit=window.limit,
            offset=window.offset,
            hold=hold,
        )
        return [self._user(dict(zip(columns, row, strict=True))) for row in rows]

    def column(self, field: str) -> str:
        """Return the column of a mapped field.

        Raises:
            UsageError: the profile maps no such field, or the live schema lacks it.
        """
        if field not in self.fields:
            known = ", ".join(["role", *self.fields])
            raise UsageError(detail=f"users have no field {field!r} that could be meant; they have: {known}")
        return self.fields[field]

    def role_column(self) -> str:
        """Return the column that holds a user's role.

        Raises:
            AbilityMissingError: the app has no roles.
        """
        self.app.ability(self.section.role, "roles")
        return str(self.role)

    def roles(self) -> dict[object, str]:
        """Return the roles there are: what a user's row holds, and the name of it."""
        told = self.section.role
        if self._role_names is None:
            if told is None:
                self._role_names = {}
            elif told.table:
                rows = self.db.select(told.table, [told.key, told.name])
                self._role_names = {key: str(name) for key, name in rows}
            else:
                self._role_names = self._words(told)
        return self._role_names

    def _words(self, told: UserRole) -> dict[object, str]:
        """Return the roles that are the value of a column: what a row holds, and the word for it.

        Roles of a column of booleans are ``true`` and ``false``, those of a column of numbers the digits.
        """
        column = self.live.table.columns[str(self.role)]
        if column.native == "boolean" or re.fullmatch(BOOLEAN_TYPE, column.type):
            false, true = (False, True) if column.native else BOOLEANS[self.app.profile.boolean]
            stored = {"true": true, "false": false}
            listed = [word for word in map(str.lower, told.values) if word in stored]
            return {stored[word]: word for word in listed or stored}
        labels = self._labels(told)
        if re.search(WHOLE_TYPE, column.type):
            return {int(label) if label.isdecimal() else label: label for label in labels}
        return {label: label for label in labels}

    def _labels(self, told: UserRole) -> Sequence[str]:
        """Return the words that the column of the role may hold, in the profile's order.

        What the live column can hold counts: an enum may have had labels since the profile was written.
        """
        live = self.live.table.columns[str(self.role)].values
        known = [one for one in told.values if one in live or not live]
        held = [] if known or live else self.db.tally(self.live.name, told.column)
        stored = [str(value) for value in held if value not in (None, "")]
        return [*known, *(one for one in live if one not in known), *stored]

    def role_name(self, key: object) -> str | None:
        """Return the name of the role that a user's row holds."""
        return self.roles().get(key, None if key is None else f"(unknown: {key})")

    def role_key(self, name: str) -> object:
        """Return what a user's row holds for the role of that name, whose case does not count.

        Raises:
            RoleMissingError: there is no such role.
        """
        self.app.ability(self.section.role, "roles")
        for key, known in self.roles().items():
            if known.casefold() == name.casefold():
                return key
        raise RoleMissingError(name=name, target=self.db.target, names=", ".join(self.roles().values()))

    def where_inactive(self, lasted: timedelta) -> Where:
        """Return the condition that a user has not signed in for so long; whoever never did counts from creation."""
        seen, since = self.column("last_login_at"), now() - lasted
        never, created = self.where_never_signed_in(), self.fields.get("created_at")
        idle = AllOf([never, Condition(created, "<", since)]) if created else never
        return AnyOf([Condition(seen, "<", since), idle])

    def where_never_signed_in(self) -> Where:
        """Return the condition that a user has never signed in."""
        seen = self.column("last_login_at")
        return AnyOf([Condition(seen, "=", None), Condition(seen, "=", "")])

    def where_active(self, *, active: bool) -> Where:
        """Return the condition that a user may sign in, or may not."""
        column = self.column("active")
        holds = Condition(column, "=", self.live.encode(column, True))  # noqa: FBT003 - the value itself
        return holds if active else Not(holds)

    # Finding -------------------------------------------------------------------------------------------------

    def find(self, who: UserSelector) -> list[User]:
        """Return the users that are meant, each once, in the order they were named.

        Raises:
            UsageError: nobody was named.
            UserMissingError: one of them does not exist; none is returned.
            AmbiguousLoginError: a login fits several users.
            ClockDoubtedError: some are chosen by time, and the clock contradicts what the app recorded.
        """
        if who.is_empty:
            raise UsageError(detail="no user was named")
        found = [self.one(login) for login in who.logins] + [self._by_id(key) for key in who.ids]
        if who.inactive is not None and (inactive := self.read([self.where_inactive(who.inactive)])):
            from dbctl.services.app import clock

            clock.check(self.app)
            found += inactive
        return list({user.id: user for user in found}.values())

    def one(self, login: str | Id) -> User:
        """Return the user of that login, or of that id; case counts only between users whom nothing else tells apart.

        Raises:
            UserMissingError, AmbiguousLoginError: it fits nobody, or several.
        """
        if isinstance(login, Id):
            return self._by_id(login.text)
        if not login.isprintable():
            raise UserMissingError(login=cut(login), target=self.db.target)
        where = AnyOf([Condition(column, "same", login) for column in self.login_columns()])
        found = self._only(login, [where])
        if found is None:
            raise UserMissingError(login=cut(login), target=self.db.target)
        return found

    def holder(self, fields: Mapping[str, str]) -> User | None:
        """Return the user who has the first of the login ``fields``, as the app compares them; None where nobody has.

        Raises:
            UsageError: it is not among ``fields``.
            AmbiguousLoginError: several have it.
        """
        field = self.section.login[0]
        if field not in fields:
            raise UsageError(detail=f"{field} is missing")
        return self._only(fields[field], [Condition(self.column(field), self._same, fields[field])])

    def _only(self, login: str, where: Sequence[Where]) -> User | None:
        near = self.read(where) if login.isprintable() else []
        if len(near) > 1 and self._exact:
            near = [user for user in near if login in self._logins(user)] or near
        if len(near) > 1:
            ids = ", ".join(str(user.id) for user in near)
            raise AmbiguousLoginError(login=cut(login), target=self.db.target, ids=ids)
        return near[0] if near else None

    def _logins(self, user: User) -> list[object]:
        told = {field: getattr(user, field, user.extra.get(field)) for field in self.section.login}
        return list(told.values())

    @property
    def _exact(self) -> bool:
        """Whether the app tells logins apart that differ only in case."""
        return self.section.match == "exact"

    def login_columns(self) -> list[str]:
        """Return the columns that hold what a person may type to sign in, as far as the live schema has them."""
        return [self.column(field) for field in self.logins()]

    def logins(self) -> list[str]:
        """Return the fields that a person may type to sign in, as far as the live schema has them; the first always."""
        first, *further = self.section.login
        return [first, *(field for field in further if field in self.fields)]

    def taken(self, field: str, value: str, *, besides: object = None) -> bool:
        """Whether another user has that value, as the app compares it, in a field by which users sign in."""
        near = self.db.select(self.live.name, [self.id], [Condition(self.column(field), self._same, value)])
        return any(key != besides for (key,) in near)

    def again(self, found: Sequence[User]) -> list[User]:
        """Return users as they are now, in the same order."""
        fresh = {
            user.id: user
            for user in self.read([self.live.among(self.section.id.column, [user.id for user in found])])
        }
        return [fresh[user.id] for user in found]

    @property
    def _same(self) -> Op:
        return "=" if self._exact else "same"

    def fold(self, login: str) -> str:
        """Return what two logins that are the same to the app have in common.

        Only in ASCII, as the databases of most apps compare: what a database folds besides, its own key refuses.
        """
        if self._exact:
            return login
        if login.isascii():
            return login.lower()
        return "".join(letter.lower() if letter.isascii() else letter for letter in login)

    # Writing -------------------------------------------------------------------------------------------------

    def typed(self, field: str, given: str) -> object:
        """Return what ``given`` says a field is to hold: a boolean, a moment (None: never), a role's own name, or text.

        Raises:
            UsageError: the profile maps no such field.
            ValueInvalidError, RoleMissingError: the app does not take it.
        """
        if field == "role":
            return self.roles()[self.role_key(given)]
        self.column(field)
        if field == "active":
            return read_word(field, given)
        if field in TIMES:
            return read_moment(field, given) if given else None
        if known := self.meant(field, given):
            if len(known) > 1 and given not in [name for _, name in known]:
                names = ", ".join(name for _, name in known)
                raise UsageError(detail=f"{field} {given!r} could be any of {names}; write it as they do")
            return next((key for key, name in known if name == given), known[0][0])
        check_field(field, given, self.section.rules.get(field))
        return given

    def meant(self, field: str, name: str) -> list[tuple[object, str]]:
        """Return the rows that ``name`` can mean where a field holds keys of another table: key and name of each."""
        told = self.section.lookup.get(field)
        if told is None or told.table not in self.db.tables() or not name.isprintable():
            return []
        rows = self.db.select(told.table, [told.key, told.name], [Condition(told.name, "same", name)])
        return [(key, str(found)) for key, found in rows]

    def stored(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return columns, and what is stored in each, for what ``typed`` returned."""
        columns: dict[str, object] = {}
        for field, value in values.items():
            if field == "role":
                columns[self.role_column()] = self.role_key(str(value))
            else:
                columns[self.column(field)] = self.live.encode(self.column(field), value)
        return columns

    # Within ----------------------------------------------------------------------------------------------------

    def _by_id(self, key: str) -> User:
        whole = "INT" in self.live.table.columns[self.id].type
        possible = re.fullmatch(r"-?[0-9]{1,18}", key, re.ASCII) if whole else key.isprintable()
        found = self.read([Condition(self.id, "=", int(key) if whole else key)]) if possible else []
        if not found:
            raise UserMissingError(login=f"id {cut(key)}", target=self.db.target)
        return found[0]

    def _order(self, sort: str) -> list[Order]:
        if not sort:
            return []
        descending, field = sort.startswith("-"), sort.lstrip("-")
        told = self.section.role
        if field == "role" and told and told.table:
            return [
                Order(
                    [told.name],
                    descending,
                    nocase=True,
                    through=Within([told.column], told.table, [told.key]),
                )
            ]
        if field == "role":
            return [Order([self.role_column()], descending)]
        if field == "id":
            return [Order([self.id], descending)]
        column = self.column("username" if field == "login" and "username" in self.fields else field)
        return [Order([column], descending, time=field in TIMES, nocase=field not in TIMES)]

    def _user(self, row: Mapping[str, object]) -> User:
        told = {field: row[column] for field, column in self.fields.items()}
        created, updated, seen = (read_time(told.get(field)) for field in TIMES)
        login = next((told[field] for field in self.logins() if told.get(field)), row[self.id])
        return User(
            id=row[self.id],
            login=str(login),
            role=self.role_name(row[self.role]) if self.role else None,
            active=read_boolean(told["active"]) if "active" in told else None,
            username=text(told.get("username")),
            email=text(told.get("email")),
            name=text(told.get("name")),
            created_at=created,
            updated_at=updated,
            last_login_at=seen,
            extra={field: value for field, value in told.items() if field not in User.__struct_fields__},
        )


def text(value: object) -> str | None:
    """Return what is stored as text; None for NULL."""
    return None if value is None else str(value)
