"""Settings in rows, mapped by the profile: joined keys, typed values, checked by their schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import structs

from dbctl.engines.contract import AllOf, Condition, Readable, Where, Writable
from dbctl.errors import SchemaMismatchError, SettingMissingError, ValueInvalidError
from dbctl.model import Row, Struct, now
from dbctl.profiles import read_boolean, read_time
from dbctl.profiles.model import Settings, SettingsVariant, StandardSetting
from dbctl.services.app import (
    MASK,
    App,
    LiveTable,
    User,
    check_rule,
    find_column,
    is_secret_setting,
    open_users,
    require_row_count,
    suggest_sentence,
    text_or_none,
    text_problem,
    truncate,
)
from dbctl.services.settings.values import (
    MAX_SHOWN_CHARACTERS,
    SettingTypes,
    find_schema_violation,
    is_encodable,
    load_json,
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


#: Hints for an app that has settings only in the other scope.
SCOPE_HINTS = {
    "system": "It has settings of the app: omit --user.",
    "user": "It has settings of users: add --user NAME.",
}


class SettingDetail(Setting, frozen=True, kw_only=True):
    """Result of ``settings get``: all fields, also in a table."""

    def summary(self) -> Row:
        return {}


class SettingTable:
    """The settings of one open database, of the app or (with ``user``) of one user."""

    def __init__(self, app: App, db: Readable, user: User | None = None) -> None:
        self.app, self.db, self.user = app, db, user
        scope, purpose, other_scope = (
            ("user", "user settings", "system") if user else ("system", "settings", "user")
        )
        alternative = SCOPE_HINTS[other_scope] if find_section(app, other_scope) else ""
        settings_section: Settings = app.require_section(
            find_section(app, scope), purpose, alternative=alternative
        )
        self.section = settings_section
        self.live = LiveTable(app.profile, db, settings_section.table, purpose)
        self.variant = self._select_variant()
        key = self.variant.key if self.variant else settings_section.key
        self.keys = [self.live.column(name) for name in ([key] if isinstance(key, str) else key or [])]
        self.type = self.live.column(self.variant.type) if self.variant else None
        self.fields = {
            word: column
            for word, name in settings_section.fields.items()
            if (column := self.live.optional_column(name))
        }
        self.value = self.live.column(settings_section.fields["value"])
        self.types = SettingTypes(settings_section, self.variant)

    # Reading -------------------------------------------------------------------------------------------------

    def read(self, where: Sequence[Where] = ()) -> list[Setting]:
        """Return the settings, sorted by key."""
        columns = list(
            dict.fromkeys([*self.keys, *([self.type] if self.type else []), *self.fields.values()])
        )
        rows = self.db.select(self.live.name, columns, [*self.owner_conditions(), *where])
        users = self._read_updating_users()
        settings = [self._create_from_row(dict(zip(columns, row, strict=True)), users) for row in rows]
        return sorted(settings, key=lambda setting: setting.key)

    def values(self) -> dict[str, object]:
        """Return the values by key with masked secrets; a value that cannot be parsed is the stored text."""
        return {setting.key: self.mask_value(setting.key, setting.value) for setting in self.read()}

    def find(self, key: str) -> Setting:
        """Return one setting.

        Raises:
            SettingMissingError: no setting has this key; the hint suggests similar ones.
        """
        if key.isprintable():
            settings = self.read([self.key_condition(key)])
            if settings:
                return settings[0]
        known = [setting.key for setting in self.read()]
        raise SettingMissingError(key=key, target=self.db.target, suggestion=suggest_sentence(key, known))

    def owner_conditions(self) -> list[Where]:
        """Return the conditions of the rows of the user; none for settings of the app."""
        return [Condition(self.live.column(self.section.user), "=", self.user.id)] if self.user else []

    def key_condition(self, key: str) -> Where:
        """Return the condition of a key."""
        return AllOf(
            [
                Condition(column, "=", part)
                for column, part in zip(self.keys, self.split_key(key), strict=True)
            ]
        )

    def split_key(self, key: str) -> list[str]:
        """Split a key at its first dot if category and key are separate columns."""
        if len(self.keys) == 1:
            return [key]
        category, _, name = key.partition(".")
        return [category, name]

    # Values --------------------------------------------------------------------------------------------------

    def check(self, setting: Setting, value: object) -> None:
        """Refuse a value that violates the type, the schema or a rule.

        Raises:
            ValueInvalidError: with the violated rule.
        """
        reason = self.find_violation(setting, value)
        if value == MASK and is_secret_setting(self.section, setting.key):
            reason = "it is the mask of a secret; export with --secrets, or omit the key"
        if reason:
            excerpt = truncate(
                json.dumps(self.mask_value(setting.key, value), default=str), MAX_SHOWN_CHARACTERS
            )
            raise ValueInvalidError(name=f"{setting.key} =", value=excerpt, reason=reason)

    @property
    def checked_columns(self) -> set[str]:
        """The columns that determine whether the app accepts a row."""
        return {*self.keys, self.value, self.type or self.value, self.fields.get("schema", self.value)}

    def find_standard(self, key: str) -> StandardSetting | None:
        """Return the standard setting with this key, or None."""
        return self.variant.standard.get(key) if self.variant else None

    def accepts_new(self, key: str) -> bool:
        """Whether a setting with this key can be added: the app accepts any key, or it is a standard setting."""
        return self.section.open or self.find_standard(key) is not None

    def missing_keys(self) -> list[str]:
        """Return the keys of standard settings that the table lacks."""
        if self.variant is None or not self.variant.standard:
            return []
        known = {".".join(str(part) for part in row) for row in self.db.select(self.live.name, self.keys)}
        return [key for key in self.variant.standard if key not in known]

    def check_row(self, row: Mapping[str, object]) -> None:
        """Refuse an invalid row of a file or a backup; the row may lack columns.

        Raises:
            ValueInvalidError: with the violated rule.
        """
        if any(row.get(column) is None for column in self.keys):
            return  # the constraints of the database decide
        setting = self._create_from_row(row, {})
        check_rule("key", setting.key, self.section.rules.get("key"))
        if self.variant and setting.type not in self.variant.types:
            reason = f"the types of the app are {', '.join(self.variant.types)}"
            raise ValueInvalidError(
                name=f"the type of {setting.key}", value=ascii(truncate(setting.type)), reason=reason
            )
        standard = self.find_standard(setting.key)
        if standard and setting.type != standard.type:
            reason = f"the app reads it as {standard.type}"
            raise ValueInvalidError(
                name=f"the type of {setting.key}", value=ascii(setting.type), reason=reason
            )
        if setting.value is None:
            return
        self.check(setting, setting.value)
        if schema := _parse_schema(self._standard_schema(standard)):
            self.check(structs.replace(setting, schema=schema), setting.value)

    def find_violation(self, setting: Setting, value: object) -> str:
        """Return why a setting must not have this value, or an empty text."""
        if not self.types.accepts(value, self.types.kind(setting.type)):
            return f"it is not of type {setting.type}"
        if not is_encodable(value):
            return "it contains an unpaired surrogate and cannot be stored"
        if isinstance(setting.schema, str):
            return f"its schema in {self.live.name} is not JSON"
        reason = find_schema_violation(value, setting.schema) if setting.schema is not None else ""
        if not reason and isinstance(value, str):
            return find_text_violation(self.section, setting.key, value)
        # the message of a schema contains the value
        return "it violates its schema" if reason and is_secret_setting(self.section, setting.key) else reason

    def check_new(self, key: str, value: object) -> None:
        """Refuse a new setting with an invalid key or value; raises like ``check``."""
        check_rule("key", key, self.section.rules.get("key"))
        if not all(self.split_key(key)):
            raise ValueInvalidError(name="the key", value=repr(key), reason="its form is CATEGORY.KEY")
        self.check(self.create_setting(key, value), value)

    def create_setting(self, key: str, value: object) -> Setting:
        """Return a new setting; a standard setting has its standard type and schema."""
        if standard := self.find_standard(key):
            schema = _parse_schema(self._standard_schema(standard))
            return Setting(
                key=key,
                value=value,
                type=standard.type,
                default=standard.value,
                schema=schema,
                description=standard.description or None,
                public=standard.public,
            )
        return Setting(key=key, value=value, type=self.types.type_for(value) or "string")

    def parse_new(self, key: str, text: str) -> object:
        """Return the value of ``text`` for a new setting.

        Raises:
            ValueInvalidError: the text is invalid for the standard type of the key.
        """
        standard = self.find_standard(key)
        return self.parse(key, text, standard.type) if standard else text

    def parse(self, key: str, text: str, stored_type: str) -> object:
        """Return the value of ``text`` for a setting.

        Raises:
            ValueInvalidError: the text is invalid for the type.
        """
        try:
            return self.types.parse(text, self.types.kind(stored_type))
        except ValueError as error:
            shown = MASK if is_secret_setting(self.section, key) else repr(truncate(text))
            raise ValueInvalidError(
                name=f"{key} =", value=shown, reason=f"{error} ({stored_type})"
            ) from error

    def mask_value(self, key: str, value: object) -> object:
        """Return the value, or a mask for a secret, for plans, audit records and results."""
        return MASK if value is not None and is_secret_setting(self.section, key) else value

    def mask_setting(self, setting: Setting, *, secrets: bool = False) -> Setting:
        """Return the setting with a masked value if it is a secret, unless ``secrets`` is set."""
        if secrets or not is_secret_setting(self.section, setting.key):
            return setting
        value, default = (self.mask_value(setting.key, item) for item in (setting.value, setting.default))
        return structs.replace(setting, value=value, default=default)

    def audit_details(self) -> dict[str, object]:
        """Return the user of the settings for an audit record; empty for settings of the app."""
        return {"user": self.user.login} if self.user else {}

    # Writing -------------------------------------------------------------------------------------------------

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        """Store a value that ``check`` has accepted."""
        values = {
            self.value: self.types.encode(value, self.types.kind(setting.type)),
            **self._change_stamp(db),
        }
        require_row_count(
            db.update(self.live.name, values, [*self.owner_conditions(), self.key_condition(setting.key)]),
            1,
            db,
        )

    def add(self, db: Writable, key: str, value: object) -> None:
        """Add a setting; a shipped one gets all columns of its shipped row."""
        setting, standard = self.create_setting(key, value), self.find_standard(key)
        stored_type = setting.type
        values: dict[str, object] = dict(zip(self.keys, self.split_key(key), strict=True))
        if standard:
            kind = self.types.kind(stored_type)
            other_values = {
                "schema": standard.schema or None,
                "description": standard.description or None,
                "public": standard.public,
                "default": self.types.encode(standard.value, kind),
            }
            values |= {
                column: self.live.encode(column, other_values[field])
                for field, column in self.fields.items()
                if field in other_values
            }
        if self.user:
            values[self.live.column(self.section.user)] = self.user.id
        if self.type:
            values[self.type] = stored_type
        category = self.fields.get("category")
        if category and category not in values:
            values[category] = key.partition(".")[0]
        values |= {
            self.value: self.types.encode(value, self.types.kind(stored_type)),
            **self._change_stamp(db),
        }
        missing = self.live.missing_required_columns(set(values))
        if missing:
            raise SchemaMismatchError(
                target=db.target, missing=f"a value for {', '.join(missing)}", purpose="a new setting"
            )
        db.insert(self.live.name, values)

    def remove(self, db: Writable, key: str) -> None:
        """Remove a setting."""
        require_row_count(
            db.delete(self.live.name, [*self.owner_conditions(), self.key_condition(key)]), 1, db
        )

    # Rows ----------------------------------------------------------------------------------------------------

    def _change_stamp(self, db: Writable) -> dict[str, object]:
        """Return the columns of the time of a change and of the user of ``--acting-as``, if any."""
        values: dict[str, object] = {}
        if "updated_at" in self.fields:
            values[self.fields["updated_at"]] = self.live.encode(self.fields["updated_at"], now())
        if "updated_by" in self.fields:
            from dbctl.services.app import acting_user

            user = acting_user(self.app, db)
            values[self.fields["updated_by"]] = user.id if user else None
        return values

    def _select_variant(self) -> SettingsVariant | None:
        for variant in self.section.variant:
            if find_column(self.live.table, variant.type):
                return variant
        if self.section.variant:
            types = " or ".join(variant.type for variant in self.section.variant)
            raise SchemaMismatchError(
                target=self.db.target, missing=f"column {self.live.name}.{types}", purpose="settings"
            )
        return None

    def _read_updating_users(self) -> dict[object, str]:
        if "updated_by" not in self.fields or self.app.profile.users is None:
            return {}
        users = open_users(self.app, self.db)
        keys = [key for key in self.db.count_by(self.live.name, self.fields["updated_by"]) if key is not None]
        return {user.id: user.login for user in users.read([Condition(users.id, "in", keys)])} if keys else {}

    def _create_from_row(self, row: Mapping[str, object], users: Mapping[object, str]) -> Setting:
        values = {word: row.get(column) for word, column in self.fields.items()}
        key = ".".join(str(row[column]) for column in self.keys)
        standard = self.find_standard(key)
        stored_type = str(row.get(self.type) or "string") if self.type else "string"
        kind = self.types.kind(stored_type)
        category = values.get("category", key.partition(".")[0] if "." in key else None)
        updated_by = values.get("updated_by")
        return Setting(
            key=key,
            category=text_or_none(category),
            value=self.types.read(row.get(self.value), kind),
            type=stored_type,
            default=self._find_default(key, values, kind),
            public=None if values.get("public") is None else read_boolean(values["public"]),
            description=text_or_none(values.get("description")),
            updated_at=read_time(values.get("updated_at")),
            updated_by=None if updated_by is None else users.get(updated_by, f"(unknown: {updated_by})"),
            schema=_parse_schema(values.get("schema") or self._standard_schema(standard)),
        )

    def _standard_schema(self, standard: StandardSetting | None) -> str:
        """Return the shipped schema; empty before the migration that adds schemas."""
        return standard.schema if standard and "schema" in self.fields else ""

    def _find_default(self, key: str, values: Mapping[str, object], kind: str) -> object:
        if "default" in self.fields:
            return self.types.read(values.get("default"), kind)
        standard = self.find_standard(key)
        return standard.value if standard else None


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


def _parse_schema(stored: object) -> object:
    """Return a stored JSON Schema, or the text itself if it is not JSON."""
    if stored is None or stored == "":
        return None
    try:
        return load_json(str(stored))
    except ValueError:
        return str(stored)
