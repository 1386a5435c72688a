"""Settings, and the store that holds those of the app or of one user: found by key, parsed, checked, masked, written."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TypeAlias

from msgspec import structs

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import Condition, Readable, Where, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import ValueInvalidError
from dbctl.errors.users import SettingMissingError
from dbctl.model import Finding, KeyText, Row, Struct, now
from dbctl.profiles.model.settings import SettingKey, Settings, StandardSetting
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.secrets import is_secret_setting
from dbctl.services.app.user_table import User
from dbctl.services.app.validation import rule_problem, truncate
from dbctl.services.settings.values import (
    MAX_SHOWN_CHARACTERS,
    SettingTypes,
    find_schema_violation,
    is_encodable,
    parse_schema,
    to_json,
)


class ObjectText(Struct, frozen=True):
    """The key or name, as typed, of an object of the app that has its own settings."""

    text: str


#: A login or key of a user, or the key or name of an object; empty for settings of the app.
SettingOwner: TypeAlias = str | KeyText | ObjectText

#: The entry of a key that the profile does not name.
UNDECLARED = SettingKey()


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
    schema: object = None  #: the JSON Schema that the app stores with the setting, or that of the profile
    read_only: bool = False  #: whether dbctl does not write the form in which the value is stored

    listed = ("key", "value", "type", "public", "updated_at", "updated_by")


class SettingObject(Struct, frozen=True):
    """An object of the app that has its own settings."""

    id: object
    login: str  #: its name


class SettingDetail(Setting, frozen=True, kw_only=True):
    """Result of ``settings get``: all fields, also in a table."""

    def summary(self) -> Row:
        return {}


INVALID_HINT = Remedy("`settings set {key} VALUE`; or: `settings reset {key}`")


class SettingStore(ABC):
    """The settings of the app or of one user: in rows, in the columns of one row, or in one JSON object."""

    types: SettingTypes
    standard: Mapping[str, StandardSetting] = {}  #: the standard settings of the app, by key

    def __init__(self, app: App, db: Readable, section: Settings, user: User | SettingObject | None) -> None:
        """Find the columns; ``user`` has the settings, and is None for the settings of the app.

        Raises:
            SchemaMismatchError: the live schema lacks the table or a column.
        """
        self.app, self.db, self.section, self.user = app, db, section, user
        self.live = LiveTable(
            app.core, db, section.table, f"{section.scope} settings" if user else "settings"
        )
        self._fields = self.live.map_columns(section.fields)

    @abstractmethod
    def read(self, key: str | None = None) -> Sequence[Setting]:
        """Return the settings, sorted by key; with ``key`` only this one, if it exists."""

    @abstractmethod
    def create_setting(self, key: str, value: object) -> Setting:
        """Return a new setting, without storing it.

        Raises:
            UsageError: the store accepts no new settings.
            ValueInvalidError: the key is invalid, or the app has no type for the value.
        """

    @abstractmethod
    def _describe_form(self, setting: Setting) -> str:
        """Return where and how a value is stored: values with one description are stored alike."""

    def describe_write(self, setting: Setting) -> Sequence[str]:
        """Return what a write of a setting shows of the app, as a proof of ``change-setting`` names it."""
        scope = self.section.scope
        added = [f"new {scope} rows"] if self._adds_row(setting.key) else []
        return [f"{scope} {self._describe_form(setting)}", *added]

    def _adds_row(self, key: str) -> bool:
        """Return whether a write of a setting adds a row."""
        return not self.read(key)

    @abstractmethod
    def write(self, db: Writable, setting: Setting, value: object) -> None:
        """Store a value of an existing setting; the value is checked."""

    @abstractmethod
    def add(self, db: Writable, key: str, value: object) -> None:
        """Add a setting; key and value are checked."""

    def where_removed(self, key: str) -> Sequence[Where]:
        """Return the conditions of the rows that ``remove`` deletes, each of which meets one; empty: it changes a value."""
        del key
        return ()

    def check_removed(self, key: str) -> None:
        """Refuse the removal of a setting.

        Raises:
            UsageError: the store always has this setting.
        """
        del key

    @abstractmethod
    def remove(self, db: Writable, key: str) -> None:
        """Remove a setting; raises as ``check_removed``."""

    def find(self, key: str) -> Setting:
        """Return one setting.

        Raises:
            SettingMissingError: no setting has this key; the hint suggests similar ones.
        """
        if settings := self.read(key):
            return settings[0]
        if key in self.standard:
            hint = Remedy(
                "The app has this setting, but its row is missing; add it with: `settings reset {key}`"
            )
            raise SettingMissingError(key=key, target=self.db.target, hint=hint)
        raise SettingMissingError(key=truncate(key), target=self.db.target, candidates=self.list_keys(""))

    def list_keys(self, prefix: str) -> list[str]:  # noqa: ARG002 - used by overrides
        """Return the keys of the stored and of the standard settings; at least those that begin with ``prefix``."""
        return [*self.standard, *(setting.key for setting in self.read())]

    def values(self) -> dict[str, object]:
        """Return the values by key with masked secrets; a value that cannot be parsed is the stored text."""
        return {setting.key: self.mask_value(setting.key, setting.value) for setting in self.read()}

    def accepts_new(self, key: str) -> bool:
        """Whether a setting with this key can be added: the app accepts any key, or the profile has a type or standard value."""
        return (
            self.section.open
            or key in self.standard
            or (key in self.section.keys and find_key(self.section, key).type is not None)
        )

    def missing_keys(self) -> list[str]:
        """Return the keys of standard settings that the store lacks."""
        known = {setting.key for setting in self.read()} if self.standard else set()
        return [key for key in self.standard if key not in known]

    # Values --------------------------------------------------------------------------------------------------

    def parse(self, key: str, text: str, stored_type: str) -> object:
        """Return the value of ``text`` for a setting.

        Raises:
            ValueInvalidError: the text is invalid for the type.
        """
        try:
            return self.types.parse(text, self.types.kind(stored_type))
        except ValueError as error:
            shown = MASK if is_secret_setting(self.section, key) else repr(truncate(text))
            reason = f"{error} ({stored_type})"
            raise ValueInvalidError(name=f"{key} =", value=shown, reason=reason) from error

    def parse_new(self, key: str, text: str) -> object:
        """Return the value of ``text`` for a new setting; raises as ``parse`` for a standard setting."""
        standard, declared = self.standard.get(key), find_key(self.section, key)
        stored_type = standard.type if standard else declared.type
        return self.parse(key, text, stored_type) if stored_type else self._parse_untyped(key, text)

    def _parse_untyped(self, key: str, text: str) -> object:  # noqa: ARG002 - used by overrides
        return text

    def check(self, setting: Setting, value: object) -> None:
        """Refuse a value that violates the type, the schema or a rule, or that its column cannot store.

        Raises:
            ValueInvalidError: with the violated rule.
        """
        reason = self.find_violation(setting, value)
        if setting.read_only:
            reason = "the stored value has a form that dbctl does not write; change it in the app"
        if value == MASK and is_secret_setting(self.section, setting.key):
            reason = "it is the mask of a secret; export with --secrets, or omit the key"
        reason = reason or self._find_misfit(setting, value)
        if reason:
            excerpt = truncate(
                json.dumps(self.mask_value(setting.key, value), default=str), MAX_SHOWN_CHARACTERS
            )
            raise ValueInvalidError(name=f"{setting.key} =", value=excerpt, reason=reason)

    def check_new(self, key: str, value: object) -> None:
        """Refuse a new setting with an invalid key or value; raises as ``check`` and ``create_setting``."""
        self.check(self.create_setting(key, value), value)

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

    def _encode_columns(self, setting: Setting, value: object) -> dict[str, object]:  # noqa: ARG002 - used by overrides
        """Return the column that stores only this setting, with a value; empty: there is none."""
        return {}

    def _find_misfit(self, setting: Setting, value: object) -> str:
        """Return why the column of a setting cannot store a valid value, or an empty text."""
        try:
            for column, stored in self._encode_columns(setting, value).items():
                if isinstance(stored, str):
                    is_binary = self.live.table.columns[column].is_binary  # some apps store texts as bytes
                    text = "\\x" + stored.encode().hex() if is_binary else stored
                    self.db.codec.text_parser(self.live.name, column)(text)
        except ValueInvalidError as error:
            return str(error.context["reason"])
        return ""

    def find_invalid(self) -> Iterator[Finding]:
        """Yield a finding for each stored value that violates its type, its schema or a rule of the app."""
        for setting in self.read():
            if setting.value is not None and (reason := self.find_violation(setting, setting.value)):
                excerpt = truncate(to_json(self.mask_value(setting.key, setting.value)))
                yield Finding(
                    self.db.target,
                    "error",
                    "setting-invalid",
                    f"{setting.key} = {excerpt}: {reason}",
                    INVALID_HINT.write(self.app.name, {"key": setting.key}),
                )

    # Results and rows ----------------------------------------------------------------------------------------

    def mask_value(self, key: str, value: object) -> object:
        """Return the value, or a mask for a secret, for plans, audit records and results."""
        return MASK if value is not None and is_secret_setting(self.section, key) else value

    def mask_setting(self, setting: Setting) -> Setting:
        """Return the setting with a masked value if it is a secret."""
        value, default = (self.mask_value(setting.key, item) for item in (setting.value, setting.default))
        return structs.replace(setting, value=value, default=default)

    def audit_details(self) -> dict[str, object]:
        """Return the user or the object of the settings for an audit record; empty for settings of the app."""
        return {self.section.scope: self.user.login} if self.user else {}

    def _owner_conditions(self) -> list[Where]:
        return [Condition(self.live.column(self.section.user), "=", self.user.id)] if self.user else []

    def _change_stamp(self, db: Writable) -> dict[str, object]:
        """Return the columns of the time of a change and of the user of ``--acting-as``, if any."""
        values: dict[str, object] = {}
        if column := self._fields.get("updated_at"):
            values[column] = self.live.encode(column, now())
        if column := self._fields.get("updated_by"):
            from dbctl.services.app.audit import acting_user

            user = acting_user(self.app, db)
            values[column] = user.id if user else None
        return values


def find_text_violation(section: Settings, key: str, value: str) -> str:
    """Return why a text violates the rules of the table or of the key, or an empty text."""
    text = value.replace("\n", " ").replace("\t", " ")
    reasons = (rule_problem(text, rule) for rule in (section.rules.get("value"), find_key(section, key)))
    return next(filter(None, reasons), "")


def find_key(section: Settings, key: str) -> SettingKey:
    """Return what the profile declares for a key; an empty entry without a declaration."""
    matches = (declared for pattern, declared in section.keys.items() if fnmatchcase(key, pattern))
    return section.keys.get(key) or next(matches, UNDECLARED)


def declare_setting(section: Settings, key: str, value: object, kind: str) -> Setting:
    """Return a setting with what the profile declares for its key."""
    declared = find_key(section, key)
    return Setting(
        key=key,
        value=value,
        type=kind,
        default=declared.default,
        schema=parse_schema(declared.schema),
        description=declared.description or None,
    )


def find_section(app: App, scope: str) -> Settings | None:
    return next((section for section in app.core.settings if section.scope == scope), None)


def scope_of(owner: SettingOwner) -> str:
    """Return the scope of the settings of a user, of an object, or of the app."""
    return "object" if isinstance(owner, ObjectText) else "user" if owner else "system"


def settings_database(app: App, scope: str) -> str:
    return app.resolve_database(find_section(app, scope))
