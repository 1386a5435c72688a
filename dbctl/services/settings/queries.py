"""Settings: of the app, and of one user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import structs

from dbctl.engines.contract import Condition, Readable, Writable
from dbctl.errors import CategoryMissingError, UsageError
from dbctl.model import Finding, Findings, Id, Page, Window
from dbctl.services.app import App, User, UserTable, cut, is_secret, page_of, users_beside
from dbctl.services.settings.single_row import SettingRow
from dbctl.services.settings.table import Setting, SettingShown, SettingTable, database_of, section
from dbctl.services.settings.values import spelled


def list_settings(
    app: App,
    window: Window,
    *,
    category: str = "",
    public: bool | None = None,
    login: str | Id = "",
    secrets: bool = False,
) -> Page[Setting]:
    """Return the settings of the app, or of one user; values that are secrets only if they are asked for.

    Raises:
        CategoryMissingError: no setting is of that category.
    """
    table = table_for(app, reader_for(app, login), login)
    settings = table.read()
    items = [
        table.told_of(setting, secrets=secrets)
        for setting in settings
        if (not category or setting.category == category)
        and (public is None or bool(setting.public) is public)
    ]
    if category and category not in {setting.category for setting in settings}:
        known = ", ".join(sorted({setting.category for setting in settings if setting.category}))
        raise CategoryMissingError(name=category, target=table.db.target, names=known or "none")
    return page_of(items, Setting, window)


def get_setting(app: App, key: str, *, login: str | Id = "", secrets: bool = False) -> SettingShown:
    """Return one setting; a secret value only if secrets are asked for."""
    table = table_for(app, reader_for(app, login), login)
    return SettingShown(**structs.asdict(table.told_of(table.one(key), secrets=secrets)))


def validate(app: App, *, login: str | Id = "") -> Findings:
    """Check every stored value against its type and its own schema."""
    table = table_for(app, reader_for(app, login), login)
    return Findings(checked=len(table.read()), findings=list(faults(table)))


def faults(table: SettingTable) -> Iterator[Finding]:
    """Yield the settings whose stored value breaks their type, their own schema or a rule of the app."""
    for setting in table.read():
        reason = table.broken(setting, setting.value) if setting.value is not None else ""
        if reason:
            yield Finding(
                target=table.db.target,
                severity="error",
                code="setting-invalid",
                message=f"{setting.key} = {cut(spelled(table.shown(setting.key, setting.value)))}: {reason}",
                hint=f"dbctl settings set {setting.key} VALUE, or settings reset {setting.key}",
            )


def export(app: App, *, login: str | Id = "", secrets: bool = False) -> Mapping[str, object]:
    """Return key and typed value of every setting, as ``apply`` takes them; secrets only if they are asked for."""
    table = table_for(app, reader_for(app, login), login)
    return {
        setting.key: setting.value
        for setting in table.read()
        if secrets or not is_secret(table.told, setting.key)
    }


def reader_for(app: App, login: str | Id) -> Readable:
    """Return the database that holds them, opened for reading."""
    return app.reader(database_of(app, "user" if login else "system"))


def table_for(app: App, db: Readable, login: str | Id) -> SettingTable:
    """Return the settings of the app, or of one user."""
    user = users_beside(app, db).one(login) if login else None
    return opened(app, db, user)


def opened(app: App, db: Readable, user: User | None = None) -> SettingTable:
    """Return the settings of an open database, of the app or of a user, in whichever way they are kept."""
    told = section(app, "user" if user else "system")
    if user and told and told.object:
        from dbctl.services.settings.json_object import SettingObject

        return SettingObject(app, db, user, told)
    return SettingRow(app, db, told, told.row) if told and told.row else SettingTable(app, db, user)


# For the services of users -------------------------------------------------------------------------------------


def values_of(app: App, db: Readable, user: User) -> dict[str, object]:
    """Return a user's own settings."""
    return opened(app, db, user).values()


def defaults_of_new_user(app: App, db: Readable) -> dict[str, str]:
    """Return the user settings that the app gives to somebody who registers."""
    users = app.ability(app.profile.users, "users")
    if not users.new_settings:
        raise UsageError(detail=f"{app.profile.title} gives new users no settings")
    live = {setting.key: setting for setting in opened(app, db).read()} if section(app, "system") else {}
    found, tables = {}, db.tables()
    for key, told in users.new_settings.items():
        table, _, column = told.needs.partition(".")
        if table and not (table in tables and column in tables[table].columns):
            continue
        values = [live[name].value for name in told.from_ if name in live]
        found[key] = next((str(value) for value in values if value is not None), told.otherwise)
    return found


def add_for_user(app: App, db: Writable, user: object, values: Mapping[str, str]) -> None:
    """Add settings to the user with that key."""
    if values:
        users = UserTable(app, db)
        owner = users.read([Condition(users.id, "=", user)])[0]
        table = opened(app, db, owner)
        for key, value in values.items():
            table.check_new(key, value)
            table.add(db, key, value)


def table_of(app: App, scope: str) -> str:
    """Return the name of the table that holds the settings of that scope."""
    return app.ability(section(app, scope), "settings").table
