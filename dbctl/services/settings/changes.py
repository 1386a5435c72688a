"""Changes to one setting: never to a value that its type or its own schema refuses."""

from __future__ import annotations

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import SettingMissingError, ValueInvalidError
from dbctl.model import Done, Id, Plan, Row
from dbctl.services.app import App, Change, Draft, audit
from dbctl.services.settings.queries import table_for
from dbctl.services.settings.table import Setting, SettingTable, database_of
from dbctl.services.settings.values import same, spelled


class SettingChanged(Done, frozen=True, kw_only=True):
    """Answer of ``settings set`` and ``settings reset``."""

    setting: Setting
    before: object
    changed: bool

    def brief(self) -> Row:
        return {
            "key": self.setting.key,
            "before": self.before,
            "value": self.setting.value,
            "changed": self.changed,
        }


def set_setting(app: App, key: str, text: str, *, login: str | Id = "") -> Change[SettingChanged]:
    """Give a setting the value that ``text`` means for its type.

    A setting that is not there is added for a user, where the app takes any, and where the app comes with it.
    """

    def draft(db: Readable) -> Draft[SettingChanged]:
        table = table_for(app, db, login)
        try:
            setting = table.one(key)
        except SettingMissingError:
            if not (login or table.takes_new(key)):
                raise
            return _added(table, key, table.fresh(key, text))
        value = table.typed(key, text, setting.type)
        return _set(table, setting, value, f"Set {setting.key}", "settings.set")

    return Change(app, database_of(app, "user" if login else "system"), "settings set", draft)


def reset_setting(app: App, key: str, *, login: str | Id = "") -> Change[SettingChanged]:
    """Give a setting its default back.

    A user's own setting is removed, so that the app's counts, and so is one that the app does without. One that the app
    comes with, and whose row is gone, is added with all that its row holds.

    Raises (when planned and when applied):
        ValueInvalidError: no default is known.
    """

    def draft(db: Readable) -> Draft[SettingChanged]:
        table = table_for(app, db, login)
        try:
            setting = table.one(key)
        except SettingMissingError:
            standard = table.standard(key)
            if login or standard is None:
                raise
            return _added(table, key, standard.value, "Reset", "settings.reset")
        if login or (setting.default is None and table.told.open):
            return _removed(table, setting)
        if setting.default is None:
            raise ValueInvalidError(
                what="reset of", value=key, reason="neither the database nor the profile knows a default"
            )
        return _set(table, setting, setting.default, f"Reset {setting.key}", "settings.reset")

    return Change(app, database_of(app, "user" if login else "system"), "settings reset", draft)


def _set(
    table: SettingTable, setting: Setting, value: object, title: str, action: str
) -> Draft[SettingChanged]:
    table.check(setting, value)
    differs = not same(setting.value, value)

    def work(db: Writable) -> SettingChanged:
        if differs:
            table.write(db, setting, value)
            facts = {
                **table.whose(),
                "key": setting.key,
                "from": table.shown(setting.key, setting.value),
                "to": table.shown(setting.key, value),
            }
            audit.record(table.app, db, action, "settings", setting.key, facts)
        return _answer(table, setting.key, setting.value, changed=differs)

    before, after = (spelled(table.shown(setting.key, one)) for one in (setting.value, value))
    steps = [f"change {setting.key} from {before} to {after}"] if differs else []
    rows = {table.live.name: 1} if differs else {}
    return Draft(Plan(title=title, target=table.db.target, steps=steps, rows=rows), work)


def _answer(table: SettingTable, key: str, before: object, *, changed: bool) -> SettingChanged:
    """Return what was done, as anybody may see it."""
    now = table.told_of(table.one(key))
    return SettingChanged(setting=now, before=table.shown(key, before), changed=changed)


def _added(
    table: SettingTable, key: str, value: object, verb: str = "Set", action: str = "settings.set"
) -> Draft[SettingChanged]:
    table.check_new(key, value)

    def work(db: Writable) -> SettingChanged:
        table.add(db, key, value)
        facts = {**table.whose(), "key": key, "to": table.shown(key, value)}
        audit.record(table.app, db, action, "settings", key, facts)
        return _answer(table, key, None, changed=True)

    plan = Plan(
        title=f"{verb} {key}",
        target=table.db.target,
        steps=[f"add {key} = {spelled(table.shown(key, value))}"],
        rows={table.live.name: 1},
    )
    return Draft(plan, work)


def _removed(table: SettingTable, setting: Setting) -> Draft[SettingChanged]:
    def work(db: Writable) -> SettingChanged:
        table.remove(db, setting.key)
        facts = {**table.whose(), "key": setting.key, "from": table.shown(setting.key, setting.value)}
        audit.record(table.app, db, "settings.reset", "settings", setting.key, facts)
        shown = table.told_of(setting)
        return SettingChanged(setting=shown, before=shown.value, changed=True)

    steps = [f"remove {setting.key} (it is {spelled(table.shown(setting.key, setting.value))})"]
    return Draft(
        Plan(title=f"Reset {setting.key}", target=table.db.target, steps=steps, rows={table.live.name: 1}),
        work,
    )
