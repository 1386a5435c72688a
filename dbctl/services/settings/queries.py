"""Open, read and validate the settings of an app or of a user, also those stored as the columns of a single row."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from dbctl.engines.contract.database import AllOf, Condition, Readable, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import UsageError
from dbctl.errors.users import CategoryMissingError, ObjectMissingError
from dbctl.model import Findings, Page, PageRequest
from dbctl.profiles.codecs import read_boolean, read_time
from dbctl.profiles.model.settings import Settings, SettingsRow, SettingsVariant
from dbctl.services.app.app import App
from dbctl.services.app.evidence.facts import refuse_contradictions
from dbctl.services.app.live_table import find_named_key
from dbctl.services.app.results import paginate
from dbctl.services.app.row_writes import write_rows
from dbctl.services.app.secrets import is_secret_setting
from dbctl.services.app.user_table import User, UserTable, open_users, users_database
from dbctl.services.app.validation import truncate
from dbctl.services.settings.rows import SettingRows
from dbctl.services.settings.store import (
    ObjectText,
    Setting,
    SettingDetail,
    SettingObject,
    SettingOwner,
    SettingStore,
    declare_setting,
    find_section,
    scope_of,
    settings_database,
)
from dbctl.services.settings.values import SettingTypes

#: Hints for an app that has settings only in the other scope.
SCOPE_HINTS = {
    "system": "It has settings of the app: omit --user.",
    "user": "It has settings of users: add --user NAME.",
}


def list_settings(
    app: App,
    page_request: PageRequest,
    *,
    category: str = "",
    public: bool | None = None,
    login: SettingOwner = "",
    secrets: bool = False,
) -> Page[Setting]:
    """Return the settings of the app or of one user; secret values are masked without ``secrets``.

    Raises:
        CategoryMissingError: no setting has this category.
    """
    store = open_for_login(app, login)
    settings = store.read()
    categories = {setting.category for setting in settings if setting.category}
    if category and category not in categories:
        known = ", ".join(sorted(categories))
        raise CategoryMissingError(
            name=category, target=store.db.target, names=known or "none", candidates=categories
        )
    items = [
        setting if secrets else store.mask_setting(setting)
        for setting in settings
        if (not category or setting.category == category)
        and (public is None or bool(setting.public) is public)
    ]
    return paginate(items, Setting, page_request)


def get_setting(app: App, key: str, *, login: SettingOwner = "", secrets: bool = False) -> SettingDetail:
    """Return one setting; a secret value is masked without ``secrets``."""
    store = open_for_login(app, login)
    setting = store.find(key)
    return SettingDetail(**structs.asdict(setting if secrets else store.mask_setting(setting)))


def validate(app: App, *, login: SettingOwner = "") -> Findings:
    """Check each stored value against its type and schema."""
    store = open_for_login(app, login)
    return Findings(checked=len(store.read()), unit="setting", findings=list(store.find_invalid()))


def export(app: App, *, login: SettingOwner = "", secrets: bool = False) -> Mapping[str, object]:
    """Return the typed values by key, as ``apply_file`` accepts them; secrets are omitted without ``secrets``."""
    store = open_for_login(app, login)
    with store.db.read_all_rows(store.section.table):
        return {
            setting.key: setting.value
            for setting in store.read()
            if secrets or not is_secret_setting(store.section, setting.key)
        }


def open_for_login(app: App, login: SettingOwner, db: Readable | None = None) -> SettingStore:
    """Open the settings of the app, or of the user or object with this name, in ``db`` or in a reader."""
    db = db or app.reader(settings_database(app, scope_of(login)))
    if isinstance(login, ObjectText):
        section = app.require_section(find_section(app, "object"), "settings of objects")
        return SettingRows(app, db, section, _find_object(app, db, section, login.text))
    return open_settings(app, db, open_users(app, db).find_by_login(login) if login else None)


def _find_object(app: App, db: Readable, section: Settings, text: str) -> SettingObject:
    """Return the object with this key or name.

    Raises:
        ObjectMissingError: no object has it.
        AmbiguousNameError: several objects have the name.
    """
    of = app.require_section(section.of, "settings of objects")
    columns = [of.key, of.name]
    rows = db.select(of.table, columns, [Condition(of.key, "=", text)]) if text.isprintable() else []
    if not rows and (key := find_named_key(db, of.table, of.key, [of.name], text)) is not None:
        rows = db.select(of.table, columns, [Condition(of.key, "=", key)])
    if not rows:
        raise ObjectMissingError(name=truncate(text), table=of.table, target=db.target)
    return SettingObject(rows[0][0], str(rows[0][1]))


def open_settings(app: App, db: Readable, user: User | None = None) -> SettingStore:
    """Open the settings of the app or of a user, in rows, in the columns of one row, or in a JSON object.

    Raises:
        FeatureMissingError: the app has no such settings.
        SchemaMismatchError: the live schema lacks a table or column of the settings.
    """
    scope, purpose, other_scope = (
        ("user", "user settings", "system") if user else ("system", "settings", "user")
    )
    alternative = SCOPE_HINTS[other_scope] if find_section(app, other_scope) else ""
    section = app.require_section(find_section(app, scope), purpose, alternative=alternative)
    if user and section.object:
        from dbctl.services.settings.json_object import JsonSettings

        return JsonSettings(app, db, section, user)
    if section.row:
        return SingleRowSettings(app, db, section, section.row)
    return SettingRows(app, db, section, user)


# Settings of new users -----------------------------------------------------------------------------------------


def defaults_for_new_user(app: App, db: Readable) -> dict[str, str]:
    """Return the settings that the app adds for a new user.

    Raises:
        UsageError: it adds none.
        ProfileContradictionError: the stored settings contradict how the profile writes their times.
    """
    users = app.require_section(app.core.users, "users")
    if not users.new_settings:
        raise UsageError(detail=f"{app.core.title} has no settings for new users")
    refuse_contradictions(app, users_database(app), db, ("setting-times",))
    stored = open_settings(app, db).read() if find_section(app, "system") else ()
    live = {setting.key: setting.value for setting in stored if setting.value is not None}
    defaults, tables = {}, db.tables()
    for key, new_setting in users.new_settings.items():
        table, _, column = new_setting.needs.partition(".")
        if not table or (table in tables and column in tables[table].columns):
            values = [str(live[name]) for name in new_setting.from_ if name in live]
            defaults[key] = next(iter(values), new_setting.default)
    return defaults


def add_for_user(app: App, db: Writable, user: object, values: Mapping[str, str]) -> None:
    """Add settings to the user with this key."""
    users = UserTable(app, db)
    store = open_settings(app, db, users.read([Condition(users.id, "=", user)])[0])
    for key, value in values.items():
        store.check_new(key, value)
        store.add(db, key, value)


class SingleRowSettings(SettingStore):
    """Settings in the columns of one row.

    If the table has several rows, a change is written to all of them, because the app may read any.
    """

    def __init__(self, app: App, db: Readable, section: Settings, row: SettingsRow) -> None:
        super().__init__(app, db, section, None)
        self._row, self._key = row, self.live.column(row.key)
        self._columns = self.live.map_columns({name: name for name in row.types})
        kinds = SettingsVariant(key=row.key, type="", types={str(kind): kind for kind in row.types.values()})
        self.types = SettingTypes(section, kinds)

    def read(self, key: str | None = None) -> list[Setting]:
        columns = list(dict.fromkeys([*self._columns.values(), *self._fields.values()]))
        rows = self.db.select(self.live.name, columns, limit=1)
        stored_row: Mapping[str, object] = dict(zip(columns, rows[0], strict=True)) if rows else {}
        return [
            self._create_from_row(name, stored_row.get(column), stored_row)
            for name, column in self._columns.items()
            if key in (None, name)
        ]

    def _create_from_row(self, name: str, stored: object, row: Mapping[str, object]) -> Setting:
        kind, default = self._row.types[name], self._row.defaults.get(name)
        value = default if stored is None else read_boolean(stored) if kind == "boolean" else stored
        value = value if kind in ("boolean", "string") else self.types.read(value, kind)
        updated_at = read_time(row.get(self._fields.get("updated_at", "")))
        setting = declare_setting(self.section, name, value, kind)
        return structs.replace(setting, default=default, updated_at=updated_at)

    def create_setting(self, key: str, value: object) -> Setting:
        known = ", ".join(self._columns)
        raise UsageError(
            detail=f"{self.app.core.title} has no setting {key!r} and accepts no new ones ({value!r}); it has: {known}"
        )

    def _describe_form(self, setting: Setting) -> str:
        return f"column {setting.key}"

    def _adds_row(self, key: str) -> bool:
        del key
        return not self.db.count(self.live.name)

    def _encode_columns(self, setting: Setting, value: object) -> dict[str, object]:
        column, kind = self._columns[setting.key], self._row.types[setting.key]
        stored = value if kind != "json" else self.types.encode(value, kind)
        return {column: self.live.encode(column, stored)}

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        values, stamps = self._encode_columns(setting, value), self._change_stamp(db)
        if not write_rows(db, self.live.name, [AllOf([])], values, stamps=stamps):
            db.insert(self.live.name, {self._key: self._row.value, **values, **stamps})

    def add(self, db: Writable, key: str, value: object) -> None:
        self.write(db, self._create_from_row(key, None, {}), value)

    def check_removed(self, key: str) -> None:
        detail = f"{key} is a column and cannot be removed"
        raise UsageError(detail=detail, hint=Remedy("Reset it with: `settings reset {key}`"), key=key)

    def remove(self, db: Writable, key: str) -> None:
        del db
        self.check_removed(key)
