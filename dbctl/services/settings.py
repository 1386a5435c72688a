"""Settings: of the app, and of one user; never one that its own schema refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from dbctl import toml
from dbctl.engines.base import Condition, Readable, Writable
from dbctl.errors import SettingMissingError, UsageError, ValueInvalidError
from dbctl.model import Done, Finding, Findings, Page, Plan, Row, Value, Window
from dbctl.services import audit
from dbctl.services.apps import App
from dbctl.services.change import Change, Draft
from dbctl.services.setting_table import Setting, SettingTable, database_of, load_json, section
from dbctl.services.user_table import User, UserTable

Mode = Literal["create", "merge", "exact"]


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


class Difference(Value, frozen=True, kw_only=True):
    """One setting that a file and the app have differently."""

    key: str
    state: Literal["add", "change", "only-live"]
    live: object
    file: object


class SettingsApplied(Done, frozen=True, kw_only=True):
    """Answer of ``settings apply``."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]


def list_settings(
    app: App, window: Window, *, category: str = "", public: bool | None = None, login: str = ""
) -> Page[Setting]:
    """Return the settings of the app, or of one user."""
    items = [
        setting
        for setting in _table(app, _reader(app, login), login).read()
        if (not category or setting.category == category)
        and (public is None or bool(setting.public) is public)
    ]
    items = _sorted(items, window.sort)
    end = None if window.limit is None else window.offset + window.limit
    return Page(items=items[window.offset : end], total=len(items), limit=window.limit, offset=window.offset)


def get_setting(app: App, key: str, *, login: str = "") -> Setting:
    """Return one setting."""
    return _table(app, _reader(app, login), login).one(key)


def set_setting(app: App, key: str, text: str, *, login: str = "") -> Change[SettingChanged]:
    """Give a setting the value that ``text`` means for its type; a user may get one they did not have."""

    def draft(db: Readable) -> Draft[SettingChanged]:
        table = _table(app, db, login)
        try:
            setting = table.one(key)
        except SettingMissingError:
            if not login:
                raise
            return _added(table, key, text)
        try:
            value = table.typed(text, table.kind(setting.type))
        except ValueError as error:
            raise ValueInvalidError(
                what=f"{key} =", value=repr(text), reason=f"{error} ({setting.type})"
            ) from error
        return _set(table, setting, value, f"Set {setting.key}", "settings.set")

    return Change(app, database_of(app, "user" if login else "system"), "settings set", draft)


def reset_setting(app: App, key: str, *, login: str = "") -> Change[SettingChanged]:
    """Give a setting its default back; a user's own setting is removed, so that the app's counts.

    Raises (when planned and when applied):
        ValueInvalidError: no default is known.
    """

    def draft(db: Readable) -> Draft[SettingChanged]:
        table = _table(app, db, login)
        setting = table.one(key)
        if login:
            return _removed(table, setting)
        if setting.default is None:
            raise ValueInvalidError(
                what="reset of", value=key, reason="neither the database nor the profile knows a default"
            )
        return _set(table, setting, setting.default, f"Reset {setting.key}", "settings.reset")

    return Change(app, database_of(app, "user" if login else "system"), "settings reset", draft)


def validate(app: App, *, login: str = "") -> Findings:
    """Check every stored value against its type and its own schema."""
    table = _table(app, _reader(app, login), login)
    settings = table.read()
    findings = []
    for setting in settings:
        reason = table.broken(setting, setting.value) if setting.value is not None else ""
        if reason:
            findings.append(
                Finding(
                    target=table.db.target,
                    severity="error",
                    code="setting-invalid",
                    message=f"{setting.key} = {setting.value!r}: {reason}",
                    hint=f"dbctl settings set {setting.key} VALUE, or settings reset {setting.key}",
                )
            )
    return Findings(checked=len(settings), findings=findings)


def export(app: App, *, login: str = "") -> Mapping[str, object]:
    """Return key and typed value of every setting, as ``apply`` takes them."""
    return {setting.key: setting.value for setting in _table(app, _reader(app, login), login).read()}


def diff(app: App, wanted: Mapping[str, object], *, login: str = "") -> Page[Difference]:
    """Return what differs between a file and the app."""
    differing = _differences(_table(app, _reader(app, login), login), wanted)
    return Page(items=differing, total=len(differing))


