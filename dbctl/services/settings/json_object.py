"""Settings of a user that are the keys of one JSON object in the user's own row."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dbctl.engines.contract import Readable, Where, Writable
from dbctl.errors import SettingMissingError, ValueInvalidError
from dbctl.profiles.model import Settings, SettingsShape
from dbctl.services.app import MASK, App, Live, User, cut, exactly, hint
from dbctl.services.settings.table import Setting, SettingTable
from dbctl.services.settings.values import SettingTypes, is_text, load_json

#: What a value of JSON may be called; the app itself declares nothing.
KINDS = SettingsShape(
    key="",
    type="",
    types={"boolean": "boolean", "number": "number", "string": "string", "json": "json"},
)


class SettingObject(SettingTable):
    """The settings of one user that are kept so. Keys may be called anything; nothing checks what they hold."""

    def __init__(self, app: App, db: Readable, user: User, told: Settings) -> None:
        self.app, self.db, self.user, self.told = app, db, user, told
        self.live = Live(app.profile, db, told.table, "settings of users")
        self.shape, self.type, self.keys, self.fields = None, None, [], {}
        self.value = self.live.get(told.fields["value"])
        self.types = SettingTypes(told, KINDS)

    def read(self, where: Sequence[Where] = ()) -> list[Setting]:
        del where  # the row is the user's own, and one
        found = self._object()
        return [
            Setting(key=key, value=value, type=self.types.word_for(value))
            for key, value in sorted(found.items())
        ]

    def values(self) -> dict[str, object]:
        try:
            return super().values()
        except ValueInvalidError:  # all else that is known of a user is to be shown
            return {self.value: MASK if self.told.secret else self._stored()}

    def one(self, key: str) -> Setting:
        known = self.read()
        for setting in known:
            if setting.key == key:
                return setting
        raise SettingMissingError(
            key=cut(key), target=self.db.target, near=hint(key, [one.key for one in known])
        )

    def fresh(self, key: str, text: str) -> object:
        del key  # the app declares none
        try:
            return load_json(text)
        except ValueError:  # a word is a text, as nobody wants to quote it twice
            return text

    def broken(self, setting: Setting, value: object) -> str:
        del setting  # the app takes any value under any key
        return "" if is_text(value) else "it holds half of a character pair, which is no text"

    def split(self, key: str) -> list[str]:
        return [key]

    def write(self, db: Writable, setting: Setting, value: object) -> None:
        self._store(db, {**self._object(), setting.key: value})

    def add(self, db: Writable, key: str, value: object) -> None:
        self._store(db, {**self._object(), key: value})

    def remove(self, db: Writable, key: str) -> None:
        self._store(db, {name: value for name, value in self._object().items() if name != key})

    def _object(self) -> dict[str, object]:
        """Return what is stored; nothing for NULL and empty text.

        Raises:
            ValueInvalidError: it is no JSON object.
        """
        stored = self._stored()
        if stored is None or not str(stored).strip():
            return {}
        try:
            found = load_json(str(stored))
        except ValueError as error:
            raise self._unreadable(stored, str(error)) from error
        if not isinstance(found, dict):
            raise self._unreadable(stored, "it is no object of JSON")
        return found

    def _stored(self) -> object:
        rows = self.db.select(self.live.name, [self.value], self.mine())
        return rows[0][0] if rows else None

    def _unreadable(self, stored: object, reason: str) -> ValueInvalidError:
        what = f"{self.live.name}.{self.value} of {self.user.login if self.user else ''}:"
        return ValueInvalidError(what=what, value=ascii(cut(str(stored))), reason=reason)

    def _store(self, db: Writable, settings: dict[str, object]) -> None:
        text = json.dumps(settings, ensure_ascii=False, separators=(",", ":"))  # as the app itself writes it
        exactly(db.update(self.live.name, {self.value: text}, self.mine()), 1, db)
