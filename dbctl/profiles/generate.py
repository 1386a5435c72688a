"""Writes what is made of the profiles' sources: their JSON Schema, and the built-in ones in a form that loads fast.

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

from dbctl.files import toml, written_whole
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

#: The modules of the model; where two have a class of one name, the comments of the later one count.
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


def schema() -> str:
    """Return the JSON Schema of a profile; the ``#:`` comments of the model describe its keys."""
    made = msgspec.json.schema(profile.Profile)
    told = {name: about for module in MODULES for name, about in _comments(module)}
    for kind, definition in made["$defs"].items():
        definition["description"] = " ".join(definition.get("description", "").split())
        for key, described in definition.get("properties", {}).items():
            if about := told.get((kind, key)):
                described["description"] = about
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A profile of dbctl"}
    return json.dumps(title | made, indent=2) + "\n"


def prepared(path: Path) -> str:
    """Return a file of TOML that ships with dbctl as ``loader.Prepared`` and ``ledgers.Prepared`` read it."""
    told, _ = toml.load(path)
    return json.dumps({"of": crc32(path.read_bytes()), "profile": told}, indent=1) + "\n"


def files() -> Mapping[Path, str]:
    """Return every file that is made here, and what it holds."""
    built_in = [*(loader.path_of(name) for name in loader.names()), ledgers.SOURCE]
    return {SCHEMA: schema()} | {path.with_suffix(".json"): prepared(path) for path in built_in}


def _comments(module: ModuleType) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield class and key, and the comment that begins with ``#:`` beside the field or on the lines above it."""
    source = inspect.getsource(module)
    marked = {
        token.start[0]: token.string.removeprefix("#:").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.string.startswith("#:")
    }
    for kind in ast.parse(source).body:
        if not (isinstance(kind, ast.ClassDef) and issubclass(getattr(module, kind.name), msgspec.Struct)):
            continue
        fields = [one for one in kind.body if isinstance(one, ast.AnnAssign)]
        for field in fields:
            first = field.lineno
            while first - 1 in marked and not any(one.end_lineno == first - 1 for one in fields):
                first -= 1
            lines = [marked[line] for line in range(first, (field.end_lineno or first) + 1) if line in marked]
            yield (kind.name, _key(getattr(module, kind.name), field)), " ".join(lines)


def _key(kind: Any, field: ast.AnnAssign) -> str:
    """Return how a profile spells a field."""
    name = field.target.id if isinstance(field.target, ast.Name) else ""
    return next((one.encode_name for one in msgspec.structs.fields(kind) if one.name == name), name)


if __name__ == "__main__":
    for file, text in files().items():
        with written_whole(file, mode=0o644, replace=True) as out:
            out.write(text)
