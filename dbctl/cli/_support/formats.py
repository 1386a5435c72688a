"""Check that a command supports the requested format, before it does any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbctl.render
from dbctl.cli._support.group import read_spec
from dbctl.cli._support.options import command_path
from dbctl.errors.usage import FormatNotSupportedError, UsageError
from dbctl.render.envelope import schema
from dbctl.render.streams import Format
from dbctl.render.template import parse_template

if TYPE_CHECKING:
    from typer._click import Context

#: The JSON Schemas of all results.
SCHEMAS = Path(dbctl.render.__file__).with_name("answers.schema.json")


def require_findings(ctx: Context, output: Format) -> None:
    """Check that a command returns findings.

    Raises:
        FormatNotSupportedError: it does not.
    """
    spec = read_spec(ctx)
    if not spec.findings:
        raise FormatNotSupportedError(command=spec.name, format=output)


def check_template(ctx: Context, text: str, *, explicit_output: str | None) -> None:
    """Check a template, of a change also its fields.

    Args:
        ctx: the context of a command or of a group.
        text: the template.
        explicit_output: the value of ``-o``; its variable and its default are replaced by a template.

    Raises:
        UsageError: ``-o`` has another format.
        TemplateInvalidError: the syntax is wrong, or the result of the change does not have a field.
    """
    if explicit_output not in (None, Format.TEMPLATE):
        raise UsageError(detail=f"--template cannot be combined with -o {explicit_output}")
    template = parse_template(text)
    if not hasattr(ctx.command, "commands"):
        template.check_fields(_list_fields_of_change(schema(command_path(ctx))))


def _list_fields_of_change(name: str) -> Sequence[str]:
    """Return the fields of the results of a command with a plan; empty if it has none, or if they are not known."""
    import json

    schemas = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    answer = schemas["answers"].get(name, {"properties": {"data": {"anyOf": []}}})
    results = [_resolve(schemas, part) for part in answer["properties"]["data"]["anyOf"]]
    if not any(result.get("title") == "DryRunResult" for result in results):
        return ()
    fields = dict[str, None]()
    for result in results[:-1]:  # the last is null
        is_page = "has_more" in result.get("properties", ())
        row = _resolve(schemas, result["properties"]["items"]["items"]) if is_page else result
        if "x-rows" in row or "properties" not in row:
            return ()
        fields |= dict.fromkeys(row["properties"])
    return list(fields)


def _resolve(schemas: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = schemas["$defs"].get(part.get("$ref", "").rpartition("/")[2], part)
    return definition
