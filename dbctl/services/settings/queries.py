"""Read and validate the settings of an app or of a user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import structs

from dbctl.engines.contract import Condition, Readable, Writable
from dbctl.errors import CategoryMissingError, UsageError
from dbctl.model import Finding, Findings, KeyText, Page, PageRequest
from dbctl.profiles.model import Settings
from dbctl.services.app import App, User, UserTable, is_secret_setting, open_users, paginate, truncate
from dbctl.services.settings.collection import SettingCollection
from dbctl.services.settings.rows import SettingRows
from dbctl.services.settings.store import (
    Setting,
    SettingDetail,
    SettingStore,
    find_section,
    settings_database,
)
from dbctl.services.settings.values import to_json

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
    login: str | KeyText = "",
    secrets: bool = False,
) -> Page[Setting]:
    """Return the settings of the app or of one user; secret values are masked without ``secrets``.

    Raises:
        CategoryMissingError: no setting has this category.
    """
    collection = open_for_login(app, open_reader(app, login), login)
    settings = collection.store.read()
    items = [
        collection.mask_setting(setting, secrets=secrets)
        for setting in settings
        if (not category or setting.category == category)
        and (public is None or bool(setting.public) is public)
    ]
    if category and category not in {setting.category for setting in settings}:
        known = ", ".join(sorted({setting.category for setting in settings if setting.category}))
        raise CategoryMissingError(name=category, target=collection.store.db.target, names=known or "none")
    return paginate(items, Setting, page_request)


def get_setting(app: App, key: str, *, login: str | KeyText = "", secrets: bool = False) -> SettingDetail:
    """Return one setting; a secret value is masked without ``secrets``."""
    collection = open_for_login(app, open_reader(app, login), login)
    return SettingDetail(**structs.asdict(collection.mask_setting(collection.find(key), secrets=secrets)))


def validate(app: App, *, login: str | KeyText = "") -> Findings:
    """Check each stored value against its type and schema."""
    collection = open_for_login(app, open_reader(app, login), login)
    return Findings(checked=len(collection.store.read()), findings=list(find_invalid(collection)))


def find_invalid(collection: SettingCollection) -> Iterator[Finding]:
    """Yield a finding for each value that violates its type, its schema or a rule of the app."""
    for setting in collection.store.read():
        reason = collection.store.find_violation(setting, setting.value) if setting.value is not None else ""
        if reason:
            yield Finding(
                target=collection.store.db.target,
                severity="error",
                code="setting-invalid",
                message=f"{setting.key} = {truncate(to_json(collection.mask_value(setting.key, setting.value)))}: {reason}",
                hint=f"dbctl settings set {setting.key} VALUE, or settings reset {setting.key}",
            )


def export(app: App, *, login: str | KeyText = "", secrets: bool = False) -> Mapping[str, object]:
    """Return the typed values by key, in the form that ``apply`` accepts; secrets are omitted without ``secrets``."""
    collection = open_for_login(app, open_reader(app, login), login)
    return {
        setting.key: setting.value
        for setting in collection.store.read()
        if secrets or not is_secret_setting(collection.store.section, setting.key)
    }


def open_reader(app: App, login: str | KeyText) -> Readable:
    """Open the database of the settings for reading."""
    return app.reader(settings_database(app, "user" if login else "system"))


def open_for_login(app: App, db: Readable, login: str | KeyText) -> SettingCollection:
    """Open the settings of the app, or of the user with this login."""
    user = open_users(app, db).find_by_login(login) if login else None
    return open_settings(app, db, user)


def open_settings(app: App, db: Readable, user: User | None = None) -> SettingCollection:
    """Open the settings of the app or of a user.

    Raises:
        FeatureMissingError: the app has no such settings.
        SchemaMismatchError: the live schema lacks a table or column of the settings.
    """
    return SettingCollection(_open_store(app, db, user))


def _open_store(app: App, db: Readable, user: User | None) -> SettingStore:
    """Return the settings in rows, in the columns of one row, or in a JSON object."""
    scope, purpose, other_scope = (
        ("user", "user settings", "system") if user else ("system", "settings", "user")
    )
    alternative = SCOPE_HINTS[other_scope] if find_section(app, other_scope) else ""
    section: Settings = app.require_section(find_section(app, scope), purpose, alternative=alternative)
    if user and section.object:
        from dbctl.services.settings.json_object import JsonSettings

        return JsonSettings(app, db, user, section)
    if section.row:
        from dbctl.services.settings.single_row import SingleRowSettings

        return SingleRowSettings(app, db, section, section.row)
    return SettingRows(app, db, section, user)


# Settings of users, for the users services -------------------------------------------------------------------------------------


def user_setting_values(app: App, db: Readable, user: User) -> dict[str, object]:
    """Return the settings of a user by key."""
    return open_settings(app, db, user).store.values()


def defaults_for_new_user(app: App, db: Readable) -> dict[str, str]:
    """Return the settings that the app adds for a new user."""
    users = app.require_section(app.profile.users, "users")
    if not users.new_settings:
        raise UsageError(detail=f"{app.profile.title} has no settings for new users")
    live = (
        {setting.key: setting for setting in open_settings(app, db).store.read()}
        if find_section(app, "system")
        else {}
    )
    defaults, tables = {}, db.tables()
    for key, new_setting in users.new_settings.items():
        table, _, column = new_setting.needs.partition(".")
        if table and not (table in tables and column in tables[table].columns):
            continue
        values = [live[name].value for name in new_setting.from_ if name in live]
        defaults[key] = next((str(value) for value in values if value is not None), new_setting.default)
    return defaults


def add_for_user(app: App, db: Writable, user: object, values: Mapping[str, str]) -> None:
    """Add settings to the user with this key."""
    if values:
        users = UserTable(app, db)
        owner = users.read([Condition(users.id, "=", user)])[0]
        collection = open_settings(app, db, owner)
        for key, value in values.items():
            collection.check_new(key, value)
            collection.store.add(db, key, value)


def settings_table_name(app: App, scope: str) -> str:
    """Return the name of the settings table of a scope."""
    return app.require_section(find_section(app, scope), "settings").table
