"""The app's users as its profile maps them: rows read as users, and people found by what they are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from dbctl.engines.base import AllOf, AnyOf, Condition, Not, Order, Readable, Where, Within
from dbctl.errors import (
    AmbiguousLoginError,
    LastAdminError,
    RoleMissingError,
    UsageError,
    UserMissingError,
    ValueInvalidError,
)
from dbctl.model import Row, Secret, Value, Window, now
from dbctl.profiles.codecs import read_boolean, read_time
from dbctl.profiles.model import Rule, Users
from dbctl.services.apps import App
from dbctl.services.live import Live

#: Fields that every app's users have for dbctl, whatever their columns are called.
TIMES = ("created_at", "updated_at", "last_login_at")
LONGEST_SHOWN = 40  #: characters of a refused value in a message


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
            for word in ("id", "login", "email", "name", "role", "active", "created_at", "last_login_at")
        }
        return {word: value for word, value in told.items() if not (word == "name" and value is None)}


class Who(Value, frozen=True, kw_only=True):
    """Which users a command is about: any of these."""

    logins: Sequence[str] = ()
    ids: Sequence[str] = ()
    inactive: timedelta | None = None  #: everybody who has not signed in for so long


def database_of(app: App) -> str:
    """Return the database that holds the app's users."""
    told = app.ability(app.profile.users, "users")
    return told.database or app.main()


