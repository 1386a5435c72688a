"""Write the JSON Schema of profiles, and the JSON caches of the built-in profiles.

python -m dbctl.profiles.generate
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import tokenize
from binascii import crc32
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from dbctl.files import toml, write_atomically
from dbctl.profiles import ledgers, loader
from dbctl.profiles.model import (
    cleanup,
    databases,
    integrity,
    profile,
    rebuild,
    reports,
    search,
    semantic,
    sessions,
    settings,
    users,
)

#: The modules of the model; if two have a class of the same name, the comments of the later are used.
MODULES = (
    databases,
    users,
    settings,
    integrity,
    reports,
    profile,
    semantic,
    sessions,
    search,
    cleanup,
    rebuild,
)
SCHEMA = Path(__file__).with_name("profile.schema.json")


def build_schema() -> str:
    """Return the JSON Schema of a profile; the ``#:`` comments of the model describe its keys."""
    definitions = msgspec.json.schema(profile.Profile)
    comments = {name: comment for module in MODULES for name, comment in _comments(module)}
    for kind, definition in definitions["$defs"].items():
        definition["description"] = " ".join(definition.get("description", "").split())
        for key, described in definition.get("properties", {}).items():
            if comment := comments.get((kind, key)):
                described["description"] = comment
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A profile of dbctl"}
    return json.dumps(title | definitions, indent=2) + "\n"


def encode_cache(path: Path) -> str:
    """Return a TOML file as the JSON text of ``loader.CachedProfile`` or ``ledgers.CachedLedgers``."""
    values, _ = toml.load(path)
    return json.dumps({"source_crc32": crc32(path.read_bytes()), "profile": values}, indent=1) + "\n"


def generated_files() -> Mapping[Path, str]:
    """Return the path and text of every generated file."""
    built_in = [*(loader.path_of(name) for name in loader.names()), ledgers.SOURCE]
    return {SCHEMA: build_schema()} | {path.with_suffix(".json"): encode_cache(path) for path in built_in}


def _comments(module: ModuleType) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield class and key of each field, and its ``#:`` comment, at the end of its line or on the lines above."""
    source = inspect.getsource(module)
    marked = {
        token.start[0]: token.string.removeprefix("#:").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.string.startswith("#:")
    }
    for kind in ast.parse(source).body:
        if not (isinstance(kind, ast.ClassDef) and issubclass(getattr(module, kind.name), msgspec.Struct)):
            continue
        fields = [statement for statement in kind.body if isinstance(statement, ast.AnnAssign)]
        for field in fields:
            first = field.lineno
            while first - 1 in marked and not any(statement.end_lineno == first - 1 for statement in fields):
                first -= 1
            lines = [marked[line] for line in range(first, (field.end_lineno or first) + 1) if line in marked]
            yield (kind.name, _key(getattr(module, kind.name), field)), " ".join(lines)


def _key(kind: Any, field: ast.AnnAssign) -> str:
    """Return the key of a field in TOML."""
    name = field.target.id if isinstance(field.target, ast.Name) else ""
    return next(
        (field_info.encode_name for field_info in msgspec.structs.fields(kind) if field_info.name == name),
        name,
    )


if __name__ == "__main__":
    for file, text in generated_files().items():
        with write_atomically(file, mode=0o644, replace=True) as out:
            out.write(text)
