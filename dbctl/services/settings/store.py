"""What every store of settings provides, and the settings themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import ValueInvalidError
from dbctl.model import Row, Struct
from dbctl.profiles.model import Settings, StandardSetting
from dbctl.services.app import MASK, App, LiveTable, User, is_secret_setting, text_problem, truncate
from dbctl.services.settings.values import (
    MAX_SHOWN_CHARACTERS,
    SettingTypes,
    find_schema_violation,
    is_encodable,
)


class Setting(Struct, frozen=True, kw_only=True):
    """One setting. ``value`` is typed; a stored text that is invalid for its type stays text."""

    key: str
    category: str | None = None
    value: object
    type: str
    default: object = None
    public: bool | None = None
    description: str | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None
    schema: object = None  #: the JSON Schema that the app stores with the setting

    def summary(self) -> Row:
        names = ("key", "value", "type", "public", "updated_at", "updated_by")
        return {name: getattr(self, name) for name in names}


class SettingDetail(Setting, frozen=True, kw_only=True):
    """Result of ``settings get``: all fields, also in a table."""

    def summary(self) -> Row:
        return {}


class SettingStore(Protocol):
    """The place of the settings of the app or of one user: rows, the columns of one row, or one JSON object."""

    app: App
    db: Readable
    section: Settings
    live: LiveTable
    types: SettingTypes
    standard: Mapping[str, StandardSetting]  #: the standard settings of the app, by key

    @property
    def user(self) -> User | None:
        """The user of the settings; None: settings of the app."""
        ...

    def read(self, key: str | None = None) -> Sequence[Setting]:
        """Return the settings, sorted by key; with ``key`` only this one, if it exists."""
        ...

    def values(self) -> dict[str, object]:
        """Return the values by key with masked secrets; a value that cannot be parsed is the stored text."""
        ...

    def find_violation(self, setting: Setting, value: object) -> str:
        """Return why a setting must not have this value, or an empty text."""
        ...

    def create_setting(self, key: str, value: object) -> Setting:
        """Return a new setting, without storing it.

        Raises:
            UsageError: the store accepts no new settings.
            ValueInvalidError: the key is invalid, or the app has no type for the value.
        """
        ...

    def parse_untyped(self, text: str) -> object:
        """Return the value of ``text`` for a new setting without a standard type."""
        ...

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        """Store a value of an existing setting; the value is checked."""
        ...

    def add(self, db: Writable, key: str, value: object) -> None:
        """Add a setting; key and value are checked."""
        ...

    def remove(self, db: Writable, key: str) -> None:
        """Remove a setting.

        Raises:
            UsageError: the store always has this setting.
        """
        ...


def check_value(store: SettingStore, setting: Setting, value: object) -> None:
    """Refuse a value that violates the type, the schema or a rule.

    Raises:
        ValueInvalidError: with the violated rule.
    """
    reason = store.find_violation(setting, value)
    if value == MASK and is_secret_setting(store.section, setting.key):
        reason = "it is the mask of a secret; export with --secrets, or omit the key"
    if reason:
        masked = mask_value(store.section, setting.key, value)
        excerpt = truncate(json.dumps(masked, default=str), MAX_SHOWN_CHARACTERS)
        raise ValueInvalidError(name=f"{setting.key} =", value=excerpt, reason=reason)


def find_typed_violation(store: SettingStore, setting: Setting, value: object) -> str:
    """Return why a setting with a type, and perhaps a schema, must not have this value, or an empty text."""
    if not store.types.accepts(value, store.types.kind(setting.type)):
        return f"it is not of type {setting.type}"
    if not is_encodable(value):
        return "it contains an unpaired surrogate and cannot be stored"
    if isinstance(setting.schema, str):
        return f"its schema in {store.live.name} is not JSON"
    reason = find_schema_violation(value, setting.schema) if setting.schema is not None else ""
    if not reason and isinstance(value, str):
        return find_text_violation(store.section, setting.key, value)
    # the message of a schema contains the value
    return "it violates its schema" if reason and is_secret_setting(store.section, setting.key) else reason


def mask_value(section: Settings, key: str, value: object) -> object:
    """Return the value, or a mask for a secret, for plans, audit records and results."""
    return MASK if value is not None and is_secret_setting(section, key) else value


def mask_values(section: Settings, settings: Sequence[Setting]) -> dict[str, object]:
    """Return the values by key with masked secrets."""
    return {setting.key: mask_value(section, setting.key, setting.value) for setting in settings}


def find_text_violation(settings_section: Settings, key: str, value: str) -> str:
    """Return why a text violates the rules of the table or of the key, or an empty text."""
    text = value.replace("\n", " ").replace("\t", " ")
    reasons = (
        text_problem(text, rule)
        for rule in (settings_section.rules.get("value"), settings_section.keys.get(key))
    )
    return next(filter(None, reasons), "")


def find_section(app: App, scope: str) -> Settings | None:
    """Return the section of the profile for a scope, or None."""
    return next(
        (settings_section for settings_section in app.profile.settings if settings_section.scope == scope),
        None,
    )


def settings_database(app: App, scope: str) -> str:
    """Return the name of the database with the settings of a scope."""
    settings_section = find_section(app, scope)
    return (settings_section.database if settings_section else "") or app.main()
