"""Set and reset one setting; its type and schema are checked first."""

from __future__ import annotations

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import SettingMissingError, ValueInvalidError
from dbctl.model import ChangeResult, KeyText, Plan, Row
from dbctl.services.app import App, Change, PreparedChange, audit
from dbctl.services.settings.collection import SettingCollection
from dbctl.services.settings.queries import open_for_login
from dbctl.services.settings.store import Setting, settings_database
from dbctl.services.settings.values import is_equal, to_json


class SettingChanged(ChangeResult, frozen=True, kw_only=True):
    """Result of ``settings set`` and ``settings reset``."""

    setting: Setting
    before: object
    changed: bool

    def summary(self) -> Row:
        return {
            "key": self.setting.key,
            "before": self.before,
            "value": self.setting.value,
            "changed": self.changed,
        }


def set_setting(app: App, key: str, text: str, *, login: str | KeyText = "") -> Change[SettingChanged]:
    """Set a setting to the value of ``text``, parsed by its type.

    A missing setting is added if it belongs to a user, if the app accepts any key, or if it is a standard setting of the app.
    """

    def draft(db: Readable) -> PreparedChange[SettingChanged]:
        collection = open_for_login(app, db, login)
        try:
            setting = collection.find(key)
        except SettingMissingError:
            if not (login or collection.accepts_new(key)):
                raise
            return _plan_add(collection, key, collection.parse_new(key, text))
        value = collection.parse(key, text, setting.type)
        return _plan_set(collection, setting, value, f"Set {setting.key}", "settings.set")

    return Change(app, settings_database(app, "user" if login else "system"), "settings set", draft)


def reset_setting(app: App, key: str, *, login: str | KeyText = "") -> Change[SettingChanged]:
    """Reset a setting to its default.

    A setting of a user is removed, so that the default of the app applies. A setting that is not a standard setting is also
    removed. A standard setting without a row is added.

    Raises (when planned and when applied):
        ValueInvalidError: the setting has no default.
    """

    def draft(db: Readable) -> PreparedChange[SettingChanged]:
        collection = open_for_login(app, db, login)
        try:
            setting = collection.find(key)
        except SettingMissingError:
            standard = collection.store.standard.get(key)
            if login or standard is None:
                raise
            return _plan_add(collection, key, standard.value, "Reset", "settings.reset")
        if login or (setting.default is None and collection.store.section.open):
            return _plan_remove(collection, setting)
        if setting.default is None:
            raise ValueInvalidError(
                name="reset of", value=key, reason="neither the database nor the profile has a default"
            )
        return _plan_set(collection, setting, setting.default, f"Reset {setting.key}", "settings.reset")

    return Change(app, settings_database(app, "user" if login else "system"), "settings reset", draft)


def _plan_set(
    collection: SettingCollection, setting: Setting, value: object, title: str, action: str
) -> PreparedChange[SettingChanged]:
    collection.check(setting, value)
    differs = not is_equal(setting.value, value)

    def work(db: Writable) -> SettingChanged:
        if differs:
            collection.store.write(db, setting, value)
            details = {
                **collection.audit_details(),
                "key": setting.key,
                "from": collection.mask_value(setting.key, setting.value),
                "to": collection.mask_value(setting.key, value),
            }
            audit.record(collection.app, db, action, "settings", setting.key, details)
        return _create_result(collection, setting.key, setting.value, changed=differs)

    before, after = (
        to_json(collection.mask_value(setting.key, state_value)) for state_value in (setting.value, value)
    )
    steps = [f"change {setting.key} from {before} to {after}"] if differs else []
    rows = {collection.store.live.name: 1} if differs else {}
    return PreparedChange(Plan(title=title, target=collection.store.db.target, steps=steps, rows=rows), work)


def _create_result(
    collection: SettingCollection, key: str, before: object, *, changed: bool
) -> SettingChanged:
    """Return the result with masked secrets."""
    now = collection.mask_setting(collection.find(key))
    return SettingChanged(setting=now, before=collection.mask_value(key, before), changed=changed)


def _plan_add(
    collection: SettingCollection, key: str, value: object, verb: str = "Set", action: str = "settings.set"
) -> PreparedChange[SettingChanged]:
    collection.check_new(key, value)

    def work(db: Writable) -> SettingChanged:
        collection.store.add(db, key, value)
        details = {**collection.audit_details(), "key": key, "to": collection.mask_value(key, value)}
        audit.record(collection.app, db, action, "settings", key, details)
        return _create_result(collection, key, None, changed=True)

    plan = Plan(
        title=f"{verb} {key}",
        target=collection.store.db.target,
        steps=[f"add {key} = {to_json(collection.mask_value(key, value))}"],
        rows={collection.store.live.name: 1},
    )
    return PreparedChange(plan, work)


def _plan_remove(collection: SettingCollection, setting: Setting) -> PreparedChange[SettingChanged]:
    def work(db: Writable) -> SettingChanged:
        collection.store.remove(db, setting.key)
        details = {
            **collection.audit_details(),
            "key": setting.key,
            "from": collection.mask_value(setting.key, setting.value),
        }
        audit.record(collection.app, db, "settings.reset", "settings", setting.key, details)
        masked = collection.mask_setting(setting)
        return SettingChanged(setting=masked, before=masked.value, changed=True)

    steps = [f"remove {setting.key} (it is {to_json(collection.mask_value(setting.key, setting.value))})"]
    return PreparedChange(
        Plan(
            title=f"Reset {setting.key}",
            target=collection.store.db.target,
            steps=steps,
            rows={collection.store.live.name: 1},
        ),
        work,
    )
