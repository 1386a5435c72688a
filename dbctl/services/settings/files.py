"""Compare the settings of an app with a file, and apply the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal

from msgspec import structs

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import SettingMissingError, UsageError
from dbctl.files import toml
from dbctl.model import ChangeResult, KeyText, Page, Plan, Struct
from dbctl.services.app import (
    App,
    Change,
    PreparedChange,
    audit,
    is_secret_setting,
    suggest_sentence,
    truncate,
)
from dbctl.services.settings.collection import SettingCollection
from dbctl.services.settings.queries import open_for_login, open_reader
from dbctl.services.settings.store import settings_database
from dbctl.services.settings.values import is_equal, load_json, to_json

Mode = Literal["create-only", "merge", "exact"]
NEW_KEYS_HINT = "Use --new-keys to add unknown keys."


class Difference(Struct, frozen=True, kw_only=True):
    """A setting with different values in a file and in the app."""

    key: str
    state: Literal["add", "change", "only-live"]
    live: object
    file: object


class SettingsApplied(ChangeResult, frozen=True, kw_only=True):
    """Result of ``settings apply``."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]


def diff(app: App, file_settings: Mapping[str, object], *, login: str | KeyText = "") -> Page[Difference]:
    """Return the differences between a file and the app."""
    collection = open_for_login(app, open_reader(app, login), login)
    differing = [
        structs.replace(
            difference,
            live=collection.mask_value(difference.key, difference.live),
            file=collection.mask_value(difference.key, difference.file),
        )
        for difference in _find_differences(collection, file_settings)
    ]
    names = Difference.__struct_fields__
    return Page(items=differing, total=len(differing), column_names=names, empty_message="no difference")


def apply(
    app: App,
    file_settings: Mapping[str, object],
    mode: Mode,
    *,
    login: str | KeyText = "",
    new_keys: bool = False,
) -> Change[SettingsApplied]:
    """Apply the settings of a file in one transaction.

    ``create-only`` adds missing settings; ``merge`` also changes different ones; ``exact`` also removes settings that the file
    lacks, except secrets, because an export does not contain them.

    Args:
        app: the app.
        file_settings: values by key.
        mode: see above.
        login: the user whose settings are changed; empty for the settings of the app.
        new_keys: accept unknown keys; settings of users always do.

    Raises (when planned and when applied):
        SettingMissingError: a key is unknown.
        ValueInvalidError: a value is invalid; nothing was changed.
    """

    def draft(db: Readable) -> PreparedChange[SettingsApplied]:
        collection = open_for_login(app, db, login)
        live = {setting.key: setting for setting in collection.store.read()}
        by_state: dict[str, list[Difference]] = {"add": [], "change": [], "only-live": []}
        for difference in _find_differences(collection, file_settings):
            by_state[difference.state].append(difference)
        added = by_state["add"]
        changed = by_state["change"] if mode != "create-only" else []
        only_live = by_state["only-live"] if mode == "exact" else []
        removed = [
            difference
            for difference in only_live
            if not is_secret_setting(collection.store.section, difference.key)
        ]
        for difference in added:
            _check_new(collection, difference, live, any_key=bool(login or new_keys))
        for difference in changed:
            collection.check(live[difference.key], difference.file)
        file_values = {
            difference.key: to_json(collection.mask_value(difference.key, difference.file))
            for difference in [*added, *changed]
        }
        live_values = {
            difference.key: to_json(collection.mask_value(difference.key, difference.live))
            for difference in [*changed, *removed]
        }
        steps = [f"add {difference.key} = {file_values[difference.key]}" for difference in added]
        steps += [
            f"change {difference.key} from {live_values[difference.key]} to {file_values[difference.key]}"
            for difference in changed
        ]
        steps += [f"remove {difference.key} (it is {live_values[difference.key]})" for difference in removed]

        def work(db: Writable) -> SettingsApplied:
            for difference in added:
                collection.store.add(db, difference.key, difference.file)
            for difference in changed:
                collection.store.write(db, live[difference.key], difference.file)
            for difference in removed:
                collection.store.remove(db, difference.key)
            result = SettingsApplied(
                added=[difference.key for difference in added],
                changed=[difference.key for difference in changed],
                removed=[difference.key for difference in removed],
            )
            if steps:
                details = {"added": result.added, "changed": result.changed, "removed": result.removed}
                login_name = collection.store.user.login if collection.store.user else ""
                audit.record(
                    app,
                    db,
                    "settings.apply",
                    "settings",
                    login_name,
                    {**collection.audit_details(), **details},
                )
            return result

        rows = {collection.store.live.name: len(steps)} if steps else {}
        title = f"Apply settings of a file ({mode})"
        return PreparedChange(
            Plan(title=title, target=db.target, steps=steps, rows=rows, destructive=bool(removed)), work
        )

    return Change(app, settings_database(app, "user" if login else "system"), "settings apply", draft)


