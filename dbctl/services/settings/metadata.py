"""Change what the app stores about a setting besides its value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.usage import NotSupportedError, ValueInvalidError
from dbctl.model import ChangeResult, Effect, Plan, Row
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.validation import require_encodable
from dbctl.services.settings.queries import open_settings
from dbctl.services.settings.rows import SettingRows
from dbctl.services.settings.store import Setting, settings_database
from dbctl.services.settings.values import find_schema_error, parse_schema


class SettingUpdated(ChangeResult, frozen=True, kw_only=True):
    """Result of ``settings update``."""

    setting: Setting
    changed: Sequence[str]  #: names of fields

    @property
    def effect(self) -> Effect | None:
        return (
            Effect("changed", "setting", [self.setting.key], details=self.changed) if self.changed else None
        )

    def summary(self) -> Row:
        names = ("key", "description", "public", "schema")
        return {name: getattr(self.setting, name) for name in names} | {"changed": ", ".join(self.changed)}


def update_setting(app: App, key: str, fields: Mapping[str, object]) -> Change[SettingUpdated]:
    """Change ``description``, ``schema`` (text) or ``public`` of a setting of the app; an empty text removes a field.

    Raises (when planned and when applied):
        NotSupportedError: the app does not store a field.
        ValueInvalidError: the schema is none, or the value of the setting violates it.
    """
    database = settings_database(app, "system")
    return Change(app, database, lambda db: UpdateSetting(app, db, key, fields))


class UpdateSetting:
    """Change the fields of one setting that differ."""

    def __init__(self, app: App, db: Readable, key: str, fields: Mapping[str, object]) -> None:
        """Check the fields; raises as ``update_setting``."""
        store = open_settings(app, db)
        known = store.metadata if isinstance(store, SettingRows) else {}
        if missing := [name for name in fields if name not in known]:
            raise NotSupportedError(
                feature=f"a {missing[0]} of a setting",
                subject=db.target,
                hint=f"It stores: {', '.join(known) or 'only the values'}.",
            )
        self._store, self._setting = store, store.find(key)
        new = {name: value if value != "" else None for name, value in fields.items()}
        for name, value in fields.items():
            if isinstance(value, str):
                require_encodable(name, value)
        if schema := new.get("schema"):
            new["schema"] = self._check_schema(str(schema))
        self._new = {name: value for name, value in new.items() if getattr(self._setting, name) != value}
        self._stored = {name: schema if name == "schema" else value for name, value in self._new.items()}
        self.plan = Plan(
            title=f"Update setting {key}",
            target=db.target,
            steps=[f"change {', '.join(self._new)} of {key}"] if self._new else [],
            rows={store.live.name: 1} if self._new else {},
        )

    def _check_schema(self, text: str) -> object:
        schema = parse_schema(text)
        reason = "it is not JSON" if isinstance(schema, str) else find_schema_error(schema)
        if not reason and self._setting.value is not None:
            changed = structs.replace(self._setting, schema=schema)
            violation = self._store.find_violation(changed, self._setting.value)
            reason = f"the value of the setting violates it: {violation}" if violation else ""
        if reason:
            raise ValueInvalidError(name="the schema of", value=self._setting.key, reason=reason)
        return schema

    def apply(self, db: Writable) -> SettingUpdated:
        """Update the row, if a field differs."""
        store, key = self._store, self._setting.key
        if self._new and isinstance(store, SettingRows):
            store.write_metadata(db, key, self._stored)
            audit.record(
                store.app, db, "settings.update", "settings", key, {"key": key, "changed": list(self._new)}
            )
        return SettingUpdated(setting=store.mask_setting(store.find(key)), changed=list(self._new))
