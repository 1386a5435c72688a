"""JSON Schemas of the answers of commands: those of dbctl itself are stored, those of other distributions are computed from their types."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from dbctl.errors.base import load_registry
from dbctl.errors.usage import ExtensionInvalidError
from dbctl.model import ChangeResult, Effect, Page, Plan
from dbctl.render.envelope import schema
from dbctl.spec import CommandSpec

#: The schemas of the commands of dbctl itself, which ``tools.reference`` writes.
SCHEMAS = Path(__file__).with_name("answers.schema.json")
#: The fields of a page that are only for drawing.
_DRAWN = ("column_names", "empty_message", "omitted_columns", "next_key")


def find_schema(spec: CommandSpec) -> dict[str, Any]:
    """Return the JSON Schema of the answers of a command, with the definitions that it uses.

    Raises:
        ExtensionInvalidError: the types of a command of another distribution have none.
    """
    name, schemas = schema(spec.name.split()), _read_stored()
    if name not in schemas["answers"]:
        owner = spec.answers.__module__.partition(".")[0]
        try:
            schemas = describe_answers({spec.name: spec.list_answers()})
        except Exception as error:
            reason = f"the answers of {spec.name} have no JSON Schema: {type(error).__name__}: {error}"
            raise ExtensionInvalidError(extension=owner, distribution=owner, reason=reason) from error
    used, unread = dict[str, Any](), [schemas["answers"][name]]
    while unread:
        for key in re.findall(r'"#/\$defs/([^"]+)"', json.dumps(unread.pop())):
            if key not in used:
                used[key] = schemas["$defs"][key]
                unread.append(used[key])
    return {**schemas["answers"][name], "$defs": used}


@cache
def _read_stored() -> dict[str, Any]:
    return dict(json.loads(SCHEMAS.read_text(encoding="utf-8")))


def describe_answers(types_by_name: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return the JSON Schemas of answers in their envelopes, by the names in their fields ``schema``, and the definitions that they use.

    ``types_by_name`` has the types of the results of each command.
    """
    types = [kind for kinds in types_by_name.values() for kind in kinds] + [Effect]
    references, parts = msgspec.json.schema_components(
        types, schema_hook=_describe_other, ref_template="#/$defs/{name}"
    )
    parts = {name: _describe_written(part, name) for name, part in parts.items()}
    for kind, reference in zip(types, references, strict=True):
        part = parts.get(reference.get("$ref", "").rpartition("/")[2], {})
        if isinstance(kind, type) and issubclass(kind, ChangeResult):
            part["properties"]["effect"] = {"anyOf": [{"$ref": "#/$defs/Effect"}, {"type": "null"}]}
            part["required"] = [*part["properties"]]
        summary = getattr(kind, "summary", None)
        if isinstance(kind, type) and summary and summary.__annotations__.get("return") == "Sequence[Row]":
            part["x-rows"] = True  # tables and templates have the rows of its summary
    unused, text = iter(references), {"type": "string"}
    answers = {
        schema(command.split()): {
            "title": f"dbctl {command} -o json",
            **_require(
                schema={"const": schema(command.split())},
                ok={"type": "boolean"},
                exit_code={"type": "integer"},
                target={"type": ["string", "null"]},
                data={"anyOf": [*(next(unused) for _ in kinds), {"type": "null"}]},
                warnings={"type": "array", "items": text},
                error={"anyOf": [{"$ref": "#/$defs/error"}, {"type": "null"}]},
            ),
        }
        for command, kinds in types_by_name.items()
    }
    error = _require(code={"enum": sorted(load_registry())}, message=text, hint=text)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Answers of dbctl with -o json, each under its name",
        "answers": answers,
        "$defs": {**parts, "error": error},
    }


def _require(**properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [*properties],
        "properties": properties,
        "additionalProperties": False,
    }


def _describe_other(kind: type) -> dict[str, Any]:
    """Return the schema of types that msgspec does not support: paths are strings, others any value."""
    return {"type": "string"} if issubclass(kind, Path) else {"description": "Any value."}


def _describe_written(part: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the schema of a struct as it is written: with derived fields, without those for drawing, and with extra columns as fields."""
    properties = dict(part.get("properties", {}))
    is_page = {*Page.__struct_fields__} <= properties.keys()
    for key in ("extra", *(_DRAWN if is_page else ())):
        properties.pop(key, None)
    for described in properties.values():
        described.pop("default", None)  # every field is written
    properties |= {"has_more": {"type": "boolean"}} if is_page else {}
    properties |= {"digest": {"type": "string"}} if name == Plan.__name__ else {}
    if "description" in part:  # before Python 3.13, further lines of a docstring are indented
        part = {**part, "description": cleandoc(part["description"])}
    text = json.dumps({**part, "properties": properties, "required": [*properties]})
    seconds = text.replace('"type": "string", "format": "duration"', '"type": "number"')
    return dict(json.loads(seconds))
