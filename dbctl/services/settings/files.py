"""Settings kept in a file: what differs, and bringing the app to what the file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal

from msgspec import structs

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import SettingMissingError, UsageError
from dbctl.files import toml
from dbctl.model import Done, Id, Page, Plan, Value
from dbctl.services.app import App, Change, Draft, audit, cut, hint, is_secret
from dbctl.services.settings.queries import reader_for, table_for
from dbctl.services.settings.table import SettingTable, database_of
from dbctl.services.settings.values import load_json, same, spelled

Mode = Literal["create-only", "merge", "exact"]
#: What a refusal of unknown keys adds.
NEW_KEYS = "To add keys that the app does not know: --new-keys."


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


def diff(app: App, wanted: Mapping[str, object], *, login: str | Id = "") -> Page[Difference]:
    """Return what differs between a file and the app."""
    table = table_for(app, reader_for(app, login), login)
    differing = [
        structs.replace(one, live=table.shown(one.key, one.live), file=table.shown(one.key, one.file))
        for one in _differences(table, wanted)
    ]
    names = Difference.__struct_fields__
    return Page(items=differing, total=len(differing), names=names, nothing="no difference")


def apply(
    app: App, wanted: Mapping[str, object], mode: Mode, *, login: str | Id = "", new_keys: bool = False
) -> Change[SettingsApplied]:
    """Bring the app's settings to what a file says, all in one transaction.

    ``create-only`` adds what is missing, ``merge`` also changes what differs, ``exact`` also removes what the file
    lacks, but for secrets: an export leaves them out.

    Args:
        app: the app.
        wanted: key and value of each.
        mode: as above.
        login: whose settings, where they are a user's.
        new_keys: whether keys are added that the app does not know; a user's own settings take any.

    Raises (when planned and when applied):
        SettingMissingError: the app does not know a key.
        ValueInvalidError: a value does not fit; nothing was changed.
    """

    def draft(db: Readable) -> Draft[SettingsApplied]:
        table = table_for(app, db, login)
        live = {setting.key: setting for setting in table.read()}
        parts: dict[str, list[Difference]] = {"add": [], "change": [], "only-live": []}
        for one in _differences(table, wanted):
            parts[one.state].append(one)
        added = parts["add"]
        changed = parts["change"] if mode != "create-only" else []
        lacking = parts["only-live"] if mode == "exact" else []
        removed = [one for one in lacking if not is_secret(table.told, one.key)]
        for one in added:
            _check_new(table, one, live, any_key=bool(login or new_keys))
        for one in changed:
            table.check(live[one.key], one.file)
        file = {one.key: spelled(table.shown(one.key, one.file)) for one in [*added, *changed]}
        held = {one.key: spelled(table.shown(one.key, one.live)) for one in [*changed, *removed]}
        steps = [f"add {one.key} = {file[one.key]}" for one in added]
        steps += [f"change {one.key} from {held[one.key]} to {file[one.key]}" for one in changed]
        steps += [f"remove {one.key} (it is {held[one.key]})" for one in removed]

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
                whose = table.user.login if table.user else ""
                audit.record(app, db, "settings.apply", "settings", whose, {**table.whose(), **facts})
            return done

        rows = {table.live.name: len(steps)} if steps else {}
        title = f"Apply settings of a file ({mode})"
        return Draft(
            Plan(title=title, target=db.target, steps=steps, rows=rows, destructive=bool(removed)), work
        )

    return Change(app, database_of(app, "user" if login else "system"), "settings apply", draft)


def _check_new(table: SettingTable, new: Difference, live: Mapping[str, object], *, any_key: bool) -> None:
    table.check_new(new.key, new.file)
    if not (any_key or table.takes_new(new.key)):
        near = hint(new.key, [*live, *(table.shape.standard if table.shape else ())])
        raise SettingMissingError(key=cut(new.key), target=table.db.target, near=f"{near} {NEW_KEYS}")


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
    if isinstance(told, dict) and str(told.get("schema", "")).startswith("dbctl."):
        if not told["schema"].startswith("dbctl.settings.export/"):
            raise UsageError(
                detail=f"{name} is an answer of another command; dbctl settings export gives keys and values"
            )
        told = told.get("data")
    if not isinstance(told, dict):
        raise UsageError(detail=f"{name} does not hold keys and values")
    wanted = dict(_flat(told)) if name.endswith(".toml") else told
    for key, value in wanted.items():
        if not _plain(value):
            raise UsageError(
                detail=f"{name}: {key} is of a kind that settings cannot have ({type(value).__name__})"
            )
    return wanted


def _differences(table: SettingTable, wanted: Mapping[str, object]) -> list[Difference]:
    live = {setting.key: setting.value for setting in table.read()}
    found = []
    for key in sorted({**live, **wanted}):
        if key not in wanted:
            found.append(Difference(key=key, state="only-live", live=live[key], file=None))
        elif key not in live:
            found.append(Difference(key=key, state="add", live=None, file=wanted[key]))
        elif not same(live[key], wanted[key]):
            found.append(Difference(key=key, state="change", live=live[key], file=wanted[key]))
    return found


def _plain(value: object) -> bool:
    """Return whether JSON could say the value, too."""
    if isinstance(value, dict):
        return all(_plain(one) for one in value.values())
    if isinstance(value, list):
        return all(_plain(one) for one in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def _flat(told: Mapping[str, object]) -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for key, value in told.items():
        if isinstance(value, dict) and "." not in key:
            flat += [(f"{key}.{rest}", inner) for rest, inner in value.items()]
        else:
            flat.append((key, value))
    return flat