def apply(app: App, wanted: Mapping[str, object], mode: Mode, *, login: str = "") -> Change[SettingsApplied]:
    """Bring the app's settings to what a file says, all in one transaction.

    ``create`` adds what is missing, ``merge`` also changes what differs, ``exact`` also removes what the file lacks.

    Raises (when planned and when applied):
        ValueInvalidError: a value does not fit; nothing was changed.
    """

    def draft(db: Readable) -> Draft[SettingsApplied]:
        table = _table(app, db, login)
        live = {setting.key: setting for setting in table.read()}
        parts: dict[str, list[Difference]] = {"add": [], "change": [], "only-live": []}
        for one in _differences(table, wanted):
            parts[one.state].append(one)
        added = parts["add"]
        changed = parts["change"] if mode != "create" else []
        removed = parts["only-live"] if mode == "exact" else []
        for one in added:
            _check_new(table, one.key, one.file)
        for one in changed:
            table.check(live[one.key], one.file)
        steps = [f"add {one.key} = {one.file!r}" for one in added]
        steps += [f"change {one.key} from {one.live!r} to {one.file!r}" for one in changed]
        steps += [f"remove {one.key} (it is {one.live!r})" for one in removed]

        def work(db: Writable) -> SettingsApplied:
            for one in added:
                table.add(db, one.key, one.file)
            for one in changed:
                table.write(db, live[one.key], one.file)
            for one in removed:
                table.remove(db, one.key)
            done = SettingsApplied(
                added=[one.key for one in added],
                changed=[one.key for one in changed],
                removed=[one.key for one in removed],
            )
            if steps:
                facts = {"added": done.added, "changed": done.changed, "removed": done.removed}
                audit.record(app, db, "settings.apply", "settings", login or "", facts)
            return done

        rows = {table.live.name: len(steps)} if steps else {}
        title = f"Apply {len(wanted)} settings ({mode})"
        return Draft(
            Plan(title=title, target=db.target, steps=steps, rows=rows, destructive=bool(removed)), work
        )

    return Change(app, database_of(app, "user" if login else "system"), "settings apply", draft)


def read_wanted(raw: bytes, name: str) -> dict[str, object]:
    """Read keys and values from JSON (also what ``-o json`` printed) or, by the end of ``name``, TOML: a table is a category.

    Raises:
        UsageError: it does not say keys and values.
    """
    try:
        text = raw.decode("utf-8-sig")
        told = toml.loads(text) if name.endswith(".toml") else load_json(text)
    except toml.TomlError as error:
        raise UsageError(
            detail=f"{name}, line {error.mistakes[0].line}: {error.mistakes[0].reason}"
        ) from error
    except ValueError as error:  # also what is not UTF-8
        raise UsageError(detail=f"{name}: {error}") from error
    if isinstance(told, dict) and str(told.get("schema", "")).startswith("dbctl.settings."):
        told = told.get("data")
    if not isinstance(told, dict):
        raise UsageError(detail=f"{name} does not hold keys and values")
    return dict(_flat(told)) if name.endswith(".toml") else told


# For the services of users -------------------------------------------------------------------------------------


def values_of(app: App, db: Readable, user: User) -> dict[str, object]:
    """Return a user's own settings."""
    return {setting.key: setting.value for setting in SettingTable(app, db, user).read()}


def defaults_of_new_user(app: App, db: Readable) -> dict[str, str]:
    """Return the user settings that the app gives to somebody who registers."""
    users = app.ability(app.profile.users, "users")
    if not users.new_settings:
        raise UsageError(detail=f"{app.profile.title} gives new users no settings")
    live = (
        {setting.key: setting for setting in SettingTable(app, db).read()} if section(app, "system") else {}
    )
    found = {}
    for key, told in users.new_settings.items():
        source = live.get(told.from_)
        found[key] = str(source.value) if source and source.value is not None else told.otherwise
    return found


def add_for_user(app: App, db: Writable, user: object, values: Mapping[str, str]) -> None:
    """Add settings to the user with that key."""
    if values:
        users = UserTable(app, db)
        owner = users.read([Condition(users.id, "=", user)])[0]
        table = SettingTable(app, db, owner)
        for key, value in values.items():
            table.add(db, key, value)


