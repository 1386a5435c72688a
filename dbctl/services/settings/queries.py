"""Read and validate the settings of an app or of a user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import structs

from dbctl.engines.contract import Condition, Readable, Writable
from dbctl.errors import CategoryMissingError, UsageError
from dbctl.model import Finding, Findings, KeyText, Page, PageRequest
from dbctl.services.app import App, User, UserTable, is_secret_setting, open_users, paginate, truncate
from dbctl.services.settings.single_row import SingleRowSettings
from dbctl.services.settings.table import (
    Setting,
    SettingDetail,
    SettingTable,
    find_section,
    settings_database,
)
from dbctl.services.settings.values import to_json


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
    table = open_for_login(app, open_reader(app, login), login)
    settings = table.read()
    items = [
        table.mask_setting(setting, secrets=secrets)
        for setting in settings
        if (not category or setting.category == category)
        and (public is None or bool(setting.public) is public)
    ]
    if category and category not in {setting.category for setting in settings}:
        known = ", ".join(sorted({setting.category for setting in settings if setting.category}))
        raise CategoryMissingError(name=category, target=table.db.target, names=known or "none")
    return paginate(items, Setting, page_request)


def get_setting(app: App, key: str, *, login: str | KeyText = "", secrets: bool = False) -> SettingDetail:
    """Return one setting; a secret value is masked without ``secrets``."""
    table = open_for_login(app, open_reader(app, login), login)
    return SettingDetail(**structs.asdict(table.mask_setting(table.find(key), secrets=secrets)))


def validate(app: App, *, login: str | KeyText = "") -> Findings:
    """Check each stored value against its type and schema."""
    table = open_for_login(app, open_reader(app, login), login)
    return Findings(checked=len(table.read()), findings=list(find_invalid(table)))


def find_invalid(table: SettingTable) -> Iterator[Finding]:
    """Yield a finding for each value that violates its type, its schema or a rule of the app."""
    for setting in table.read():
        reason = table.find_violation(setting, setting.value) if setting.value is not None else ""
        if reason:
            yield Finding(
                target=table.db.target,
                severity="error",
                code="setting-invalid",
                message=f"{setting.key} = {truncate(to_json(table.mask_value(setting.key, setting.value)))}: {reason}",
                hint=f"dbctl settings set {setting.key} VALUE, or settings reset {setting.key}",
            )


def export(app: App, *, login: str | KeyText = "", secrets: bool = False) -> Mapping[str, object]:
    """Return the typed values by key, in the form that ``apply`` accepts; secrets are omitted without ``secrets``."""
    table = open_for_login(app, open_reader(app, login), login)
    return {
        setting.key: setting.value
        for setting in table.read()
        if secrets or not is_secret_setting(table.section, setting.key)
    }


def open_reader(app: App, login: str | KeyText) -> Readable:
    """Open the database of the settings for reading."""
    return app.reader(settings_database(app, "user" if login else "system"))


def open_for_login(app: App, db: Readable, login: str | KeyText) -> SettingTable:
    """Open the settings of the app, or of the user with this login."""
    user = open_users(app, db).find_by_login(login) if login else None
    return open_settings(app, db, user)


def open_settings(app: App, db: Readable, user: User | None = None) -> SettingTable:
    """Open the settings of the app or of a user, in rows, in one row, or in a JSON object."""
    settings_section = find_section(app, "user" if user else "system")
    if user and settings_section and settings_section.object:
        from dbctl.services.settings.json_object import JsonSettings

        return JsonSettings(app, db, user, settings_section)
    return (
        SingleRowSettings(app, db, settings_section, settings_section.row)
        if settings_section and settings_section.row
        else SettingTable(app, db, user)
    )


# Settings of users, for the users services -------------------------------------------------------------------------------------


def user_setting_values(app: App, db: Readable, user: User) -> dict[str, object]:
    """Return the settings of a user by key."""
    return open_settings(app, db, user).values()


def defaults_for_new_user(app: App, db: Readable) -> dict[str, str]:
    """Return the settings that the app adds for a new user."""
    users = app.require_section(app.profile.users, "users")
    if not users.new_settings:
        raise UsageError(detail=f"{app.profile.title} has no settings for new users")
    live = (
        {setting.key: setting for setting in open_settings(app, db).read()}
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
        table = open_settings(app, db, owner)
        for key, value in values.items():
            table.check_new(key, value)
            table.add(db, key, value)


def settings_table_name(app: App, scope: str) -> str:
    """Return the name of the settings table of a scope."""
    return app.require_section(find_section(app, scope), "settings").table
