"""Set and reset one setting, and apply the settings of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.usage import ValueInvalidError
from dbctl.errors.users import SettingMissingError
from dbctl.model import ChangeResult, Effect, Page, Plan, Row, Struct
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import UNDO_IMPOSSIBLE, Change, Prepared
from dbctl.services.app.secrets import is_secret_setting, is_secret_value
from dbctl.services.app.validation import truncate
from dbctl.services.deletion.cascade import add_dependent_rows
from dbctl.services.settings.queries import open_for_login
from dbctl.services.settings.store import (
    Setting,
    SettingOwner,
    SettingStore,
    find_section,
    scope_of,
    settings_database,
)
from dbctl.services.settings.values import is_equal, to_json

Mode = Literal["create-only", "merge", "exact"]
MODES: Sequence[Mode] = ("create-only", "merge", "exact")  #: each does more than the previous one
NEW_KEYS_HINT = "Use --new-keys to add unknown keys."


class Difference(Struct, frozen=True, kw_only=True):
    """A setting with different values in a file and in the app."""

    key: str
    state: Literal["add", "change", "only-live"]
    live: object
    file: object


class SettingChanged(ChangeResult, frozen=True, kw_only=True):
    """Result of ``settings set`` and ``settings reset``."""

    setting: Setting
    before: object
    changed: bool
    added: bool = False
    removed: bool = False

    @property
    def effect(self) -> Effect | None:
        verb = "added" if self.added else "removed" if self.removed else "changed"
        return Effect(verb, "setting", [self.setting.key]) if self.changed else None

    def summary(self) -> Row:
        return {
            "key": self.setting.key,
            "before": self.before,
            "value": self.setting.value,
            "changed": self.changed,
        }


class SettingsApplied(ChangeResult, frozen=True, kw_only=True):
    """Result of ``settings apply``."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]

    @property
    def effect(self) -> Effect | None:
        keys = {"added": self.added, "changed": self.changed, "removed": self.removed}
        counts = {name: len(names) for name, names in keys.items()}
        total = sum(counts.values())
        return Effect("applied", "setting", count=total, counts=counts) if total else None


def set_setting(app: App, key: str, text: str, *, login: SettingOwner = "") -> SettingsChange[SettingChanged]:
    """Set a setting to the value of ``text``, parsed by its type.

    A missing setting is added if it belongs to a user, if the app accepts any key, or if it is a standard setting of the app.
    """

    def draft(db: Readable) -> ChangeSetting:
        store = open_for_login(app, login, db)
        try:
            setting = store.find(key)
        except SettingMissingError:
            if not (login or store.accepts_new(key)):
                raise
            return ChangeSetting.add(store, key, store.parse_new(key, text), "set")
        return ChangeSetting.change(store, setting, store.parse(key, text, setting.type), "set")

    return SettingsChange(app, login, draft)


def reset_setting(app: App, key: str, *, login: SettingOwner = "") -> SettingsChange[SettingChanged]:
    """Reset a setting to its default.

    A setting of a user is removed, so that the default of the app applies. A setting that the profile does not name is also
    removed. A standard setting without a row is added.

    Raises (when planned and when applied):
        ValueInvalidError: the setting has no default.
    """

    def draft(db: Readable) -> ChangeSetting:
        store = open_for_login(app, login, db)
        try:
            setting = store.find(key)
        except SettingMissingError:
            if login or key not in store.standard:
                raise
            return ChangeSetting.add(store, key, store.standard[key].value, "reset")
        if login or (setting.default is None and store.section.open and key not in store.section.keys):
            removal = Difference(key=setting.key, state="only-live", live=setting.value, file=None)
            return ChangeSetting(store, setting, removal, "reset")
        if setting.default is None:
            reason = "neither the database nor the profile has a default"
            raise ValueInvalidError(name="reset of", value=key, reason=reason)
        return ChangeSetting.change(store, setting, setting.default, "reset")

    return SettingsChange(app, login, draft)


def apply_file(
    app: App,
    file_settings: Mapping[str, object],
    mode: Mode,
    *,
    login: SettingOwner = "",
    new_keys: bool = False,
) -> SettingsChange[SettingsApplied]:
    """Apply the settings of a file in one transaction.

    ``create-only`` adds missing settings; ``merge`` also changes different ones; ``exact`` also removes settings that the file
    lacks, except secrets, because an export does not contain them. Unknown keys require ``new_keys``, except in settings of users.

    Raises (when planned and when applied):
        SettingMissingError: a key is unknown.
        ValueInvalidError: a value is invalid; nothing was changed.
    """

    def draft(db: Readable) -> ApplyFile:
        return ApplyFile(open_for_login(app, login, db), file_settings, mode, any_key=bool(login or new_keys))

    return SettingsChange(app, login, draft)


def compare_file(
    app: App, file_settings: Mapping[str, object], *, login: SettingOwner = ""
) -> Page[Difference]:
    store = open_for_login(app, login)
    items = [
        _mask(store, difference) for difference in _find_differences(_live(store).values(), file_settings)
    ]
    names = Difference.__struct_fields__
    return Page(items=items, total=len(items), column_names=names, empty_message="no difference")


