"""Rules that follow from what a profile states for other purposes: users, passwords, secrets, sign-ins, settings and ledgers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from dbctl.engines.contract.database import Readable
from dbctl.extensions.copies.section import ColumnEntry, Kind, PartEntry, find_entries, find_entry
from dbctl.model import Struct
from dbctl.profiles.codecs import KeyCodec
from dbctl.profiles.model.base import ColumnNames, TextFormat, list_names
from dbctl.profiles.model.roles import UserRole
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.model.users import SecondFactor, Users
from dbctl.profiles.payloads import parse_row_path
from dbctl.services.app.app import App
from dbctl.services.app.ledger_detection import ledger_tables
from dbctl.services.app.live_table import find_column, select_variant
from dbctl.services.app.secrets import is_secret_setting
from dbctl.services.data.personal_data import list_user_columns

#: The rule of each field of users; times, ``*_at``, are copied.
_FIELDS: Mapping[str, Kind] = {
    "username": "login", "login": "login", "email": "email", "name": "name", "first_name": "name", "last_name": "name",
    "given_name": "name", "family_name": "name", "display_name": "name", "phone": "phone", "active": "keep", "role": "keep",
    "language": "keep", "locale": "keep", "time_zone": "keep", "timezone": "keep",
}  # fmt: skip
_FORMATS: Mapping[TextFormat, Kind] = {"email": "email", "url": "url", "cron": "keep", "time-zone": "keep"}


class SecretSettings(Struct, frozen=True):
    """The secrets among the values of settings."""

    by: Sequence[str]  #: the columns with the key of a setting
    keys: Sequence[str]  #: of secrets; ``*`` is any text


class DerivedRules:
    """The rules of one database that follow from its profile, on its live schema.

    Of several rules of a column, the first counts: secrets precede what is copied.
    """

    def __init__(self, app: App, database: str, db: Readable) -> None:
        self._app, self._profile, self._database = app, app.profile, database
        self._live = db.tables()
        ledgers = [self._live[name] for name in ledger_tables(app, database, db) if name in self._live]
        self.tables = dict[str, Literal["empty", "keep"]]()
        #: by table and column
        self.columns: dict[tuple[str, str], Kind | ColumnEntry] = {
            (ledger.name, column): "keep" for ledger in ledgers for column in ledger.columns
        }
        self.settings = dict[tuple[str, str], SecretSettings]()  #: by table and column of the values
        users = self._profile.users
        if users and app.resolve_database(users) == database:
            self._derive_passwords(users)
        for path in app.database(database).secret:
            table, _, column = path.rpartition(".")
            self._add(table, column, "null")
        if users and app.resolve_database(users) == database:
            self._derive_sign_ins(users)
            self._derive_users(users)
        for settings in self._profile.settings:
            if app.resolve_database(settings) == database:
                self._derive_settings(settings)
        self._derive_technical()
        self._derive_links()

    def _add(self, table: str, names: ColumnNames | None, rule: Kind | ColumnEntry) -> None:
        """Add the rule of a column; nothing without the table or column, which deployments may lack."""
        live = self._live.get(table.removesuffix("?"))
        if live and (column := find_column(live, names)):
            self.columns.setdefault((live.name, column), rule)

    def _empty(self, table: str) -> None:
        self.tables.setdefault(table.removesuffix("?"), "empty")

    def _derive_passwords(self, users: Users) -> None:
        if users.password:
            for column in users.password.columns:
                self._add(users.table, column, "password")
            if key := users.password.hmac_key:  # new hashes depend on it
                values: dict[str, Kind | PartEntry] = {".".join(map(str, key.only.values())): "keep"}
                self._add(key.table, key.column, ColumnEntry(by=[*key.only], values=values, rest="null"))

    def _derive_sign_ins(self, users: Users) -> None:
        for table in users.signed_in:
            self._derive_sign_in_table(users, table.table, table.only, table.token)
        for factor in users.second_factor:
            self._derive_second_factor(users, factor)
        for sessions in self._profile.sessions:
            self._derive_sign_in_table(users, sessions.table, sessions.only, None)
        if users.lockout:
            self._empty(users.lockout.table)

    def _derive_sign_in_table(
        self, users: Users, table: str, only: Mapping[str, object], token: ColumnNames | None
    ) -> None:
        if only or table.removesuffix("?") == users.table:  # it has other rows, too
            self._add(table, token, "null")
        else:
            self._empty(table)

    def _derive_second_factor(self, users: Users, factor: SecondFactor) -> None:
        for column, value in factor.on_reset.items():
            if value == ":null":
                self._add(factor.table, column, "null")
        if not factor.on_reset:
            self._derive_sign_in_table(users, factor.table, factor.only, factor.secret)

    def _derive_users(self, users: Users) -> None:
        for field, names in users.fields.items():
            if kind := _find_field_kind(field):
                self._add(users.table, names, kind)
        for field, joined in users.joined.items():
            if not joined.only and (kind := _find_field_kind(field)):
                self._add(joined.table, joined.column, kind)
        self._derive_key(users.table, users.id.column, users.id.codec)
        if users.role:
            for table, column in _list_role_columns(users.table, users.role):
                self._add(table, column, "keep")
        for name in (*users.only, *users.excluded):
            self._add(users.table, name, "keep")
        self._derive_references(users)

    def _derive_references(self, users: Users) -> None:
        """Derive the rules of columns with the key of a user: that of the key."""
        key = find_column(self._live.get(users.table), users.id.column)
        stated = find_entry(find_entries(self._profile, self._database).columns, f"{users.table}.{key}")
        if key and (rule := stated or self.columns.get((users.table, key))):
            for table, names in (*list_user_columns(self._app), *_list_references(users)):
                self._add(table, names, rule)

    def _derive_settings(self, settings: Settings) -> None:
        live = self._live.get(settings.table.removesuffix("?"))
        if live is None:
            return
        for name in settings.row.types if settings.row else ():
            if is_secret_setting(settings, name.removesuffix("?")):
                self._add(live.name, name, "null")
        variant = select_variant([_Needs(live.name, item.key) for item in settings.variant], self._live)
        key = variant.key if variant else settings.key
        by = tuple(column for name in list_names(key) if (column := find_column(live, name)))
        value = find_column(live, settings.fields.get("value"))
        if not (by and value):
            return
        if settings.secret:
            self.settings[live.name, value] = SecretSettings(by, settings.secret)
        technical = [names for field, names in settings.fields.items() if field != "value"]
        for names in (*by, *technical):
            self._add(live.name, names, "keep")

    def _derive_technical(self) -> None:
        """Derive the rules of keys that dbctl or the app generates, and of columns with a list of values."""
        section, profile = self._app.database(self._database), self._profile
        for table, codec in section.new_keys.items():
            live = self._live.get(table.removesuffix("?"))
            for column in live.columns.values() if live else ():
                if column.is_primary_key:
                    self._derive_key(table, column.name, codec)
        if profile.roles and self._app.resolve_database(profile.users) == self._database:
            self._derive_key(profile.roles.table, profile.roles.key, profile.roles.codec)
        for values in profile.values:
            if self._app.resolve_database(values) == self._database and (values.allowed or values.format):
                kind = _FORMATS[values.format] if values.format and not values.allowed else "keep"
                self._add(values.table, values.column, kind)
        for states in profile.states:
            if self._app.resolve_database(states) == self._database:
                self._add(states.table, states.column, "keep")

    def _derive_key(self, table: str, column: str, codec: KeyCodec) -> None:
        if codec != "given":
            self._add(table, column, "keep")

    def _derive_links(self) -> None:
        """Derive the rules of columns with values of other databases: those that the profile states for them."""
        for link in self._profile.link:
            if self._app.resolve_database(link) != self._database:
                continue
            stated = find_entries(self._profile, link.to).columns
            paths = [(link.column, link.targets[0])] if len(link.targets) == 1 else []
            table = link.targets[0].rpartition(".")[0]
            paths += [(own, f"{table}.{copied}") for own, copied in link.repeats.items()]
            for names, path in paths:
                if rule := find_entry(stated, path):
                    self._add(link.table, names, rule)


class _Needs(Struct, frozen=True):
    """The columns of the key in one variant of settings."""

    table: str
    key: str | list[str]

    @property
    def needs(self) -> Sequence[str]:
        return [f"{self.table}.{name}" for name in list_names(self.key)]


def _find_field_kind(field: str) -> Kind | None:
    return "keep" if field.endswith("_at") else _FIELDS.get(field)


def _list_role_columns(table: str, role: UserRole) -> Iterator[tuple[str, str]]:
    """Yield the columns with names of roles, and those that decide a role."""
    if role.column:
        yield table, role.column
    for rank in role.ranks:
        yield from ((table, column) for column in rank.columns)
    if role.members:
        yield role.members.table, role.members.role
    if role.metadata:
        yield role.metadata.table, role.metadata.key


def _list_references(users: Users) -> Iterator[tuple[str, ColumnNames]]:
    """Yield the columns with the key of a user that no row of the user alone has."""
    paths = [*users.owned, *users.clear, *users.retained, *users.counts.values()]
    paths += [rows.rows for rows in users.related.values()]
    for path in paths:
        step = parse_row_path(path)[-1]
        if not step.text:
            yield step.table, step.column
    yield from ((factor.table, factor.user) for factor in users.second_factor if not factor.owner)
    yield from ((item.owner.table, item.owner.user) for item in users.joined.values() if item.owner)
    if users.role and users.role.members and users.role.members.groups:
        yield users.role.members.groups.table, users.role.members.groups.user
