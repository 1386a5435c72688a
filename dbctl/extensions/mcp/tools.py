"""The tools: one for each command whose declaration only reads, derived from the declaration and its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mcp import types
from typer.core import TyperOption

from dbctl.cli._catalog import read_catalog
from dbctl.cli.main import create_root
from dbctl.errors.usage import ExtensionInvalidError
from dbctl.model import Struct
from dbctl.render.answers import find_schema

#: Parameters whose value is a place on this machine or in its network. The agent is on another side of the border that it reads
#: through: it could read any file, and connect to any server.
_PLACES = re.compile(r"\b(FILE|DIR|DIRECTORY|PATH|URL|ADDRESS|PROFILE|A|B)\b")
#: Options that a tool lacks: they show secrets, write, such as a temporary database on the server, do not end within the default time, or are for terminals.
_REFUSED = frozenset({"--secrets", "--record", "--deep", "--watch", "--every", "--within", "--mark"})


class Tool(Struct, frozen=True, kw_only=True):
    """A command as a tool."""

    words: Sequence[str]  #: the command
    parameters: Mapping[str, Any]  #: by their names in the input, as Typer has parsed them
    offer: types.Tool  #: its name, such as ``users_list``, and its schemas


def list_tools(*, max_rows: int) -> Mapping[str, Tool]:
    """Return the tools by name; ``max_rows`` is the greatest ``limit`` that a call can request."""
    tools = (_create_tool(words, command, max_rows) for words, command in _list_commands())
    return {tool.offer.name: tool for tool in tools if tool}


def build_words(tool: Tool, arguments: Mapping[str, Any], *, max_rows: int) -> list[str]:
    """Return the command line of a call, whose arguments meet the schema of the tool. No value can become an option."""
    options, values = list[str](), list[str]()
    if "limit" in tool.parameters:
        arguments = {"limit": min(max_rows, tool.parameters["limit"].default or max_rows), **arguments}
    for name, value in arguments.items():
        parameter, items = tool.parameters[name], value if isinstance(value, list) else [value]
        if not isinstance(parameter, TyperOption):
            values += map(str, items)
        elif isinstance(value, bool):
            options += parameter.opts[:1] if value else parameter.secondary_opts[:1]
        else:
            options += [f"{parameter.opts[0]}={item}" for item in items]
    return [*tool.words, *options, "--", *values]


def _list_commands() -> Iterator[tuple[list[str], Any]]:
    root: Any = create_root()
    context = root.make_context("dbctl", [], resilient_parsing=True)
    for name, group in read_catalog().groups.items():
        command = root.get_command(context, name)
        yield from (([*name.split(), word], command.get_command(context, word)) for word in group.commands)
        if not group.commands:
            yield name.split(), command


def _create_tool(words: Sequence[str], command: Any, max_rows: int) -> Tool | None:
    """Return a command as a tool; None: it does not only read, or requires what no tool may pass."""
    spec = command.callback.spec
    offered: dict[str, Any] = {}
    for parameter in command.params:
        is_place = _PLACES.search(f"{parameter.metavar} {parameter.type.name}".upper())
        if is_place and parameter.required:
            return None
        is_refused = parameter.hidden or is_place or not _REFUSED.isdisjoint(parameter.opts)
        if parameter.name in {"app", "db"} or not is_refused:
            offered[str(parameter.name)] = parameter
    if spec.writes or spec.recorded or not spec.only_answers:
        return None
    schema = {
        "type": "object",
        "properties": {name: _describe(parameter, max_rows) for name, parameter in offered.items()},
        "required": [name for name, parameter in offered.items() if parameter.required],
        "additionalProperties": False,
    }
    output = None
    with suppress(ExtensionInvalidError):  # its tool has no schema
        output = find_schema(spec)
    offer = types.Tool(
        name="_".join(words).replace("-", "_"),
        description=str(command.help),
        input_schema=schema,
        output_schema=output,
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )
    return Tool(words=words, parameters=offered, offer=offer)


def _describe(parameter: Any, max_rows: int) -> Mapping[str, Any]:
    """Return the JSON Schema of one parameter."""
    schema: dict[str, Any] = {"type": "string"}
    if getattr(parameter, "is_flag", False):
        schema = {"type": "boolean"}
    elif parameter.metavar == "N":
        schema = {
            "type": "integer",
            "minimum": 0,
            **({"maximum": max_rows} if parameter.name == "limit" else {}),
        }
    elif choices := getattr(parameter.type, "choices", None):
        schema |= {"enum": [getattr(choice, "value", choice) for choice in choices]}
    if parameter.nargs != 1 or getattr(parameter, "multiple", False):
        schema = {"type": "array", "items": schema}
    return schema | {"description": str(getattr(parameter, "help", None) or parameter.metavar)}
