"""Set and reset one setting; its type and schema are checked first."""

from __future__ import annotations

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import SettingMissingError, ValueInvalidError
from dbctl.model import ChangeResult, KeyText, Plan, Row
from dbctl.services.app import App, Change, PreparedChange, audit
from dbctl.services.settings.queries import open_for_login
from dbctl.services.settings.table import Setting, SettingTable, settings_database
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
        table = open_for_login(app, db, login)
        try:
            setting = table.find(key)
        except SettingMissingError:
            if not (login or table.accepts_new(key)):
                raise
            return _plan_add(table, key, table.parse_new(key, text))
        value = table.parse(key, text, setting.type)
        return _plan_set(table, setting, value, f"Set {setting.key}", "settings.set")

    return Change(app, settings_database(app, "user" if login else "system"), "settings set", draft)


def reset_setting(app: App, key: str, *, login: str | KeyText = "") -> Change[SettingChanged]:
    """Reset a setting to its default.

    A setting of a user is removed, so that the default of the app applies. A setting that is not a standard setting is also
    removed. A standard setting without a row is added.

    Raises (when planned and when applied):
        ValueInvalidError: the setting has no default.
    """

    def draft(db: Readable) -> PreparedChange[SettingChanged]:
        table = open_for_login(app, db, login)
        try:
            setting = table.find(key)
        except SettingMissingError:
            standard = table.find_standard(key)
            if login or standard is None:
                raise
            return _plan_add(table, key, standard.value, "Reset", "settings.reset")
        if login or (setting.default is None and table.section.open):
            return _plan_remove(table, setting)
        if setting.default is None:
            raise ValueInvalidError(
                name="reset of", value=key, reason="neither the database nor the profile has a default"
            )
        return _plan_set(table, setting, setting.default, f"Reset {setting.key}", "settings.reset")

    return Change(app, settings_database(app, "user" if login else "system"), "settings reset", draft)


def _plan_set(
    table: SettingTable, setting: Setting, value: object, title: str, action: str
) -> PreparedChange[SettingChanged]:
    table.check(setting, value)
    differs = not is_equal(setting.value, value)

    def work(db: Writable) -> SettingChanged:
        if differs:
            table.write(db, setting, value)
            details = {
                **table.audit_details(),
                "key": setting.key,
                "from": table.mask_value(setting.key, setting.value),
                "to": table.mask_value(setting.key, value),
            }
            audit.record(table.app, db, action, "settings", setting.key, details)
        return _create_result(table, setting.key, setting.value, changed=differs)

    before, after = (
        to_json(table.mask_value(setting.key, state_value)) for state_value in (setting.value, value)
    )
    steps = [f"change {setting.key} from {before} to {after}"] if differs else []
    rows = {table.live.name: 1} if differs else {}
    return PreparedChange(Plan(title=title, target=table.db.target, steps=steps, rows=rows), work)


def _create_result(table: SettingTable, key: str, before: object, *, changed: bool) -> SettingChanged:
    """Return the result with masked secrets."""
    now = table.mask_setting(table.find(key))
    return SettingChanged(setting=now, before=table.mask_value(key, before), changed=changed)


def _plan_add(
    table: SettingTable, key: str, value: object, verb: str = "Set", action: str = "settings.set"
) -> PreparedChange[SettingChanged]:
    table.check_new(key, value)

    def work(db: Writable) -> SettingChanged:
        table.add(db, key, value)
        details = {**table.audit_details(), "key": key, "to": table.mask_value(key, value)}
        audit.record(table.app, db, action, "settings", key, details)
        return _create_result(table, key, None, changed=True)

    plan = Plan(
        title=f"{verb} {key}",
        target=table.db.target,
        steps=[f"add {key} = {to_json(table.mask_value(key, value))}"],
        rows={table.live.name: 1},
    )
    return PreparedChange(plan, work)


def _plan_remove(table: SettingTable, setting: Setting) -> PreparedChange[SettingChanged]:
    def work(db: Writable) -> SettingChanged:
        table.remove(db, setting.key)
        details = {
            **table.audit_details(),
            "key": setting.key,
            "from": table.mask_value(setting.key, setting.value),
        }
        audit.record(table.app, db, "settings.reset", "settings", setting.key, details)
        masked = table.mask_setting(setting)
        return SettingChanged(setting=masked, before=masked.value, changed=True)

    steps = [f"remove {setting.key} (it is {to_json(table.mask_value(setting.key, setting.value))})"]
    return PreparedChange(
        Plan(title=f"Reset {setting.key}", target=table.db.target, steps=steps, rows={table.live.name: 1}),
        work,
    )
