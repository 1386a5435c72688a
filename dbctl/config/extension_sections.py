"""The type of a file that has sections of extensions; only such files need it."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias, TypeVar

import msgspec

from dbctl.config.model import CONFIG_SCHEMA, AppConfig, ConfigFile
from dbctl.errors.usage import ExtensionInvalidError
from dbctl.extensions import registry
from dbctl.extensions.base import SectionEntry, SectionOwner

#: A key, with the keys of the tables that contain it.
Path: TypeAlias = tuple[str, ...]

T = TypeVar("T", bound=msgspec.Struct)


def list_unknown(tables: Sequence[Mapping[str, Any]], kind: type[msgspec.Struct]) -> frozenset[Path]:
    """Return the keys of tables that a type does not have, and those of the tables below them."""
    keys = set[Path]()
    for table in tables:
        for key in table.keys() - {*kind.__struct_fields__}:
            keys.add((key,))
            if isinstance(table[key], dict):
                keys |= {(key, inner) for inner, value in table[key].items() if isinstance(value, dict)}
    return frozenset(keys)


@cache
def create_file_type(keys: frozenset[Path], of_apps: frozenset[Path]) -> type[ConfigFile]:
    """Return the type of ``dbctl.toml`` with keys that the core does not know: those of the file, and those of its apps."""
    app = add_sections(AppConfig, "app_sections", of_apps)
    file = _extend(ConfigFile, [("apps", dict[str, app], {})], kw_only=False)  # type: ignore[valid-type] # a type of this run
    return add_sections(file, "config_sections", keys)


def add_sections(kind: type[T], owner: SectionOwner, keys: Collection[Path]) -> type[T]:
    """Return a type with the fields of ``kind``, and the sections of all extensions, which are None if they are missing.

    It has all, because the error for an unknown key suggests them; only the modules of those in ``keys`` are imported. A section
    of an absent extension may have any content, which nothing reads.
    """
    sections = registry.list_sections(owner, {key[0] for key in keys}).items()
    fields: list[tuple[str, Any, Any]] = [
        (name, _load_kind(entry, [key for key in keys if key[0] == name]), None) for name, entry in sections
    ]
    return _extend(kind, fields, kw_only=True)


def _load_kind(entry: SectionEntry | None, keys: Collection[Path]) -> Any:
    """Return the type of a section, for those of ``keys`` that are below it; without any key its module is not imported."""
    if entry is None or not keys:
        return Any
    kind = registry.load(entry.kind)
    if entry.contains and (inner := {key[1:] for key in keys if {*key[1:2]} - {*kind.__struct_fields__}}):
        kind = add_sections(kind, entry.contains, inner)
    return kind | None


def read_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``dbctl.toml``, with the sections of other distributions; one that cannot be imported is missing."""
    schema: dict[str, Any] = msgspec.json.decode(CONFIG_SCHEMA.read_bytes())
    added = [other.extension for other in registry.list_third_party() if other.extension]
    for owner, (_, place) in registry.list_owners().items():
        definition = schema["$defs"].get(place.rpartition(":")[2])
        for extension in added if definition else ():
            template = f"#/$defs/{extension.name}.{{name}}"
            for name, entry in getattr(extension, owner).items():
                with suppress(ExtensionInvalidError):
                    kind = registry.load(entry.kind)
                    (reference,), parts = msgspec.json.schema_components([kind], ref_template=template)
                    schema["$defs"] |= {f"{extension.name}.{key}": part for key, part in parts.items()}
                    described = {
                        "anyOf": [reference, {"type": "null"}],
                        "default": None,
                        "description": entry.meaning,
                    }
                    definition["properties"] = insert_after(
                        definition["properties"], entry.after, name, described
                    )
    return schema


def insert_after(properties: Mapping[str, Any], after: str, name: str, described: object) -> dict[str, Any]:
    """Return the properties of a definition with a further one after another; at the end if there is none with that name."""
    items = [*properties.items()]
    items.insert([*properties, after].index(after) + 1, (name, described))
    return dict(items)


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
