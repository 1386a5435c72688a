"""The type of a file of the configuration that has sections of extensions; only such files need it."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from dbctl.config.model import AppConfig, ConfigFile
from dbctl.extensions import registry


@cache
def create_file_type(names: frozenset[str]) -> type[ConfigFile]:
    """Return the type of a file whose apps have keys with these names, which the core does not know.

    It has the sections of all extensions, because the error for an unknown key suggests them; only the modules of those in ``names``
    are imported. A section of an absent extension may have any content, which nothing reads.
    """
    fields = list[tuple[str, Any, Any]]()
    for name, section in registry.list_app_sections(names).items():
        kind = registry.load(section.kind) if section and name in names else None
        fields.append((name, kind, kind()) if kind else (name, Any, None))
    app = _extend(AppConfig, fields)
    file: type[ConfigFile] = _extend(ConfigFile, [("apps", dict[str, app], {})])  # type: ignore[valid-type] # a type of this run
    return file


def read_extension_sections(app: AppConfig) -> Mapping[str, msgspec.Struct]:
    """Return the sections of installed extensions."""
    names = app.__struct_fields__[len(AppConfig.__struct_fields__) :]
    values = {name: getattr(app, name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, msgspec.Struct)}


def _extend(kind: Any, fields: list[tuple[str, Any, Any]]) -> Any:
    return msgspec.defstruct(
        kind.__name__,
        fields,
        bases=(kind,),
        namespace={"__doc__": kind.__doc__},
        frozen=True,
        forbid_unknown_fields=True,
    )
