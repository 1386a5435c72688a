"""Settings of a user stored as one JSON object in the user's row."""

from __future__ import annotations

import json

from msgspec import structs

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.usage import ValueInvalidError
from dbctl.profiles.model.settings import Settings, SettingsVariant
from dbctl.services.app.app import App
from dbctl.services.app.row_writes import update_exactly
from dbctl.services.app.user_table import User
from dbctl.services.app.validation import check_rule, truncate
from dbctl.services.settings.store import Setting, SettingStore, declare_setting, find_key
from dbctl.services.settings.values import SettingTypes, is_encodable, load_json

#: The types of JSON values; the app declares none.
KINDS = SettingsVariant(
    key="", type="", types={"boolean": "boolean", "number": "number", "string": "string", "json": "json"}
)


class JsonSettings(SettingStore):
    """The settings of one user in a JSON object; any key is valid, and any value that the profile does not exclude."""

    def __init__(self, app: App, db: Readable, section: Settings, user: User) -> None:
        super().__init__(app, db, section, user)
        self._login, self._value = user.login, self.live.column(section.fields["value"])
        self.types = SettingTypes(section, KINDS)

    def read(self, key: str | None = None) -> list[Setting]:
        return [
            self._create(name, value)
            for name, value in sorted(self._read_object().items())
            if key in (None, name)
        ]

    def _create(self, key: str, value: object) -> Setting:
        kind = find_key(self.section, key).type or self.types.type_for(value) or "string"
        return declare_setting(self.section, key, value, kind)

    def values(self) -> dict[str, object]:
        try:
            return super().values()
        except ValueInvalidError:  # the rest of the user is shown nevertheless
            return {self._value: MASK if self.section.secret else self._read_stored()}

    def _parse_untyped(self, key: str, text: str) -> object:
        del key
        try:
            return load_json(text)
        except ValueError:  # a bare word is text, without JSON quotes
            return text

    def find_violation(self, setting: Setting, value: object) -> str:
        declared = find_key(self.section, setting.key)
        if declared.type and not self.types.accepts(value, declared.type):
            return f"it is not of type {declared.type}"
        return super().find_violation(structs.replace(setting, type=self.types.type_for(value)), value)

    def create_setting(self, key: str, value: object) -> Setting:
        check_rule("key", key, self.section.rules.get("key"))
        if not key:
            raise ValueInvalidError(name="the key", value=repr(key), reason="it is empty")
        return self._create(key, value)

    def _describe_form(self, setting: Setting) -> str:
        del setting
        return "values as json"

    def _adds_row(self, key: str) -> bool:
        del key
        return False  # the row is that of the user

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        self.add(db, setting.key, value)

    def add(self, db: Writable, key: str, value: object) -> None:
        self._store(db, {**self._read_object(), key: value})

    def remove(self, db: Writable, key: str) -> None:
        self._store(db, {name: value for name, value in self._read_object().items() if name != key})

    def _read_object(self) -> dict[str, object]:
        """Return the stored object; empty for NULL and empty text.

        Raises:
            ValueInvalidError: the column does not contain a JSON object.
        """
        stored = self._read_stored()
        if stored is None or not str(stored).strip():
            return {}
        try:
            value, reason = load_json(str(stored)), "it is not a JSON object"
        except ValueError as error:
            value, reason = None, str(error)
        if not isinstance(value, dict):
            subject = f"{self.live.name}.{self._value} of {self._login}:"
            raise ValueInvalidError(name=subject, value=ascii(truncate(str(stored))), reason=reason)
        return value

    def _read_stored(self) -> object:
        rows = self.db.select(self.live.name, [self._value], self._owner_conditions())
        return rows[0][0] if rows else None

    def _store(self, db: Writable, settings: dict[str, object]) -> None:
        # the format of the app; half of a surrogate pair, such as of a truncated emoji, exists only as an escape
        text = json.dumps(settings, ensure_ascii=not is_encodable(settings), separators=(",", ":"))
        update_exactly(db, self.live.name, {self._value: text}, self._owner_conditions(), 1)
