"""The settings of the app or of one user, in any store: found by key, parsed, checked and masked."""

from __future__ import annotations

from msgspec import structs

from dbctl.errors import SettingMissingError, ValueInvalidError
from dbctl.services.app import MASK, is_secret_setting, suggest_sentence, truncate
from dbctl.services.settings.store import Setting, SettingStore, check_value, mask_value


class SettingCollection:
    """The settings of one store."""

    def __init__(self, store: SettingStore) -> None:
        self.store, self.app = store, store.app

    def find(self, key: str) -> Setting:
        """Return one setting.

        Raises:
            SettingMissingError: no setting has this key; the hint suggests similar ones.
        """
        settings = self.store.read(key)
        if settings:
            return settings[0]
        known = [setting.key for setting in self.store.read()]
        raise SettingMissingError(
            key=truncate(key), target=self.store.db.target, suggestion=suggest_sentence(key, known)
        )

    def accepts_new(self, key: str) -> bool:
        """Whether a setting with this key can be added: the app accepts any key, or it is a standard setting."""
        return self.store.section.open or key in self.store.standard

    def missing_keys(self) -> list[str]:
        """Return the keys of standard settings that the store lacks."""
        if not self.store.standard:
            return []
        known = {setting.key for setting in self.store.read()}
        return [key for key in self.store.standard if key not in known]

    # Values --------------------------------------------------------------------------------------------------

    def check(self, setting: Setting, value: object) -> None:
        """Refuse a value that violates the type, the schema or a rule.

        Raises:
            ValueInvalidError: with the violated rule.
        """
        check_value(self.store, setting, value)

    def check_new(self, key: str, value: object) -> None:
        """Refuse a new setting with an invalid key or value; raises like ``check`` and ``SettingStore.create_setting``."""
        self.check(self.store.create_setting(key, value), value)

    def parse_new(self, key: str, text: str) -> object:
        """Return the value of ``text`` for a new setting.

        Raises:
            ValueInvalidError: the text is invalid for the standard type of the key.
        """
        standard = self.store.standard.get(key)
        return self.parse(key, text, standard.type) if standard else self.store.parse_untyped(text)

    def parse(self, key: str, text: str, stored_type: str) -> object:
        """Return the value of ``text`` for a setting.

        Raises:
            ValueInvalidError: the text is invalid for the type.
        """
        try:
            return self.store.types.parse(text, self.store.types.kind(stored_type))
        except ValueError as error:
            shown = MASK if is_secret_setting(self.store.section, key) else repr(truncate(text))
            raise ValueInvalidError(
                name=f"{key} =", value=shown, reason=f"{error} ({stored_type})"
            ) from error

    # Results -------------------------------------------------------------------------------------------------

    def mask_value(self, key: str, value: object) -> object:
        """Return the value, or a mask for a secret, for plans, audit records and results."""
        return mask_value(self.store.section, key, value)

    def mask_setting(self, setting: Setting, *, secrets: bool = False) -> Setting:
        """Return the setting with a masked value if it is a secret, unless ``secrets`` is set."""
        if secrets or not is_secret_setting(self.store.section, setting.key):
            return setting
        value, default = (self.mask_value(setting.key, item) for item in (setting.value, setting.default))
        return structs.replace(setting, value=value, default=default)

    def audit_details(self) -> dict[str, object]:
        """Return the user of the settings for an audit record; empty for settings of the app."""
        return {"user": self.store.user.login} if self.store.user else {}
