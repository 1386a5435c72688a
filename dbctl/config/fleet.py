"""Fleets: apps with ``*`` in an address, which the name of an instance replaces: ``APP/INSTANCE``."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import re
from pathlib import Path

import msgspec

from dbctl.config.model import App
from dbctl.errors.fleets import InstanceNameInvalidError
from dbctl.errors.usage import FleetSelectedError
from dbctl.url import PLACEHOLDER, Url

#: Names of instances: they become parts of paths, addresses, folders of backups, and messages.
_NAME_PATTERN = r"\w[\w.@+-]*(?: [\w.@+-]+)*"
LONGEST_NAME = 100  #: characters


class FleetSelection(msgspec.Struct, frozen=True):
    """The instances of a fleet that a command processes; a plain app is its own only instance."""

    app: App
    pattern: str = ""  #: of names of instances: ``a*``; empty: all


def is_pattern(text: str) -> bool:
    """Whether the text selects instances by a pattern, and not by their name."""
    return not text or any(sign in text for sign in "*?[")


def is_valid_name(name: object) -> bool:
    """Whether an instance can have this name."""
    return isinstance(name, str) and len(name) <= LONGEST_NAME and bool(re.fullmatch(_NAME_PATTERN, name))


def select_instance(app: App, name: str) -> App:
    """Return one instance of a fleet as an app.

    Raises:
        FleetSelectedError: the name is a pattern, or empty: all instances are selected.
        InstanceNameInvalidError: no instance can have this name.
    """
    if is_pattern(name):
        raise FleetSelectedError(app=app.name, selections=[FleetSelection(app, name)])
    if not is_valid_name(name):
        raise InstanceNameInvalidError(app=app.name, name=name)
    return msgspec.structs.replace(
        app,
        name=f"{app.name}/{name}",
        fleet=app.name,
        databases={database: _fill(url, name) for database, url in app.databases.items()},
        replicas={
            database: msgspec.structs.replace(replica, url=_fill(replica.url, name))
            for database, replica in app.replicas.items()
        },
        directory=Path(str(app.directory).replace(PLACEHOLDER, name)),
    )


def _fill(url: Url, name: str) -> Url:
    options = url.options
    if PLACEHOLDER in options:
        from urllib.parse import quote

        options = options.replace(PLACEHOLDER, quote(name))
    return msgspec.structs.replace(url, path=url.path.replace(PLACEHOLDER, name), options=options)