R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class PreparedSettings(Prepared[R_co], Protocol[R_co]):
    def list_writes(self) -> Sequence[str]:
        """Return what it writes, as ``SettingStore.describe_write``."""


class SettingsChange(Change[R]):
    """A change of settings: a proof is only of the forms of values that its recordings show, so each draft is compared with it."""

    def __init__(
        self, app: App, login: SettingOwner, draft: Callable[[Readable], PreparedSettings[R]]
    ) -> None:
        """Describe a change; the draft also raises ``CommandUnprovenError``."""
        super().__init__(app, settings_database(app, scope_of(login)), self._check)
        self._draft, self._section = draft, find_section(app, scope_of(login))

    def list_writes(self) -> Sequence[str]:
        """Return what the change would write in the present state, as ``SettingStore.describe_write``."""
        return self._draft(self._app.reader(self._database)).list_writes()

    def _list_secrets(self, database: Readable, table: str) -> Sequence[str]:
        # the plan names the removed settings that are secret; other rows of their table have no secrets
        if self._section and table == self._section.table:
            return ()
        return super()._list_secrets(database, table)

    def _check(self, db: Readable) -> PreparedSettings[R]:
        prepared = self._draft(db)
        if self._app.core.proven:
            self._writes = prepared.list_writes()
            if self._app.configured.require:
                from dbctl.services.app import proofs

                proofs.require_proof(self._app, self._writes)
        return prepared


class ChangeSetting:
    """Add, change or remove one setting."""

    def __init__(
        self,
        store: SettingStore,
        setting: Setting,
        difference: Difference | None,
        verb: Literal["set", "reset"],
    ) -> None:
        self._store, self._setting, self._difference, self._verb = store, setting, difference, verb
        title = f"{verb.capitalize()} {setting.key}"
        self.plan = _create_plan(store, title, [difference] if difference else [])

    @classmethod
    def add(
        cls, store: SettingStore, key: str, value: object, verb: Literal["set", "reset"]
    ) -> ChangeSetting:
        """Add a setting; raises as ``SettingStore.check_new``."""
        setting = store.create_setting(key, value)
        store.check(setting, value)
        difference = Difference(key=key, state="add", live=None, file=value)
        return cls(store, structs.replace(setting, value=None), difference, verb)

    @classmethod
    def change(
        cls, store: SettingStore, setting: Setting, value: object, verb: Literal["set", "reset"]
    ) -> ChangeSetting:
        """Change a setting, unless it has the value; raises as ``SettingStore.check``."""
        store.check(setting, value)
        difference = Difference(key=setting.key, state="change", live=setting.value, file=value)
        return cls(store, setting, None if is_equal(setting.value, value) else difference, verb)

    def list_writes(self) -> Sequence[str]:
        """Return what is written, as ``SettingStore.describe_write``."""
        return _list_writes(self._store, self._difference, self._setting) if self._difference else ()

    def apply(self, db: Writable) -> SettingChanged:
        """Write the difference and the audit record."""
        store, key, setting = self._store, self._setting.key, self._setting
        if self._difference:
            _write(store, db, self._difference, setting)
            masked = _mask(store, self._difference)
            details = {**store.audit_details(), "key": key}
            details |= {"from": masked.live} if masked.state != "add" else {}
            details |= {"to": masked.file} if masked.state != "only-live" else {}
            audit.record(store.app, db, f"settings.{self._verb}", "settings", key, details)
        state = self._difference.state if self._difference else None
        is_removed = state == "only-live"
        return SettingChanged(
            setting=store.mask_setting(setting if is_removed else store.find(key)),
            before=store.mask_value(key, setting.value),
            changed=state is not None,
            added=state == "add",
            removed=is_removed,
        )


class ApplyFile:
    """Apply the differences between a file and the settings of a store."""

    def __init__(
        self, store: SettingStore, file_settings: Mapping[str, object], mode: Mode, *, any_key: bool
    ) -> None:
        self._store, self._live = store, _live(store)
        states = ["add", "change", "only-live"][: MODES.index(mode) + 1]
        differences = [
            difference
            for difference in _find_differences(self._live.values(), file_settings)
            if difference.state != "only-live" or not is_secret_setting(store.section, difference.key)
        ]
        self._differences = [item for state in states for item in differences if item.state == state]
        for difference in self._differences:
            if difference.state == "add":
                self._check_new(difference, any_key=any_key)
            elif difference.state == "change":
                store.check(self._live[difference.key], difference.file)
            else:
                store.check_removed(difference.key)
        is_destructive = any(difference.state == "only-live" for difference in self._differences)
        title = f"Apply settings of a file ({mode})"
        self.plan = _create_plan(store, title, self._differences, destructive=is_destructive)

    def _check_new(self, new: Difference, *, any_key: bool) -> None:
        store = self._store
        store.check_new(new.key, new.file)
        if not (any_key or store.accepts_new(new.key)):
            raise SettingMissingError(
                key=truncate(new.key),
                target=store.db.target,
                hint=NEW_KEYS_HINT,
                candidates=[*self._live, *store.standard],
            )

    def list_writes(self) -> Sequence[str]:
        """Return what is written, as ``SettingStore.describe_write``."""
        return [
            write
            for item in self._differences
            for write in _list_writes(self._store, item, self._live.get(item.key))
        ]

    def apply(self, db: Writable) -> SettingsApplied:
        """Write the differences and one audit record."""
        store, keys = self._store, dict[str, list[str]]()
        for difference in self._differences:
            _write(store, db, difference, self._live.get(difference.key))
            keys.setdefault(difference.state, []).append(difference.key)
        result = SettingsApplied(
            added=keys.get("add", []), changed=keys.get("change", []), removed=keys.get("only-live", [])
        )
        if self._differences:
            details = {**store.audit_details(), **structs.asdict(result)}
            login = store.user.login if store.user else ""
            audit.record(store.app, db, "settings.apply", "settings", login, details)
        return result