def _check_new(
    collection: SettingCollection, new: Difference, live: Mapping[str, object], *, any_key: bool
) -> None:
    collection.check_new(new.key, new.file)
    if not (any_key or collection.accepts_new(new.key)):
        suggestion = suggest_sentence(new.key, [*live, *collection.store.standard])
        raise SettingMissingError(
            key=truncate(new.key),
            target=collection.store.db.target,
            suggestion=f"{suggestion} {NEW_KEYS_HINT}",
        )


def read_settings_file(raw: bytes, name: str) -> dict[str, object]:
    """Return the settings of a JSON file (also the output of ``-o json``) or, by the suffix of ``name``, of a TOML file.

    In TOML, a table is a category.

    Raises:
        UsageError: the file does not contain settings.
    """
    try:
        text = raw.decode("utf-8-sig")
        data = toml.loads(text) if name.endswith(".toml") else load_json(text)
    except toml.TomlError as error:
        raise UsageError(
            detail=f"{name}, line {error.problems[0].line}: {error.problems[0].reason}"
        ) from error
    except ValueError as error:  # also raised for text that is not UTF-8
        raise UsageError(detail=f"{name}: {error}") from error
    if isinstance(data, dict) and str(data.get("schema", "")).startswith("dbctl."):
        if not data["schema"].startswith("dbctl.settings.export/"):
            raise UsageError(detail=f"{name} is the output of another command; use dbctl settings export")
        data = data.get("data")
    if not isinstance(data, dict):
        raise UsageError(detail=f"{name} does not contain keys and values")
    settings = dict(_flatten(data)) if name.endswith(".toml") else data
    for key, value in settings.items():
        if not _is_json_value(value):
            raise UsageError(
                detail=f"{name}: a setting cannot have the type of {key} ({type(value).__name__})"
            )
    return settings


def _find_differences(collection: SettingCollection, file_settings: Mapping[str, object]) -> list[Difference]:
    live = {setting.key: setting.value for setting in collection.store.read()}
    differences = []
    for key in sorted({**live, **file_settings}):
        if key not in file_settings:
            differences.append(Difference(key=key, state="only-live", live=live[key], file=None))
        elif key not in live:
            differences.append(Difference(key=key, state="add", live=None, file=file_settings[key]))
        elif not is_equal(live[key], file_settings[key]):
            differences.append(Difference(key=key, state="change", live=live[key], file=file_settings[key]))
    return differences


def _is_json_value(value: object) -> bool:
    """Whether JSON can represent the value."""
    if isinstance(value, dict):
        return all(_is_json_value(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_json_value(item) for item in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def _flatten(data: Mapping[str, object]) -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for key, value in data.items():
        if isinstance(value, dict) and "." not in key:
            flat += [(f"{key}.{name}", inner) for name, inner in value.items()]
        else:
            flat.append((key, value))
    return flat
