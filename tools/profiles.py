"""Write the JSON Schemas of profiles and of the configuration, and the JSON caches of the built-in profiles.

``python -m tools.profiles`` writes them, as the first of ``make golden``.
"""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from binascii import crc32
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import msgspec

from dbctl.config import model as config
from dbctl.config.extension_sections import create_file_type, insert_after
from dbctl.config.model import CONFIG_SCHEMA
from dbctl.extensions import registry
from dbctl.extensions.base import SectionOwner
from dbctl.files import toml
from dbctl.files.atomic import write_atomically
from dbctl.profiles import loader
from dbctl.profiles.model import (
    base,
    cleanup,
    core,
    databases,
    integrity,
    profile,
    roles,
    search,
    settings,
    users,
)
from dbctl.profiles.variants import create_type, list_unknown_keys
from tools.compact_json import format_definitions

#: The modules of the model; if two have a class of the same name, the comments of the later are used.
MODULES = (config, base, databases, roles, users, core, settings, integrity, profile, search, cleanup)
#: Classes with sections of extensions, and which sections these are.
Owners: TypeAlias = Mapping[str, SectionOwner]
SCHEMA = Path(loader.__file__).with_name("profile.schema.json")


def build_schema() -> str:
    """Return the JSON Schema of a profile."""
    names, modules = _find_sections("profile_sections")
    owners: Owners = {"Profile": "profile_sections"}
    return _describe(create_type(names), "A profile of dbctl", [*MODULES, *modules], owners)


def build_config_schema() -> str:
    """Return the JSON Schema of ``dbctl.toml``."""
    names, modules = _find_sections("config_sections")
    of_apps, app_modules = _find_sections("app_sections")
    owners: Owners = {"ConfigFile": "config_sections", "AppConfig": "app_sections"}
    kind = create_file_type(frozenset((name,) for name in names), frozenset((name,) for name in of_apps))
    return _describe(kind, "The configuration of dbctl", [config, *modules, *app_modules], owners)


def _find_sections(owner: SectionOwner) -> tuple[frozenset[str], Sequence[ModuleType]]:
    """Return the names of the sections of extensions, and the modules of their types."""
    sections = {name: section for name, section in registry.list_sections(owner, ()).items() if section}
    places = [section.kind.partition(":")[0] for section in sections.values()]
    return frozenset(sections), [import_module(place) for place in places]


def _describe(kind: type[msgspec.Struct], title: str, modules: Sequence[ModuleType], owners: Owners) -> str:
    """Return the JSON Schema of ``kind``; the ``#:`` comments of the model describe its keys, except for sections of extensions.

    Args:
        kind: the type.
        title: of the schema.
        modules: the modules of the model.
        owners: the classes with sections of extensions, and which sections these are.
    """
    definitions = msgspec.json.schema(kind)
    fields: dict[str, dict[str, str]] = {}
    comments = {name: comment for module in modules for name, comment in _key_comments(module, fields)}
    for name, owner in owners.items():
        for section_name, section in registry.list_sections(owner, ()).items():
            if section:
                comments[name, section_name] = section.meaning
                definition = definitions["$defs"][name]
                moved = definition["properties"].pop(section_name)
                definition["properties"] = insert_after(
                    definition["properties"], section.after, section_name, moved
                )
    for class_name, definition in definitions["$defs"].items():
        definition["description"] = " ".join(definition.get("description", "").split())
        for key, described in definition.get("properties", {}).items():
            described["description"] = comments[class_name, key]
    header = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return format_definitions(header | definitions)


def encode_cache(path: Path) -> str:
    """Return a TOML file as the JSON text of ``loader.Cache``."""
    values = toml.loads(toml.read_text(path))
    content = {"source_crc32": crc32(path.read_bytes()), "profile": values}
    if path != loader.SOURCE and (names := list_unknown_keys(values)):
        content["added_sections"] = sorted(names)
    return format_definitions(content)


def generated_files() -> Mapping[Path, str]:
    """Return the path and text of every generated file."""
    built_in = [*(loader.path_of(name) for name in loader.names()), loader.SOURCE]
    schemas = {SCHEMA: build_schema(), CONFIG_SCHEMA: build_config_schema()}
    return schemas | {path.with_suffix(".json"): encode_cache(path) for path in built_in}


def _key_comments(
    module: ModuleType, fields: dict[str, dict[str, str]]
) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield class and key of each field, and its ``#:`` comment, or else that of its type in ``base``.

    ``fields`` has the comments of the classes of earlier modules, which may be base classes; those of this module are added.
    """
    types = {name: comment for name, comment, _ in _comments(base, ast.parse(inspect.getsource(base)))}
    for definition in ast.parse(inspect.getsource(module)).body:
        if not isinstance(definition, ast.ClassDef):
            continue
        kind = getattr(module, definition.name)
        if not issubclass(kind, msgspec.Struct):
            continue
        inherited = fields.get(kind.__base__.__name__, {})
        fields[kind.__name__] = inherited | {
            name: comment or types.get(annotation, "")
            for name, comment, annotation in _comments(module, definition)
        }
        for field in msgspec.structs.fields(kind):
            yield (kind.__name__, field.encode_name), fields[kind.__name__][field.name]


def _comments(module: ModuleType, owner: ast.Module | ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Yield each assigned name, its ``#:`` comment, at the end of its line or on the lines above, and its annotation."""
    source = inspect.getsource(module)
    marked = {
        token.start[0]: token.string.removeprefix("#:").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.string.startswith("#:")
    }
    statements = [part for part in owner.body if isinstance(part, ast.Assign | ast.AnnAssign)]
    for statement in statements:
        first = statement.lineno
        while first - 1 in marked and not any(other.end_lineno == first - 1 for other in statements):
            first -= 1
        lines = [marked[line] for line in range(first, (statement.end_lineno or first) + 1) if line in marked]
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        annotation = ast.unparse(statement.annotation) if isinstance(statement, ast.AnnAssign) else ""
        yield ast.unparse(target), " ".join(lines), annotation.removesuffix(" | None")


if __name__ == "__main__":
    for file, text in generated_files().items():
        with write_atomically(file, mode=0o644, replace=True) as out:
            out.write(text)