class UserTable:
    """The users of one open database."""

    def __init__(self, app: App, db: Readable) -> None:
        self.app, self.db = app, db
        self.told: Users = app.ability(app.profile.users, "users")
        self.live = Live(app.profile, db, self.told.table, "users")
        self.id = self.live.get(self.told.id.column)
        self.fields = {
            word: column for word, name in self.told.fields.items() if (column := self.live.find(name))
        }
        self.role = self.live.get(self.told.role.column) if self.told.role else None
        self._role_names: dict[object, str] | None = None

    # Reading -------------------------------------------------------------------------------------------------

    def read(self, where: Sequence[Where] = (), *, window: Window = Window()) -> list[User]:  # noqa: B008 - a frozen value
        """Return users as the app's own order of keys, or ``window.sort``, has them."""
        columns = list(dict.fromkeys([self.id, *self.fields.values(), *([self.role] if self.role else [])]))
        rows = self.db.select(
            self.live.name,
            columns,
            where,
            order_by=self._order(window.sort),
            limit=window.limit,
            offset=window.offset,
        )
        return [self._user(dict(zip(columns, row, strict=True))) for row in rows]

    def roles(self) -> dict[object, str]:
        """Return the roles there are: what a user's row holds, and the name of it."""
        told = self.told.role
        if self._role_names is None:
            if told is None:
                self._role_names = {}
            elif told.table:
                rows = self.db.select(told.table, [told.key, told.name])
                self._role_names = {key: str(name) for key, name in rows}
            else:
                labels = told.values or [
                    str(one) for one in self.db.tally(self.live.name, told.column) if one
                ]
                self._role_names = {label: label for label in labels}
        return self._role_names

    def role_key(self, name: str) -> object:
        """Return what a user's row holds for the role of that name, whose case does not count.

        Raises:
            RoleMissingError: there is no such role.
        """
        self.app.ability(self.told.role, "roles")
        for key, known in self.roles().items():
            if known.casefold() == name.casefold():
                return key
        raise RoleMissingError(name=name, target=self.db.target, names=", ".join(self.roles().values()))

    def where_field(self, field: str, wanted: str) -> Where:
        """Return the condition that a mapped field holds ``wanted``.

        Raises:
            UsageError: the profile maps no such field.
        """
        if field == "role":
            return Condition(self._role_column(), "=", self.role_key(wanted))
        if field == "id":
            return Condition(self.id, "=", wanted)
        column = self._field(field)
        if field in TIMES:
            return AllOf(
                [
                    Condition(column, ">=", self._day(wanted)),
                    Condition(column, "<", self._day(wanted) + timedelta(days=1)),
                ]
            )
        if field == "active":
            return Condition(column, "=", self.live.encode(column, read_boolean(wanted)))
        return Condition(column, "same", wanted)

    def where_inactive(self, lasted: timedelta) -> Where:
        """Return the condition that a user has not signed in for so long; whoever never did counts from creation."""
        seen, since = self._field("last_login_at"), now() - lasted
        never = [Condition(seen, "=", None), Condition(seen, "=", "")]
        created = self.fields.get("created_at")
        idle: Where = AllOf([AnyOf(never), Condition(created, "<", since)]) if created else AnyOf(never)
        return AnyOf([Condition(seen, "<", since), idle])

    def where_never_signed_in(self) -> Where:
        """Return the condition that a user has never signed in."""
        seen = self._field("last_login_at")
        return AnyOf([Condition(seen, "=", None), Condition(seen, "=", "")])

    def where_active(self, *, active: bool) -> Where:
        """Return the condition that a user may sign in, or may not."""
        column = self._field("active")
        holds = Condition(column, "=", self.live.encode(column, True))  # noqa: FBT003 - the value itself
        return holds if active else Not(holds)

    # Finding -------------------------------------------------------------------------------------------------

    def find(self, who: Who) -> list[User]:
        """Return the users that are meant, each once, in the order they were named.

        Raises:
            UsageError: nobody was named.
            UserMissingError: one of them does not exist; none is returned.
            AmbiguousLoginError: a login fits several users.
        """
        if not (who.logins or who.ids or who.inactive is not None):
            raise UsageError(detail="no user was named")
        found = [self.one(login) for login in who.logins] + [self._by_id(key) for key in who.ids]
        if who.inactive is not None:
            found += self.read([self.where_inactive(who.inactive)])
        return list({user.id: user for user in found}.values())

    def one(self, login: str) -> User:
        """Return the user of that login; its case does not count unless two users differ only in it."""
        if _unprintable(login):
            raise UserMissingError(login=login, target=self.db.target)
        near = self.read([AnyOf([Condition(column, "same", login) for column in self.login_columns()])])
        exact = [user for user in near if login in (user.login, user.username, user.email)]
        if not near:
            raise UserMissingError(login=login, target=self.db.target)
        if len(near) > 1 and len(exact) != 1:
            raise AmbiguousLoginError(
                login=login, target=self.db.target, ids=", ".join(str(user.id) for user in near)
            )
        return exact[0] if len(near) > 1 else near[0]

    def login_columns(self) -> list[str]:
        """Return the columns that hold what a person may type to sign in."""
        return [self._field(field) for field in self.told.login]

    def taken(self, field: str, value: str, *, besides: object = None) -> bool:
        """Whether another user has that value, whatever its case, in a field by which users sign in."""
        near = self.db.select(self.live.name, [self.id], [Condition(self._field(field), "same", value)])
        return any(key != besides for (key,) in near)

    # Guarding ------------------------------------------------------------------------------------------------

    def guard_last_admin(self, leaving: Iterable[User]) -> None:
        """Refuse what would leave the app without an active holder of its admin role.

        Raises:
            LastAdminError: the users who are ``leaving`` the role, or the app, are the last.
        """
        if not (self.told.admin and self.told.role and self.told.admin in self.roles().values()):
            return
        admins = Condition(self._role_column(), "=", self.role_key(self.told.admin))
        holding = [admins, self.where_active(active=True)] if "active" in self.fields else [admins]
        active = {key for (key,) in self.db.select(self.live.name, [self.id], holding)}
        gone = {user.id: user.login for user in leaving if user.id in active}
        if active and active == set(gone):
            raise LastAdminError(target=self.db.target, role=self.told.admin, logins=", ".join(gone.values()))

    def check(self, field: str, given: str) -> str:
        """Return ``given`` where the app accepts it as that field.

        Raises:
            ValueInvalidError: it breaks one of the app's rules, or cannot be seen in print.
        """
        check_rule(field, given, self.told.rules.get(field))
        return given

    def check_password(self, password: Secret) -> None:
        """Refuse a password that breaks one of the app's rules, without showing it."""
        check_secret("password", password, self.told.rules.get("password"))

    # Within ----------------------------------------------------------------------------------------------------

    def _field(self, field: str) -> str:
        if field not in self.fields:
            raise UsageError(
                detail=f"users have no field {field!r}; they have: {', '.join(['id', 'role', *self.fields])}"
            )
        return self.fields[field]

    def _role_column(self) -> str:
        self.app.ability(self.told.role, "roles")
        return str(self.role)

    def _by_id(self, key: str) -> User:
        kind = self.live.table.columns[self.id].type
        if "INT" in kind and not key.lstrip("-").isdecimal():
            raise UserMissingError(login=f"id {key}", target=self.db.target)
        found = self.read([Condition(self.id, "=", int(key) if "INT" in kind else key)])
        if not found:
            raise UserMissingError(login=f"id {key}", target=self.db.target)
        return found[0]

    def _day(self, day: str) -> datetime:
        found = read_time(day)
        if found is None:
            raise ValueInvalidError(
                what="the day", value=repr(day), reason="it is not written like 2026-01-31"
            )
        return found

    def _order(self, sort: str) -> list[Order]:
        if not sort:
            return []
        descending, field = sort.startswith("-"), sort.lstrip("-")
        told = self.told.role
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
            return [Order([self._role_column()], descending)]
        if field == "id":
            return [Order([self.id], descending)]
        column = self._field("username" if field == "login" and "username" in self.fields else field)
        return [Order([column], descending, time=field in TIMES, nocase=field not in TIMES)]

    def _user(self, row: Mapping[str, object]) -> User:
        told = {field: row[column] for field, column in self.fields.items()}
        created, updated, seen = (read_time(told.get(field)) for field in TIMES)
        login = next((told[field] for field in self.told.login if told.get(field)), row[self.id])
        active = told.get("active")
        return User(
            id=row[self.id],
            login=str(login),
            role=self._role_name(row[self.role]) if self.role else None,
            active=None if active is None else read_boolean(active),
            username=text(told.get("username")),
            email=text(told.get("email")),
            name=text(told.get("name")),
            created_at=created,
            updated_at=updated,
            last_login_at=seen,
            extra={field: value for field, value in told.items() if field not in User.__struct_fields__},
        )

    def _role_name(self, key: object) -> str | None:
        return self.roles().get(key, None if key is None else f"(unknown: {key})")