def _create_plan(
    store: SettingStore, title: str, differences: Sequence[Difference], *, destructive: bool = False
) -> Plan:
    """Return the plan, with the rows that foreign keys delete or change with the rows of removed settings."""
    plan = Plan(
        title=title,
        target=store.db.target,
        steps=[
            *(_describe(store, difference) for difference in differences),
            *_describe_lost(store, differences),
        ],
        rows={store.live.name: len(differences)} if differences else {},
        destructive=destructive,
    )
    removed = [difference.key for difference in differences if difference.state == "only-live"]
    where = [condition for key in removed for condition in store.where_removed(key)]
    return add_dependent_rows(plan, store.db, {store.live.name: where}) if where else plan


def _describe_lost(store: SettingStore, differences: Sequence[Difference]) -> Iterator[str]:
    """Yield the step about values that ``undo`` will not restore, because the log has no secrets."""
    lost = [item for item in differences if _is_lost(store, item)]
    if not lost or store.app.recorder is None:
        return
    if len(lost) == len(differences) and not any(_can_restore_rest(store, item) for item in lost):
        yield UNDO_IMPOSSIBLE
    else:
        yield f"undo will not restore the secrets {', '.join(item.key for item in lost)}"


def _is_lost(store: SettingStore, item: Difference) -> bool:
    section = store.section
    if section.object and section.secret:
        return True  # the log has the object of all settings as one secret
    is_secret = is_secret_setting(section, item.key) or any(map(is_secret_value, (item.live, item.file)))
    return is_secret and item.state != "add"


def _can_restore_rest(store: SettingStore, item: Difference) -> bool:
    """Return whether ``undo`` can restore something else: the other columns of the row of all settings, or the author of the earlier change."""
    if item.state == "only-live" and store.section.row:
        return not store.live.table.columns[store.live.column(store.section.fields["value"])].required
    return item.state == "change" and store.find(item.key).updated_by is not None


def _live(store: SettingStore) -> dict[str, Setting]:
    return {setting.key: setting for setting in store.read()}


def _find_differences(settings: Iterable[Setting], file_settings: Mapping[str, object]) -> list[Difference]:
    live = {setting.key: setting.value for setting in settings}
    differences = []
    for key in sorted({**live, **file_settings}):
        if key not in file_settings:
            differences.append(Difference(key=key, state="only-live", live=live[key], file=None))
        elif key not in live:
            differences.append(Difference(key=key, state="add", live=None, file=file_settings[key]))
        elif not is_equal(live[key], file_settings[key]):
            differences.append(Difference(key=key, state="change", live=live[key], file=file_settings[key]))
    return differences


def _mask(store: SettingStore, difference: Difference) -> Difference:
    live, file = (store.mask_value(difference.key, value) for value in (difference.live, difference.file))
    return structs.replace(difference, live=live, file=file)


def _describe(store: SettingStore, difference: Difference) -> str:
    """Return the step of the plan for a difference."""
    masked = _mask(store, difference)
    live, file = to_json(masked.live), to_json(masked.file)
    return {
        "add": f"add {difference.key} = {file}",
        "change": f"change {difference.key} from {live} to {file}",
        "only-live": f"remove {difference.key} (it is {live})",
    }[difference.state]


def _list_writes(store: SettingStore, difference: Difference, setting: Setting | None) -> Sequence[str]:
    """Return what the write of a difference shows; that of a removal is in no proof."""
    if difference.state == "only-live":
        return [f"removed {store.section.scope} values"]
    if difference.state == "add" or setting is None:
        setting = store.create_setting(difference.key, difference.file)
    return store.describe_write(setting)


def _write(store: SettingStore, db: Writable, difference: Difference, setting: Setting | None) -> None:
    if difference.state == "only-live":
        store.remove(db, difference.key)
    elif difference.state == "change" and setting:
        store.write(db, setting, difference.file)
    else:
        store.add(db, difference.key, difference.file)
