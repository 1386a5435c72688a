"""The server: it runs each call as a process of dbctl, whose run the journal records."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence

from jsonschema import Draft202012Validator
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from dbctl import __version__
from dbctl.extensions.mcp.tools import build_words, list_tools

#: Seconds that one call may take.
TIMEOUT = 120
#: Bytes of one answer: more would only fill the context of the agent.
MAX_BYTES = 1_000_000


def serve(words: Sequence[str], *, max_rows: int) -> None:
    """Serve until standard input ends. ``words`` are options for each call, such as ``--config=FILE``."""
    tools = list_tools(max_rows=max_rows)

    async def list_all(_context: object, _parameters: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool.offer for tool in tools.values()])

    async def call(_context: object, parameters: types.CallToolRequestParams) -> types.CallToolResult:
        tool, arguments = tools.get(parameters.name), parameters.arguments or {}
        if tool is None:
            return _fail(f"no such tool {parameters.name!r}")
        for error in Draft202012Validator(tool.offer.input_schema).iter_errors(arguments):
            return _fail(f"{'.'.join(map(str, error.path)) or 'the input'}: {error.message}")
        return await _run([*words, *build_words(tool, arguments, max_rows=max_rows)])

    async def run() -> None:
        server = Server("dbctl", version=__version__, on_list_tools=list_all, on_call_tool=call)
        async with stdio_server() as (reader, writer):
            await server.run(reader, writer, server.create_initialization_options())

    asyncio.run(run())


async def _run(words: Sequence[str]) -> types.CallToolResult:
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dbctl", "--output=json", "--quiet", *words),
            env=os.environ | {"DBCTL_RECORD": "all"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except (OSError, ValueError) as error:  # too long, or a character that no argument can have
        return _fail(f"the command cannot be started with this input: {error}")
    try:
        async with asyncio.timeout(TIMEOUT):
            output, message = await process.communicate()
    except TimeoutError:
        return _fail(f"the command did not end within {TIMEOUT} seconds")
    finally:  # also if the client has cancelled the call
        if process.returncode is None:
            process.kill()
            await process.wait()
    if len(output) > MAX_BYTES:
        return _fail(f"the answer has {len(output)} bytes; request fewer rows or columns")
    text = (output or message).decode("utf-8", "replace")
    answer = json.loads(text) if text.startswith('{"schema": "dbctl.') else None
    if not output or (answer and answer["data"] is None):
        return _fail(text)
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=answer
    )


def _fail(reason: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=reason)], is_error=True)
