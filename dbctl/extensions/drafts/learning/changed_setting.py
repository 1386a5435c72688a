"""The setting that a demonstration changed, and its new value, as ``settings set`` takes it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from msgspec import structs

from dbctl.errors.base import DbctlError
from dbctl.errors.usage import ValueInvalidError
from dbctl.extensions.drafts.learning.recordings import Subject
from dbctl.extensions.drafts.learning.scene import Scene
from dbctl.extensions.drafts.learning.states import PREFIX, OpenDatabases, open_databases
from dbctl.files import temp
from dbctl.files.atomic import create_file
from dbctl.model import Struct
from dbctl.services.app.app import App
from dbctl.services.settings.queries import open_for_login
from dbctl.services.settings.store import Setting, SettingStore
from dbctl.services.settings.values import is_equal, to_json


class ChangedSetting(Struct, frozen=True, kw_only=True):
    """A setting whose value differs between two states."""

    key: str
    text: str | None  #: the value as ``settings set`` takes it; None: no text is read as it
    shown: str  #: the value for messages, in which a secret is masked


def name_setting(
    scene: Scene, profile: str, before: OpenDatabases, after: OpenDatabases, *, timeout: float
) -> tuple[Subject, str]:
    """Return the subject with the only setting that changed, and a note about it; nothing is added to one that was named.

    ``profile`` is the text of the profile after the lesson.

    Raises:
        DemonstrationWrongError: another setting than the named one changed.
    """
    subject = scene.subject
    with ExitStack() as stack:
        folder = stack.enter_context(temp.folder(Path(tempfile.gettempdir()), PREFIX))
        path = folder / "app.toml"
        with create_file(path) as file:
            file.write(profile.encode())
        apps = [
            stack.enter_context(open_databases(state.urls, str(path), folder, timeout=timeout))
            for state in (before, after)
        ]
        changed = [*_find_changed(apps[0], apps[1], subject.login)]
    if len(changed) != 1:
        return subject, ""
    setting = changed[0]
    if subject.setting:
        if subject.setting != setting.key:
            raise scene.create_error(
                f"the setting {setting.key!r} changed", "Pass the setting that was changed."
            )
        return subject, ""
    if setting.text is None:
        return subject, ""
    note = f"the states show the setting {setting.key} with the new value {setting.shown}"
    return structs.replace(subject, setting=setting.key, value=setting.text), note


def _find_changed(before: App, after: App, login: str) -> Iterator[ChangedSetting]:
    """Yield the settings of the app, and of the user, with another value."""
    for scope in {section.scope for section in after.core.settings}:
        owner = login if scope == "user" else ""
        if scope == "object" or (scope == "user" and not owner):
            continue
        try:
            earlier, later = (open_for_login(app, owner) for app in (before, after))
            known = {setting.key: setting for setting in earlier.read()}
            settings = [
                setting
                for setting in later.read()
                if setting.key not in known or not is_equal(setting.value, known[setting.key].value)
            ]
        except DbctlError:  # the profile does not describe the settings of these states: they name none
            continue
        for setting in settings:
            yield ChangedSetting(
                key=setting.key,
                text=_write_value(earlier, known.get(setting.key), setting),
                shown=to_json(later.mask_value(setting.key, setting.value)),
            )


def _write_value(store: SettingStore, known: Setting | None, changed: Setting) -> str | None:
    """Return the text that ``settings set`` reads as the value of a setting, before the action; None: there is none."""
    texts = [*([changed.value] if isinstance(changed.value, str) else []), to_json(changed.value)]
    for text in texts:
        try:
            value = (
                store.parse(changed.key, text, known.type) if known else store.parse_new(changed.key, text)
            )
        except ValueInvalidError:
            continue
        if is_equal(value, changed.value):
            return text
    return None