def table_of(app: App, scope: str) -> str:
    """Return the name of the table that holds the settings of that scope."""
    return app.ability(section(app, scope), "settings").table


# Within -----------------------------------------------------------------------------------------------------------


def _reader(app: App, login: str) -> Readable:
    return app.reader(database_of(app, "user" if login else "system"))


def _table(app: App, db: Readable, login: str) -> SettingTable:
    user = UserTable(app, db).one(login) if login else None
    return SettingTable(app, db, user)


def _sorted(items: Sequence[Setting], sort: str) -> list[Setting]:
    field = sort.lstrip("-") or "key"
    if field not in Setting.__struct_fields__:
        raise UsageError(
            detail=f"settings have no field {field!r}; they have: {', '.join(Setting.__struct_fields__)}"
        )
    there = [one for one in items if getattr(one, field) is not None]
    by: Callable[[Setting], str] = lambda one: str(getattr(one, field))  # noqa: E731 - a key, named for its type
    lacking = [one for one in items if getattr(one, field) is None]
    return sorted(there, key=by, reverse=sort.startswith("-")) + lacking


def _set(
    table: SettingTable, setting: Setting, value: object, title: str, action: str
) -> Draft[SettingChanged]:
    table.check(setting, value)
    differs = setting.value != value or type(setting.value) is not type(value)

    def work(db: Writable) -> SettingChanged:
        if differs:
            table.write(db, setting, value)
            facts = {"key": setting.key, "from": setting.value, "to": value}
            audit.record(table.app, db, action, "settings", setting.key, facts)
        return SettingChanged(setting=table.one(setting.key), before=setting.value, changed=differs)

    steps = [f"change {setting.key} from {setting.value!r} to {value!r}"] if differs else []
    rows = {table.live.name: 1} if differs else {}
    return Draft(Plan(title=title, target=table.db.target, steps=steps, rows=rows), work)


def _check_new(table: SettingTable, key: str, value: object) -> None:
    check_rule("key", key, table.told.rules.get("key"))
    if not all(table.split(key)):
        raise ValueInvalidError(what="the key", value=repr(key), reason="it is written CATEGORY.KEY")
    table.check(Setting(key=key, value=value, type=table.type_for(value) or "string"), value)


def _added(table: SettingTable, key: str, text: str) -> Draft[SettingChanged]:
    _check_new(table, key, text)

    def work(db: Writable) -> SettingChanged:
        table.add(db, key, text)
        audit.record(table.app, db, "settings.set", "settings", key, {"key": key, "to": text})
        return SettingChanged(setting=table.one(key), before=None, changed=True)

    plan = Plan(
        title=f"Set {key}", target=table.db.target, steps=[f"add {key} = {text!r}"], rows={table.live.name: 1}
    )
    return Draft(plan, work)


def _removed(table: SettingTable, setting: Setting) -> Draft[SettingChanged]:
    def work(db: Writable) -> SettingChanged:
        table.remove(db, setting.key)
        audit.record(
            table.app,
            db,
            "settings.reset",
            "settings",
            setting.key,
            {"key": setting.key, "from": setting.value},
        )
        return SettingChanged(setting=setting, before=setting.value, changed=True)

    steps = [f"remove {setting.key} (it is {setting.value!r})"]
    return Draft(
        Plan(title=f"Reset {setting.key}", target=table.db.target, steps=steps, rows={table.live.name: 1}),
        work,
    )


def _differences(table: SettingTable, wanted: Mapping[str, object]) -> list[Difference]:
    live = {setting.key: setting.value for setting in table.read()}
    found = []
    for key in sorted({**live, **wanted}):
        if key not in wanted:
            found.append(Difference(key=key, state="only-live", live=live[key], file=None))
        elif key not in live:
            found.append(Difference(key=key, state="add", live=None, file=wanted[key]))
        elif live[key] != wanted[key] or isinstance(live[key], bool) is not isinstance(wanted[key], bool):
            found.append(Difference(key=key, state="change", live=live[key], file=wanted[key]))
    return found


def _flat(told: Mapping[str, object]) -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for key, value in told.items():
        if isinstance(value, dict) and "." not in key:
            flat += [(f"{key}.{rest}", inner) for rest, inner in value.items()]
        else:
            flat.append((key, value))
    return flat
