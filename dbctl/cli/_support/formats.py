"""Check that a command supports the requested format, before it does any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dbctl.cli._support.group import read_spec
from dbctl.errors.usage import ExtensionInvalidError, FormatNotSupportedError, UsageError
from dbctl.render.streams import Format
from dbctl.render.template import parse_template
from dbctl.spec import CommandSpec

if TYPE_CHECKING:
    from typer._click import Context


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
        template.check_fields(_list_fields_of_change(read_spec(ctx)))


def _list_fields_of_change(spec: CommandSpec) -> Sequence[str]:
    """Return the fields of the results of a command with a plan; empty if it has none, or if they are not known."""
    from dbctl.render.answers import find_schema

    try:
        answer = find_schema(spec)
    except ExtensionInvalidError:  # the types of another distribution, which its command does not need
        return ()
    results = [_resolve(answer, part) for part in answer["properties"]["data"]["anyOf"]]
    if not any(result.get("title") == "DryRunResult" for result in results):
        return ()
    fields = dict[str, None]()
    for result in results[:-1]:  # the last is null
        is_page = "has_more" in result.get("properties", ())
        row = _resolve(answer, result["properties"]["items"]["items"]) if is_page else result
        if "x-rows" in row or "properties" not in row:
            return ()
        fields |= dict.fromkeys(row["properties"])
    return list(fields)


def _resolve(answer: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = answer["$defs"].get(part.get("$ref", "").rpartition("/")[2], part)
    return definition
