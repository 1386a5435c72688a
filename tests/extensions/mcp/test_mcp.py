"""Commands that only read, as tools of an agent: through the client of the library, over standard input and output."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft202012Validator

from dbctl.extensions.mcp.tools import build_words, list_tools
from tests.cli import test_reference as sample
from tests.in_process import run_command
from tools import reference

if TYPE_CHECKING:  # mcp takes a second of each collection
    from mcp import Client, types

ROOT = Path(__file__).parents[3]
TOOLS = list_tools(max_rows=500)
#: Inputs that no tool may have.
REFUSED = {
    "secrets", "file", "html", "write", "repository", "migrations", "vector", "record", "within", "install", "dry_run", "password_file",
    "identity", "passphrase_file", "profile", "deep",
}  # fmt: skip


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.create_deployment(tmp_path_factory.mktemp("agents") / "document")


def connect(folder: Path, use: Callable[[Client], Awaitable[None]], *words: str) -> None:
    """Start the server in a folder, and use it with the client of the library, which checks each answer with its schema."""
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    environment["DBCTL_STATE"] = str(folder / "state")
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "dbctl", "mcp", *words], env=environment, cwd=folder
    )

    async def run() -> None:
        async with Client(stdio_client(server)) as client:
            await use(client)

    asyncio.run(run())


def text_of(result: types.CallToolResult) -> str:
    from mcp import types

    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


def test_tools_are_the_commands_that_only_read() -> None:
    commands = {" ".join(tool.words) for tool in TOOLS.values()}
    specs = reference.read_specs()
    assert all(specs[name].writes is None and not specs[name].recorded for name in commands)
    assert {"users list", "data query", "backup status", "migrate status", "search"} <= commands
    refused = {
        "config edit", "completions install", "man install", "users check-password", "notify test", "support", "backup create",
        "data export", "users delete", "restore apply", "schema diff", "transfer plan", "mcp",
    }  # fmt: skip
    assert not refused & commands


@pytest.mark.parametrize("name", TOOLS)
def test_tool_has_valid_schemas_and_cannot_show_secrets_or_name_places(name: str) -> None:
    tool = TOOLS[name].offer
    Draft202012Validator.check_schema(tool.input_schema)
    if tool.output_schema:
        Draft202012Validator.check_schema(tool.output_schema)
    names = {*tool.input_schema["properties"]}
    assert not names & REFUSED


def test_values_cannot_become_options() -> None:
    words = build_words(
        TOOLS["data_query"], {"sql": "--secrets", "parameters": ["a=--secrets"]}, max_rows=500
    )
    assert words.index("--secrets") > words.index("--")
    assert "--param=a=--secrets" in words
    assert words[:2] == ["data", "query"]


def test_agent_reads_and_each_call_is_a_run(deployment: Path) -> None:
    async def use(client: Client) -> None:
        listed = await client.list_tools()
        assert {tool.name for tool in listed.tools} == {*TOOLS}
        users = await client.call_tool("users_list", {"role": "user", "limit": 3})
        assert not users.is_error, text_of(users)
        assert users.structured_content is not None
        assert [user["role"] for user in users.structured_content["data"]["items"]] == ["user"] * 3
        rows = await client.call_tool(
            "data_query", {"sql": "select login, password_hash from users limit 1", "db": "user"}
        )
        assert rows.is_error  # the column has another name
        assert "login" in text_of(rows)
        hashes = await client.call_tool(
            "data_query", {"sql": "select password_hash from users limit 1", "db": "user"}
        )
        assert "reads the secret users.password_hash" in text_of(hashes)
        shown = await client.call_tool("data_rows", {"table": "users", "limit": 2})
        assert "***" in text_of(shown)
        assert "$2" not in text_of(shown)
        runs = await client.call_tool("runs_list", {"limit": 10})
        assert runs.structured_content is not None
        commands = [run["command"] for run in runs.structured_content["data"]["items"]]
        assert commands[:5] == ["runs list", "data rows", "data query", "data query", "users list"]

    connect(deployment, use)


@pytest.mark.slow
def test_mistakes_are_answers(deployment: Path) -> None:
    async def use(client: Client) -> None:
        for name, arguments, reason in (
            ("users_delete", {"login": "eve"}, "no such tool 'users_delete'"),
            ("users_list", {"limit": 501}, "501 is greater than the maximum of 500"),
            (
                "users_list",
                {"secrets": True},
                "Additional properties are not allowed ('secrets' was unexpected)",
            ),
            ("data_rows", {}, "'table' is a required property"),
            ("data_query", {"sql": "delete from users"}, "read"),
            ("users_show", {"logins": ["nobody"]}, "no user 'nobody'"),
            ("data_query", {"sql": f"select '{'x' * 300_000}'"}, "cannot be started with this input"),
            ("data_rows", {"table": "users\0"}, "cannot be started with this input"),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error, name
            assert reason in text_of(result)

    connect(deployment, use)


def read_state(folder: Path) -> dict[str, str]:
    """Return the digest of each file, without the journal of the calls."""
    files = [
        path for path in folder.rglob("*") if path.is_file() and "state" not in path.relative_to(folder).parts
    ]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_no_tool_changes_a_file(deployment: Path) -> None:
    """The command lines of the tools, in this process: the server starts one for each."""
    values = {
        "app": "fp",
        "login": "eve",
        "logins": ["eve"],
        "table": "users",
        "key": ["1"],
        "role": "admin",
        "word": "puzzle",
    }
    values |= {
        "search_name": "games",
        "sql": "select 1 as one",
        "name": "most-played",
        "arguments": ["eve", "games.play"],
    }
    values |= {"run": "1", "operation": "6", "shell": "bash", "keys": ["app.siteName"], "text": "puzzle"}

    environment = {
        "PATH": os.environ["PATH"],
        "DBCTL_STATE": str(deployment / "state"),
        "DBCTL_RECORD": "all",
    }
    before = read_state(deployment)
    for tool in TOOLS.values():
        required = {key: values.get(key, "app.siteName") for key in tool.offer.input_schema["required"]}
        words = ["--output=json", "--quiet", *build_words(tool, required | {"app": "fp"}, max_rows=500)]
        process = run_command(words, environment=environment, cwd=deployment)
        assert b'"code": "internal"' not in process.stdout, words
    assert read_state(deployment) == before
