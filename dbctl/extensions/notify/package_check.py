"""The check of ``doctor`` that the package of configured channels is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from dbctl.config import loader
from dbctl.extensions.notify.dispatch import NotifySettings
from dbctl.model import Finding
from dbctl.services.app.evidence.subjects import Needs, Subject, check, require

#: The channels that Apprise delivers.
CHANNELS = frozenset({"ntfy", "apprise"})


@check("notify-package-missing", "app", Needs.NOTHING)
def check_package(subject: Subject) -> Iterator[Finding]:
    """Yield the channels that can deliver nothing: who waits for a message would wait in vain."""
    require(not (subject.selection.profile and subject.selection.urls))  # otherwise no configuration is read
    settings = NotifySettings(loader.load_sections(subject.selection), subject.app.name)
    names = require([channel.name for channel in settings.channels if channel.name in CHANNELS])
    if find_spec("apprise") is None:
        message = f"no message is sent by {' and '.join(names)}: the Python package apprise is missing"
        hint = "Install it with: pip install 'dbctl[apprise]'"
        yield subject.finding("warning", "notify-package-missing", message, hint)
