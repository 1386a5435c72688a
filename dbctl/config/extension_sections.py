"""The type of a file that has sections of extensions; only such files need it."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Collection
from functools import cache
from typing import Any, TypeVar

import msgspec

from dbctl.config.model import AppConfig, ConfigFile
from dbctl.extensions import registry
from dbctl.extensions.base import SectionOwner

T = TypeVar("T", bound=msgspec.Struct)


@cache
def create_file_type(names: frozenset[str], of_apps: frozenset[str]) -> type[ConfigFile]:
    """Return the type of ``dbctl.toml`` with keys that the core does not know: those of the file, and those of its apps."""
    app = add_sections(AppConfig, "app_sections", of_apps)
    file = _extend(ConfigFile, [("apps", dict[str, app], {})], kw_only=False)  # type: ignore[valid-type] # a type of this run
    return add_sections(file, "config_sections", names)


def add_sections(kind: type[T], owner: SectionOwner, names: Collection[str]) -> type[T]:
    """Return a type with the fields of ``kind``, and the sections of all extensions, which are None if they are missing.

    It has all, because the error for an unknown key suggests them; only the modules of those in ``names`` are imported. A section
    of an absent extension may have any content, which nothing reads.
    """
    fields = list[tuple[str, Any, Any]]()
    for name, section in registry.list_sections(owner, names).items():
        section_kind = registry.load(section.kind) | None if section and name in names else Any
        fields.append((name, section_kind, None))
    return _extend(kind, fields, kw_only=True)


def _extend(kind: type[T], fields: list[tuple[str, Any, Any]], *, kw_only: bool) -> type[T]:
    return msgspec.defstruct(  # type: ignore[return-value] # a subclass of ``kind``
        kind.__name__,
        fields,
        bases=(kind,),
        namespace={"__doc__": kind.__doc__},
        frozen=True,
        kw_only=kw_only,
        forbid_unknown_fields=True,
    )
