"""The names and texts of all commands, without their modules: ``commands.json``, which ``make golden`` writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from dbctl.extensions.base import Extension
from dbctl.model import Struct

FILE = Path(__file__).with_name("commands.json")


class CatalogGroup(Struct, frozen=True, kw_only=True):
    """A group of commands, or a single command."""

    section: str
    help: str
    commands: Sequence[str]  #: their names in the group; empty: it is a single command


class Catalog(Struct, frozen=True, kw_only=True):
    """All commands, in the order of the help of dbctl."""

    groups: Mapping[str, CatalogGroup]
    examples: Mapping[str, str]  #: those of the help of dbctl, with their meaning


@cache
def read_catalog() -> Catalog:
    """Return the generated file, which a test compares with the declarations, without the commands of absent extensions."""
    from msgspec import json, structs

    from dbctl.extensions import registry

    catalog = json.decode(FILE.read_bytes(), type=Catalog)
    absent = set(registry.list_absent())
    groups = {
        name: structs.replace(
            group, commands=[word for word in group.commands if f"{name} {word}" not in absent]
        )
        for name, group in catalog.groups.items()
        if name not in absent
    }
    for other in registry.list_third_party():
        if other.extension:
            _add_commands(groups, other.extension)
    return structs.replace(catalog, groups=groups)


def _add_commands(groups: dict[str, CatalogGroup], extension: Extension) -> None:
    """Add the commands of another distribution; those of a module that cannot be imported are omitted."""
    from msgspec import structs

    from dbctl.errors.usage import ExtensionInvalidError
    from dbctl.extensions import registry

    for name, place in extension.groups.items():
        with suppress(ExtensionInvalidError):
            group = registry.load(f"{place}:GROUP")
            words = [str(info.name) for info in group.infos if info.name != name]
            groups[name] = CatalogGroup(section=group.section, help=group.help, commands=words)
    for path, place in extension.commands.items():
        name, _, word = path.rpartition(" ")
        if name in groups and registry.is_usable(f"{place}:GROUP"):
            groups[name] = structs.replace(groups[name], commands=[*groups[name].commands, word])


def omit_absent(text: str) -> str:
    """Return a text without its lines about commands of absent extensions, which have two spaces before ``dbctl``."""
    from dbctl.extensions import registry

    names = "|".join(registry.list_absent())
    return re.sub(rf"^.*  dbctl ({names})\b.*\n", "", text, flags=re.MULTILINE) if names else text