def text(value: object) -> str | None:
    """Return what is stored as text; None for NULL."""
    return None if value is None else str(value)


def check_rule(what: str, given: str, rule: Rule | None) -> None:
    """Refuse ``given`` where it breaks ``rule``, or holds what cannot be seen in print.

    Raises:
        ValueInvalidError: it says which rule.
    """
    reason = "it holds characters that cannot be seen" if _unprintable(given) else _broken(given, rule)
    if reason:
        shown = ascii(given if len(given) <= LONGEST_SHOWN else given[:LONGEST_SHOWN] + "…")
        raise ValueInvalidError(what=f"the {what}", value=shown, reason=reason)


def check_secret(what: str, secret: Secret, rule: Rule | None) -> None:
    """Refuse a secret that breaks ``rule``, without showing it."""
    reason = _broken(secret.reveal(), rule)
    if reason:
        raise ValueInvalidError(what=f"the {what}", value="(not shown)", reason=reason)


def _broken(given: str, rule: Rule | None) -> str:
    """Return how ``given`` breaks ``rule``, or nothing."""
    if rule is None:
        return ""
    if rule.length and not rule.length[0] <= len(given) <= rule.length[1]:
        return f"it has {len(given)} characters, the app takes {rule.length[0]} to {rule.length[1]}"
    if rule.bytes and len(given.encode("utf-8", "surrogatepass")) > rule.bytes:
        return f"it has more than {rule.bytes} bytes of UTF-8, and what follows would not count"
    if rule.format == "email" and not _like_an_address(given):
        return "it is not like name@example.org"
    return ""


def _unprintable(given: str) -> bool:
    return not given.isprintable()


def _like_an_address(given: str) -> bool:
    name, mark, domain = given.rpartition("@")
    parts = domain.split(".")
    return (
        bool(name and mark and len(parts) > 1 and all(parts))
        and not any(sign in given for sign in ' ,;<>()"')
        and "@" not in name
    )
