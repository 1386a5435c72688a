"""``[defaults]``: sections of all apps, whose keys those of an app replace."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dbctl.files import toml

NAME = "defaults"
#: Sections that describe one deployment.
OF_ONE_APP = ("databases", "instances", "migrations", "replicas")


class SourceFile(msgspec.Struct, frozen=True):
    """One file of a configuration."""

    path: Path
    text: str
    values: Mapping[str, Any]  #: the parsed tables, without defaults
    defaults: "SourceFile | None" = None  #: the file with the defaults of its apps, which may be itself

    def locate(self, key: Sequence[toml.Key]) -> tuple["SourceFile", Sequence[toml.Key]]:
        """Return where a key of a section of this file is written: of an app, it may be a default, in its own file."""
        if self.defaults is None or len(key) <= 2 or key[0] != "apps":  # noqa: PLR2004 - apps.NAME
            return self, key
        own, default = self.count_existing(key), (NAME, *key[2:])
        is_default = self.defaults.count_existing(default) - len(default) > own - len(key)
        return (self.defaults, default) if is_default else (self, key)

    def has_variable(self, key: Sequence[toml.Key]) -> bool:
        """Whether the value of a key contains a variable."""
        value: Any = self.values
        for part in key:
            value = value.get(part) if isinstance(value, dict) else value
        return isinstance(value, str) and "${" in value

    def count_existing(self, key: Sequence[toml.Key]) -> int:
        """Return how many parts of a key are in the file."""
        value: Any = self.values
        for count, part in enumerate(key):
            if not isinstance(value, dict) or part not in value:
                return count
            value = value[part]
        return len(key)


def merge(default: Any, own: Any) -> Any:
    """Return a value of an app with its default: tables are merged by their keys; every other value, also a list, replaces its default."""
    if not (isinstance(default, dict) and isinstance(own, dict)):
        return own
    return {**default, **{key: merge(default.get(key), value) for key, value in own.items()}}


def merge_apps(source: SourceFile, *, reverse: bool = False) -> dict[str, Any]:
    """Return the tables of a file, whose apps have the defaults; ``reverse``: the defaults replace the keys of the apps."""
    values, apps = dict(source.values), source.values.get("apps")
    if source.defaults is not None and isinstance(apps, dict):
        defaults = source.defaults.values[NAME]
        values["apps"] = {
            name: merge(app, defaults) if reverse else merge(defaults, app) for name, app in apps.items()
        }
    return values
