"""The extensions: those of dbctl itself as a literal table, and those of other distributions as entry points.

The table costs nothing at the start of a command, because its objects import nothing. Entry points are read only for a name that
neither the core nor the table has, and by commands that list everything: reading them takes as long as a tenth of ``users list``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from dbctl.extensions.base import Extension, Place

_PACKAGE = __name__.rpartition(".")[0]

#: All extensions of dbctl itself, also those whose package is not installed.
BUILT_IN: Sequence[Extension] = (
    Extension(name="metrics", groups={"metrics": "dbctl.extensions.metrics.commands"}),
    Extension(
        name="transfer",
        parts={
            "mysql": "dbctl.engines.mysql.transfer.native:create_parts",
            "postgresql": "dbctl.engines.postgresql.transfer.native:create_parts",
            "sqlite": "dbctl.engines.sqlite.transfer.native:create_parts",
        },
    ),
)


@cache
def list_built_in() -> Sequence[Extension]:
    """Return the extensions of dbctl itself whose packages are installed."""
    with os.scandir(os.path.dirname(__file__)) as entries:  # noqa: PTH120 - pathlib takes longer
        names = {entry.name for entry in entries}
    return [extension for extension in BUILT_IN if extension.name in names]


def list_absent() -> Iterator[str]:
    """Yield the groups and commands of extensions of dbctl itself whose packages are not installed."""
    for extension in BUILT_IN:
        if extension not in list_built_in():
            yield from (*extension.groups, *extension.commands)


def find_group(name: str) -> Place | None:
    """Return the module of a group of commands; None: no extension has it."""
    return next((item.groups[name] for item in list_built_in() if name in item.groups), None)


def list_commands(group: str) -> Mapping[str, Place]:
    """Return the modules of the commands that extensions add to a group of the core, by their names in it."""
    return {
        words.removeprefix(f"{group} "): place
        for extension in list_built_in()
        for words, place in extension.commands.items()
        if words.rpartition(" ")[0] == group
    }


def list_parts(engine: str) -> Sequence[Place]:
    """Return the functions that create the parts of extensions for a database of an engine."""
    return [extension.parts[engine] for extension in list_built_in() if engine in extension.parts]


def load(place: Place) -> Any:
    """Import a module, or an attribute of one."""
    module, _, attribute = place.partition(":")
    imported = import_module(module)
    return getattr(imported, attribute) if attribute else imported
