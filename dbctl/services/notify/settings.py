"""The notifications of one app: its channels and rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import get_args

import msgspec

from dbctl.config.model import NotifyConfig, NotifyEvent
from dbctl.config.notify import fill_placeholders, merge_notify
from dbctl.config.sections import Sections
from dbctl.model import Severity
from dbctl.services.notify.channels.base import Channel, create_channels
from dbctl.units import parse_duration

DEFAULT_REPEAT = timedelta(days=3)
SEVERITIES: Sequence[Severity] = ("info", "warning", "error")


class NotifySettings:
    """The merged sections ``[notify]`` and ``[apps.NAME.notify]``."""

    def __init__(self, section: NotifyConfig, folder: Path) -> None:
        """Read nothing yet: channels read their secrets when they send."""
        self.section = section
        self.rules = frozenset(get_args(NotifyEvent) if section.on is None else section.on)
        self.repeat = parse_duration(section.repeat) if section.repeat else DEFAULT_REPEAT
        self.severity = SEVERITIES.index(section.severity or "error")
        self.channels: Sequence[Channel] = create_channels(section, folder)

    @property
    def key(self) -> bytes:
        """Equal for apps with the same settings."""
        return msgspec.json.encode(self.section)

    def find_ping(self, app: str, command: str) -> str:
        """Return the address that is pinged for a job, with its variables; empty: none is configured."""
        ping = self.section.ping
        text = ping if isinstance(ping, str) else dict[str, str](**ping).get(command, "")
        return fill_placeholders(text, {"app": _slug(app), "command": _slug(command)})


def read_settings(sections: Sections, app: str) -> NotifySettings:
    """Return the settings of an app or of an instance of a fleet; empty: those of all apps."""
    section = merge_notify(
        sections.notify, sections.apps.get(app) or sections.apps.get(app.partition("/")[0])
    )
    return NotifySettings(section, sections.folder)


def group_by_settings(
    sections: Sections, apps: Sequence[str]
) -> Sequence[tuple[NotifySettings, Sequence[str]]]:
    """Return the apps with equal settings together, so that one message is about all of them."""
    groups: dict[bytes, tuple[NotifySettings, list[str]]] = {}
    for app in apps or [""]:
        settings = read_settings(sections, app)
        groups.setdefault(settings.key, (settings, []))[1].append(app)
    return list(groups.values())


def _slug(text: str) -> str:
    """Return a name with the letters of the slugs of Healthchecks."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())
